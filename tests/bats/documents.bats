# Every command of README.md and docs/restore.md runs as it is written, in the order of the page.

setup() {
	load common
	fresh_place
	use_databases
	export AUTH_SERVICES='' AUTH_HEALTH_URL='' # no containers here
	cd "$SUITE" || return
	"$SUITE/scripts/backup-postgres.sh" --quiet
}

# The lines of the page's `sh` blocks: what is not run here is in another kind of block.
commands_of() {
	awk '/^```sh$/ { inside = 1; next } /^```/ { inside = 0 } inside' "$ROOT/$1"
}

# Run one line as a person would: on a terminal, with the name that is asked for as the answer to the only question.
run_line() {
	read -r command rest <<<"$1"
	expect_part "$(ls "$SUITE/scripts")" "$(basename "$command")"
	# shellcheck disable=SC2086 # words of a documented command, without quotes
	"${python:?}" - "$command" $rest <<-'PYTHON'
		import os, pty, sys

		child, terminal = pty.fork()
		if child == 0:
		    os.execvp(sys.argv[1], sys.argv[1:])
		said = b""
		answered = False
		while True:
		    try:
		        piece = os.read(terminal, 65536)
		    except OSError:
		        break
		    if not piece:
		        break
		    said += piece
		    if not answered and b"to go on: " in said:
		        name = said.rpartition(b", to go on: ")[0].rpartition(b"name, ")[2]
		        os.write(terminal, name + b"\n")
		        answered = True
		sys.stdout.buffer.write(said)
		sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
	PYTHON
}

runs_as_written() {
	local line count=0 all=0
	while IFS= read -r line; do
		all=$((all + 1))
		# `make demo` has tests of its own, and `make test` is what runs this.
		case $line in make*) continue ;; esac
		run run_line "$line"
		# Nothing is scheduled in here, and the status says so.
		case $line in scripts/backup-status.sh*) [ "$status" -ne 66 ] || status=0 ;; esac
		[ "$status" -eq 0 ] || fail "'$line' of $1 ended with $status:" "$output"
		count=$((count + 1))
	done < <(commands_of "$1")
	echo "$1: $count of $all commands run as written" >&3
	[ "$count" -gt 0 ]
}

@test "every command of README.md runs as written" {
	runs_as_written README.md
}

@test "every command of docs/restore.md runs as written" {
	runs_as_written docs/restore.md
}

@test "a documented command that fails is noticed" {
	run run_line "scripts/restore-postgres.sh auth no_such_file.sql.gz"
	[ "$status" -eq 66 ]
}

@test "the options of the documents exist" {
	local help
	help=$(for script in backup-postgres verify-backups drill-backups restore-postgres setup-wal-archiving; do "$SUITE/scripts/$script.sh" --help; done)
	for option in $(grep -ohE '`--[a-z-]+' "$ROOT/README.md" "$ROOT"/docs/{restore,point-in-time,drill}.md | tr -d '`' | sort -u); do
		expect_part "$help" "$option"
	done
}
