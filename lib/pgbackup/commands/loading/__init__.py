"""A scratch database is filled, compared and swapped in; what a kill left is finished or undone."""
