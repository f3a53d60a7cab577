#!/usr/bin/env bats
# What holds for every script.
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # scripts for bash -c; every test is a subshell; bats and common.bash set them

setup() {
	load common
	fresh_place
	scripts=("$SUITE"/scripts/*.sh)
	# All are the same but for the verb: `make faults` tries each with what the two that matter most stand for.
	some=("$SUITE"/scripts/{backup,restore}-postgres.sh)
	[ "${PGBACKUP_FAULTS-}" != full ] || some=("${scripts[@]}")
	of_any_number=("$SUITE"/scripts/{backup-postgres,verify-backups,drill-backups}.sh) # take names of databases, all by default
}

# Runs the function $1 with the path of each script, or of those that are named.
each() {
	local all=("${@:2}")
	[ $# -gt 1 ] || all=("${scripts[@]}")
	for script in "${all[@]}"; do
		"$1" "$script" # not `… || fail`: all but the last command of the function could fail unseen
	done
}

# $@: a way to call verify-backups.sh. It has to work, and to find the library that lies beside the real script.
expect_found() {
	run -0 --separate-stderr "$@" --version
	expect_equal "$output" "verify-backups.sh $(version)"
	expect_equal "$stderr" ""
}

version() {
	sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$SUITE/lib/pgbackup/__init__.py"
}

# Runs a file of tests that stands on stdin.
run_bats() {
	cat >nested.bats
	run "$@" env -i PATH="$PATH" HOME=/ SUITE="$SUITE" ROOT="$ROOT" "$ROOT/.venv/bin/bats" --tap nested.bats
}

@test "a failing test fails the suite" {
	run_bats -1 <<-'END'
		@test "passes" { true; }
		@test "fails in its middle" { false; true; }
	END
	expect_line "$output" "ok 1 passes"
	expect_line "$output" "not ok 2 fails in its middle"
	run_bats -0 <<-'END'
		@test "passes" { true; }
	END
}

@test "a test of these tests: each check can fail, and what fails in the middle of a function is seen" {
	run_bats -1 <<-'END'
		setup() {
			load "$ROOT/tests/bats/common"
			fresh_place
		}
		@test "a" { expect_line $'one\ntwo' tw; true; }
		@test "b" { expect_part abc ac; true; }
		@test "c" { expect_equal a b; true; }
		@test "d" { json '{}{}'; true; }
		@test "e" { json ''; true; }
		@test "f" { run -0 false; true; }
		@test "g" { before=$(snapshot .); touch file; expect_equal "$before" "$(snapshot .)"; true; }
		@test "h" { : >file; before=$(snapshot .); touch -d yesterday file; expect_equal "$before" "$(snapshot .)"; true; }
		@test "i" {
			each() { for one in 1 2; do "$1" "$one"; done; }
			wrong() { false; true; }
			each wrong
			true
		}
	END
	expect_equal "$(grep -c '^not ok' <<<"$output")" 9
}

@test "tests/all fails when any of its parts fails" {
	mkdir -p tests .venv/bin
	cp "$ROOT/tests/all" tests
	for statuses in "0 0 0" "1 0 1" "0 5 5" "1 5 1"; do
		read -r of_bats of_pytest expected <<<"$statuses"
		printf '#!/bin/sh\necho scripts; exit %s\n' "$of_bats" >.venv/bin/bats
		printf '#!/bin/sh\necho "$*"; exit %s\n' "$of_pytest" >.venv/bin/python
		chmod +x .venv/bin/*
		run "-$expected" tests/all
		expect_equal "$output" "$(printf '%s\n' "-m pytest -n auto --no-loadscope-reorder" scripts)"
	done
	run -1 tests/all tests/unit
	expect_equal "${lines[0]}" "-m pytest -n auto --no-loadscope-reorder tests/unit"
}

@test "the scripts are doorbells: the same but for header and verb" {
	body() {
		sed -e '/^#/d' -e 's,lib/run" [a-z-]* ,lib/run" VERB ,' "$1"
	}
	doorbell() {
		expect_equal "$(head -n 1 "$1")" "#!/bin/sh"
		[ "$(wc -l <"$1")" -le 12 ] || fail "it has opinions"
		expect_line "$(cat "$1")" "# Usage: ${1##*/} --help"
		expect_equal "$(body "$1")" "$(body "${scripts[0]}")"
	}
	each doorbell
	[ "${#scripts[@]}" -ge 2 ]
	sed -e 's/^set -eu$/set -u/' -e '3s/.*/# Usage: other.sh --help/' "${scripts[0]}" >other.sh
	run ! expect_equal "$(body other.sh)" "$(body "${scripts[0]}")"
}

@test "a script works from any directory and through PATH" {
	for place in / "$SUITE" "$SUITE/scripts" "$BATS_TEST_TMPDIR"; do
		cd "$place"
		expect_found "$SUITE/scripts/verify-backups.sh"
	done
	cd "$SUITE"
	expect_found scripts/verify-backups.sh
	cd scripts
	expect_found ./verify-backups.sh
	expect_found sh verify-backups.sh
	cd ..//scripts/../lib
	expect_found ../scripts/verify-backups.sh
	cd /
	PATH="$SUITE/scripts:$PATH" expect_found verify-backups.sh
}

@test "a script works through symbolic links" {
	ln -s "$SUITE/scripts/verify-backups.sh" absolute
	expect_found ./absolute
	mkdir -p a/b
	ln -s ../../absolute a/b/relative
	expect_found a/b/relative
	(cd a && expect_found b/relative)
	ln -s a/b/relative chain1
	ln -s chain1 chain2
	ln -s "$PWD/chain2" 'chain 3'
	expect_found './chain 3'
	ln -s "$SUITE/scripts" directory
	expect_found directory/verify-backups.sh
	ln -s directory directory2
	expect_found ./directory2/verify-backups.sh
	ln -s "$SUITE" current
	expect_found current/scripts/verify-backups.sh
	PATH="$PWD/a:$PATH"
	ln -s b/relative a/verify
	expect_found verify
}

@test "a script works from a path with anything in it" {
	before=suite
	copy_suite "$before"
	for name in ' two  blanks ' $'new\nline' '$(touch evil);`touch evil`' "it's \"quoted\"" '*?[a]' -n %s ü '\n'; do
		mv -- "$before" "$name"
		expect_found "./$name/scripts/verify-backups.sh"
		before=$name
	done
	cd -- "$name"
	expect_found scripts/verify-backups.sh
	[ ! -e evil ] && [ ! -e ../evil ]
}

@test "a script works under cron's bare environment" {
	cron=(env -i HOME=/ SHELL=/bin/sh LOGNAME=deployer PATH=/usr/bin:/bin)
	expect_found "${cron[@]}" "$SUITE/scripts/verify-backups.sh"
	expect_found env -i "$SUITE/scripts/verify-backups.sh"
	expect_found env -u HOME LC_ALL=xx_XX LANG=nonsense "$SUITE/scripts/verify-backups.sh"
}

@test "nothing in the environment or the current directory changes what runs" {
	mkdir evil
	for module in json argparse sh rich dotenv isal pgbackup os sitecustomize usercustomize; do
		echo 'open(__file__.rsplit("/", 1)[0] + "/../imported", "a").write(__name__)' >"evil/$module.py"
	done
	echo "echo ran >'$PWD/sourced'" | tee evil/sh evil/rc >/dev/null
	cd evil
	echo 'RETENTION_DAYS=nonsense' >.env
	hostile=(IFS=/ BASH_ENV="$PWD/rc" ENV="$PWD/rc" CDPATH=/:/usr PYTHONPATH="$PWD" PYTHONSTARTUP="$PWD/json.py"
		PYTHONHOME=/nonexistent PYTHONINSPECT=1 PYTHONUSERBASE="$PWD" PYTHONWARNINGS=error PYTHONVERBOSE=1)
	expect_found env "${hostile[@]}" "$SUITE/scripts/verify-backups.sh"
	expect_found env "${hostile[@]}" ../evil/../evil/../"$(realpath --relative-to .. "$SUITE")/scripts/verify-backups.sh"
	[ ! -e ../imported ] && [ ! -e ../sourced ]
	PYTHONPATH=$PWD "$python" -c 'import rich' || true # Python 3.10 does not come that far without its os
	[ -e ../imported ] || fail "the trap does not work"
	env BASH_ENV="$PWD/rc" bash -c :
	[ -e ../sourced ] || fail "that trap does not work"
}

@test "a script works with standard descriptors closed" {
	closed() {
		run -0 bash -c '"$0" --version <&-' "$1"
		expect_equal "$output" "${1##*/} $(version)"
		run -0 bash -c '"$0" --version 2>&-' "$1"
		run -0 bash -c '"$0" --version >&-' "$1"
		expect_equal "$output" ""
		run -64 bash -c '"$0" auth --no-such-option >&-' "$1"
		expect_part "$output" "--no-such-option"
		run -64 bash -c '"$0" auth --no-such-option 2>&-' "$1"
		run -64 bash -c '"$0" auth --no-such-option <&- >&- 2>&-' "$1"
	}
	each closed "${some[@]}"
}

@test "a stdout that is full is status 74, a stderr that is full changes nothing" {
	full() {
		for option in --help --version; do
			run -74 bash -c '"$0" "$1" >/dev/full' "$1" "$option"
			expect_equal "$output" "${1##*/}: cannot write the result to stdout: No space left on device"
		done
		run -64 bash -c '"$0" auth --no-such-option --json >/dev/full' "$1"
		run -64 bash -c '"$0" auth --no-such-option 2>/dev/full' "$1"
		run -74 bash -c '"$0" --version >/dev/full 2>&1' "$1"
	}
	each full "${some[@]}"
}

@test "a reader of stdout that goes away is no failure" {
	piped() {
		run -0 --separate-stderr bash -c 'set -o pipefail; "$0" --help | head -n 1' "$1"
		expect_part "$output" "usage: ${1##*/}"
		expect_equal "$stderr" ""
		run -0 bash -c 'set -o pipefail; "$0" --help | true' "$1"
		expect_equal "$output" ""
		run -64 bash -c 'set -o pipefail; "$0" auth --json --no-such-option 2>/dev/null | true' "$1"
	}
	each piped "${some[@]}"
}

@test "a script works in a directory that is gone" {
	mkdir gone
	cd gone
	rmdir ../gone
	gone() {
		run -0 --separate-stderr "$1" --version # the shell itself may complain on stderr
		expect_equal "$output" "${1##*/} $(version)"
	}
	each gone "${some[@]}"
}

@test "without its .venv a script says so and what to type, status 78" {
	copy_suite 'no venv'
	rm 'no venv/.venv'
	missing() {
		run -78 --separate-stderr "no venv/scripts/${1##*/}"
		expect_equal "$output" ""
		expect_equal "$stderr" "pgbackup: the suite's Python environment '$PWD/no venv/.venv' is missing
Hint: make -C '$PWD/no venv' setup"
	}
	touch 'no venv/Makefile'
	each missing "${some[@]}"
	ln -s /nonexistent 'no venv/.venv'
	each missing "${some[@]}"
	rm 'no venv/Makefile'
	run -78 --separate-stderr "no venv/scripts/backup-postgres.sh" # as installed
	expect_line "$stderr" "Hint: in the suite's checkout: sudo make install"
}

@test "with a half-made .venv a script says so and what to type, status 78" {
	copy_suite 'half venv'
	rm 'half venv/.venv'
	"$python" -m venv --without-pip 'half venv/.venv'
	touch 'half venv/Makefile'
	half() {
		run -0 "half venv/scripts/${1##*/}" --help
		words=(auth)
		case $1 in
		*/setup-backup-* | */setup-encryption.sh | */*-alerts.sh | */*-alarms.sh | */backup-status.sh) words=() ;;
		*/restore-*) words+=(file) ;;
		esac
		run -78 --separate-stderr "half venv/scripts/${1##*/}" "${words[@]}"
		expect_equal "$output" ""
		expect_part "$stderr" "pgbackup: the suite's Python environment '$PWD/half venv/.venv' lacks the module '"
		expect_line "$stderr" "Hint: make -C '$PWD/half venv' setup"
		[ "${#stderr_lines[@]}" -eq 2 ]
	}
	each half "${some[@]}"
}

@test "--help has usage, two examples and every exit status as documented" {
	documented=$(sed -n '/ begin -->/,/ end -->/s/^| `\([^`]*\)` | \(.*\) |$/\1 \2/p' "$ROOT/docs/exit-codes.md")
	[ "$(wc -l <<<"$documented")" -ge 12 ]
	helpful() {
		run -0 --separate-stderr "$1" --help
		expect_equal "$stderr" ""
		expect_part "${lines[0]}" "usage: ${1##*/}"
		examples=$(sed -n "/^examples:$/,/^$/p" <<<"$output" | grep -c "^  [^ ]")
		[ "$examples" -ge 2 ]
		expect_equal "$(sed -n '/^exit status:$/,/^$/s/^  \([^ ]*\)  */\1 /p' <<<"$output")" "$documented"
		# What the usage in front names is what is explained below it.
		expect_equal "$(grep -oE '(\[|\| )-[a-z-]+' <<<"${output%%$'\n\n'*}" | tr -d '[| ' | sort)" \
			"$(sed -n 's/^  \(-[a-z-]*\).*/\1/p' <<<"$output" | sort)"
		for option in --help --version --json --quiet; do
			expect_line "$(options_of "$output")" "$option"
		done
		[[ " ${some[*]} " != *" $1 "* ]] || run -0 --separate-stderr "$1" -h
	}
	each helpful
}

@test "--version is one line: the script and its version" {
	versioned() {
		run -0 --separate-stderr "$1" --version
		expect_equal "$output" "${1##*/} $(version)"
		expect_equal "$stderr" ""
	}
	[ -n "$(version)" ]
	each versioned
}

@test "an unknown option is named, with a hint, status 64, and nothing is touched" {
	before=$(snapshot .)
	refused() {
		local options=(--no-such-option)
		[[ " ${some[*]} " != *" $1 "* ]] || options+=(--no-such-option=1 -Z --jso --qui)
		for option in "${options[@]}"; do
			run -64 --separate-stderr "$1" auth "$option"
			expect_equal "$output" ""
			expect_part "${stderr_lines[0]}" "${1##*/}: unrecognized arguments: "
			expect_part "${stderr_lines[0]} " " $option " # before it `auth`, where a script takes no name
			expect_equal "${stderr_lines[1]}" "Hint: '$1' --help"
			[ "${#stderr_lines[@]}" -eq 2 ]
		done
	}
	each refused
	expect_equal "$(snapshot .)" "$before"
}

@test "an unknown database is named, with those that are known, status 64" {
	unknown() {
		local names=(nosuch)
		[[ " ${some[*]} " != *" $1 "* ]] || names+=('' '../auth' '$(id)' $'new\nline')
		for name in "${names[@]}"; do
			run -64 --separate-stderr "$1" "$name"
			expect_equal "$output" ""
			expect_part "${stderr_lines[0]}" "${1##*/}: there is no database "
			expect_equal "${stderr_lines[1]}" "Hint: choose from: auth, payment"
			[ "${#stderr_lines[@]}" -eq 2 ]
		done
		run -64 "$1" auth nosuch
		DATABASES='auth shop' run -64 "$1" payment
		expect_line "$output" "Hint: choose from: auth, shop"
	}
	each unknown "${of_any_number[@]}"
	expect_equal "$(ls "$BACKUP_DIR")" ""
}

@test "--json is one document on stdout, and the talk is on stderr, for errors too" {
	documented() {
		for wrong in --no-such-option nosuch; do
			run -64 --separate-stderr "$1" --json "$wrong"
			expect_equal "$(json "$output" 'it["status"]')" 64
			expect_part "$stderr" "$(json "$output" 'it["error"]')"
			expect_part "$stderr" "Hint: "
			expect_part "$stderr" "$(json "$output" 'it["hint"].rpartition(".sh")[2]')"
		done
		RETENTION_DAYS=7d run -78 --separate-stderr "$1" --json
		expect_equal "$(json "$output" 'it["status"]')" 78
		expect_part "$(json "$output" 'it["error"]')" RETENTION_DAYS
		BACKUP_DIR=/nonexistent/backups run -73 --separate-stderr "$1" --json
		expect_equal "$(json "$output" 'it["status"]')" 73
	}
	each documented "${of_any_number[@]}"
}

@test "a .env that is wrong is status 78 with file, line and key, and nothing is touched" {
	copy_suite suite
	printf 'RETENTION_DAYS=7\nMIN_BACKUP=7\n' >suite/.env
	before=$(snapshot .)
	wrong() {
		run -78 --separate-stderr "suite/scripts/${1##*/}"
		expect_equal "$output" ""
		expect_part "$stderr" "suite/.env"
		expect_part "$stderr" "MIN_BACKUP"
		expect_line "$stderr" "Hint: did you mean MIN_BACKUPS?"
	}
	each wrong "${of_any_number[@]}"
	expect_equal "$(snapshot . | grep -v pycache)" "$(grep -v pycache <<<"$before")"
}
