"""What is asked of a server: facts, needs of a restore, row counts, roles, properties."""
