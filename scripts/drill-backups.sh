#!/bin/sh
# Restore a backup into a throwaway server and compare it.
# Usage: drill-backups.sh --help
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/../lib/run" drill "$@"
