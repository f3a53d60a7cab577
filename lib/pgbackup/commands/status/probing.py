"""backup-status.sh --probe and --scheduled: looks which databases there are, and notes it. Every wait is short."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from pgbackup import docker, interrupt
from pgbackup.commands.job import looking
from pgbackup.commands.status import gathering, show, telling
from pgbackup.commands.status.publishing import Files
from pgbackup.database.clients import connect, neighbours
from pgbackup.database.clients.client import Client
from pgbackup.database.questions import coverage
from pgbackup.errors import Interrupted, SuiteError, Unavailable, path_error
from pgbackup.report.log import say, with_hint
from pgbackup.report.result import Result
from pgbackup.settings.config import Settings, Target
from pgbackup.sql.naming import BEFORE, SCRATCH
from pgbackup.store import lock
from pgbackup.store.state import statefile, watch
from pgbackup.store.state.statefile import Unreadable
from pgbackup.store.state.watch import Found, Probe

_SCRIPT = show.SCRIPT
_ANSWER_SECONDS = 5
_ALL_SECONDS = 45.0  # the schedule judges every four minutes, and what is broken is told within five
_HOURLY = timedelta(minutes=58)  # a schedule every five minutes is not to skip an hour
_OF_A_RESTORE = re.compile(rf".*(?:{BEFORE}|{SCRATCH})\d{{8}}_\d{{6}}")
_MADE_BY_INITDB = ("postgres",)
_UNREACHABLE = "unreachable"


def run(settings: Settings, root: Path, files: Files, *, scheduled: bool, quiet: bool) -> Result:
    """Look for databases, note that this host is awake, show the status, and write files as show.run() does.

    scheduled: look at most once an hour, and say nothing of servers that do not answer: that databases were looked for
    is a promise itself, and cron would mail it every few minutes. What cannot be asked or noted is told on stderr else,
    and leaves what was known. Raise PermissionDenied.
    """
    now = datetime.now(timezone.utc)
    try:
        gathering.note_awake(settings, now)
        _look(settings, now, at_most_hourly=scheduled)
    except Interrupted:
        raise
    except (SuiteError, OSError) as raised:
        error = raised if isinstance(raised, SuiteError) else path_error(raised, settings.backup_dir / "status")
        if not (scheduled and isinstance(error, Unavailable)):
            say(with_hint(f"{_SCRIPT}: warning: {error.message}", error.hint))
    if scheduled:
        return _scheduled(settings, root, files)
    return show.run(settings, root, files, quiet=quiet)


def _scheduled(settings: Settings, root: Path, files: Files) -> Result:
    """Tell what has changed, and write all files: also where nobody can be told, which is raised afterwards."""
    look, failed = partial(show.look, settings, root), None
    try:
        status = telling.tell(settings, look)
    except SuiteError as error:
        status, failed = look(), error
    result = show.scheduled(settings, status, files)
    if failed:
        raise failed
    return result


def _look(settings: Settings, now: datetime, *, at_most_hourly: bool) -> None:
    with ExitStack() as stack:
        place = stack.enter_context(watch.opened(settings.backup_dir, create=True))
        assert place is not None  # noqa: S101  it was made
        stack.enter_context(lock.held(place, "coverage"))
        try:
            before = watch.read_probe(place)
        except Unreadable:
            before = None
        if at_most_hourly and before and timedelta(0) <= now - before.probed < _HOURLY:
            return
        try:
            found = probe(settings, now)
        except Unavailable as error:
            if before is None or before.problem:
                watch.write_probe(place, Probe(statefile.to_the_second(now), 0, 0, problem=error.message))
            raise
        watch.write_probe(place, carried(before, found))


def carried(before: Probe | None, found: Probe) -> Probe:
    """What is known after a look: of a server that did not answer now, what was known before. Pure."""
    silent = {each.container for each in found.findings if each.kind == _UNREACHABLE}
    known = [each for each in found.findings if each.kind != _UNREACHABLE]
    missing = silent - {each.container for each in known}
    kept = [each for each in (before.findings if before else []) if each.container in missing]
    return replace(found, findings=[*found.findings, *(each for each in kept if each.kind != _UNREACHABLE)])


@dataclass
class _Looked:
    """What was found so far. deadline: of all questions together, by the monotonic clock."""

    settings: Settings
    deadline: float
    servers: int = 0
    databases: int = 0
    findings: list[Found] = field(default_factory=list)

    def add(self, kind: str, container: str, database: str, what: str, *, harmless: bool = False) -> None:
        self.findings.append(Found(kind, container, database, what, harmless))


def probe(settings: Settings, now: datetime) -> Probe:
    """Ask every server that can be found. Raise Unavailable or PermissionDenied where Docker tells nothing."""
    brief = replace(settings, docker=replace(settings.docker, seconds=_ANSWER_SECONDS), command_seconds=_ANSWER_SECONDS)
    looked = _Looked(replace(brief, wait_seconds=0), time.monotonic() + _ALL_SECONDS)
    jobs: dict[str, list[Target]] = {}
    for target in settings.targets:
        jobs.setdefault(_server(target), []).append(target)
    others: list[neighbours.Neighbour] = []
    if any(target.client != "direct" for target in settings.targets) or _has_docker(settings):
        running = neighbours.running(looked.settings.docker)
        others = [each for each in running if not any(each.is_called(name) for name in jobs)]
    for server, targets in jobs.items():
        _ask(looked, server, targets)
    for other in others:
        stranger = replace(
            settings.targets[0], container=other.name, user=other.user, database="postgres", client="exec", url="",
            passfile=None,
        )  # fmt: skip
        _ask(looked, other.name, [], stranger)
    return Probe(statefile.to_the_second(now), looked.servers, looked.databases, looked.findings)


def _has_docker(settings: Settings) -> bool:
    """Whether there is a Docker here to ask, where no job needs one."""
    try:
        return settings.docker.run("version", seconds=_ANSWER_SECONDS).status == 0 and not docker.elsewhere()
    except SuiteError:
        return False


def _server(target: Target) -> str:
    """What its server is called: the container, or the host of a URL."""
    return (urlsplit(target.url).hostname or "localhost") if target.client == "direct" else target.container


def _ask(looked: _Looked, server: str, targets: list[Target], stranger: Target | None = None) -> None:
    """Ask one server. targets: the jobs that it has; stranger: how to ask where it has none."""
    interrupt.check()
    if time.monotonic() > looked.deadline:
        looked.add(_UNREACHABLE, server, "", f"'{server}' was not asked: there was no time left", harmless=True)
        return
    listed: list[str] | None = None
    for target in targets or ([stranger] if stranger else []):
        try:
            with _client(looked.settings, target) as client:
                if listed is None:
                    listed = coverage.databases(client)
                    _unlisted(looked, client, server, listed, {each.database for each in targets})
                if targets:
                    _missed(looked, client, server, target)
        except Interrupted:
            raise
        except SuiteError as error:
            looked.add(_UNREACHABLE, server, target.database if targets else "", error.message, harmless=True)
    if listed is not None:
        looked.servers += 1
        looked.databases += len(listed)


@contextmanager
def _client(settings: Settings, target: Target) -> Iterator[Client]:
    way = target if target.client == "direct" else replace(target, client="exec")
    with (
        tempfile.TemporaryDirectory(prefix="pgbackup-") as pipes,
        connect.opened(way, settings, looking(), Path(pipes), lambda _why: None) as client,
    ):
        yield client


def _unlisted(looked: _Looked, client: Client, server: str, listed: list[str], jobs: set[str]) -> None:
    """What no job has. One that initdb made counts when somebody has put a table into it."""
    for name in listed:
        if name in jobs or _OF_A_RESTORE.fullmatch(name):
            continue
        if name in _MADE_BY_INITDB:
            try:
                if coverage.is_empty(client, name):
                    continue
            except Interrupted:
                raise
            except SuiteError as error:
                looked.add("database", server, name, f"no job has it, and it cannot be looked at: {error.message}")
                continue
        looked.add("database", server, name, "no job has it: nobody backs it up")
    for name in sorted(jobs - set(listed)):
        looked.add("gone", server, name, "a job has it, and it is not there")


def _missed(looked: _Looked, client: Client, server: str, target: Target) -> None:
    """What of a job's database a dump would miss."""
    found = coverage.missed(client)
    for kind, what, harmless, then in (
        ("unreadable", "table", False, f"that '{target.user}' may not read, so that a dump fails"),
        ("large objects", "large object", False, f"that '{target.user}' may not read, so that a dump fails"),
        ("unlogged", "unlogged table", True, "in a dump, but empty after a recovery to a point in time"),
        ("foreign", "foreign table", True, "whose rows are elsewhere"),
        ("tablespace", "tablespace", True, "which the server of a restore has to have"),
        ("roles", "role that can log in", True, "no dump has their passwords"),
    ):
        if some := found.get(kind):
            looked.add(kind, server, target.database, f"{some.named(what)} ({then})", harmless=harmless)
