"""Fills a scratch database from a verified backup and compares it: the part of a restore that takes the time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pgbackup.commands.job import Job
from pgbackup.commands.loading.record import Record
from pgbackup.database.clients import container
from pgbackup.database.clients.client import Client
from pgbackup.database.loading import early, load, plain, psql, scratch
from pgbackup.database.loading.keep_going import Dump, load_all
from pgbackup.database.loading.load import Timed, untimed
from pgbackup.database.questions import properties
from pgbackup.database.questions.counting import Counted, count_rows
from pgbackup.errors import BackupBad, Unavailable
from pgbackup.formats import dumpfile
from pgbackup.formats.dumpfile import Contents
from pgbackup.sql import locate
from pgbackup.sql.guarding import guard, older_server
from pgbackup.sql.parts import Part
from pgbackup.store.source import Source

_LARGE_BYTES = 64 << 20


@dataclass(frozen=True)
class Origin:
    """server: the properties that the database gets (the manifest's). major: the server's; restricts, keeps_order: see
    load().
    """

    source: Source
    server: dict[str, Any]
    major: int
    restricts: bool
    keeps_order: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class Filling(Origin):
    """contents: of the source, which was read before.

    accepts: given a list of what is not as it was, whether it is to be so all the same; statements that fail are then
    passed over. None: the first thing that is not as it was ends it.
    """

    contents: Contents
    accepts: Callable[[list[str]], bool] | None = None


def fill(job: Job, ask: Client, filling: Filling, name: str, record: Record) -> None:
    """Make the database `name`, load the dump through the guard, count every table, and give it its properties.

    Raise BackupBad when anything differs from the backup; `name` is then for the
    caller to drop.
    """
    if filling.accepts:
        with record.timed("load"):
            wrong = load_what_loads(job, ask, filling, name)
    else:
        wrong = load_file(job, ask, filling, name, record.timed)
    with ThreadPoolExecutor(1) as beside:
        sessions, is_roomy = _sessions(ask, filling, name)
        gathering = beside.submit(_gather, job, ask, name, sessions) if is_roomy else None
        with record.timed("compare"):
            wrong += _differences(job, ask, filling, name)
            if filling.accepts and wrong:
                _require_accepted(filling.accepts, wrong)
                record.unreplayed = wrong
            elif wrong:
                raise _unequal(wrong)
        with record.timed("finish"):
            if gathering:
                gathering.result()
            else:
                _gather(job, ask, name, sessions)
            _give_properties(ask, filling, name)


def compare(job: Job, ask: Client, filling: Filling, name: str) -> None:
    """Count every table of what was loaded. Raise BackupBad when anything differs from the backup."""
    if wrong := _differences(job, ask, filling, name):
        raise _unequal(wrong)


def _differences(job: Job, ask: Client, filling: Filling, name: str) -> list[str]:
    limit = float(job.settings.load_stall_seconds)
    return _different(filling.contents.rows, count_rows(ask, name, set(filling.contents.rows), limit))


def _unequal(wrong: list[str]) -> BackupBad:
    return BackupBad(
        f"what was loaded is not what the backup holds: {'; '.join(wrong[:3])}",
        "nothing was swapped; --keep-failed keeps what was loaded",
    )


def _is_large(filling: Origin) -> bool:
    """Only our own files are surely what pg_dump wrote, and only for large ones further sessions are worth it."""
    return filling.source.manifest is not None and filling.source.manifest.sql_bytes >= _LARGE_BYTES


def finish(job: Job, ask: Client, filling: Origin, name: str) -> None:
    """Give what was loaded its statistics and its properties."""
    _gather(job, ask, name, _sessions(ask, filling, name)[0])
    _give_properties(ask, filling, name)


def _sessions(ask: Client, filling: Origin, name: str) -> tuple[int, bool]:
    """In how many sessions statistics are gathered, and whether the server has room for another one beside them."""
    jobs = psql.jobs(ask)
    if jobs == 1 or not _is_large(filling):
        return 1, False
    room = plain.room(ask, name, float(ask.settings.load_stall_seconds))
    return min(jobs, 1 + room), room >= jobs


def _gather(job: Job, ask: Client, name: str, sessions: int) -> None:
    if said := scratch.analyze(ask, name, float(job.settings.load_stall_seconds), sessions):
        job.tell(f"ANALYZE is still to be done: {said}", always=True)


def _give_properties(ask: Client, filling: Origin, name: str) -> None:
    properties.apply(ask, name, properties.property_sql(name, filling.server))


def _made(ask: Client, filling: Origin, name: str) -> None:
    scratch.create(ask, name, scratch.create_sql(name, filling.server, filling.major))
    properties.apply(ask, name, properties.settings_sql(name, filling.server, steering=False))


def load_file(job: Job, ask: Client, filling: Filling, name: str, timed: Timed = untimed) -> list[str]:
    """Make the database and load it from the descriptor that was verified, checked again: the same bytes.

    timed: see load.load(). Return what failed: nothing, for the first failure is raised.
    """
    indexes = early.ready_made(filling.contents.outline) if _is_large(filling) else []
    if load_unread(job, ask, filling, name, timed, indexes) != filling.contents:
        raise _changed(filling)
    return []


def load_unread(
    job: Job, ask: Client, filling: Origin, name: str, timed: Timed = untimed, indexes: Sequence[Part] = ()
) -> Contents:
    """Make the database and load it from a source that nobody has read yet. Return what the source holds.

    timed, indexes: see load.load(). Raise BackupBad for a source that is bad, too; by then some of it is loaded.
    """
    held = filling.source.manifest
    with job.reporter.bar(f"{job.target.name}: load", held.sql_bytes if held else None) as advance:
        reader = dumpfile.Reader(filling.source.descriptor)
        parts = _counted(guard.parted(reader.pieces(), reader.scanner, apart=_is_large(filling)), advance)
        load_parts(job, ask, filling, name, parts, reader.scanner.rows, timed, indexes)
        return reader.finished()


def load_parts(
    job: Job,
    ask: Client,
    filling: Origin,
    name: str,
    parts: Iterable[Part],
    rows: Mapping[str, int],
    timed: Timed = untimed,
    indexes: Sequence[Part] = (),
) -> None:
    """Make the database and load the parts of a guarded dump into it. rows, timed, indexes: see load.load()."""
    _made(ask, filling, name)
    parts = older_server.for_server(parts, filling.major)
    try:
        load.load(
            ask,
            name,
            parts,
            filling.server,
            restricts=filling.restricts,
            rows=rows,
            early=indexes,
            keeps_order=filling.keeps_order,
            timed=timed,
        )
    except Unavailable as error:
        raise container.blamed(error, ask) from None


def load_what_loads(job: Job, ask: Client, filling: Filling, name: str) -> list[str]:
    """Load what can be loaded, reading the file as often as it takes. Return what failed, a sentence each."""
    _made(ask, filling, name)

    def parts() -> Iterator[Part]:
        reader = dumpfile.Reader(filling.source.descriptor)
        yield from older_server.for_server(guard.parted(reader.pieces(), reader.scanner, apart=True), filling.major)
        if reader.finished() != filling.contents:
            raise _changed(filling)

    def unit_at(line: int) -> locate.Unit:
        return locate.unit_at(dumpfile.Reader(filling.source.descriptor).pieces(), line)

    def rows_end() -> int:
        return locate.rows_end(dumpfile.Reader(filling.source.descriptor).pieces())

    try:
        failed = load_all(ask, name, Dump(parts, unit_at, rows_end), filling.server, restricts=filling.restricts)
    except Unavailable as error:
        raise container.blamed(error, ask) from None
    return list(map(str, failed))


def _require_accepted(accepts: Callable[[list[str]], bool], wrong: list[str]) -> None:
    if not accepts(wrong):
        raise BackupBad(
            f"{len(wrong)} things are not as they were: {'; '.join(wrong[:3])}",
            "nothing was swapped; --into NAME --keep-going makes a database of it beside the live one",
        )


def _changed(filling: Filling) -> BackupBad:
    return BackupBad(f"'{filling.source.name}' was changed while it was restored", "restore it again")


def _counted(parts: Iterable[Part], advance: Callable[[int], None]) -> Iterator[Part]:
    for part in parts:
        yield part
        advance(len(part.text))


def _different(expected: dict[str, int], counted: Counted) -> list[str]:
    """Equality, not plausibility: every table has exactly the rows that the dump had.

    A table of an extension may have more: those that the extension itself brings are not in the dump (manual,
    38.17.3 Extension Configuration Tables).
    """
    here = counted.rows
    return [
        f"{name} has {here.get(name, 'no rows at all')} and {rows} in the backup"
        for name, rows in counted.together(expected).items()
        if here.get(name) != rows and not (name in counted.of_extensions and here.get(name, 0) > rows)
    ]
