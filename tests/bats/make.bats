#!/usr/bin/env bats
# The Makefile, as a new user meets it: what is missing is told in one sentence with the command that installs it.
# shellcheck disable=SC2016,SC2154 # stubs are written with single quotes; bats and common.bash set variables

setup() {
	load common
	fresh_place
	cp "$ROOT/Makefile" .
	touch pyproject.toml constraints.txt
	make=$(command -v make)
	mkdir bin
	for program in sh awk rm mkdir touch ln; do
		ln -s "$(command -v "$program")" bin
	done
}

# A python3 that answers the questions of the Makefile: stub_python OLD_ENOUGH HAS_VENV, and notes what else it is told.
stub_python() {
	cat >bin/python3 <<-END
		#!/bin/sh
		case \$2 in
		*version_info*) exit $1 ;;
		*ensurepip*) exit $2 ;;
		esac
		echo "\$*" >>told
		if [ "\$2" = venv ]; then
			mkdir -p "\$3/bin"
			ln -sf '$PWD/bin/python3' "\$3/bin/python"
		fi
	END
	chmod +x bin/python3
}

@test "make lists the targets, every one that is meant to be called" {
	run -0 --separate-stderr env PATH="$PWD/bin" "$make"
	expect_equal "$stderr" ""
	documented=$(awk '{ print $2 }' <<<"$output")
	expect_equal "$documented" "$(sed -n 's/^\.PHONY: //p' Makefile | tr ' ' '\n')"
	for target in setup demo test lint faults bench docs; do
		expect_line "$documented" "$target"
	done
}

@test "without Python" {
	run -2 --separate-stderr env PATH="$PWD/bin" "$make" setup
	expect_equal "${stderr_lines[0]}" "pgbackup: there is no 'python3'. Hint: sudo apt-get install python3 python3-venv"
	run -2 --separate-stderr env PATH="$PWD/bin" "$make" setup PYTHON=python3.12
	expect_part "$stderr" "there is no 'python3.12'"
	[ ! -e .venv ]
}

@test "with a Python that is too old" {
	stub_python 1 0
	run -2 --separate-stderr env PATH="$PWD/bin" "$make" setup
	expect_part "${stderr_lines[0]}" "pgbackup: 'python3' is older than 3.10. Hint: "
	[ ! -e .venv ] && [ ! -e told ]
}

@test "with a Python that has no venv" {
	stub_python 0 1
	run -2 --separate-stderr env PATH="$PWD/bin" "$make" demo
	expect_equal "${stderr_lines[0]}" \
		"pgbackup: 'python3' cannot make virtual environments. Hint: sudo apt-get install python3-venv"
	[ ! -e .venv ] && [ ! -e told ]
}

@test "make setup installs once, and anew when what it depends on has changed or the interpreter is gone" {
	stub_python 0 0
	run -0 env PATH="$PWD/bin" "$make" setup
	expect_part "$(cat told)" "--constraint constraints.txt --group runtime"
	expect_line "$output" "ready: scripts/backup-postgres.sh --help"
	rm told
	run -0 env PATH="$PWD/bin" "$make" setup
	[ ! -e told ]
	touch -d '1 minute' constraints.txt
	run -0 env PATH="$PWD/bin" "$make" setup
	expect_part "$(cat told)" "--group runtime"
	expect_equal "$(grep -c venv told)" 0
	touch -d '1 hour ago' constraints.txt
	rm told .venv/bin/python
	run -0 env PATH="$PWD/bin" "$make" setup
	expect_part "$(cat told)" "-m venv .venv"
	expect_part "$(cat told)" "--group runtime"
}

@test "an installation that failed is tried again" {
	stub_python 0 0
	sed -i 's/^esac/*group*|pip) exit 1 ;;\nesac/' bin/python3
	run -2 env PATH="$PWD/bin" "$make" setup
	stub_python 0 0
	run -0 env PATH="$PWD/bin" "$make" setup
	expect_part "$(cat told)" "--group runtime"
}
