#!/bin/sh
# Let somebody be told when a promise breaks: write the channels down, try them out, and look by a schedule.
# Usage: setup-alerts.sh --help
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/../lib/run" setup-alerts "$@"
