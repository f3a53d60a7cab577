"""Somebody is told: what, in which words, through which channels, until it has arrived; and the dead man's pings."""
