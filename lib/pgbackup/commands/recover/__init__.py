"""restore-postgres.sh --to-…, --latest and --window: a database as it was at a moment."""
