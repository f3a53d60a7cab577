"""The command lines of the set-up scripts."""
