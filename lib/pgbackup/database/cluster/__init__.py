"""A whole cluster: replication, base backups, and recovery in a throwaway container."""
