"""What a run says: backup.log, the history of restores, progress, results as lines and as JSON."""
