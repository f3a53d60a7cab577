"""A pg_dump that fails, lies or hangs: row 5 of the table of faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import backups, promises
from tests.support.backups import Place, Source
from tests.support.effort import only_in_full

Tries = Callable[[int, int], int]
Note = Callable[..., None]


STAGES = {
    "whole output, status 1": ('"$real" "$@"; exit 1', 69),
    "half the output, status 0": ('"$real" "$@" | head -c 200000', 65),
    "all but the last line, status 0": ('"$real" "$@" | head -n -8', 65),
    "end marker in a row, then cut": (
        '"$real" "$@" | head -c 100000; printf -- "\\n--\\n-- PostgreSQL database dump complete\\n--\\n"; exit 0',
        65,
    ),
    "nothing, status 0": ("exit 0", 65),
    "only comments, status 0": ('"$real" "$@" | grep "^--"', 65),
    "killed after half": ('"$real" "$@" | head -c 200000; kill -9 $$', 69),
    "hangs before the first byte": ("exec sleep 300", 69),
    "hangs after half": ('"$real" "$@" | head -c 200000; exec sleep 300', 69),
    "not there": ("", 69),
}
SLOW_STAGES = {"closes its output and does not end": ('"$real" "$@"; exec >&- 2>&-; exec sleep 300', 69)}


def stub(directory: Path, place: Place, body: str) -> str:
    """Put a pg_dump before the real one on the PATH; an empty body makes one that cannot be started."""
    directory.mkdir(exist_ok=True)
    real = Path(place.sources[0].values["PROGRAMS"]) / "pg_dump"
    program = directory / "pg_dump"
    program.write_text(f"#!/bin/sh\nreal={real}\n{body}\n" if body else "#!/nonexistent/interpreter\n")
    program.chmod(0o755)
    return f"{directory}:{place.environment['PATH']}"


def test_a_pg_dump_that_fails_lies_or_hangs_publishes_nothing(
    small: list[Source], tmp_path: Path, tries: Tries, expected: Note, survived: Note
) -> None:
    place = backups.prepared(tmp_path, small[:1], STALL_SECONDS="3", LOCK_WAIT_SECONDS="1")
    stages = {**STAGES, **(SLOW_STAGES if tries(0, 1) else {})}
    for stage, (body, status) in stages.items():
        fault = f"pg_dump: {stage}"
        expected(5, fault, 1)
        place.again()
        ended = place.run(PATH=stub(tmp_path / "bin", place, body))
        assert not promises.failed(place, ended, status), fault
        # Ten times what the limits above come to: what hangs takes for ever.
        assert ended.seconds < 10 * (4 + (30 if stage in SLOW_STAGES else 0)), f"H: {fault} took {ended.seconds:.1f} s"
        assert not promises.settled(place), fault
        survived(5, fault)
    assert not promises.after(place)


# ------------------------------------------------------------------------------------- tests of these tests

DUMP = "        facts, written = _dump(job, outcome, descriptor, started, last, opening)\n"
BUGS = {
    "published before it is proven": [
        ("commands/dump.py", DUMP, f"        _publish(job, outcome, partial_name, started)\n{DUMP}")
    ],
    "no gate, neither before nor after reading back": [
        ("commands/dump.py", "    if not scanner.complete:\n", "    if False:\n"),
        ("formats/dumpfile.py", "        if not self.scanner.complete:\n", "        if False:\n"),
    ],
    "pg_dump's status not looked at": [("commands/dump.py", "        if status != 0:\n", "        if False:\n")],
    "retention before success": [
        (
            "commands/backup/one_database.py",
            "        dump.make(job, outcome, job.client)\n",
            "        _expire(job, outcome); dump.make(job, outcome, job.client)\n",
        ),
        ("store/retention.py", "elif good >= policy.minimum:", "elif True:"),
    ],
    "failures not logged": [
        ("commands/backup/all_databases.py", "    events.emit(Event(ERROR, outcome", "    (Event(ERROR, outcome")
    ],
    "status 0 after a failure": [
        (
            "commands/backup/all_databases.py",
            "        status = overall_status([",
            "        status = 0 * overall_status([",
        )
    ],
}


@only_in_full
@pytest.mark.parametrize("bug", BUGS)
def test_a_suite_with_a_bug_is_caught(small: list[Source], tmp_path: Path, bug: str) -> None:
    place = backups.prepared(tmp_path, small[:1], STALL_SECONDS="3", LOCK_WAIT_SECONDS="1")
    place.root = backups.mutated(tmp_path / "copy", *BUGS[bug])
    caught = []
    for stage in ("half the output, status 0", "whole output, status 1"):
        body, status = STAGES[stage]
        place.again()
        caught += promises.failed(place, place.run(PATH=stub(tmp_path / "bin", place, body)), status)
    assert caught, "checker is broken: no error found"
