"""copy-backups.sh, and verify-backups.sh --at: what is copied to places elsewhere, and what is there."""
