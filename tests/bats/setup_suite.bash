# Two throwaway databases for the tests of this directory, started once.

setup_suite() {
	# The directory of a checkout may have any name; that of the tests has blanks.
	export SUITE="$BATS_SUITE_TMPDIR/payment system/backup suite"
	root=$(cd -- "$BATS_TEST_DIRNAME/../.." && pwd -P)
	export ROOT=$root DATABASES_FILE="$BATS_SUITE_TMPDIR/databases.sh"
	"$ROOT/.venv/bin/python" "$ROOT/tests/support/two_databases.py" "$DATABASES_FILE" \
		>"$BATS_SUITE_TMPDIR/databases.log" 2>&1 3>&- 4>&- &
	databases=$!
	mkdir -p "$SUITE"
	cp -a "$ROOT/scripts" "$ROOT/lib" "$SUITE"
	ln -s "$ROOT/.venv" "$SUITE/.venv"
	for ((tries = 0; tries < 600; tries++)); do
		[ ! -e "$DATABASES_FILE" ] || return 0
		kill -0 "$databases" || break
		sleep 0.1
	done
	cat "$BATS_SUITE_TMPDIR/databases.log" >&2
	return 1
}

teardown_suite() {
	kill "$databases" && wait "$databases"
}
