"""Says, from outside, which of the suite's promises a place does not keep after whatever happened to a run there.

Each line begins with the promise's letter: A a published backup is good, B no good one is lost, C failure is loud,
E nothing is left behind, I the next run succeeds. An empty list means that everything holds.
"""

from __future__ import annotations

import hashlib
import re
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
from pgbackup.errors import BackupBad
from pgbackup.formats import dumpfile, names

from tests.support import servers
from tests.support.backups import MINIMUM, Ended, Place, Source, digest

SETTLE_SECONDS = 60.0

_SIDE = "pgbackup.owner"
_CRASHED = "all server processes terminated; reinitializing"
# A key made up for each dump; and the place of a sequence, which is another one after a crash of the server.
_CHANGING = re.compile(rb"^(\\(un)?restrict |SELECT pg_catalog\.setval\()[^\n]*\n", re.MULTILINE)
_MANIFEST = b"\n-- pgbackup manifest:"
_verdicts: dict[str, str] = {}


def problems(place: Place, *, sweep: bool = False, mode: int = 0o600) -> list[str]:
    """What does not hold of what lies in the place now (A, B), and with `sweep`, that nothing is left behind (E)."""
    found = [trouble for source in place.sources for trouble in _bad_files(place, source, mode)]
    found += [trouble for source in place.sources for trouble in _lost(place, source)]
    found += [f"the server of '{source.name}' crashed" for source in place.sources if _CRASHED in source.said()]
    return found + (leftovers(place) if sweep else [])


def _bad_files(place: Place, source: Source, mode: int) -> Iterator[str]:
    for path in place.files(source):
        if names.parse(source.database, path.name) is None:
            continue
        if stat.S_IMODE(path.stat().st_mode) != mode:
            yield f"A: '{path.name}' has mode {stat.S_IMODE(path.stat().st_mode):04o}"
        key = digest(path) + hashlib.sha256(source.text).hexdigest()
        if key not in _verdicts:
            _verdicts[key] = _verdict(path, source)
        if _verdicts[key]:
            yield f"A: '{path.name}' {_verdicts[key]}"
    latest = place.directory(source) / names.latest(source.database)
    if latest.is_symlink() and not latest.exists():
        yield f"B: '{latest.name}' leads nowhere"


def _verdict(path: Path, source: Source) -> str:
    """Why a file is no good backup of the source, or "": gunzip's opinion, the text itself, then our own reader's."""
    tested = subprocess.run(["gunzip", "-t", str(path)], capture_output=True, check=False)
    if tested.returncode != 0:
        return f"fails gunzip -t: {tested.stderr.decode(errors='replace').strip()}"
    text = subprocess.run(["gunzip", "-c", str(path)], capture_output=True, check=True).stdout
    if plain(text) != plain(source.text):
        return "does not hold what pg_dump writes of the database"
    with path.open("rb") as file:
        try:
            dumpfile.check(file.fileno())
        except BackupBad as bad:
            return f"is bad: {bad.message}"
    return ""


def plain(text: bytes) -> bytes:
    """A dump's text without what differs from one to the next, and without our manifest."""
    position = text.rfind(_MANIFEST)
    return _CHANGING.sub(b"", text if position < 0 else text[:position])


def _lost(place: Place, source: Source) -> Iterator[str]:
    """Planted backups that are gone or changed, unless as many newer ones as must be kept are there."""
    remaining = [path.name for path in place.files(source)]
    for path, was in place.planted.items():
        if path.parent != place.directory(source):
            continue
        if path.exists():
            if digest(path) != was:
                yield f"B: '{path.name}' was changed"
        elif sum(name > path.name for name in remaining) < MINIMUM:
            yield f"B: '{path.name}' was removed, and {len(remaining)} backups are left"


def leftovers(place: Place) -> list[str]:
    """Hidden files, sidecars, sessions and processes that belong to no run that goes on."""
    found = [f"E: '{path.relative_to(place.path)}' is left behind" for path in place.path.rglob(".pgbackup-*")]
    for source in place.sources:
        mark = owner(place, source)
        sessions = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'pgbackup-%'"
        with suppress(psycopg.OperationalError):
            found += [f"E: session {row[0]} is left behind" for row in source.sql(sessions)]
        found += [f"E: process {words} is left behind" for words in _processes(mark)]
        if "URL" not in source.values:
            listed = servers.docker("ps", "-aq", "--filter", f"label={_SIDE}={mark}").stdout.split()
            found += [f"E: container {name} is left behind" for name in listed]
    return found


def owner(place: Place, source: Source) -> str:
    """What every run of this database into this place is called on servers and in Docker."""
    where = f"{place.directory(source).resolve()}\0{source.database}"
    return hashlib.sha256(where.encode()).hexdigest()[:16]


def _processes(mark: str) -> Iterator[str]:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            if mark in words:
                yield words[:200]


def told(ended: Ended, *, starts: int = 1) -> list[str]:
    """What does not hold of a run that was not killed: one start, one finish with its status, failures told (C).

    Where the log itself cannot be written, stderr has to say so, and the status.
    """
    if "backup.log" in ended.stderr and "cannot write" in ended.stderr:
        return [] if ended.status else ["C: the log could not be written, and the status is 0"]
    found = []
    begun = sum("event=run.start" in line for line in ended.log)
    finished = [line for line in ended.log if "event=run.finish" in line]
    if begun != starts or len(finished) != starts:
        found.append(f"C: {begun} run.start and {len(finished)} run.finish in {ended.log}")
    if starts and finished and f"status={ended.status} " not in finished[-1]:
        found.append(f"C: exit status {ended.status}, and the log says {finished[-1]}")
    if ended.status and not ended.stderr.strip():
        found.append(f"C: exit status {ended.status} and nothing on stderr")
    if ended.status and starts and not any(" ERROR " in line for line in ended.log):
        found.append(f"C: exit status {ended.status} and no ERROR in {ended.log}")
    if "Traceback" in ended.stderr or "internal error" in ended.stderr:
        found.append(f"C: a bug: {ended.stderr[-1500:]}")
    return found


def after(place: Place, *arguments: str, **environment: str) -> list[str]:
    """Run once more without a fault: it must succeed by itself (I), publish, and leave nothing of anybody (E)."""
    before = {source.name: set(place.files(source)) for source in place.sources}
    ended = place.run(*arguments, **environment)
    found = told(ended)
    if ended.status != 0:
        found.append(f"I: the next run ended with {ended.status}: {ended.stderr[-1500:]}")
    for source in place.sources:
        new = set(place.files(source)) - before[source.name]
        if len(new) != 1:
            found.append(f"I: the next run published {len(new)} backups of '{source.name}'")
    return found + settled(place)


def settled(place: Place) -> list[str]:
    """problems(sweep=True), giving what is just ending the time to end; files get no better by waiting."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while (found := problems(place) or leftovers(place)) and found[0].startswith("E") and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def failed(place: Place, ended: Ended, status: int | set[int], source: Source | None = None) -> list[str]:
    """What does not hold of a run that had to end with this status, and publish and expire nothing of the source.

    source: the place's first one if not given.
    """
    wanted = {status} if isinstance(status, int) else status
    found = told(ended) + problems(place)
    if ended.status not in wanted:
        found.append(f"C: exit status {ended.status} instead of {wanted}: {ended.stderr[-800:]}")
    directory = place.directory(source)
    found += [f"C: '{path.name}' was published" for path in place.fresh() if path.parent == directory]
    missing = [path.name for path in place.planted if path.parent == directory and not path.exists()]
    return found + [f"B: {missing} expired after a failure"] * bool(missing)
