"""Three ways to run a program next to a database and to ask its server: sidecar, exec, direct."""
