"""Backups of PostgreSQL databases that run in Docker: dump, prove, keep, restore."""

__version__ = "0.1.0"
