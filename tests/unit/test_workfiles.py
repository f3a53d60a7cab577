"""A run's own files: private, gone when it ends, and swept by the next run when it was killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pgbackup.store import workfiles
from pgbackup.store.folder import Folder, opened


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Folder]:
    tmp_path.chmod(0o700)
    with opened(tmp_path, create=False) as found:
        yield found


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_the_file_is_private_and_hidden_whatever_the_umask_and_gone_afterwards(place: Folder, umask: int) -> None:
    before = os.umask(umask)
    try:
        with workfiles.partial(place, "owner", "token") as (name, descriptor):
            assert name.startswith(".")
            assert stat.S_IMODE(os.fstat(descriptor).st_mode) == 0o600
            assert not os.get_inheritable(descriptor)
    finally:
        os.umask(before)
    assert not list(place.path.iterdir())


def test_they_are_gone_after_a_failure_as_well(place: Folder) -> None:
    with (
        pytest.raises(RuntimeError),
        workfiles.partial(place, "owner", "a"),
        workfiles.pipes(place, "owner") as path,
    ):
        os.mkfifo(path / "pipe")
        raise RuntimeError
    assert not list(place.path.iterdir())


@pytest.mark.parametrize("what", ["file", "link"])
def test_a_file_that_is_in_the_way_is_not_written_to(place: Folder, what: str) -> None:
    victim = place.path / "victim"
    victim.write_text("precious")
    planted = place.path / ".pgbackup-owner-token.partial"
    planted.symlink_to(victim) if what == "link" else planted.write_text("precious")
    with pytest.raises(FileExistsError), workfiles.partial(place, "owner", "token"):
        pass
    assert victim.read_text() == "precious"


_RUN = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from pgbackup.store import folder
from pgbackup.store import workfiles
with folder.opened(Path(sys.argv[2]), create=False) as place:
    with workfiles.partial(place, "owner", "killed"), workfiles.pipes(place, "owner") as pipes:
        (pipes / "pipe").touch()
        print("there", flush=True)
        time.sleep(60)
"""


def test_what_a_killed_run_left_is_swept_and_what_a_living_one_has_is_not(place: Folder) -> None:
    library = str(Path(workfiles.__file__).parents[2])
    command = [sys.executable, "-c", _RUN, library, str(place.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        assert ".pgbackup-owner-killed.partial" not in workfiles.sweep(place, "owner")
        assert (place.path / ".pgbackup-owner-killed.partial").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert workfiles.sweep(place, "owner") == [".pgbackup-owner-killed.partial"]
    assert not list(place.path.iterdir())


def test_a_sweep_takes_all_kinds_of_its_own_and_nothing_else(place: Folder) -> None:
    mine = [f".pgbackup-owner-{token}" for token in ("1.partial", "2.link", "3.pipes")]
    others = [
        ".pgbackup-other-1.partial",
        ".pgbackup-owner",
        ".pgbackup-owner-4.else",
        "app_20240115_020000.sql.gz",
        ".app.lock",
    ]
    (place.path / mine[0]).write_text("")
    (place.path / mine[1]).symlink_to("nothing")
    (place.path / mine[2]).mkdir()
    os.mkfifo(place.path / mine[2] / "pipe")
    for name in others:
        (place.path / name).write_text("")
    assert workfiles.sweep(place, "owner") == mine
    assert sorted(path.name for path in place.path.iterdir()) == sorted(others)


def test_a_sweep_follows_no_link_out_of_the_directory(place: Folder, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "precious").write_text("precious")
    (place.path / ".pgbackup-owner-1.pipes").symlink_to(outside)
    (place.path / ".pgbackup-owner-2.partial").symlink_to(outside / "precious")
    workfiles.sweep(place, "owner")
    assert (outside / "precious").read_text() == "precious"
