#!/usr/bin/env bats
# restore-postgres.sh, as whoever types it sees it. What it does to databases: tests/integration.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # scripts for bash -c; every test is a subshell; bats and common.bash set them

setup_file() {
	load common
	mkdir "$BATS_FILE_TMPDIR/made"
	(
		use_databases
		export BACKUP_DIR="$BATS_FILE_TMPDIR/made" RETENTION_DAYS=7 MIN_BACKUPS=7
		chmod 700 "$BACKUP_DIR"
		"$SUITE/scripts/backup-postgres.sh" -q
	)
}

setup() {
	load common
	fresh_place
	use_databases
	cp -a "$BATS_FILE_TMPDIR/made/." "$BACKUP_DIR"
	export AUTH_SERVICES='' AUTH_HEALTH_URL='' PAYMENT_SERVICES='' PAYMENT_HEALTH_URL=''
	restore=$SUITE/scripts/restore-postgres.sh
	auth=$(realpath "$BACKUP_DIR/postgres-a/auth_db_LATEST.sql.gz")
}

teardown() {
	! databases | grep -q before_restore || "$restore" auth --drop-old --yes -q >/dev/null 2>&1 || true
}

databases() {
	psql -XAtd "$AUTH_URL" -c "SELECT datname FROM pg_database WHERE datname LIKE 'auth_db%' ORDER BY 1"
}

@test "restored with --yes: one table of facts on stdout, the old one kept and named" {
	run -0 --separate-stderr "$restore" auth "${auth##*/}" --yes
	expect_part "$output" "'auth_db' restored from '$auth'"
	expect_part "$output" "each table counted, all equal to the backup"
	kept=$(databases | grep before_restore)
	expect_part "$output" "$kept"
	expect_part "$stderr" "WILL BE LOST"
}

@test "options may stand before and behind TARGET and FILE" {
	run -0 "$restore" --yes auth auth_db_LATEST.sql.gz
	run -0 "$restore" auth --yes auth_db_LATEST.sql.gz
	run -0 "$restore" auth auth_db_LATEST.sql.gz --yes -q
	run -0 "$restore" auth --online --yes "$auth"
}

@test "-q prints nothing on stdout when all went well" {
	run -0 --separate-stderr "$restore" -q --yes auth "$auth"
	expect_equal "$output" ""
}

@test "without --yes and without a terminal nothing is touched, status 64" {
	before=$(databases)
	for how in '"$0" auth "$1" </dev/null' '"$0" auth "$1" <&-' 'echo auth_db | "$0" auth "$1"' '"$0" auth --rollback </dev/null'; do
		[[ $how != *rollback* ]] || "$restore" -q --yes auth "$auth"
		[[ $how != *rollback* ]] || before=$(databases)
		run -64 --separate-stderr bash -c "$how" "$restore" "$auth"
		expect_part "$stderr" "nothing was touched"
		expect_part "$stderr" "--yes"
		expect_equal "$(databases)" "$before"
	done
}

@test "--dry-run shows what would happen and changes nothing" {
	files=$(snapshot .) before=$(databases)
	run -0 --separate-stderr "$restore" auth --dry-run "$auth"
	expect_part "$stderr" "WILL BE LOST"
	expect_equal "$(snapshot .)" "$files"
	expect_equal "$(databases)" "$before"
}

@test "--json is one document on stdout, for success and failure" {
	run -0 --separate-stderr "$restore" auth "$auth" --yes --json
	expect_equal "$(json "$output" 'it["command"], it["status"], it["outcome"]')" "('restore', 0, 'done')"
	run -66 --separate-stderr "$restore" auth no_such_file --yes --json
	expect_equal "$(json "$output" 'it["status"]')" 66
	run -64 --separate-stderr "$restore" auth --json
	expect_equal "$(json "$output" 'it["status"]')" 64
}

@test "--list and --history are tables and need no terminal" {
	run -0 --separate-stderr "$restore" auth --list
	expect_equal "${#lines[@]}" 2
	expect_part "${lines[1]}" "$auth"
	expect_part "${lines[1]}" verified
	run -0 "$restore" auth --history
	expect_part "$output" "nothing was restored into 'auth_db' yet"
	run -0 "$restore" -q --yes auth "$auth"
	run -0 --separate-stderr "$restore" auth --history
	expect_equal "${#lines[@]}" 2
	expect_part "${lines[1]}" "done"
	rm "$auth"
	run -66 "$restore" auth --list
}

@test "--rollback and --drop-old without a kept database say so, status 66" {
	for what in --rollback --drop-old; do
		run -66 --separate-stderr "$restore" auth "$what" --yes
		expect_part "$stderr" "no restore has kept an old 'auth_db'"
	done
}

@test "what contradicts itself or is missing is wrong usage, status 64" {
	for wrong in '' auth 'nobody FILE' 'auth A B' 'auth --list A' 'auth --list --history' 'auth --rollback --drop-old' \
		'auth A --into B --online' 'auth A --in-place --online' 'auth --rollback --into B' 'auth A --no-such-option' \
		'auth --into' 'auth A --client telnet'; do
		# shellcheck disable=SC2086 # words
		run --separate-stderr "$restore" $wrong
		case $status in 64 | 78) ;; *) fail "status $status after: $wrong" ;; esac
		expect_part "$stderr" "restore-postgres.sh: "
	done
}

@test "a file that is not there, is a directory or of another database is told" {
	run -66 --separate-stderr "$restore" auth --yes nowhere.sql.gz
	expect_part "$stderr" "there is no file 'nowhere.sql.gz'"
	expect_part "$stderr" "--list"
	run -65 --separate-stderr "$restore" auth --yes "$BACKUP_DIR/postgres-a"
	expect_part "$stderr" "is a directory"
	run -65 --separate-stderr "$restore" auth --yes "$(realpath "$BACKUP_DIR/postgres-b/payment_db_LATEST.sql.gz")"
	expect_part "$stderr" "is a backup of 'payment_db', not of 'auth_db'"
}

@test "a restore whose result nobody reads, or that cannot be written, is done all the same" {
	run -0 bash -c 'set -o pipefail; "$0" auth "$1" --yes 2>/dev/null | true' "$restore" "$auth"
	run -0 bash -c '"$0" auth "$1" --yes <&- >&- 2>&-' "$restore" "$auth"
	run -74 bash -c '"$0" auth "$1" --yes >/dev/full 2>&1' "$restore" "$auth"
	run -0 --separate-stderr "$restore" auth --history
	expect_equal "${#lines[@]}" 4
}

@test "a second run on the same database has to wait its turn, status 75" {
	exec {held}>>"$BACKUP_DIR/postgres-a/.auth_db.lock"
	flock "$held"
	run -75 "$restore" auth "$auth" --yes {held}>&-
	exec {held}>&-
	run -0 "$restore" auth "$auth" --yes
}
