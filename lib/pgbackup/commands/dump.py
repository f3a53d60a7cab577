"""One proven dump: into a hidden file, through the gates, with its manifest, read back, and only then published."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime, timezone
from functools import partial
from typing import Any

from pgbackup import __version__, interrupt
from pgbackup.commands.job import Job, Outcome
from pgbackup.commands.read_back import Behind
from pgbackup.database import pg_dump
from pgbackup.database.clients import container, failures
from pgbackup.database.clients.client import Client
from pgbackup.database.questions import needs
from pgbackup.database.questions.facts import END_EARLIER, Facts, gather
from pgbackup.errors import BackupBad, IoFailed, Unavailable
from pgbackup.formats import dumpfile, loadable
from pgbackup.formats.dumpfile import Written
from pgbackup.formats.manifest import FORMAT
from pgbackup.formats.scan import Scan
from pgbackup.report.result import instant, short_version, size
from pgbackup.store import catalog, publish, workfiles
from pgbackup.store.catalog import Backup

_SPACE_FACTOR = 1.5
_SHRUNK_FACTOR = 0.5
_ENDING_SECONDS = 30.0


def make(job: Job, outcome: Outcome, opening: Callable[[], AbstractContextManager[Client]]) -> int:
    """Make, prove and publish one backup; the lock is held. Return the file's inode. Raise SuiteError or OSError.

    opening: gives the client of the database to dump, whatever that is called now.
    """
    last = catalog.last_good(job.place, job.target.database)
    _check_space(job, last)
    started = datetime.now(timezone.utc)
    with workfiles.partial(job.place, job.run.owner, job.run.token) as (partial_name, descriptor):
        facts, written = _proven(job, outcome, descriptor, started, last, opening)
        scanner = written.scan.scanner
        outcome.sql_bytes, outcome.tables = scanner.sql_bytes, scanner.tables
        outcome.rows = sum(scanner.rows.values())
        status = os.fstat(descriptor)
        outcome.file_bytes = status.st_size
        with outcome.timed("publish"):
            _publish(job, outcome, partial_name, started)
    job.info(
        "backup.published",
        file=outcome.file,
        bytes=outcome.file_bytes,
        rows=outcome.rows,
        client=outcome.client,
        server=facts.server_version,
    )
    return status.st_ino


def _check_space(job: Job, last: Backup | None) -> None:
    """Refuse to begin what cannot be finished: the new backup will be about as large as the last one."""
    if last is None:
        return
    room = os.fstatvfs(job.place.fd)
    free, needed = room.f_bavail * room.f_frsize, int(last.bytes * _SPACE_FACTOR)
    if free < needed:
        raise IoFailed(
            f"too little space in '{job.place.path}': {size(free)} free, and {size(needed)} are wanted"
            f" (1.5 times the last backup, {size(last.bytes)})",
            f"make room or move BACKUP_DIR: df -h '{job.place.path}'",
        )


def _proven(
    job: Job,
    outcome: Outcome,
    descriptor: int,
    started: datetime,
    last: Backup | None,
    opening: Callable[[], AbstractContextManager[Client]],
) -> tuple[Facts, Written]:
    """Write the whole file, manifest included, into `descriptor`, and prove it. Raise unless it is whole and good."""
    # What ran beside the database ends while the file is read back: Docker takes its time.
    with Behind(descriptor) as behind, ThreadPoolExecutor(1) as aside, ExitStack() as stack:
        with outcome.timed("connect"):
            client = stack.enter_context(opening())
        facts, written, member = write(
            job, client, outcome, descriptor, started, last, loadable.JudgedScan, behind.wrote
        )
        for problem in needs.of_the_role(client, facts):
            job.warn("restore.hindered", f"as it is now, a restore would be refused: {problem}", outcome)
        leaving = aside.submit(stack.pop_all().close)
        _warn_if_shrunk(job, outcome, written, last)
        _warn_if_misread(job, outcome, written)
        with outcome.timed("sync"):
            os.fsync(descriptor)
        _read_back(job, outcome, behind, written, member)
        if refused := written.scan.refused:
            message = f"a restore will refuse this dump of '{job.target.database}': {refused.message}"
            job.warn("backup.refused", f"{message}; {refused.hint}", outcome)
        leaving.result()
        return facts, written


def write(
    job: Job,
    client: Client,
    outcome: Outcome,
    descriptor: int,
    started: datetime,
    last: Backup | None,
    scan: Callable[[], Scan] = Scan,
    wrote: Callable[[int], None] = lambda _bytes: None,
) -> tuple[Facts, Written, bytes]:
    """Write the whole file into `descriptor`, by that client, and return its manifest as it was written, too.

    started: the moment that the dump shows. last: the newest backup, to estimate the size by. scan, wrote: see
    dumpfile.write_dump(). Raise unless the dump is complete.
    """
    with outcome.timed("connect"):
        outcome.client = client.kind
        facts = gather(client, END_EARLIER)
        outcome.database_bytes = facts.size_bytes
    job.tell(
        f"dumping '{job.target.database}' ({size(facts.size_bytes)},"
        f" PostgreSQL {short_version(facts.server_version)}, client {client.kind})"
    )
    with outcome.timed("dump"):
        try:
            program = pg_dump.arguments(client, facts.details["encoding"])
            into = partial(dumpfile.write_dump, descriptor, scan=scan, wrote=wrote)
            written = _when_let_in(job, descriptor, partial(_stream, job, client, program, last, into))
        except Unavailable as error:
            raise container.blamed(error, client) from None
        _require_whole(job, written, facts)
        _require_same_container(job, client)
        manifest = _manifest(job, client, facts, written, started)
        member = dumpfile.append_manifest(descriptor, manifest)
    return facts, written, member


def _when_let_in(job: Job, descriptor: int, stream: Callable[[], Written]) -> Written:
    """Do _stream(), again and again for WAIT_SECONDS where the server has no connection left for pg_dump.

    The facts have had one, but others may have taken the last one since; nothing was dumped then.
    """
    deadline = time.monotonic() + job.settings.wait_seconds
    while True:
        try:
            return stream()
        except Unavailable as error:
            if not failures.crowded(error.message) or time.monotonic() >= deadline:
                raise
        interrupt.check()
        time.sleep(0.25)
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)


def _stream(job: Job, client: Client, program: list[str], last: Backup | None, into: Callable[..., Written]) -> Written:
    """Let pg_dump flow through the compressor into the file. Raise what its failure means.

    into: dumpfile.write_dump() with the file.
    """
    estimate = last.manifest.sql_bytes if last and last.manifest else None
    with (
        job.reporter.bar(f"{job.target.name}: dump", estimate) as advance,
        client.reading(program) as stream,
    ):
        written = into(stream.chunks(job.settings.stall_seconds), advance)
        try:
            status = stream.program.wait(_ENDING_SECONDS)
        except TimeoutError as error:
            raise Unavailable(
                f"pg_dump of '{job.target.database}' closed its output and does not end: {error}"
            ) from None
        if status != 0:
            raise failures.explained(stream.program.stderr, status, "pg_dump", job.target)
    return written


def _require_whole(job: Job, written: Written, facts: Facts) -> None:
    """The gate: a status of 0 is not enough."""
    scanner = written.scan.scanner
    if not scanner.complete:
        raise BackupBad(
            f"pg_dump of '{job.target.database}' ended with status 0, but its output is incomplete:"
            f" after {size(scanner.sql_bytes)} it ends {scanner.state} without its last lines",
            "run it again; if it fails again, try --client exec",
        )
    if facts.tables and not scanner.tables:
        raise BackupBad(
            f"the dump of '{job.target.database}' holds no table, but the database has {facts.tables}",
            "run it again; check what its role may see",
        )


def _require_same_container(job: Job, client: Client) -> None:
    if client.container_id and container.inspect(job.target, job.settings.docker).id != client.container_id:
        raise Unavailable(
            f"container '{job.target.container}' was replaced while it was dumped", "run it again when it is up"
        )


def _manifest(job: Job, client: Client, facts: Facts, written: Written, started: datetime) -> dict[str, Any]:
    named = {**facts.details["database"], "datname": job.target.database}  # set aside it has another name
    return {
        "format": FORMAT,
        "suite": __version__,
        "target": job.target.name,
        "database": job.target.database,
        "container": "" if job.target.client == "direct" else job.target.container,
        "image": client.image_id,
        "client": client.kind,
        "server_version": facts.server_version,
        "pg_dump_version": written.scan.scanner.pg_dump_version,
        "started": instant(started),
        "ended": instant(datetime.now(timezone.utc)),
        "time_zone": time.strftime("%Z %z"),
        "server": {**facts.details, "database": named, "size_bytes": facts.size_bytes},
        "sql_bytes": written.scan.scanner.sql_bytes,
        "gzip_bytes": written.gzip_bytes,
        "sha256": written.sha256,
        "statements": written.scan.scanner.statements,
        "tables": written.scan.scanner.tables,
        "rows": written.scan.scanner.rows,
        "content": written.scan.checksums.found(),
        "schema": written.scan.outline.fingerprint(),
    }


def _warn_if_shrunk(job: Job, outcome: Outcome, written: Written, last: Backup | None) -> None:
    if last and last.manifest and written.scan.scanner.sql_bytes < last.manifest.sql_bytes * _SHRUNK_FACTOR:
        message = (
            f"the dump of '{job.target.database}' has {size(written.scan.scanner.sql_bytes)},"
            f" less than half of the {size(last.manifest.sql_bytes)} in '{last.name}'"
        )
        job.warn("backup.shrunk", message, outcome)


def _warn_if_misread(job: Job, outcome: Outcome, written: Written) -> None:
    if names := written.scan.scanner.misread:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        message = (
            f"psql alone cannot read this dump of '{job.target.database}': it takes the name 'begin' in the text of"
            f" {', '.join(names[:3])}{more} for the beginning of a body; restore-postgres.sh can, it quotes the name"
        )
        job.warn("backup.misread", message, outcome)


def _read_back(job: Job, outcome: Outcome, behind: Behind, written: Written, member: bytes) -> None:
    """Read the file again, from the disk and not from memory, and check every byte of it."""
    with outcome.timed("read_back"), job.reporter.bar(f"{job.target.name}: read back", written.gzip_bytes) as advance:
        try:
            behind.prove(written, member, advance)
        except BackupBad as bad:
            raise BackupBad(
                f"what was read back from the disk is not what was written: {bad.message}",
                f"the disk or memory is failing: dmesg | tail; look at '{job.place.path}'",
            ) from None


def _publish(job: Job, outcome: Outcome, partial_name: str, started: datetime) -> None:
    if not job.place.reachable():
        raise IoFailed(
            f"'{job.place.path}' is no longer the directory that the backup was written to",
            f"was it unmounted or replaced? mount | grep '{job.settings.backup_dir}'",
        )
    outcome.file = publish.publish(job.place, partial_name, job.target.database, started)
