"""The settings: one table of them, read from the command line, the environment and `.env`."""
