"""Places elsewhere that hold copies: put, get, list, stat behind one interface, and rclone as the one driver."""
