#!/bin/sh
# Let copies of the backups go to a place elsewhere: try it out, copy what is here, and go on by a schedule.
# Usage: setup-offsite.sh --help
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/../lib/run" setup-offsite "$@"
