"""An archive at a place elsewhere: what could be recovered from there alone, and its files, fetched ahead of replay."""
