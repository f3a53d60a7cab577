"""The lock: one run at a time, free again however its holder ended, and never something else's file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pgbackup.errors import CannotCreate, LockHeld
from pgbackup.store import lock
from pgbackup.store.folder import Folder, opened


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Folder]:
    tmp_path.chmod(0o700)
    with opened(tmp_path, create=False) as found:
        yield found


def test_a_second_run_is_turned_away_and_told_which_file_to_ask(place: Folder) -> None:
    with lock.held(place, "app"):
        with pytest.raises(LockHeld) as caught, lock.held(place, "app"):
            pass
        assert str(place.path / ".app.lock") in str(caught.value.hint)
        with lock.held(place, "app_1"):
            pass
    with lock.held(place, "app"):
        pass


_HOLD = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pgbackup.store import lock
from pgbackup.store import folder
with folder.opened(Path(sys.argv[2]), create=False) as place, lock.held(place, "app"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_killed_run_holds_nothing(place: Folder) -> None:
    command = [sys.executable, "-c", _HOLD, str(Path(lock.__file__).parents[2]), str(place.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(LockHeld), lock.held(place, "app"):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with lock.held(place, "app"):
        pass


@pytest.mark.parametrize("text", ["", "1", "4194304", "garbage"])
def test_a_lock_file_without_its_process_is_free_whatever_stands_in_it(place: Folder, text: str) -> None:
    (place.path / ".app.lock").write_text(text)
    with lock.held(place, "app"):
        pass
    assert (place.path / ".app.lock").read_text() == text


@pytest.mark.parametrize("what", ["link", "dangling link", "hard link", "FIFO", "directory"])
def test_something_else_under_that_name_is_refused_and_left_alone(place: Folder, what: str) -> None:
    path, victim = place.path / ".app.lock", place.path / "victim"
    victim.write_text("precious")
    plant: dict[str, Callable[[], None]] = {
        "link": lambda: path.symlink_to(victim),
        "dangling link": lambda: path.symlink_to("nothing"),
        "hard link": lambda: path.hardlink_to(victim),
        "FIFO": lambda: os.mkfifo(path),
        "directory": path.mkdir,
    }
    plant[what]()
    with pytest.raises(CannotCreate, match=r"\.app\.lock"), lock.held(place, "app"):
        pass
    assert victim.read_text() == "precious"
    assert not (place.path / "nothing").exists()
