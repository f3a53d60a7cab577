"""The status page: one HTML file without a script, which asks nobody for anything."""
