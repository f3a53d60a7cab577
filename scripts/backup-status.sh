#!/bin/sh
# Show which promises are kept, and what would come back if this host died now.
# Usage: backup-status.sh --help
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/../lib/run" status "$@"
