"""Decides what psql is fed: statements that are refused, rewritten for the server, or loaded without rows."""
