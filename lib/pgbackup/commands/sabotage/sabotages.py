"""What is broken, how it is mended, and which promise has to break by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from pgbackup.commands.sabotage.server import NAME
from pgbackup.commands.sabotage.world import PLACE, World
from pgbackup.report.promises.promise import BACKUP, COPY, DRILL, ROOM, SCHEDULE, VERIFY, WAL

# pg_dump writes it down, and no psql can load it: the function finds its helper by the path of those who use it.
_NOT_TO_BE_LOADED = """
CREATE FUNCTION helper(int) RETURNS bool LANGUAGE sql AS 'SELECT $1 > 0';
CREATE FUNCTION fits(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN helper($1); END';
CREATE TABLE prices (cents int CHECK (fits(cents)));
INSERT INTO prices VALUES (995)
"""
_MENDED = "DROP TABLE prices; DROP FUNCTION fits(int); DROP FUNCTION helper(int)"


@dataclass(frozen=True)
class Sabotage:
    """what: for people. key: of the promise that has to break. spoil, mend: what is done."""

    what: str
    key: str
    spoil: Callable[[World], None]
    mend: Callable[[World], None]


def _cut(world: World) -> None:
    with world.newest().open("r+b") as file:
        file.truncate(world.newest().stat().st_size // 2)


def _killed(world: World) -> None:
    world.server.stop()
    world.run("backup-postgres.sh", "-q")


def _started(world: World) -> None:
    world.server.start()
    world.back_up()


def _unloadable(world: World) -> None:
    world.server.sql(_NOT_TO_BE_LOADED)
    world.back_up()
    world.run("drill-backups.sh", "-q")


def _loadable(world: World) -> None:
    world.server.sql(_MENDED)
    world.back_up()
    world.must("drill-backups.sh", "-q")


def _off(world: World) -> None:
    world.schedule("backup-postgres.sh")


def _stopped(world: World) -> None:
    world.archived(ago=timedelta(hours=2))


def _received(world: World) -> None:
    world.archived()


def _filled(world: World) -> None:
    """The next backups want more than any disk has: the last base backup was as large."""
    world.archived(base_bytes=1 << 60)


def _away(world: World) -> None:
    world.place_answers(False)
    world.age_copy()
    world.back_up()
    world.run("copy-backups.sh", "-q", "--now")


def _back(world: World) -> None:
    world.place_answers(True)
    world.must("copy-backups.sh", "-q", "--now")


ALL = (
    Sabotage("a backup's file is cut", f"{VERIFY}:{NAME}", _cut, World.back_up),
    Sabotage("no backup for three days", f"{BACKUP}:{NAME}", World.age_backup, World.back_up),
    Sabotage("the database's server is dead", f"{BACKUP}:{NAME}", _killed, _started),
    Sabotage("a drill fails", f"{DRILL}:{NAME}", _unloadable, _loadable),
    Sabotage("a place elsewhere is away", f"{COPY}:{PLACE}", _away, _back),
    Sabotage("the timer is off", f"{SCHEDULE}:backup", _off, World.schedule),
    # No script runs after these two: the archive is none that anything was received for.
    Sabotage("the receiver of WAL has stopped", f"{WAL}:{NAME}", _stopped, _received),
    Sabotage("the disk is full", f"{ROOM}:", _filled, _received),
)
