"""What PostgreSQL itself writes about a cluster: backup_manifest, timeline history, WAL records."""
