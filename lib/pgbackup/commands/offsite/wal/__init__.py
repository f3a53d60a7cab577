"""WAL and base backups go elsewhere: as they are finished, and what is not finished every few seconds."""
