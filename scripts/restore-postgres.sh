#!/bin/sh
# Restore a database: check the file, load it beside the live one, compare, swap; the old one is kept.
# Usage: restore-postgres.sh --help
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/../lib/run" restore "$@"
