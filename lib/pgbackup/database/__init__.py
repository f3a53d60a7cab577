"""The server's side. It knows no file format and no directory of backups."""
