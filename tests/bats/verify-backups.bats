#!/usr/bin/env bats
# verify-backups.sh, as whoever types it sees it. What it finds in damaged files: tests/integration.
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
	cp -a "$BATS_FILE_TMPDIR/made/." "$BACKUP_DIR"
	verify=$SUITE/scripts/verify-backups.sh
	auth=$(realpath "$BACKUP_DIR/postgres-a/auth_db_LATEST.sql.gz")
}

# Flip one bit in the middle of the file $1, and nothing of its metadata.
damage() {
	"$python" - "$1" <<-'END'
		import os, sys
		status = os.stat(sys.argv[1])
		with open(sys.argv[1], "r+b") as file:
		    file.seek(status.st_size // 3)
		    byte = file.read(1)[0]
		    file.seek(status.st_size // 3)
		    file.write(bytes([byte ^ 1]))
		os.utime(sys.argv[1], ns=(status.st_atime_ns, status.st_mtime_ns))
	END
}

@test "good backups are a table on stdout, and nothing on stderr" {
	run -0 --separate-stderr "$verify"
	expect_equal "$stderr" ""
	expect_equal "${#lines[@]}" 4
	expect_equal "$(awk 'NR > 1 && NR < 4 { print $NF }' <<<"$output")" $'good\ngood'
	expect_part "${lines[1]}" "postgres-a/${auth##*/}"
	expect_equal "${lines[3]}" "2 backups: 2 good, 0 bad"
}

@test "verifying changes nothing but the notes of it, and needs no server, no program and no more than cron's environment" {
	run -0 "$verify"
	before=$(snapshot . | grep -v 'verified[.]\|restore-history.jsonl\|postgres-[ab]|d')
	run -0 env -i HOME=/ PATH=/usr/bin:/bin BACKUP_DIR="$BACKUP_DIR" "$verify"
	run -0 env -i BACKUP_DIR="$BACKUP_DIR" "$verify"
	expect_equal "$(snapshot . | grep -v 'verified[.]\|restore-history.jsonl\|postgres-[ab]|d')" "$before"
}

@test "a damaged backup is named, status 65, on stdout as BAD and on stderr with its path" {
	damage "$auth"
	run -65 --separate-stderr "$verify"
	expect_part "$output" "BAD: "
	expect_line "$output" "2 backups: 1 good, 1 bad"
	expect_part "$stderr" "verify-backups.sh: '$auth' is bad: "
	expect_part "$stderr" "Hint: "
	run -0 "$verify" payment
}

@test "-q prints nothing on success, and what is bad otherwise" {
	run -0 "$verify" -q
	expect_equal "$output" ""
	damage "$auth"
	run -65 --separate-stderr "$verify" -q
	expect_equal "$output" ""
	expect_part "$stderr" "'$auth' is bad: "
}

@test "no fresh backup is status 66, none at all too" {
	run -0 "$verify" --max-age 1
	run -66 "$verify" --max-age 0.0000001
	rm -r "$BACKUP_DIR/postgres-b"
	run -66 --separate-stderr "$verify" payment
	expect_part "$stderr" "there is no good backup of 'payment_db'"
	run -66 "$verify"
	run -0 "$verify" auth
}

@test "--max-age takes hours above 0, status 64 else" {
	for wrong in 0 -1 1d '' nan inf 1e9; do
		run -64 --separate-stderr "$verify" "--max-age=$wrong"
		expect_part "$stderr" "--max-age"
		expect_part "$stderr" "Hint: "
	done
}

@test "--json is one document on stdout, for good and bad" {
	run -0 --separate-stderr "$verify" --json
	states='[f["state"] for d in it["databases"] for f in d["files"]]'
	expect_equal "$(json "$output" "$states")" "['good', 'good']"
	expect_equal "$(json "$output" 'it["status"]')" 0
	expect_equal "$stderr" ""
	damage "$auth"
	run -65 --separate-stderr "$verify" --json
	expect_equal "$(json "$output" "$states")" "['bad', 'good']"
	expect_equal "$(json "$output" 'it["status"]')" 65
}

@test "a bad backup that nobody reads of is still bad" {
	damage "$auth"
	run -65 bash -c 'set -o pipefail; "$0" 2>/dev/null | true' "$verify"
	run -65 bash -c '"$0" <&- >&- 2>&-' "$verify"
	run -65 bash -c '"$0" >/dev/full' "$verify" # a bad backup tells more than a full disk under stdout
	expect_part "$output" "cannot write the result to stdout: No space left on device"
	expect_part "$output" "is bad: "
}

@test "without BACKUP_DIR it says so, status 73, and makes none" {
	rm -r "$BACKUP_DIR"
	run -73 --separate-stderr "$verify"
	expect_part "$stderr" "$BACKUP_DIR"
	[ ! -e "$BACKUP_DIR" ]
}

@test "someone who may not read the files is told what to type, status 77" {
	if [ "$(id -u)" -eq 0 ]; then
		# The interpreter may lie where only root can reach it: become somebody else when all is imported.
		chmod 755 "$BATS_RUN_TMPDIR" "$BATS_SUITE_TMPDIR" "$BATS_TEST_TMPDIR/.." "$BATS_TEST_TMPDIR" .
		someone=("$python" -I -c 'import os, sys
sys.path.insert(0, sys.argv[1])
from pgbackup.cli import main as cli, pinged, verify
from pgbackup.commands.verify import backups
import gettext, locale, sh
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(cli.main(["verify"]))' "$SUITE/lib")
	else
		chmod 000 "$BACKUP_DIR/postgres-a" "$BACKUP_DIR/postgres-b"
		someone=("$verify")
	fi
	run -77 --separate-stderr "${someone[@]}"
	chmod 700 "$BACKUP_DIR"/postgres-?
	expect_equal "$output" ""
	expect_part "$stderr" "Hint: run it as the owner of the backups: sudo -u $(stat -c %U "$BACKUP_DIR/postgres-a") "
}
