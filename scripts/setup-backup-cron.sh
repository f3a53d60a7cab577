#!/bin/sh
# Let cron make the backups: two lines in a crontab, and the rotation of backup.log.
# Usage: setup-backup-cron.sh --help
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
exec "$here/../lib/run" setup-backup-cron "$@"
