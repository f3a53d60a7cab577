"""A copy at a place elsewhere is chosen, fetched, opened with a key, and given as a source."""
