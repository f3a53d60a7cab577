"""--in-place: where there is no room for two copies, the live database goes before the new one comes.

It is set aside under another name, so that nobody writes to it any more, and a verified backup of it is made. That
brings it back when the restore fails, or, after a kill, with the next command: until then there is none. So nothing is
stopped or dropped before the server was seen to take both: all of the file and all of the live database but the rows,
for which there is no room.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pgbackup import interrupt
from pgbackup.commands.job import Job
from pgbackup.commands.loading.fill import Filling, compare, finish, load_file, load_parts, load_what_loads
from pgbackup.database import pg_dump
from pgbackup.database.clients.client import Client, conninfo
from pgbackup.database.loading import load, scratch, swap
from pgbackup.database.questions import facts, preflight
from pgbackup.errors import BackupBad, ConfigurationError, Interrupted, PermissionDenied, SuiteError, Unavailable
from pgbackup.formats import dumpfile
from pgbackup.sql.guarding import guard
from pgbackup.sql.guarding.rowless import without_rows
from pgbackup.sql.naming import identifier
from pgbackup.sql.parts import Part
from pgbackup.sql.scanner import DumpScanner
from pgbackup.store import source
from pgbackup.store.state import journal

_ROOM = "nothing was touched; make room for a second copy (--drop-old) and restore without --in-place"


# What --schema-only leaves out; in the order in which they were made, as one may read another.
_REFRESHED = """
SELECT string_agg(format('REFRESH MATERIALIZED VIEW %I.%I;', nspname, relname), E'\\n' ORDER BY c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'm' AND relispopulated
"""


class Lost(Unavailable):
    """There is no live database now, and it could not be brought back."""


def prove(job: Job, ask: Client, filling: Filling, name: str) -> None:
    """Load the file and the live database into `name`, one after the other, without rows. Raise unless both load."""
    reader = dumpfile.Reader(filling.source.descriptor)
    job.tell(f"trying out everything in '{filling.source.name}' except its rows")
    try:
        _tried(job, ask, filling, name, without_rows(reader.pieces(), reader.scanner))
    except (BackupBad, PermissionDenied) as error:
        message = f"--in-place is refused: '{filling.source.name}' cannot be loaded beside the live database"
        raise BackupBad(f"{message}: {error.message}", _ROOM) from None
    job.tell("trying out everything in the live database except its rows")
    live = facts.gather(ask).details
    program = [*pg_dump.arguments(ask, live["encoding"]), "--schema-only"]
    try:
        with ask.reading(program) as stream:
            like_it = replace(filling, server=live, accepts=None)
            _tried(job, ask, like_it, name, stream.chunks(job.settings.stall_seconds), ask.query(_REFRESHED))
    except (BackupBad, PermissionDenied) as error:
        message = f"--in-place is refused: '{job.target.database}' as it is now could not be brought back"
        raise ConfigurationError(f"{message}: {error.message}", _ROOM) from None


def _tried(job: Job, ask: Client, filling: Filling, name: str, pieces: Iterable[bytes], behind: str = "") -> None:
    """behind: statements that come last."""
    load_parts(job, ask, filling, name, guard.parted(pieces, DumpScanner(), apart=False), {})
    if behind:
        part = Part(f"SET search_path = '';\n{behind}\n".encode(), "")
        load.load(ask, name, [part], filling.server, restricts=filling.restricts, rows={})
    swap.drop(ask, name)


def bring_back(job: Job, client: Client, entry: journal.Entry) -> None:
    """Put the live database, which is gone or invalid, back in its place. Raise Lost, or Interrupted.

    From where it was set aside, or from its safety backup, whatever differs: that is told, and it is there.
    """
    live = job.target.database
    try:
        if entry.outgoing and swap.valid(client, entry.outgoing):
            swap.drop(client, live)
            swap.swap(client, entry.outgoing, None)
        elif entry.safety:
            job.tell(f"bringing '{live}' back from '{entry.safety}'", always=True)
            _restored(job, client, entry)
    except Interrupted:
        raise
    except (SuiteError, OSError) as error:
        reason = error.message if isinstance(error, SuiteError) else str(error)
        raise _lost(job, client, entry, reason) from None


def _restored(job: Job, client: Client, entry: journal.Entry) -> None:
    opened = source.opened(job.place.path / entry.safety, job.target.database)
    try:
        contents = dumpfile.check(opened.descriptor)
        server = opened.manifest.raw["server"] if opened.manifest else {}
        found = preflight.look(client, [])
        filling = Filling(opened, server, found["major"], found["restricts"], contents)
        swap.drop(client, job.target.database)
        swap.drop(client, entry.scratch)
        wrong = _loaded(job, client, filling, entry.scratch)
        for step in (compare, finish):
            try:
                step(job, client, filling, entry.scratch)
            except Interrupted:
                raise
            except SuiteError as error:
                wrong.append(error.message)
        if wrong:
            told = f"'{job.target.database}' is back, but not everything is as it was: {'; '.join(wrong[:5])}"
            told += f"; everything that was in it stays in '{entry.safety}'"
            job.warning("restore.brought-back", f"warning: {told}", reason=told)
        swap.swap(client, entry.scratch, None)
    except BaseException:
        with interrupt.shielded(), suppress(SuiteError):
            swap.end_sessions(client)
            swap.drop(client, entry.scratch)
        raise
    finally:
        os.close(opened.descriptor)


def _loaded(job: Job, client: Client, filling: Filling, name: str) -> list[str]:
    """Load all, or, where the live database broke its own rules, all that can be. Return what failed."""
    try:
        return load_file(job, client, filling, name)
    except BackupBad:
        swap.drop(client, name)
        return load_what_loads(job, client, filling, name)


def _lost(job: Job, client: Client, entry: journal.Entry, reason: str) -> Lost:
    """Say in plain words that there is no database, what holds it, and what to type."""
    live = job.target.database
    if not entry.safety:
        held, commands = f"is in the database '{entry.outgoing}'", by_hand(job, client, entry.outgoing, None)
    else:
        path = job.place.path / entry.safety
        held, commands = f"is in '{path}'", by_hand(job, client, "", path)
    return Lost(
        f"THERE IS NO DATABASE '{live}' NOW; everything that was in it {held}; it could not be brought back: {reason}",
        "\n".join(
            [
                "the next backup, restore or rollback tries again; to do it by hand, ignoring the errors it shows:",
                *(f"  {command}" for command in commands),
            ]
        ),
    )


def by_hand(job: Job, client: Client, aside: str, path: Path | None) -> list[str]:
    """The commands that bring the database back without this suite: from where it was set aside, or from that file."""
    live = job.target.database
    prefix = job.settings.docker.command("exec", "-i", job.target.container) if client.container_id else []

    def psql(database: str, *words: str) -> str:
        where = conninfo(client.connection, database, "by-hand")
        return shlex.join([*prefix, "psql", "-X", "-q", "-d", where, *words])

    try:
        elsewhere = client.maintenance(aside)
    except SuiteError:
        elsewhere = "template1"
    if path is None:
        return [psql(elsewhere, "-c", swap.swap_sql(live, aside, None))]
    create = f"CREATE DATABASE {identifier(live)}"
    try:
        opened = source.opened(path, live)
        os.close(opened.descriptor)
        if opened.manifest:
            major = preflight.look(client, [])["major"]
            create = scratch.create_sql(live, opened.manifest.raw["server"], major)
    except SuiteError:
        pass  # the server's own defaults then
    fed = f"gunzip -c {shlex.quote(str(path))} | {psql(live)}"
    return [psql(elsewhere, "-c", create), fed]
