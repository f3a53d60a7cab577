"""Bytes: the backup file, its manifest, its encryption, WAL records, timelines, backup_manifest. Opens nothing."""
