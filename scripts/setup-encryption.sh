#!/bin/sh
# Make the keys that copies elsewhere are encrypted with: this host keeps only their public halves.
# Usage: setup-encryption.sh --help
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/../lib/run" setup-encryption "$@"
