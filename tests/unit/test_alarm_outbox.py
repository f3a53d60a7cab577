"""The outbox: a message goes to each channel until it has arrived, whatever happens to the evaluator or its disk."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pgbackup.host.channels import Alerts, Channel
from pgbackup.report.alarms import notify, remembered
from pgbackup.report.promises import evaluate
from pgbackup.report.promises.limits import Limits
from pgbackup.report.promises.status import Status
from pgbackup.store import folder
from pgbackup.store.folder import Folder
from pgbackup.store.state import alarms, statefile
from pgbackup.store.state.alarms import Alarms, Message

from tests.support import examples

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 3, 14, 4, 0, tzinfo=timezone.utc)
ONE, TWO = Channel("one", url="json://one"), Channel("two", url="json://two")


@pytest.fixture
def top(tmp_path: Path) -> Iterator[Folder]:
    with folder.opened(tmp_path, create=False, top=True) as place:
        yield place


class Mouth:
    """What is told to whom; channels in `deaf` take nothing, and `never` is a text that none takes."""

    def __init__(self, deaf: set[str] | None = None, never: str = "") -> None:
        self.deaf, self.never = deaf or set(), never
        self.said: list[tuple[str, str]] = []

    def __call__(self, channel: Channel, message: Message) -> str:
        if channel.name in self.deaf or (self.never and self.never in message.subject):
            return f"{channel.name} is deaf"
        self.said.append((channel.name, message.level))
        return ""


def tell(top: Folder, status: Status, mouth: Mouth, channels: tuple[Channel, ...] = (ONE, TWO)) -> notify.Outcome:
    return notify.notify(top, Alerts(channels), lambda: status, mouth)[1]


def unpause(top: Folder) -> None:
    """As if hours had gone by."""
    held = alarms.read(top)
    past = {key: text.replace(text.split(" ")[2], "2026-01-01T00:00:00+00:00") for key, text in held.failing.items()}
    alarms.write(top, replace(held, failing=past))


def test_each_channel_is_told_once(top: Folder) -> None:
    mouth = Mouth()
    for status in (examples.all_kept(), examples.several_broken(), examples.several_broken(), examples.all_kept()):
        tell(top, status, mouth)
    assert sorted(mouth.said) == [("one", "broken"), ("one", "kept"), ("two", "broken"), ("two", "kept")]
    assert alarms.read(top).outbox == {}


def test_what_one_channel_does_not_take_it_gets_later_in_order_and_nobody_else_twice(top: Folder) -> None:
    mouth = Mouth({"two"})
    assert tell(top, examples.several_broken(), mouth).failing == {"two": "two is deaf"}
    tell(top, examples.all_kept(), mouth)
    unpause(top)
    mouth.deaf.clear()
    assert tell(top, examples.all_kept(), mouth).waiting == 0
    assert [said for said in mouth.said if said[0] == "two"] == [("two", "broken"), ("two", "kept")]
    assert [said for said in mouth.said if said[0] == "one"] == [("one", "broken"), ("one", "kept")]


def test_a_channel_that_fails_is_left_alone_for_pauses_that_grow_to_an_hour() -> None:
    held, pauses = Alarms(), []
    for _ in range(9):
        held = alarms.failed(held, "key", "why\nnot", NOW)
        failure = held.failure("key")
        assert failure and failure.why == "why not" and failure.since == NOW
        pauses.append((failure.next_try - NOW) / timedelta(minutes=1))
        assert failure.is_paused(NOW) and not failure.is_paused(failure.next_try)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    # A clock that was set back by a year does not make it wait for a year.
    assert failure and not failure.is_paused(NOW - timedelta(days=365))


def test_no_pause_is_cut_short(top: Folder) -> None:
    mouth = Mouth({"one"})
    tell(top, examples.several_broken(), mouth, (ONE,))
    mouth.deaf.clear()
    assert tell(top, examples.several_broken(), mouth, (ONE,)).waiting == 1
    assert mouth.said == []


def test_a_message_that_a_channel_never_takes_keeps_nothing_back(top: Folder) -> None:
    mouth = Mouth(never="BROKEN")
    tell(top, examples.several_broken(), mouth, (ONE,))
    for _ in range(3):
        tell(top, examples.all_kept(), mouth, (ONE,))
        unpause(top)
    outcome = tell(top, examples.all_kept(), mouth, (ONE,))
    assert mouth.said == [("one", "kept")] and outcome.failing == {}
    held = alarms.read(top)
    assert (held.lost, held.outbox) == (1, {})


def test_what_waits_for_a_channel_that_is_gone_goes_to_who_is_there_if_nobody_has_it(top: Folder) -> None:
    mouth = Mouth({"one"})
    tell(top, examples.several_broken(), mouth, (ONE,))
    tell(top, examples.several_broken(), mouth, (TWO,))
    assert mouth.said == [("two", "broken")]
    assert alarms.read(top).failing == {}


def test_without_a_channel_nothing_counts_as_told(top: Folder) -> None:
    mouth = Mouth()
    assert "there is no channel" in tell(top, examples.several_broken(), mouth, ()).warnings[0]
    tell(top, examples.several_broken(), mouth)
    assert len(mouth.said) == 2


def test_a_test_goes_past_the_outbox_and_its_arrival_is_kept(top: Folder) -> None:
    mouth = Mouth({"two"})
    tell(top, examples.several_broken(), mouth)
    outcome = notify.test(top, Alerts((ONE, TWO)), "a test", "text", mouth)
    assert outcome.failing == {"two": "two is deaf"}
    held = alarms.read(top)
    assert held.has_arrived([ONE.key]) and not held.has_arrived([ONE.key, TWO.key])
    assert len(held.outbox) == 1, "what waited waits"


def test_the_status_knows_what_was_not_delivered(top: Folder) -> None:
    tell(top, examples.several_broken(), Mouth({"two"}))
    alerts, made = Alerts((ONE, TWO)), examples.several_broken().now
    soon, later = (remembered.facts_of(alarms.read(top), alerts, made + timedelta(minutes=late)) for late in (9, 11))
    assert (soon.channels, soon.undelivered, later.undelivered) == (2, 0, 1)
    assert later.oldest == made and later.problem == "two: two is deaf"


def test_the_status_says_how_many_were_given_up(top: Folder) -> None:
    tell(top, examples.several_broken(), Mouth({"two"}))
    held = alarms.given_up(alarms.read(top), "1", TWO.key)
    known = remembered.facts_of(held, Alerts((ONE, TWO)), examples.NOW)
    status = examples.several_broken()
    (promise,) = [
        each
        for each in evaluate.status(replace(status.facts, alarms=known), status.now, Limits()).promises
        if each.kind == "alarm"
    ]
    assert known.lost == 1 and promise.reason.endswith("; 1 message given up so far")


def test_the_file_stays_small_whatever_waits(top: Folder) -> None:
    held = Alarms()
    for number in range(300):
        held = alarms.with_message(held, Message(NOW, "broken", f"{number}", "ä" * 20_000, ("key",)))
    alarms.write(top, held)
    found = list(alarms.read(top).messages().values())
    assert found[-1].subject == "299" and 5 < len(found) <= 50 and held.lost == 300 - len(found)


@pytest.mark.fault(229, "what is known of the alarms is damaged, or of a newer version")
def test_what_cannot_be_understood_is_told_anew_and_what_is_newer_left_alone(top: Folder, tmp_path: Path) -> None:
    file, mouth = tmp_path / ".alarms.json", Mouth()
    for text in (b"", b"{", b"[]", b'{"told": {"a": "b"}}', b'{"outbox": {"1": "x"}}', b'{"failing": {"k": "0 x"}}',
                 b'{"tested": "yesterday"}', b'{"told": 1}', b"\xff", b'{"number": "1"}'):  # fmt: skip
        file.write_bytes(text)
        outcome = tell(top, examples.several_broken(), mouth, (ONE,))
        assert any("told anew" in warning for warning in outcome.warnings), text
        assert tell(top, examples.several_broken(), mouth, (ONE,)).warnings == []
    assert len(mouth.said) == 10
    newer = file.read_bytes().replace(b'"version": 1', b'"version": 2')
    file.write_bytes(newer)
    with pytest.raises(statefile.Newer):
        tell(top, examples.several_broken(), mouth, (ONE,))
    assert file.read_bytes() == newer


# --- processes


def environment() -> dict[str, str]:
    return {"PATH": os.defpath, "PYTHONPATH": f"{ROOT / 'lib'}:{ROOT}", "HOME": "/nonexistent"}


def evaluator(directory: Path, status: str, told: Path) -> subprocess.Popen[bytes]:
    """An evaluator in a process of its own, whose one channel is a command that writes into a file."""
    words = [sys.executable, "-m", "tests.support.teller", str(directory), "/nonexistent/alerts", status]
    keep = ["sh", "-c", 'text=$(cat); printf "%s\\n@@\\n" "$text" >>"$1"', "sh", str(told)]
    return subprocess.Popen([*words, *keep], env=environment(), start_new_session=True)


def subjects(told: Path) -> list[str]:
    texts = told.read_text().split("\n@@\n") if told.exists() else []
    return [text.partition("\n")[0] for text in texts if text]


@pytest.mark.fault(226, "many evaluators at once")
def test_many_at_once_tell_once(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir(mode=0o700)
    told = tmp_path / "told"
    for expected, status in ((1, "several_broken"), (2, "all_kept")):
        running = [evaluator(tmp_path / "top", status, told) for _ in range(5)]
        assert [one.wait(60) for one in running] == [0] * 5
        assert len(subjects(told)) == expected


@pytest.mark.wide
def test_killed_at_any_moment_each_change_is_told(
    tmp_path: Path,
    tries: Callable[[int, int], int],
    expected: Callable[[int, str, int], None],
    survived: Callable[..., None],
) -> None:
    count = tries(2, 200)
    expected(225, "an evaluator is killed with -9 at any moment", count)
    whole = _seconds_of_one(tmp_path)
    for number in range(count):
        directory, told = tmp_path / f"top{number}", tmp_path / f"told{number}"
        directory.mkdir(mode=0o700)
        for status in ("several_broken", "all_kept"):
            one = evaluator(directory, status, told)
            time.sleep(random.uniform(0.3, 1.1) * whole)
            os.killpg(one.pid, signal.SIGKILL)
            one.wait()
            assert evaluator(directory, status, told).wait(60) == 0
        assert [level.split(": ")[1] for level in dict.fromkeys(subjects(told))] == ["BROKEN", "kept again"]
        assert len(subjects(told)) <= 4
        assert {path.name for path in directory.iterdir()} <= {".alarms.json", ".alarms.lock", ".alarms.reserve"}
        survived(225, "an evaluator is killed with -9 at any moment")


def _seconds_of_one(tmp_path: Path) -> float:
    (tmp_path / "measured").mkdir(mode=0o700)
    begun = time.monotonic()
    assert evaluator(tmp_path / "measured", "several_broken", tmp_path / "told-measured").wait(60) == 0
    return time.monotonic() - begun


@contextmanager
def full_disk(directory: Path) -> Iterator[Path]:
    """A small file system that the block fills."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M,mode=0700", "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)


def fill(directory: Path) -> None:
    with (directory / "filling").open("ab", buffering=0) as file:
        for size in (4096, 1):
            with pytest.raises(OSError):
                while True:
                    file.write(b"x" * size)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="only root can mount")
@pytest.mark.fault(228, "BACKUP_DIR is full when an alarm is to be told")
def test_on_a_full_disk_an_alarm_is_told_and_once() -> None:
    with tempfile.TemporaryDirectory() as made, full_disk(Path(made, "disk")) as directory:
        mouth = Mouth()
        with folder.opened(directory, create=False, top=True) as top:
            tell(top, examples.all_kept(), mouth)
            fill(directory)
            for _ in range(5):
                tell(top, examples.several_broken(), mouth)
            assert sorted(mouth.said) == [("one", "broken"), ("two", "broken")]
            (directory / "filling").unlink()
            tell(top, examples.all_kept(), mouth)
            assert (directory / ".alarms.reserve").stat().st_size > 100_000
        assert len(mouth.said) == 4


def test_where_nothing_can_be_written_it_is_told_all_the_same(top: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(statefile, "write", refused)
    mouth = Mouth()
    outcome = tell(top, examples.several_broken(), mouth)
    assert len(mouth.said) == 2 and "Read-only file system" in outcome.warnings[0]
