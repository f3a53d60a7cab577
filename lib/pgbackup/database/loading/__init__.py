"""Loads a dump into a scratch database, which then replaces the live one in one transaction."""
