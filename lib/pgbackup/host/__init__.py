"""What surrounds the databases: services, health URLs, the backup account."""
