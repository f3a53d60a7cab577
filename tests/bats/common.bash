# What the tests of all scripts share. SUITE: a copy of the suite, without any .env; ROOT: the checkout.

bats_require_minimum_version 1.5.0

# A place of its own for each test, and nothing of the caller's settings.
fresh_place() {
	mkdir "$BATS_TEST_TMPDIR/place" # bats keeps files of its own one level above
	cd "$BATS_TEST_TMPDIR/place" || return
	unset DATABASES RETENTION_DAYS MIN_BACKUPS NO_COLOR FORCE_COLOR CDPATH PYTHON MAKEFLAGS MFLAGS MAKELEVEL \
		PGBACKUP_TEST_ENGINE
	export BACKUP_DIR="$PWD/backups" TERM=dumb
	mkdir -m 700 "$BACKUP_DIR"
	python=$ROOT/.venv/bin/python
}

# Let the settings name the two throwaway databases.
use_databases() {
	# shellcheck source=/dev/null
	. "$DATABASES_FILE"
	export PATH="$PROGRAMS:$PATH"
	export AUTH_CLIENT=direct AUTH_USER=auth_user PAYMENT_CLIENT=direct PAYMENT_USER=payment_user WAIT_SECONDS=0
	export DRILL_AFTER_BACKUP=no
}

# The same settings, as a .env in the directory $1, and none in the environment.
write_env() {
	use_databases
	env | grep -E '^(BACKUP_DIR|WAIT_SECONDS|DRILL_AFTER_BACKUP|(AUTH|PAYMENT)_(CLIENT|USER|URL))=' >"$1/.env"
	unset BACKUP_DIR AUTH_CLIENT AUTH_USER AUTH_URL PAYMENT_CLIENT PAYMENT_USER PAYMENT_URL
}

# Another copy of the suite, in the directory $1.
copy_suite() {
	mkdir -p "$1"
	cp -a "$SUITE/." "$1"
}

# Fails unless $1 is exactly one JSON document; prints the value of the Python expression $2 on it, `it`.
json() {
	"$python" -c 'import json, sys; it = json.loads(sys.argv[1]); print(eval(sys.argv[2]))' "$1" "${2:-it}"
}

# Everything that can be told of a directory tree without reading the files: also owner, mode, both times, inode.
snapshot() {
	find "$1" -printf '%P|%y|%s|%m|%u|%T@|%C@|%i|%l\n' | sort
}

# Fails with a message.
fail() {
	printf '%s\n' "$@" >&2
	return 1
}

expect_line() {
	grep -qxF -- "$2" <<<"$1" || fail "no line '$2' in:" "$1"
}

expect_part() {
	grep -qF -- "$2" <<<"$1" || fail "no '$2' in:" "$1"
}

expect_equal() {
	[ "$1" = "$2" ] || fail "these differ:" "$(diff <(printf '%s\n' "$1") <(printf '%s\n' "$2"))"
}

# The options that a --help describes, in its order.
options_of() {
	grep -oE '^  (-[a-z], )?--[a-z-]+' <<<"$1" | grep -oE -- '--[a-z-]+'
}
