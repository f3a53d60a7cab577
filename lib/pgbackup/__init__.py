"""Backups of PostgreSQL databases that run in Docker: dump, prove, keep, restore."""

__version__ = "1.0.0"
