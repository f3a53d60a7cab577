"""What this host knows of its copies elsewhere: the index of what was confirmed, the spool, how the last run went."""
