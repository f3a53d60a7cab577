"""backup-postgres.sh: each database on its own, and the plan that --dry-run shows."""
