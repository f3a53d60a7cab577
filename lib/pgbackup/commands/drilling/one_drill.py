"""One drill: a backup is loaded into an empty server of its own kind, compared, and the server is thrown away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from pgbackup import docker, interrupt
from pgbackup.commands import archiving, claim
from pgbackup.commands.drilling import assertions, compare
from pgbackup.commands.drilling.verdict import FAILED, NOT_DONE, PASSED, Drill
from pgbackup.commands.job import Job, identity
from pgbackup.commands.loading import fill
from pgbackup.commands.loading.fill import Origin
from pgbackup.database.clients import container
from pgbackup.database.clients.client import Client
from pgbackup.database.cluster import empty_server
from pgbackup.database.cluster.empty_server import Site
from pgbackup.database.cluster.throwaway import Throwaway
from pgbackup.database.questions import needs, preflight, roles
from pgbackup.errors import BackupBad, IoFailed, LockHeld, PermissionDenied, SuiteError, Unavailable, path_error
from pgbackup.formats import dumpfile, names
from pgbackup.formats.dumpfile import Contents
from pgbackup.report.result import size
from pgbackup.sql.naming import identifier
from pgbackup.store import lock, workfiles
from pgbackup.store.source import Source
from pgbackup.store.state import drills, statefile

Opened = AbstractContextManager[Source]

_SPACE_FACTOR = 1.2
_LOOK_SECONDS = 1.0
_TAKEN = ("postgres", "template0", "template1")


def drill(job: Job, opening: Callable[[], Opened], made: Drill) -> None:
    """Drill one source; what comes of it is in `made`. Nothing is raised but by a fault of ours.

    opening: opens the source, when the drill's lock is held.
    """
    record = made.record
    target = job.target if job.target.client == "direct" else replace(job.target, client="sidecar")
    own = replace(job, target=target, run=identity(job.target, job.place, "drill"))
    try:
        with lock.held(own.place, f"{names.stem(job.target.database)}%drill"):
            claim.sweep(own)
            record.began = True
            with interrupt.giving_way(_to_a_backup(job)), opening() as source:
                record.file = source.name
                _drilled(own, source, made)
        made.verdict, record.outcome = PASSED, "passed"
    except BackupBad as bad:
        made.verdict, record.status, record.outcome, record.hint = FAILED, bad.status, bad.message, bad.hint
    except (SuiteError, OSError) as raised:
        error = raised if isinstance(raised, SuiteError) else path_error(raised, job.place.path)
        made.verdict, record.status, record.outcome, record.hint = NOT_DONE, error.status, error.message, error.hint


def _to_a_backup(job: Job) -> Callable[[], None]:
    """What ends the drill when a backup of the same database begins: that one comes first."""
    looked = 0.0

    def look() -> None:
        nonlocal looked
        if time.monotonic() - looked < _LOOK_SECONDS:
            return
        looked = time.monotonic()
        if lock.is_held(job.place, names.stem(job.target.database)):
            raise LockHeld(
                f"another run is working on '{job.target.database}', and a drill makes way for it",
                "drill it again when that one is done",
            )

    return look


def _drilled(job: Job, source: Source, made: Drill) -> None:
    record = made.record
    queries = []
    if job.target.drill_sql:
        queries = assertions.read(job.target.drill_sql, f"{job.target.name.upper()}_DRILL_SQL")
    if source.database not in (None, job.target.database):
        raise BackupBad(
            f"'{source.name}' is a backup of '{source.database}', not of '{job.target.database}'",
            f"see what there is: restore-postgres.sh {job.target.name} --list",
        )
    made.sha256 = source.manifest.sha256 if source.manifest else ""
    server: dict[str, Any] = source.manifest.raw["server"] if source.manifest else {}
    with ExitStack() as stack:
        with record.timed("server"):
            site = stack.enter_context(_site(job, source))
            _require_room(site, source)
            started = empty_server.running(site, server.get("instance") or {}, _tablespaces(server))
            made.notes += [f"loaded without {each}" for each in stack.enter_context(started)]
            origin = _prepared(site.client, source)
        name = job.target.database if job.target.database not in _TAKEN else f"{job.target.database}_drill"
        contents = _loaded(job, site, origin, name, made)
        made.sha256, made.schema = contents.sha256, contents.outline.fingerprint()
        record.rows, record.tables = sum(contents.rows.values()), len(contents.rows)
        record.sql_bytes = contents.sql_bytes
        loaded = site.client.of(name)
        with record.timed("compare"):
            compare.compare(job, loaded, site.server, source, contents, made)
        if queries:
            with record.timed("assertions"):
                assertions.check(loaded, queries, float(job.settings.load_stall_seconds))
            made.steps.append(f"{len(queries)} of DRILL_SQL")


@contextmanager
def _site(job: Job, source: Source) -> Iterator[Site]:
    """Give the place for the server: the image that the backup was made with, or the host's programs."""
    held = source.manifest
    if job.target.client == "direct":
        major = needs.major(held.raw["server_version"] if held else "")
        if not major:
            with job.client() as live:
                major = preflight.look(live, [])["major"]
        with empty_server.on_host(job.target, job.settings, job.run, major) as site:
            yield site
        return
    if remote := docker.elsewhere():
        raise Unavailable(
            f"DOCKER_HOST={remote} is another machine, to which a drill cannot hand a backup",
            "drill it on that machine",
        )
    if held:
        image = archiving.image(job, str(held.raw.get("image")), needs.major(held.raw["server_version"]))
    else:
        image = container.inspect(job.target, job.settings.docker).image
    with (
        workfiles.pipes(job.place, job.run.owner) as pipes,
        empty_server.in_container(job.target, job.settings, job.run, image, pipes) as site,
    ):
        yield site


def _require_room(site: Site, source: Source) -> None:
    """Refuse what will not fit. A file made by hand does not say how large its database is."""
    if not isinstance(site.client, Throwaway) or not source.manifest:
        return
    wanted = int(source.manifest.raw["server"].get("size_bytes", 0) * _SPACE_FACTOR)
    if (free := site.client.free_bytes()) < wanted:
        raise IoFailed(
            f"too little space on Docker's disk for a drill: {size(free)} can be used, about {size(wanted)} wanted",
            "make room where Docker keeps its volumes: docker system df",
        )


def _tablespaces(server: dict[str, Any]) -> list[str]:
    wanted = {*(server.get("tablespaces") or []), server.get("tablespace") or "pg_default"}
    return sorted(wanted - {"pg_default", "pg_global"})


def _prepared(client: Client, source: Source) -> Origin:
    """Make the roles, and see that the server has what the dump needs. Raise BackupBad."""
    held = source.manifest
    server: dict[str, Any] = held.raw["server"] if held else {}
    found = preflight.look(client, server.get("owners") or [])
    dumped = needs.major(held.raw["server_version"]) if held else 0
    if problems := needs.of_this_backup(found | {"exists": False}, server, dumped):
        raise BackupBad(
            f"the database's image cannot load it: {'; '.join(problems)}", "start the container with one that can"
        )
    needed = server or {"roles": dict.fromkeys(dumpfile.check(source.descriptor).outline.owners, "")}
    lacking = roles.lacking(needed, found["roles"], found["memberships"])
    roles.create(client, lacking, found["major"])
    superusers = [name for name, text in {**lacking.needed, **lacking.members}.items() if " SUPERUSER" in text]
    for name in superusers:
        client.server_query(f"ALTER ROLE {identifier(name)} SUPERUSER")
    return Origin(source, server, found["major"], found["restricts"], keeps_order=True)  # in which rows are compared


def _loaded(job: Job, site: Site, origin: Origin, name: str, made: Drill) -> Contents:
    """Load it, as a restore does, but without reading it through before: there is nothing that it could harm."""
    try:
        contents = fill.load_unread(job, site.client, origin, name, made.record.timed)
        with made.record.timed("finish"):
            fill.finish(job, site.client, origin, name)
    except PermissionDenied as error:  # of the server, to the role that restores
        raise BackupBad(error.message, error.hint) from None
    except BackupBad as bad:
        bad.hint = bad.hint and "what is to be done: docs/restore.md, When a dump cannot be replayed"
        raise
    return contents


def remember(job: Job, made: Drill, *, moment: bool) -> None:
    """Note beside the backups what is proved now. moment: it came out of the WAL archive. Raise OSError, SuiteError."""
    known, record = drills.read(job.place, job.target.database), made.record
    if made.verdict == NOT_DONE:
        return
    if moment:
        if made.verdict == PASSED:
            known = replace(known, moment=statefile.to_the_second(record.started))
    else:
        problem = record.outcome if made.verdict == FAILED else ""
        known = known.with_one(made.sha256, problem, made.schema, record.started)
    drills.write(job.place, job.target.database, known)
