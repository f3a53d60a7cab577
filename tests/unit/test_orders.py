"""Programs that a shell in a sidecar starts: here the shell runs beside us."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pgbackup.database.clients.orders import Orders, waiting
from pgbackup.errors import ConfigurationError
from pgbackup.proc import Finished, NoAnswer


class Place:
    """The shell, and what gives it orders."""

    def __init__(self, path: Path) -> None:
        self.path, self.orders = path, Orders(path)
        line = f"{waiting(str(path))} echo $!; exec cat >/dev/null"
        self.shell = subprocess.Popen(["sh", "-c", line], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.shell.stdout
        self.taker = int(self.shell.stdout.readline())

    def run(self, *argv: str, stdin: bytes = b"", seconds: float = 10) -> Finished:
        found = self.orders.completed(argv, seconds, stdin)
        assert found
        return found

    def close(self) -> None:
        assert self.shell.stdin
        assert self.shell.stdout
        os.kill(self.taker, 9)
        self.shell.stdin.close()
        self.shell.stdout.close()
        self.shell.wait(10)
        self.orders.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    path = tmp_path / "place"
    path.mkdir()
    place = Place(path)
    yield place
    place.close()
    assert list(path.iterdir()) == []


def test_what_a_program_says_and_how_it_ends_comes_back(place: Place) -> None:
    found = place.run("sh", "-c", 'printf "%s|" "$@"; cat; echo no >&2; exit 7', "sh", "a b", "'\n", stdin=b"in\0put")
    assert found == Finished(7, b"a b|'\n|in\0put", "no")
    assert place.run("true") == Finished(0, b"", "")
    assert place.run("/nonexistent").status == 127


@pytest.mark.parametrize("size", [1, 65_536, 3_000_000])
def test_input_and_output_of_any_length(place: Place, size: int) -> None:
    data = os.urandom(size)
    assert place.run("cat", stdin=data) == Finished(0, data, "")
    assert place.run("true", stdin=data).status == 0, "it takes none of it"


def test_many_orders_at_once_and_one_after_the_other_leave_nothing(place: Place) -> None:
    """A container has room for 64 processes, those included that have ended and that nobody has asked about."""
    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(lambda number: place.run("echo", str(number)).stdout, range(200)))
    assert said == [f"{number}\n".encode() for number in range(200)]
    place.run("true")
    children = Path(f"/proc/{place.taker}/task/{place.taker}/children").read_text().split()
    assert len(children) < 10


def test_what_does_not_end_in_time_is_given_up(place: Place) -> None:
    with pytest.raises(NoAnswer, match=r"'sleep 30 …' gave no answer within 0\.2 s"):
        place.run("sleep", "30", seconds=0.2)
    assert place.run("true").status == 0
    subprocess.run(["pkill", "-P", str(place.taker)], check=False)


def test_without_the_shell_nothing_is_run_and_what_ran_counts_as_killed(place: Place) -> None:
    found: list[Finished] = []
    waits = threading.Thread(target=lambda: found.append(place.run("sleep", "3", seconds=30)))
    waits.start()
    assert place.run("true").status == 0
    os.kill(place.taker, 9)
    waits.join(10)
    assert [each.status for each in found] == [137]
    assert place.orders.completed(["true"], 10, b"") is None


def test_a_word_that_is_no_text_is_refused(place: Place) -> None:
    with pytest.raises(ConfigurationError):
        place.run("echo", os.fsdecode(b"\xff"))


def test_where_an_order_cannot_be_written_down_it_is_not_given(place: Place) -> None:
    (place.path / "order-0.program").mkdir()
    assert place.orders.completed(["true"], 10, b"") is None
    (place.path / "order-0.program").rmdir()
    assert place.run("true").status == 0
