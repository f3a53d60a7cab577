"""The status of a host as Prometheus reads it: a table of gauges, and their text for the textfile collector."""
