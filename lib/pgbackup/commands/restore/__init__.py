"""restore-postgres.sh FILE, --list, --history, --rollback, --drop-old."""
