"""The table of settings: `.env.example` and docs/configuration.md are written from it, config.py reads by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pgbackup.settings import values
from pgbackup.settings.values import Kind, whole_number


@dataclass(frozen=True)
class Setting:
    """One row: the key (for one of a database or a place the part after `AUTH_`), its kind, default and meaning.

    A default is a text as it would be written, or a function of the name in DATABASES or OFFSITE.
    """

    key: str
    kind: Kind
    default: str | Callable[[str], str]
    meaning: str

    def default_for(self, name: str) -> str:
        """The default, as text, for the database called `name` (any text for a global setting)."""
        return self.default(name) if callable(self.default) else self.default


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
    Setting("DATABASES", values.TARGET_NAMES, "auth payment", "the databases, by the names used on the command line"),
    Setting("DOCKER", values.PROGRAM, "docker", "the Docker client"),
    Setting("BACKUP_JOBS", whole_number(1, 64, "databases"), "2", "number of databases backed up in parallel"),
    Setting(
        "RESTORE_JOBS", whole_number(1, 64, "sessions"), "2", "number of indexes that a restore builds in parallel"
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

# What the operator's guide calls things; every other name gets the pattern.
_GUIDE = {
    "auth": {
        "CONTAINER": "postgres-a",
        "SERVICES": "service-a-1 service-a-2",
        "HEALTH_URL": "https://localhost/auth/health",
    },
    "payment": {
        "CONTAINER": "postgres-b",
        "SERVICES": "service-b-1 service-b-2",
        "HEALTH_URL": "https://localhost/payments/health/check",
    },
}


def _from_guide(key: str, otherwise: str) -> Callable[[str], str]:
    return lambda name: _GUIDE.get(name, {}).get(key, otherwise.format(name=name))


TARGET_SETTINGS = (
    Setting(
        "CONTAINER",
        values.CONTAINER,
        _from_guide("CONTAINER", "postgres-{name}"),
        "the container of the database server",
    ),
    Setting(
        "DATABASE",
        values.DATABASE_OBJECT,
        _from_guide("DATABASE", "{name}_db"),
        "the name of the database; not needed if the URL has it",
    ),
    Setting(
        "USER",
        values.DATABASE_OBJECT,
        _from_guide("USER", "{name}_user"),
        "the role that dumps and restores; not needed if the URL has it",
    ),
    Setting(
        "DIR",
        values.OPTIONAL_DIRECTORY,
        "",
        "the directory of its backups in BACKUP_DIR; empty means the container's name",
    ),
    Setting(
        "CLIENT",
        values.CLIENT,
        "auto",
        "where pg_dump runs; auto tries sidecar, then exec; with a URL the default is direct",
    ),
    Setting("URL", values.OPTIONAL_URL, "", "for the direct client: postgresql://user@host:port/database"),
    Setting("PASSFILE", values.OPTIONAL_PATH, "", "a .pgpass file (mode 0600), if the server asks for a password"),
    Setting(
        "SERVICES",
        values.CONTAINERS,
        _from_guide("SERVICES", ""),
        "the containers that use the database, in the order in which they are stopped",
    ),
    Setting(
        "HEALTH_URL",
        values.OPTIONAL_HEALTH_URL,
        _from_guide("HEALTH_URL", ""),
        "a URL that answers 2xx when the services are healthy",
    ),
    Setting(
        "DRILL_SQL",
        values.OPTIONAL_PATH,
        "",
        "a file of queries that must be true in what a drill has loaded (docs/drill.md)",
    ),
    Setting(
        "BASE_EVERY_DAYS",
        whole_number(1, 365, "days"),
        "1",
        "with WAL archiving: age of the newest base backup at which backup-postgres.sh makes another",
    ),
    Setting(
        "BASE_FULL_EVERY_DAYS",
        whole_number(1, 365, "days"),
        "7",
        "with summarize_wal on (PostgreSQL 17 and later): age of the last full base backup at which the next is full",
    ),
    Setting(
        "WAL_KEEP_MEGABYTES",
        whole_number(64, 1 << 27, "MB"),
        "10240",
        "WAL that the server retains for a receiver that is away (max_slot_wal_keep_size); beyond it, WAL is lost",
    ),
    Setting(
        "WAL_SYNC",
        values.YES_OR_NO,
        "no",
        "whether to sync WAL to disk as it arrives, for synchronous_standby_names (docs/point-in-time.md)",
    ),
)

PLACE_SETTINGS = (
    Setting(
        "REMOTE",
        values.REMOTE,
        lambda name: f"{name}:backups",
        "where the copies go: a remote of rclone's configuration, and a path on it, for example s3:bucket/path",
    ),
    Setting(
        "BANDWIDTH",
        values.OPTIONAL_BANDWIDTH,
        "",
        'the most that copies may take of the line, as rclone\'s --bwlimit: 2M, or by the hour "08:00,512k 19:00,off"',
    ),
    Setting(
        "LOCK_DAYS",
        whole_number(0, 3650, "days"),
        "0",
        "how long the place must refuse to delete a new object, also to its owner (S3 object lock); 0: no lock",
    ),
    Setting("REQUIRED", values.YES_OR_NO, "yes", "whether a run fails where copies to this place fail"),
    Setting("ENCRYPTED", values.YES_OR_NO, "yes", "whether the copies there are encrypted (setup-encryption.sh)"),
)
