#!/bin/sh
# Check every backup file from its first to its last byte.
# Usage: verify-backups.sh --help
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/../lib/run" verify "$@"
