"""Cron and systemd: crontab lines, units, log rotation, and a trial run as the backup account."""
