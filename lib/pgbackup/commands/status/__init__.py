"""backup-status.sh: which promises are kept, what would come back if this host died now, and what has happened."""
