"""backup.log: one event is one line, whatever is in it; no line is lost or mixed, and none goes elsewhere."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbackup.report import log
from pgbackup.report.events import Event
from pgbackup.report.log import EventLog
from pgbackup.store.folder import Folder, opened


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Folder]:
    tmp_path.chmod(0o700)
    with opened(tmp_path, create=False) as found:
        yield found


@given(st.text())
def test_any_value_stays_on_one_line_of_printable_characters(value: str) -> None:
    text = log.line(Event("INFO", "auth", "test", {"key": value, "last": 1}), 0)
    assert text.endswith(" last=1\n")
    assert text[:-1].isprintable()


@given(st.text(st.characters(codec="ascii", min_codepoint=32, max_codepoint=126)))
def test_a_value_of_plain_text_can_be_read_again(value: str) -> None:
    text = log.escaped(value)
    quoted = text.startswith('"')
    inner = text[1:-1] if quoted else text
    assert quoted or not set(inner) & set(' "=')
    assert re.sub(r"\\(.)", r"\1", inner) == value


def test_a_line_is_as_documented() -> None:
    text = log.line(
        Event("INFO", "auth", "backup.published", {"file": "auth_db.sql.gz", "reason": "two words"}), 1705273203
    )
    stamp, rest = text[:24], text[24:]
    assert stamp[4] + stamp[7] + stamp[10] + stamp[13] + stamp[16] == "-- ::"
    assert stamp[19] in "+-"
    assert rest == ' INFO auth event=backup.published file=auth_db.sql.gz reason="two words"\n'


def test_the_log_is_readable_for_its_group_and_only_grows(place: Folder) -> None:
    before = os.umask(0)
    try:
        events = EventLog(place)
        events.write(Event("INFO", "auth", "one"))
        events.write(Event("WARNING", "auth", "two"))
        events.write(Event("ERROR", "auth", "three"))
    finally:
        os.umask(before)
    path = place.path / log.LOG_NAME
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [line.split()[2:5:2] for line in path.read_text().splitlines()] == [
        ["INFO", "event=one"],
        ["WARNING", "event=two"],
        ["ERROR", "event=three"],
    ]
    assert not events.failures


def test_a_rotation_in_mid_run_loses_no_line(place: Folder) -> None:
    events, path = EventLog(place), place.path / log.LOG_NAME
    for number in range(300):
        events.write(Event("INFO", "auth", f"event{number}"))
        if number % 100 == 50:
            path.rename(place.path / f"backup.log.{number}")
    text = "".join(file.read_text() for file in place.path.iterdir())
    assert all(f"event=event{number}\n" in text for number in range(300))


_WRITE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pgbackup.store import folder
from pgbackup.report.events import Event
from pgbackup.report.log import EventLog
with folder.opened(Path(sys.argv[2]), create=False) as place:
    events = EventLog(place)
    for number in range(200):
        events.write(Event("INFO", sys.argv[3], "event", {"number": number, "filling": "x" * 3000}))
"""


def test_several_runs_at_once_do_not_mix_their_lines(place: Folder) -> None:
    library = str(Path(log.__file__).parents[2])
    running = [
        subprocess.Popen([sys.executable, "-c", _WRITE, library, str(place.path), f"run{number}"])
        for number in range(4)
    ]
    assert [process.wait(60) for process in running] == [0] * 4
    lines = (place.path / log.LOG_NAME).read_text().splitlines()
    assert len(lines) == 800
    assert all(line.endswith("x" * 3000) and line.count("event=event") == 1 for line in lines)


@pytest.mark.parametrize("what", ["link", "hard link", "FIFO", "directory"])
def test_a_log_that_is_something_else_is_told_once_and_remembered(
    place: Folder, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, victim = place.path / log.LOG_NAME, place.path / "victim"
    victim.write_text("precious")
    plant: dict[str, Callable[[], None]] = {
        "link": lambda: path.symlink_to(victim),
        "hard link": lambda: path.hardlink_to(victim),
        "FIFO": lambda: os.mkfifo(path),
        "directory": path.mkdir,
    }
    plant[what]()
    events = EventLog(place)
    events.write(Event("INFO", "auth", "one"))
    events.write(Event("INFO", "auth", "two"))
    assert victim.read_text() == "precious"
    assert len(events.failures) == 2
    assert capsys.readouterr().err.count("cannot write") == 1


def test_a_full_disk_is_a_failure_that_is_remembered(place: Folder) -> None:
    events = EventLog(Folder(Path("/dev"), os.open("/dev", os.O_RDONLY)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(log, "LOG_NAME", "full")
        events.write(Event("INFO", "auth", "one"))
    os.close(events.folder.fd)
    assert events.failures
