"""The text that pg_dump writes: tokens, statements, row counts, and the guard that decides what psql is fed."""
