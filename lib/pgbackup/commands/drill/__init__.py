"""drill-backups.sh: a backup, or a moment, is really restored into a throwaway server and compared."""
