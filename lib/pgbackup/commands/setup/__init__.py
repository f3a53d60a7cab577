"""The set-up scripts for cron, systemd and WAL archiving, and the last step of `make install`."""
