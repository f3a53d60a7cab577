#!/bin/sh
# Copy the backups to places elsewhere, encrypted, where this host cannot destroy them.
# Usage: copy-backups.sh --help
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/../lib/run" copy "$@"
