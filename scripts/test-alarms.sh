#!/bin/sh
# See that alarms are told: break a throwaway set-up on purpose, and look what comes out of the channels.
# Usage: test-alarms.sh --help
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/../lib/run" test-alarms "$@"
