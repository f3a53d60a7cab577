"""Statuses as they may be: for whatever shows or tells one. Each is evaluated from facts, so it is one that can be."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from pgbackup.report.promises.evaluate import status
from pgbackup.report.promises.facts import (
    Alarms,
    Archive,
    Backup,
    Copies,
    Coverage,
    Database,
    Disk,
    Facts,
    Finding,
    Key,
    Schedule,
)
from pgbackup.report.promises.limits import Limits
from pgbackup.report.promises.status import Status
from pgbackup.store.state.ledger import Exercise, Run

NOW = datetime(2026, 3, 14, 4, 0, tzinfo=timezone.utc)
RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
HOSTILE = '<script>alert("x")</script>\n\x1b[31m"; DROP TABLE `x`;--'


def ago(**span: float) -> datetime:
    """The instant that long before NOW."""
    return NOW - timedelta(**span)


def backups(database: str, *, nights: int, first: datetime, rows: int = 120_000) -> tuple[Backup, ...]:
    """A backup each night, the newest of which was taken at `first`; all read, the newest ones drilled."""
    return tuple(
        Backup(
            file=f"{database}_{first - timedelta(days=night):%Y%m%d_%H%M%S}.sql.gz",
            taken=first - timedelta(days=night),
            bytes=354_000_000 - night * 1_700_000,
            sql_bytes=980_000_000 - night * 4_000_000,
            rows=rows - night * 150,
            seconds=5.2 + (night % 3) * 0.4,
            verified=max(first - timedelta(days=night), ago(days=6)),
            drilled=first - timedelta(days=night) if night < 2 else None,
        )
        for night in range(nights)
    )


def database(name: str, container: str, *, nights: int = 7, first: datetime | None = None) -> Database:
    """A database whose promises are all kept."""
    newest = first or ago(hours=2)
    made = backups(f"{name}_db", nights=nights, first=newest)
    return Database(
        name=name,
        database=f"{name}_db",
        container=container,
        directory=container,
        backups=made,
        files=len(made),
        bytes=sum(each.bytes for each in made),
        attempts=tuple(Run(each.taken + timedelta(seconds=9), 0, each.seconds, each.file) for each in made),
        exercises=(
            Exercise(
                ago(hours=1), "drill", 0, made[0].file, "", "deployer",
                {"server": 2.1, "load": 21.0, "indexes": 6.5, "finish": 1.0, "compare": 8.0}, 28.5, 120_000, "passed",
            ),
            Exercise(
                ago(days=7), "drill", 0, made[-1].file, "s3", "deployer",
                {"fetch": 33.0, "load": 20.1, "indexes": 6.4, "finish": 1.0}, 60.5, 119_000, "passed",
            ),
            Exercise(
                ago(days=40), "restore", 0, f"{name}_db_20260202_020000.sql.gz", "", "anna",
                {"verify": 1.0, "load": 19.8, "indexes": 6.3, "finish": 1.0, "swap": 0.2}, 28.3, 117_000, "done",
            ),
        ),
        begun=ago(days=90),
        verified=ago(days=6),
        drilled=ago(hours=1),
    )  # fmt: skip


def facts() -> Facts:
    """A host whose promises are all kept."""
    auth, payment = database("auth", "postgres-a"), database("payment", "postgres-b")
    return Facts(
        host="db1",
        backup_dir="/opt/backups",
        databases=(auth, payment),
        copies=(
            Copies(
                "s3", required=True, encrypted=True,
                newest={each.name: each.backups[0].taken for each in (auth, payment)},
                succeeded=ago(minutes=5), tried=ago(minutes=5), objects=180, bytes=61_000_000_000,
            ),
        ),
        archives=(
            Archive(
                "postgres-b", ("payment",), since=ago(days=7), until=ago(seconds=4), confirmed=ago(seconds=4),
                base=ago(hours=2), base_bytes=410_000_000, bases=8,
            ),
        ),
        keys=(Key(RECIPIENT, ago(days=31)),),
        schedules=(
            Schedule("backup", "systemd", NOW + timedelta(hours=22), interval=86_400.0),
            Schedule("verify", "systemd", NOW + timedelta(days=1), interval=604_800.0),
            Schedule("drill", "systemd", NOW + timedelta(days=4), interval=604_800.0),
            Schedule("offsite", "systemd", NOW + timedelta(minutes=3), interval=300.0),
        ),
        disk=Disk(free=210_000_000_000, total=500_000_000_000, wanted=3_200_000_000),
        coverage=Coverage(
            ago(hours=3), servers=2, databases=3,
            findings=(
                Finding("database", "postgres-a", "scratch", "no job has it", ignored="made anew by each test run"),
                Finding("unlogged", "postgres-b", "payment_db", "1 unlogged table: public.sessions", harmless=True),
            ),
        ),
        alarms=Alarms(channels=1, tested=ago(days=12)),
        awake_since=ago(days=20),
    )  # fmt: skip


def all_kept() -> Status:
    """Every promise is kept."""
    return status(facts(), NOW, Limits())


def several_broken() -> Status:
    """A database that was not backed up for three days, with a bad file and a drill that failed; copies that stand
    still; WAL that waits; a full disk; a timer that is off; a database that nobody backs up.
    """
    good = facts()
    auth = database("auth", "postgres-a", first=ago(days=3, hours=2))
    made = list(auth.backups)
    made[2] = replace(made[2], problem="its SHA-256 differs from its manifest's", verified=ago(days=6))
    made[1] = replace(made[1], drill_failed='ERROR:  relation "accounts" does not exist', drilled=ago(days=3))
    reason = "container 'postgres-a' is not running"
    auth = replace(
        auth,
        backups=tuple(made),
        attempts=tuple(Run(ago(days=night, hours=2), 69, 61.0, "", reason) for night in range(3)) + auth.attempts,
    )
    copies = replace(
        good.copies[0],
        newest={"auth": made[0].taken, "payment": ago(days=4)},
        succeeded=ago(days=4), failures=96, error="the place refused the credentials (AccessDenied)",
    )  # fmt: skip
    archive = replace(good.archives[0], confirmed=ago(hours=5), until=ago(hours=5), trouble="no space left on device")
    off = Schedule("backup", "", None, "postgres-backup.timer is installed and not enabled")
    assert good.coverage
    unlisted = Finding("database", "postgres-c", "orders", "no job has it")
    return status(
        replace(
            good,
            databases=(auth, good.databases[1]),
            copies=(copies,),
            archives=(archive,),
            keys=(Key(RECIPIENT, ago(days=260)),),
            schedules=(off, *good.schedules[1:]),
            disk=Disk(free=900_000_000, total=500_000_000_000, wanted=3_200_000_000),
            coverage=replace(good.coverage, databases=4, findings=(*good.coverage.findings, unlisted)),
            alarms=Alarms(channels=1, tested=None, undelivered=2, oldest=ago(hours=5), problem="SMTP 451"),
        ),
        NOW,
        Limits(),
    )


def never_backed_up() -> Status:
    """What a host looks like before anything has run: each database has its promises from the first day on."""
    fresh = (Database("auth", "auth_db", "postgres-a", "postgres-a"), Database("payment", "payment_db", "pg-b", "pg-b"))
    off = tuple(Schedule(what, "", None, "nothing is installed") for what in ("backup", "verify", "drill"))
    return status(Facts("new", "/opt/backups", fresh, schedules=off, disk=Disk(10**10, 2 * 10**10, 0)), NOW, Limits())


def hostile_names() -> Status:
    """Names, errors and findings that hold markup, escapes and quotes, and state that cannot be read."""
    good = facts()
    odd = database("auth", "postgres-a")
    odd = replace(
        odd,
        database=HOSTILE,
        backups=tuple(replace(each, file=f"{HOSTILE}_{number}.sql.gz") for number, each in enumerate(odd.backups)),
        attempts=(Run(ago(hours=1), 70, 1.0, "", HOSTILE), *odd.attempts),
        exercises=tuple(replace(each, who=HOSTILE, outcome=HOSTILE, file=HOSTILE) for each in odd.exercises),
        unknown={f"/opt/backups/{HOSTILE}": (f"'{HOSTILE}' cannot be understood: it is not JSON", f"rm '{HOSTILE}'")},
    )
    assert good.coverage
    found = tuple(Finding("database", "postgres-a", HOSTILE, HOSTILE, ignored) for ignored in ("", HOSTILE))
    return status(
        replace(
            good,
            host=HOSTILE,
            databases=(odd, good.databases[1]),
            coverage=replace(good.coverage, findings=found),
            alarms=Alarms(channels=1, tested=ago(days=1), undelivered=1, oldest=ago(hours=1), problem=HOSTILE),
        ),
        NOW,
        Limits(),
    )


ALL = (all_kept, several_broken, never_backed_up, hostile_names)
