#!/bin/sh
# Let systemd make the backups, and verify and drill them weekly: units, timers, and the rotation of backup.log.
# Usage: setup-backup-systemd.sh --help
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/../lib/run" setup-backup-systemd "$@"
