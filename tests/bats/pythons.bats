#!/usr/bin/env bats
# tests/pythons: which Pythons it finds, what it tells of the others, and that a failure on one of them is a failure.
# shellcheck disable=SC2016,SC2154 # stubs are written with single quotes; bats and common.bash set variables

setup() {
	load common
	fresh_place
	mkdir -p checkout/tests bin home
	cp "$ROOT/tests/pythons" checkout/tests
	git init -q checkout
	echo new >checkout/file
	# make: notes where it was called and fails for the Python that the file `bad` names.
	stub make 'pwd >>"$HOME/made"; case $* in *"$(cat "$HOME/bad")"*) exit 1 ;; esac; [ -f "$3/file" ]'
	echo none >home/bad
	stub python3 'echo 3.9'
}

stub() {
	printf '#!/bin/sh\n%s\n' "$2" >"bin/$1"
	chmod +x "bin/$1"
}

pythons() {
	run "$@" env -i PATH="$PWD/bin:/usr/bin:/bin" HOME="$PWD/home" checkout/tests/pythons 3.90 3.91 3.92
}

@test "each Python that is there is tried, and the others are named" {
	stub python3.90 'echo 3.90'
	stub python3.91 'echo 3.90' # a shim that answers for another one
	mkdir -p home/.pyenv/versions/3.92.1/bin
	cp bin/python3.90 home/.pyenv/versions/3.92.1/bin/python
	sed -i 's/3.90/3.92/' home/.pyenv/versions/3.92.1/bin/python
	pythons -0
	expect_line "$output" "  3.90  passed"
	expect_line "$output" "  3.91  not on this machine, or without venv"
	expect_line "$output" "  3.92  passed"
	expect_equal "$(wc -l <home/made)" 2
}

@test "a failure on one is told, the next is tried, and the status says so" {
	stub python3.90 'echo 3.90'
	stub python3.92 'echo 3.92'
	echo PYTHON=python3.90 >home/bad
	pythons -1
	expect_line "$output" "  3.90  FAILED"
	expect_line "$output" "  3.92  passed"
}

@test "none at all is a failure" {
	pythons -69
	expect_line "$output" "  3.92  not on this machine, or without venv"
}

@test "the copy has what the checkout has now, and keeps its .venv" {
	stub python3.90 'echo 3.90'
	mkdir -p checkout/.cache/pythons/3.90/.venv
	touch checkout/.cache/pythons/3.90/{gone,.venv/kept}
	echo .cache >checkout/.gitignore
	pythons -0
	expect_equal "$(cd checkout/.cache/pythons/3.90 && find . -type f | sort | tr '\n' ' ')" \
		"./.gitignore ./.venv/kept ./file ./tests/pythons "
}
