"""A backup is really loaded into a server that is thrown away, and compared: for the drill and for each night."""
