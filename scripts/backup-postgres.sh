#!/bin/sh
# Back up the databases: dump, prove by reading back, publish, expire old ones.
# Usage: backup-postgres.sh --help
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/../lib/run" backup "$@"
