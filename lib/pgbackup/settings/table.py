"""The table of the host's settings: config.py reads by it, `.env.example` and configuration.md are written from it."""

from __future__ import annotations

from pgbackup.settings import values
from pgbackup.settings.setting import Setting
from pgbackup.settings.values import whole_number

GLOBAL_SETTINGS = (
    Setting("BACKUP_DIR", values.PATH_BELOW_ROOT, "/opt/backups", "the directory of all backups and of backup.log"),
    Setting(
        "BACKUP_MOUNT",
        values.OPTIONAL_PATH,
        "",
        "a mount point that must be mounted before anything is written, for example /opt/backups on its own disk",
    ),
    Setting("RETENTION_DAYS", whole_number(1, 36500, "days"), "7", "age at which a backup expires"),
    Setting(
        "MIN_BACKUPS",
        whole_number(1, 10000, "backups"),
        "7",
        "number of newest good backups of each database that never expire, whatever their age",
    ),
    Setting(
        "REPROVE_DAYS",
        whole_number(1, 36500, "days"),
        "7",
        "time within which each backup that has not changed is read again and its SHA-256 compared, a part each night",
    ),
    Setting("DATABASES", values.TARGET_NAMES, "auth payment", "the databases, by the names used on the command line"),
    Setting("DOCKER", values.PROGRAM, "docker", "the Docker client"),
    Setting("BACKUP_JOBS", whole_number(1, 64, "databases"), "2", "number of databases backed up in parallel"),
    Setting(
        "RESTORE_JOBS",
        whole_number(0, 64, "sessions"),
        "0",
        "sessions that load a restore side by side; 0: one for each processor that the server may use, 8 at most",
    ),
    Setting(
        "WAIT_SECONDS",
        whole_number(0, 3600, "seconds"),
        "60",
        "how long to wait for a server that is starting, paused or out of connections",
    ),
    Setting(
        "LOCK_WAIT_SECONDS",
        whole_number(1, 86400, "seconds"),
        "300",
        "how long pg_dump waits for a locked table",
    ),
    Setting(
        "STALL_SECONDS",
        whole_number(1, 86400, "seconds"),
        "900",
        "how long a dump may deliver nothing before it counts as failed; must exceed LOCK_WAIT_SECONDS",
    ),
    Setting(
        "COMMAND_SECONDS",
        whole_number(1, 3600, "seconds"),
        "60",
        "how long Docker or a query may take to answer",
    ),
    Setting(
        "LOAD_STALL_SECONDS",
        whole_number(1, 86400, "seconds"),
        "3600",
        "how long one statement of a restore may take, such as an index build or a check of all rows",
    ),
    Setting(
        "RECOVERY_MEGABYTES",
        whole_number(128, 1 << 20, "MB"),
        "2048",
        "memory limit of the throwaway server in a point-in-time recovery and in a drill",
    ),
    Setting(
        "DRILL_AFTER_BACKUP",
        values.YES_OR_NO,
        "yes",
        "whether backup-postgres.sh drills a new backup: a small one always, a larger one when its schema has changed",
    ),
    Setting(
        "DRILL_AFTER_BACKUP_MEGABYTES",
        whole_number(0, 1 << 30, "MB"),
        "1000",
        "size up to which a database is small enough for a drill after each backup",
    ),
    Setting(
        "DRILL_WEEKLY",
        values.YES_OR_NO,
        "yes",
        "whether the set-up of a schedule, by systemd or cron, has a drill made each week",
    ),
    Setting(
        "DRILL_CPUS",
        whole_number(0, 1024, "processors"),
        "0",
        "processors that the throwaway server of a drill may use; 0: all, when nobody else wants them",
    ),
    Setting(
        "RTO_MINUTES",
        whole_number(0, 100_000, "minutes"),
        "0",
        "how long a restore may take: a drill warns when it takes longer; 0: no limit",
    ),
    Setting(
        "BACKUP_MAX_AGE_HOURS",
        whole_number(1, 100_000, "hours"),
        "26",
        "age of the newest good backup of a database from which backup-status.sh calls the promise broken",
    ),
    Setting("VERIFY_MAX_AGE_DAYS", whole_number(1, 3650, "days"), "8", "the same for the last verification"),
    Setting("DRILL_MAX_AGE_DAYS", whole_number(1, 3650, "days"), "8", "the same for the last drill that passed"),
    Setting(
        "OFFSITE_MAX_AGE_HOURS",
        whole_number(1, 100_000, "hours"),
        "30",
        "the same for the newest copy of a database at a place of OFFSITE",
    ),
    Setting(
        "WAL_MAX_AGE_MINUTES",
        whole_number(2, 100_000, "minutes"),
        "15",
        "the same for the last moment up to which WAL is confirmed, with WAL archiving",
    ),
    Setting(
        "KEY_MAX_AGE_DAYS",
        whole_number(1, 3650, "days"),
        "200",
        "the same for the last proof that the key of a recipient still exists (setup-encryption.sh --prove)",
    ),
    Setting("ALARM_MAX_AGE_DAYS", whole_number(1, 3650, "days"), "100", "the same for the last test of the alarms"),
    Setting(
        "IGNORE",
        values.IGNORED,
        "",
        "databases that need no backup, each with the reason: container/database: reason; … (docs/status.md)",
    ),
    Setting(
        "METRICS_FILE",
        values.OPTIONAL_METRICS_FILE,
        "",
        "where a schedule writes metrics for Prometheus, in a directory that node_exporter reads; empty: nowhere",
    ),
    Setting(
        "PAGE_FILE",
        values.OPTIONAL_PATH,
        "",
        "where a schedule writes the status page; empty means status/index.html in BACKUP_DIR (docs/monitoring.md)",
    ),
    Setting(
        "HEALTH_SECONDS", whole_number(1, 3600, "seconds"), "60", "how long to wait for the services to become healthy"
    ),
    Setting(
        "HEALTH_CA",
        values.OPTIONAL_PATH,
        "",
        "CA certificates (PEM) for the health URLs; empty accepts any certificate, like `curl -k`",
    ),
    Setting(
        "ENCRYPTION_RECIPIENTS",
        values.PATH_BELOW_ROOT,
        "/etc/pgbackup/recipients",
        "the file that names whom copies elsewhere are encrypted for; setup-encryption.sh writes it",
    ),
    Setting(
        "OFFSITE",
        values.PLACE_NAMES,
        "",
        "the places elsewhere that copies go to, by the names used on the command line; empty: none",
    ),
    Setting(
        "OFFSITE_HOST",
        values.OPTIONAL_HOST_NAME,
        "",
        "what this host is called there: its copies lie below that name; empty means the host's name",
    ),
    Setting(
        "OFFSITE_STALL_SECONDS",
        whole_number(1, 3600, "seconds"),
        "120",
        "how long a place may neither take nor give a byte before it counts as away",
    ),
    Setting(
        "OFFSITE_WAL_SECONDS",
        whole_number(1, 3600, "seconds"),
        "30",
        "with WAL archiving: how often what has come into the unfinished segment is copied to the places",
    ),
    Setting(
        "RCLONE_CONFIG",
        values.PATH_BELOW_ROOT,
        "/etc/pgbackup/rclone.conf",
        "rclone's configuration (mode 0600), which holds the places' credentials",
    ),
    Setting(
        "ALERTS_CONFIG",
        values.PATH_BELOW_ROOT,
        "/etc/pgbackup/alerts",
        "the file (mode 0600) of channels for alarms and of dead man's pings; setup-alerts.sh writes it",
    ),
    Setting(
        "ALERTS_STATE",
        values.PATH_BELOW_ROOT,
        "/var/lib/pgbackup",
        "the directory that remembers what was told, on another disk than the backups; setup-alerts.sh makes it",
    ),
    Setting(
        "ALERT_COMMAND",
        values.OPTIONAL_PROGRAM,
        "",
        "a program that is told alarms as well: the text comes on its standard input; empty: none",
    ),
    Setting("ALERT_PREFIX", values.OPTIONAL_LINE, "", "what the subject of each alarm begins with, for example [prod]"),
)
