"""A server that takes its time: a DROP DATABASE that waits for a checkpoint, a table that cannot be counted."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.support import killing, restores
from tests.support.restores import Lab
from tests.support.runs import soon

_DROPPING = (
    "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pgbackup-%' AND query LIKE 'DROP DATABASE%'"
    " AND state = 'active' AND now() - query_start > '{seconds} s'"
)


@contextmanager
def no_checkpoint(lab: Lab) -> Iterator[None]:
    """DROP DATABASE waits for the length of the block."""
    ((pid,),) = lab.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
    os.kill(int(str(pid)), signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(int(str(pid)), signal.SIGCONT)


def dropping(lab: Lab, seconds: int = 0) -> bool:
    return bool(lab.sql(_DROPPING.replace("{seconds}", str(seconds))))


@pytest.mark.fault(104, "restore, --drop-old, --in-place: DROP DATABASE takes longer than COMMAND_SECONDS")
@pytest.mark.parametrize("options", [["--drop-old"], ["--in-place"]])
def test_a_drop_that_takes_longer_than_other_commands_is_waited_for(lab: Lab, options: list[str]) -> None:
    file, new, _ = lab.reset(20)
    if options == ["--drop-old"]:
        assert lab.restore("--yes", file.name).status == 0
    what = [] if options == ["--drop-old"] else [file.name]
    with no_checkpoint(lab):
        process = lab.start("--yes", *options, *what, COMMAND_SECONDS="5")
        assert soon(lambda: dropping(lab, 6), 60), process.communicate(timeout=5)
    ended = lab.place.end(process)
    assert ended.status == 0, ended.stderr
    assert lab.content() == new
    assert not restores.settled(lab, new, new)
    assert lab.kept() == []


@pytest.mark.fault(104, "--drop-old: interrupted in DROP DATABASE")
def test_a_copy_whose_drop_was_interrupted_is_not_rolled_back_to_and_goes_with_the_next(lab: Lab) -> None:
    file, new, _ = lab.reset(20)
    assert lab.restore("--yes", file.name).status == 0
    with no_checkpoint(lab):
        process = lab.start("--yes", "--drop-old")
        assert soon(lambda: dropping(lab), 60)
        process.send_signal(signal.SIGINT)
        ended = lab.place.end(process)
    assert ended.status == 130, ended.stderr
    assert lab.sql("SELECT datname FROM pg_database WHERE datconnlimit = -2") == [(name,) for name in lab.kept()]
    assert lab.restore("--rollback", "--yes").status == 66
    ended = lab.restore("--drop-old", "--yes")
    assert ended.status == 0, ended.stderr
    assert lab.kept() == []
    assert lab.content() == new


@pytest.mark.fault(104, "--in-place: killed in DROP DATABASE")
def test_a_drop_of_the_live_database_that_was_killed_is_brought_back(lab: Lab) -> None:
    file, _, old = lab.reset(20)
    process = lab.start("--yes", "--in-place", file.name)
    assert soon(lambda: bool(lab.kept()), 60), "it is set aside"
    process.send_signal(signal.SIGSTOP)
    with no_checkpoint(lab):
        process.send_signal(signal.SIGCONT)
        assert soon(lambda: dropping(lab), 60)
        killing.kill_everything(process.pid)
        process.communicate()
        lab.sql(f"SELECT pg_terminate_backend(pid) FROM ({_DROPPING.replace('{seconds}', '0')}) AS it")
        assert soon(lambda: not dropping(lab), 20)
    assert not restores.after(lab, old, old)


@pytest.mark.fault(104, "restore --dry-run: the rows cannot be counted in time")
def test_a_count_that_is_given_up_is_ended_on_the_server(lab: Lab) -> None:
    file, _, old = lab.reset(20)
    with psycopg.connect(lab.dsn(lab.database)) as holder:
        holder.execute("LOCK TABLE orders")
        ended = lab.restore("--dry-run", file.name, COMMAND_SECONDS="4")
        assert ended.status == 0, ended.stderr
        assert lab.sql("SELECT query FROM pg_stat_activity WHERE application_name LIKE 'pgbackup-%'") == []
    assert lab.content() == old
