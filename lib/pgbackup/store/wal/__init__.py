"""A cluster's WAL archive on disk: segments, base backups, and to which moments they lead back."""
