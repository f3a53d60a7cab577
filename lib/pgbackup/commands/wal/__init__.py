"""receive-wal.sh: the receiver of a cluster's WAL."""
