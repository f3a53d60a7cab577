"""Bytes: the backup file and its manifest, WAL records, PostgreSQL's backup_manifest. Opens nothing."""
