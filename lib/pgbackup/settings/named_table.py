"""The tables of settings that each name in DATABASES and in OFFSITE has, behind that name: AUTH_CONTAINER."""

from __future__ import annotations

from collections.abc import Callable

from pgbackup.settings import values
from pgbackup.settings.setting import Setting
from pgbackup.settings.values import whole_number

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
