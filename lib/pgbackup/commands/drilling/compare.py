"""Compares what was loaded with the backup: the loaded database is dumped once more, and both dumps say the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from pgbackup.commands.drilling.verdict import Drill
from pgbackup.commands.job import Job
from pgbackup.database import pg_dump
from pgbackup.database.clients import failures
from pgbackup.database.clients.client import Client
from pgbackup.database.questions import soundness
from pgbackup.errors import BackupBad, Unavailable
from pgbackup.formats import dumpfile
from pgbackup.formats.content import RowSums
from pgbackup.formats.dumpfile import Contents
from pgbackup.formats.scan import Scan
from pgbackup.sql import outline
from pgbackup.sql.scanner import DumpScanner
from pgbackup.store.source import Source

_ENDING_SECONDS = 30.0
_TOLD = 5  # differences of a kind
_NOT_VALID = re.compile(rb" NOT (?:VALID|ENFORCED)\b")
_CODE = ("FUNCTION", "PROCEDURE")


def compare(
    job: Job,
    loaded: Client,
    server: Callable[[Sequence[str]], list[str]],
    source: Source,
    contents: Contents,
    drill: Drill,
) -> None:
    """Compare rows, content, objects, sequences and large objects, and let the server check itself.

    loaded: a client of the loaded database. server: runs a program as the server's account. What was compared is noted
    in drill.steps. Raise BackupBad, naming what is not as it was.
    """
    seconds = float(job.settings.load_stall_seconds)
    checks = soundness.has_amcheck(loaded)
    with ThreadPoolExecutor(1) as pool:
        checking: list[Future[str]] = []

        def begun() -> None:  # pg_dump has seen the catalog by then, in which an extension is made now
            if checks and not checking:
                checking.append(pool.submit(soundness.corrupt, loaded, server, seconds))

        scan = Scan()
        try:
            _dumped(job, loaded, contents, scan.scanner, begun)
        except Unavailable as error:
            if checking and (corruption := checking[0].result()):
                raise BackupBad(f"what was loaded cannot be read: {error.message}; pg_amcheck: {corruption}") from None
            raise
        scan.finish()
        wrong = _rows(job, loaded, source, contents, scan, drill)
        wrong += _objects(contents, scan, drill)
        drill.steps += ["rows", "content", "objects", "sequences", "large objects"]
        if corruption := checking[0].result() if checking else "":
            wrong.append(f"pg_amcheck: {corruption}")
    if checks:
        drill.steps.append("pg_amcheck")
    else:
        drill.notes.append("pg_amcheck was not run: the server has no extension amcheck")
    wrong += _sound(loaded, contents, seconds, drill)
    if wrong:
        raise BackupBad(
            f"what was loaded is not what the backup holds: {'; '.join(wrong[:_TOLD])}"
            + (f"; and {len(wrong) - _TOLD} more" if len(wrong) > _TOLD else ""),
            "look at it: restore-postgres.sh NAME FILE --into COPY loads it beside the live database",
        )


def _dumped(job: Job, loaded: Client, contents: Contents, scanner: DumpScanner, begun: Callable[[], None]) -> None:
    """Feed a dump of the loaded database to the scanner. begun: called when its first bytes are there."""
    encoding = contents.manifest.raw["server"]["encoding"] if contents.manifest else "UTF8"
    with (
        job.reporter.bar(f"{job.target.name}: compare", contents.sql_bytes) as advance,
        loaded.reading(pg_dump.arguments(loaded, encoding)) as stream,
    ):
        for piece in stream.chunks(job.settings.stall_seconds):
            scanner.feed(piece)
            begun()
            advance(len(piece))
        status = stream.program.wait(_ENDING_SECONDS)
        if status != 0:
            raise failures.explained(stream.program.stderr, status, "pg_dump", loaded.target)


def _rows(job: Job, loaded: Client, source: Source, contents: Contents, scan: Scan, drill: Drill) -> list[str]:
    """What differs in the rows. Where only their checksum does, or a table came in pieces, their order may."""
    expected, found = contents.rows, scan.scanner.rows
    wrong = [
        f"{name} has {found.get(name, 'no rows at all')} and {rows} in the backup"
        for name, rows in expected.items()
        if found.get(name) != rows
    ]
    wrong += [
        f"{name} is not in the backup, and has {rows} rows" for name, rows in found.items() if name not in expected
    ]
    content = scan.checksums.found()
    unsure = [
        name
        for name, rows in expected.items()
        if rows and found.get(name) == rows and (name not in content or content[name] != contents.content.get(name))
    ]
    if unsure:
        moved, changed = _by_row(job, loaded, source, contents, unsure)
        wrong += [f"rows of {name} are not as in the backup" for name in changed]
        if moved:
            drill.notes.append(f"compared row by row, for their order is another: {', '.join(moved[:_TOLD])}")
    return wrong


def _by_row(
    job: Job, loaded: Client, source: Source, contents: Contents, tables: list[str]
) -> tuple[list[str], list[str]]:
    """Compare tables row by row, whatever their order. Return those that are equal, and those that are not."""
    before, after = RowSums(tables), RowSums(tables)
    reader = dumpfile.Reader(source.descriptor)
    reader.scanner.on_rows = before.take
    for piece in reader.pieces():
        reader.scanner.feed(piece)
    reader.scanner.finish()
    scanner = DumpScanner()
    scanner.on_rows = after.take
    _dumped(job, loaded, contents, scanner, lambda: None)
    scanner.finish()
    equal = [name for name in tables if before.sums[name] == after.sums[name]]
    return equal, [name for name in tables if name not in equal]


def _objects(contents: Contents, scan: Scan, drill: Drill) -> list[str]:
    """What differs besides rows."""
    found = outline.difference(contents.outline, scan.outline)
    wrong = [f"{name} is missing" for name in found.missing]
    wrong += [f"{name} is not in the backup" for name in found.further]
    wrong += [f"{name} is not as in the backup" for name in found.changed]
    if found.rewritten:
        drill.notes.append(f"the server writes their expressions otherwise: {', '.join(found.rewritten[:_TOLD])}")
    for name, value in contents.outline.sequences.items():
        if scan.outline.sequences.get(name) != value:
            wrong.append(f"sequence {name} stands at {scan.outline.sequences.get(name)}, and at {value} in the backup")
    if contents.outline.large_objects != scan.outline.large_objects:
        wrong.append("the large objects are not as in the backup")
    return wrong


def _sound(loaded: Client, contents: Contents, seconds: float, drill: Drill) -> list[str]:
    """What the server itself holds for wrong."""
    wrong = soundness.unusable_indexes(loaded, seconds)
    not_valid = soundness.not_valid(loaded, seconds)
    texts = [one.text for one in contents.outline.entries() if one.text and one.kind not in _CODE]
    declared = sum(len(_NOT_VALID.findall(text)) for text in texts)
    if len(not_valid) > declared:
        wrong += not_valid
    drill.notes += soundness.behind(loaded, seconds)
    drill.steps += ["indexes", "constraints"]
    return wrong
