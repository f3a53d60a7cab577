"""The suite at work without Docker: two throwaway databases, backed up, verified, drilled, lost and restored.

    make demo

Everything lies in one temporary directory and ends with this program, whichever way that ends.
"""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import servers
import story
import workspace

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
USERS, PAYMENTS = 2_000, 10_000
MISMATCH, UNAVAILABLE, CANNOT_CREATE, IO_FAILED, BROKEN_PIPE = 65, 69, 73, 74, 141
# What the commands keep of the caller's environment; settings and PG* of a real installation stay out.
KEPT = (
    "HOME",
    "USER",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "COLUMNS",
    "TMPDIR",
)


class RowsDiffer(Exception):
    """A backup is not what it was made from."""


@dataclass(frozen=True)
class Database:
    """One of the two: its name in DATABASES, the database, the container it would have, and where it runs."""

    name: str
    database: str
    container: str
    server: servers.Server


@dataclass(frozen=True)
class Stage:
    """What the steps share."""

    story: story.Story
    databases: tuple[Database, ...]
    backups: Path

    def latest(self, database: Database) -> Path:
        """Where the newest good backup of a database is to be found."""
        return self.backups / database.container / f"{database.database}_LATEST.sql.gz"


def settings(databases: tuple[Database, ...], backups: Path) -> dict[str, str]:
    """What would stand in .env. Those that do not matter here are empty: nothing of a real .env may apply."""
    found = {
        "DATABASES": " ".join(database.name for database in databases),
        "BACKUP_DIR": str(backups),
        "BACKUP_MOUNT": "",
        "RETENTION_DAYS": "7",
        "MIN_BACKUPS": "7",
    }
    for database in databases:
        key = database.name.upper()
        found |= {f"{key}_{word}": "" for word in ("DIR", "PASSFILE", "SERVICES", "HEALTH_URL")}
        found |= {
            f"{key}_CONTAINER": database.container,
            f"{key}_DATABASE": database.database,
            f"{key}_USER": database.server.superuser,
            f"{key}_CLIENT": "direct",
            f"{key}_URL": database.server.url(database.database),
        }
    return found


def environment(programs: Path, chosen: Mapping[str, str]) -> dict[str, str]:
    """The environment of the commands: our PostgreSQL programs first on PATH, and the settings."""
    kept = {key: os.environ[key] for key in KEPT if key in os.environ}
    return {**kept, "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}", **chosen}


def play(telling: story.Story, place: Path) -> None:
    """Tell the story in the temporary directory `place`, up to the stopping of the servers."""
    telling.heading("Two throwaway PostgreSQL servers, as a payment service has them")
    installation = servers.install(place)
    account = installation.account
    with ExitStack() as stack:
        who = f"as '{account.pw_name}', for it refuses root" if account else "as yourself"
        with telling.timed(f"PostgreSQL {installation.version}, twice, {who}"):
            auth, payment = stack.enter_context(servers.running(installation, place, ("auth_user", "payment_user")))
        databases = (
            Database("auth", "auth_db", "postgres-a", auth),
            Database("payment", "payment_db", "postgres-b", payment),
        )
        for database, rows in zip(databases, (USERS, PAYMENTS), strict=True):
            fill(telling, database, rows)
        chosen = settings(databases, place / "backups")
        telling.environment = environment(installation.programs, chosen)
        show_settings(telling, chosen)
        stage = Stage(telling, databases, place / "backups")
        for step in (back_up, verify, look_inside, drill, lose_and_restore):
            step(stage)


def fill(telling: story.Story, database: Database, rows: int) -> None:
    """Load the made-up data of one database."""
    with telling.timed(f"{database.database} filled from demo/{database.database}.sql"):
        database.server.load(database.database, HERE / f"{database.database}.sql", rows)


def show_settings(telling: story.Story, chosen: Mapping[str, str]) -> None:
    """Show those settings that are not the defaults: the only thing that tells the demo from a real host."""
    telling.tell("   Settings, from the environment here and from .env on a real host; the rest are the defaults:")
    for key, value in chosen.items():
        if key == "BACKUP_DIR" or (value and key.endswith(("_CLIENT", "_URL"))):
            telling.tell(f"     {key}={value}")


def back_up(stage: Stage) -> None:
    """The main job."""
    stage.story.heading("Back up: dump, compress, read back from disk, publish")
    stage.story.run("scripts/backup-postgres.sh")


def verify(stage: Stage) -> None:
    """The second command."""
    stage.story.heading("Verify: every file from its first byte to its last")
    stage.story.run("scripts/verify-backups.sh")


def look_inside(stage: Stage) -> None:
    """What is in the files, with nothing but the tools of any Unix; and the rows, counted three times."""
    stage.story.heading("What is in the files")
    file = f'"$BACKUP_DIR"/{stage.databases[1].container}/{stage.latest(stage.databases[1]).name}'
    stage.story.run('ls -l "$BACKUP_DIR"/*/')
    stage.story.run('gunzip -t "$BACKUP_DIR"/*/*_LATEST.sql.gz && echo "good gzip"')
    stage.story.run(f"gunzip -c {file} | grep -v '^$' | head -n 7")
    stage.story.run(f"gunzip -c {file} | grep -A 2 '^COPY public.payments ' | cut -c -110")
    # SQL comments behind pg_dump's last line.
    stage.story.run(f"gunzip -c {file} | sed -n '/^-- pgbackup manifest/,$p' | head -n 14 | cut -c -110")
    head_of_rows(stage)
    for database in stage.databases:
        compare_rows(stage, database)


def drill(stage: Stage) -> None:
    """Whether the files can be restored, before anybody needs them."""
    stage.story.heading("Drill: load the file into a throwaway server, and compare everything")
    stage.story.run("scripts/drill-backups.sh payment")


def lose_and_restore(stage: Stage) -> None:
    """What all of it is for."""
    stage.story.heading("A loss, and the restore")
    payment = stage.databases[1]
    loss = "DELETE FROM webhooks; DELETE FROM payments WHERE status = 'succeeded'"
    stage.story.tell(f"   {loss}")
    before = payment.server.row_counts(payment.database)
    payment.server.psql(payment.database, "-c", loss)
    after = payment.server.row_counts(payment.database)
    for table in before:
        if after[table] != before[table]:
            stage.story.tell(f"   {payment.database}.{table}: {before[table]} rows before, {after[table]} now")
    # Without --yes it asks for the database's name.
    stage.story.run(f"scripts/restore-postgres.sh payment {stage.latest(payment).name} --yes")
    head_of_rows(stage)
    compare_rows(stage, payment)


def head_of_rows(stage: Stage) -> None:
    """The head of the table that compare_rows() fills."""
    stage.story.tell()
    stage.story.tell(f"   {'rows':30} {'in the file':>12} {'in the database':>16}")


def compare_rows(stage: Stage, database: Database) -> None:
    """Count the rows of each table in the backup and in the database; raise RowsDiffer if they differ."""
    in_file = rows_in_file(stage.latest(database))
    alive = database.server.row_counts(database.database)
    for table, rows in alive.items():
        stage.story.tell(f"   {database.database + '.' + table:30} {in_file.get(table, 0):12} {rows:16}")
    if in_file != alive:
        raise RowsDiffer(f"the backup of '{database.database}' does not hold the rows that the database holds")


def rows_in_file(file: Path) -> dict[str, int]:
    """Return table -> rows: the lines of each COPY block of a backup, read without the suite's help."""
    rows: dict[str, int] = {}
    table = ""
    with gzip.open(file, "rb") as lines:
        for line in lines:
            if table and line == b"\\.\n":
                table = ""
            elif table:
                rows[table] += 1
            elif line.startswith(b"COPY public.") and line.endswith(b" FROM stdin;\n"):
                table = line.split()[1].decode().removeprefix("public.")
                rows[table] = 0
    return rows


def attempt() -> int:
    """Play the story and return the exit status; whatever happens, nothing is left behind."""
    telling = story.Story(ROOT)
    try:
        with workspace.workspace(shared=servers.runs_as_root()) as place:
            play(telling, place)
        telling.heading("Both servers stopped, the temporary directory removed")
        telling.tell(
            "   On a real host: cp .env.example .env, change what differs, scripts/backup-postgres.sh --dry-run"
        )
    except story.Stopped:
        return 128 + story.noted()
    except story.CommandFailed as failed:
        return complain(str(failed), failed.status)
    except RowsDiffer as failed:
        return complain(str(failed), MISMATCH)
    except servers.ServerFailed as failed:
        return complain(str(failed), UNAVAILABLE)
    except workspace.NoPlace as failed:
        return complain(str(failed), CANNOT_CREATE)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as failed:
        return complain(str(failed), IO_FAILED)
    return 0


def complain(message: str, status: int) -> int:
    """Say on stderr what went wrong, unless it went wrong because we were told to stop."""
    if not story.noted():
        print(f"demo: {message}", file=sys.stderr)
    return status


def main() -> int:
    """Set up what concerns the whole process, then play."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr] # a terminal without UTF-8 gets question marks
    story.note_signals()
    status = attempt()
    if story.noted():
        story.die_of(story.noted())
    return status


if __name__ == "__main__":
    sys.exit(main())
