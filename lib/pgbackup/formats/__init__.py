"""Bytes: the backup file and its manifest, WAL records and timelines, PostgreSQL's backup_manifest. Opens nothing."""
