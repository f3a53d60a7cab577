#!/usr/bin/env bats
# backup-postgres.sh, as whoever types it sees it. What it does to files and databases: tests/integration.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # scripts for bash -c; every test is a subshell; bats and common.bash set them

setup() {
	load common
	fresh_place
	use_databases
	backup=$SUITE/scripts/backup-postgres.sh
}

backups() {
	find "$BACKUP_DIR" -name '*.sql.gz' -type f | sort
}

@test "both databases are backed up; the table is on stdout, the talk on stderr" {
	run -0 --separate-stderr "$backup"
	expect_equal "${#lines[@]}" 3
	expect_equal "$(awk '{ print $1, $2 }' <<<"$output")" $'database state\nauth published\npayment published'
	expect_equal "$(awk 'NR > 1 { print $NF }' <<<"$output")" "$(backups)"
	expect_equal "$(cut -d "'" -f 1 <<<"$stderr" | sort)" $'auth: dumping \npayment: dumping '
	for file in $(backups); do gunzip -t "$file"; done
	expect_equal "$(cd "$BACKUP_DIR" && ls)" $'backup.log\npostgres-a\npostgres-b\nrestore-history.jsonl'
}

@test "one database can be chosen, and named twice it is done once" {
	run -0 --separate-stderr "$backup" payment payment
	expect_equal "$(awk 'NR > 1 { print $1 }' <<<"$output")" payment
	expect_equal "$(cd "$BACKUP_DIR" && ls)" $'backup.log\npostgres-b\nrestore-history.jsonl'
	expect_equal "$(backups | wc -l)" 1
}

@test "-q prints nothing on success" {
	run -0 "$backup" -q
	expect_equal "$output" ""
	expect_equal "$(backups | wc -l)" 2
}

@test "-q still prints warnings and errors" {
	"$backup" -q auth
	expect_equal "$(backups | wc -l)" 1
	# Something is old enough to expire, and what is to protect it is bad.
	bad=auth_db_$(date -d '1 day ago' +%Y%m%d_%H%M%S).sql.gz
	printf garbage | tee "$BACKUP_DIR/postgres-a/$bad" >"$BACKUP_DIR/postgres-a/auth_db_20200101_000000.sql.gz"
	run -0 --separate-stderr "$backup" -q auth
	expect_equal "$output" ""
	expect_part "$stderr" "auth: warning: '$bad' is bad"
	export AUTH_DATABASE=nosuch AUTH_URL=${AUTH_URL/auth_db/nosuch}
	run -69 --separate-stderr "$backup" -q auth
	expect_equal "$output" ""
	expect_part "$stderr" "backup-postgres.sh: auth: "
}

@test "--json is one document on stdout, of success" {
	run -0 --separate-stderr "$backup" --json
	expect_equal "$(json "$output" '[it["command"], it["status"]] + [d["target"] for d in it["databases"]]')" \
		"['backup', 0, 'auth', 'payment']"
	expect_equal "$(json "$output" '"\n".join(d["path"] for d in it["databases"])')" "$(backups)"
	expect_equal "$(json "$output" 'it["databases"][1]["rows"]')" 243
	expect_part "$stderr" "auth: dumping"
}

@test "--json is one document on stdout, of failure" {
	PAYMENT_USER=nosuch run -1 --separate-stderr env PAYMENT_URL="${PAYMENT_URL/payment_user/nosuch}" "$backup" --json
	expect_equal "$(json "$output" '[it["status"]] + [bool(d["status"]) for d in it["databases"]]')" "[1, False, True]"
	expect_part "$stderr" "$(json "$output" 'it["databases"][1]["error"]')"
}

@test "--dry-run shows the plan and changes nothing at all" {
	"$backup" -q
	printf garbage >"$BACKUP_DIR/postgres-a/auth_db_20200101_000000.sql.gz"
	touch -d '1 hour ago' "$BACKUP_DIR" "$BACKUP_DIR"/*
	before=$(snapshot .)
	sums=$(find . -type f -exec sha256sum {} + | sort)
	run -0 --separate-stderr "$backup" --dry-run
	expect_equal "$stderr" ""
	expect_part "$output" "auth: would write '$BACKUP_DIR/postgres-a/auth_db_"
	expect_part "$output" "payment: would write '$BACKUP_DIR/postgres-b/payment_db_"
	expect_equal "$(snapshot .)" "$before"
	expect_equal "$(find . -type f -exec sha256sum {} + | sort)" "$sums"
	run -0 --separate-stderr "$backup" --dry-run --json payment
	expect_equal "$(json "$output" '[d["target"] for d in it["databases"]]')" "['payment']"
	expect_equal "$(snapshot .)" "$before"
}

@test "--dry-run makes no directory, and fails where a run would" {
	run -0 "$backup" --dry-run
	expect_equal "$(ls -A "$BACKUP_DIR")" ""
	AUTH_URL=${AUTH_URL/host=/host=/nowhere} run -1 "$backup" --dry-run
	expect_part "$output" "auth: would fail (69): "
}

@test "--dry-run of a run that would make BACKUP_DIR says what that run does" {
	rmdir "$BACKUP_DIR"
	run -0 "$backup" --dry-run
	expect_part "$output" "auth: would write '$BACKUP_DIR/postgres-a/auth_db_"
	[ ! -e "$BACKUP_DIR" ]
	run -0 "$backup" -q
	expect_equal "$(backups | wc -l)" 2
	export BACKUP_DIR="$PWD/absent/backups"
	run -73 --separate-stderr "$backup"
	told=$(sed -n "s/^backup-postgres.sh: //p" <<<"$stderr")
	run -73 --separate-stderr "$backup" --dry-run
	expect_line "$output" "auth: would fail (73): $told"
	[ ! -e "$PWD/absent" ]
	touch absent
	run -73 "$backup" --dry-run
}

@test "options are settings, and beat the environment" {
	export RETENTION_DAYS=7d MIN_BACKUPS=0 BACKUP_JOBS=x
	run -78 "$backup"
	run -0 "$backup" -q --retention-days 30 --min-backups 3 --jobs 1
	for wrong in "--retention-days 0" "--min-backups -1" "--jobs 65" "--client ssh"; do
		# shellcheck disable=SC2086
		run -78 --separate-stderr "$backup" --retention-days 30 --min-backups 3 --jobs 1 $wrong
		expect_part "$stderr" "the command line: "
	done
}

@test "the settings can stand in .env, and cron's environment is enough" {
	copy_suite 'a suite'
	write_env 'a suite'
	run -0 env -i HOME=/ SHELL=/bin/sh PATH="$PROGRAMS:/usr/bin:/bin" 'a suite/scripts/backup-postgres.sh' -q
	expect_equal "$output" ""
	expect_equal "$(find backups -name '*.sql.gz' -type f | wc -l)" 2
}

@test "one database's failure is status 1, both failing is theirs; each message keeps its hint" {
	export AUTH_URL=${AUTH_URL/auth_db/nosuch} AUTH_DATABASE=nosuch
	run -1 --separate-stderr "$backup"
	expect_equal "$(awk 'NR > 1 { print $1, $2 }' <<<"$output")" $'auth failed\npayment published'
	expect_equal "$(backups | wc -l)" 1
	export PAYMENT_URL=${PAYMENT_URL/payment_db/nosuch2} PAYMENT_DATABASE=nosuch2
	rounds=2 # both fail at the same time, and their messages could mix
	[ "${PGBACKUP_FAULTS-}" != full ] || rounds=9
	for ((run = 1; run <= rounds; run++)); do
		run -69 --separate-stderr "$backup"
		expect_equal "$(cut -d : -f 1 <<<"$stderr")" $'backup-postgres.sh\nHint\nbackup-postgres.sh\nHint'
		expect_equal "$(grep -c ERROR "$BACKUP_DIR/backup.log")" "$((2 + 3 * run))"
	done
}

@test "a failure that nobody reads is still a failure" {
	export AUTH_URL=${AUTH_URL/auth_db/nosuch} AUTH_DATABASE=nosuch
	run -69 --separate-stderr bash -c 'set -o pipefail; "$0" auth 2>/dev/null | true' "$backup"
	run -69 bash -c '"$0" auth >&- 2>&-' "$backup"
	expect_equal "$(grep -c 'ERROR - event=run.finish status=69' "$BACKUP_DIR/backup.log")" 2
}

@test "a backup is made although stdout, stderr and stdin are closed" {
	run -0 bash -c '"$0" <&- >&- 2>&-' "$backup"
	expect_equal "$(backups | wc -l)" 2
	for file in $(backups); do gunzip -t "$file"; done
}

@test "a backup is made although its table cannot be written, status 74" {
	run -74 bash -c '"$0" >/dev/full' "$backup"
	expect_part "$output" "backup-postgres.sh: cannot write the result to stdout: No space left on device"
	expect_equal "$(backups | wc -l)" 2
	run -0 bash -c '"$0" 2>/dev/full' "$backup"
	run -0 --separate-stderr bash -c 'set -o pipefail; "$0" -q | head -n 1; "$0" 2>&1 | head -n 1' "$backup"
	expect_equal "$stderr" ""
}

@test "another run on the same database is status 75, and says how to find it" {
	"$backup" -q
	before=$(backups)
	for name in a/auth b/payment; do
		run -75 --separate-stderr flock "$BACKUP_DIR/postgres-${name/'/'/'/.'}_db.lock" "$backup" "${name#*/}"
		expect_part "$stderr" "another run is working on"
		expect_part "$stderr" "Hint: "
	done
	expect_equal "$(backups)" "$before"
}

@test "TERM and NO_COLOR decide what a terminal gets" {
	on_terminal() {
		env "${@:2}" "$python" "$ROOT/tests/support/on_terminal.py" "$1" "$backup"
	}
	escape=$(printf '\033')
	bars=$(on_terminal 100 TERM=xterm-256color)
	expect_part "$bars" "${escape}[?25l" # the cursor is hidden while a bar moves …
	expect_part "$bars" "${escape}[?25h" # … and shown again
	expect_part "$bars" "${escape}[38;5;"
	plain=$(on_terminal 100 TERM=xterm-256color NO_COLOR=1)
	expect_part "$plain" "${escape}[?25l"
	! grep -qE "${escape}\[([0-9;]*;)?(3[0-7]|38|9[0-7])[;m]" <<<"$plain" || fail "colour in:" "$(cat -v <<<"$plain")"
	dumb=$(on_terminal 100 TERM=dumb)
	! grep -qF "$escape" <<<"$dumb" || fail "escapes in:" "$(cat -v <<<"$dumb")"
	expect_part "$dumb" "auth: dumping 'auth_db'"
	run -0 env FORCE_COLOR=1 TERM=xterm-256color "$backup"
	! grep -qF "$escape" <<<"$output" || fail "escapes without a terminal in:" "$(cat -v <<<"$output")"
}
