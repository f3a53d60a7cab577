#!/bin/sh
# Archive the WAL of a database's cluster, so that it can be recovered to any moment.
# Usage: setup-wal-archiving.sh --help
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/../lib/run" setup-wal-archiving "$@"
