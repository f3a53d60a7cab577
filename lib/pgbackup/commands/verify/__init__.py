"""verify-backups.sh: reads every backup and the WAL archive to the last byte."""
