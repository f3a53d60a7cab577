"""What is remembered beside the backups: versioned state files with one reader, and those that are not of WAL."""
