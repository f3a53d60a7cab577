#!/bin/sh
# Receive the WAL of a database's cluster until it is stopped. setup-wal-archiving.sh sets this up.
# Usage: receive-wal.sh --help
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/../lib/run" receive-wal "$@"
