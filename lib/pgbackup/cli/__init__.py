"""The command lines: a parser for each script; errors become messages and exit statuses here, and only here."""
