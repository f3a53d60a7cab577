"""Restores that are killed in their swap, or whose server is: row 32 of the table of faults.

Whatever happens, the live database is wholly old or wholly new and open, and the next command cleans up.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.support import backups, killing, restores, servers
from tests.support.effort import only_in_full, wide
from tests.support.restores import Lab
from tests.support.runs import soon

Tries = Callable[[int, int], int]
Note = Callable[..., None]


_LOCKED = "SELECT 1 FROM pg_database WHERE datname = '{name}' FOR UPDATE"
_WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pgbackup-%' AND query LIKE 'ALTER DATABASE%'"
    " AND {holder} = ANY (pg_blocking_pids(pid))"
)


@contextmanager
def row_locked(lab: Lab, name: str) -> Iterator[Callable[[], int]]:
    """Nobody can rename or alter the database meanwhile: whoever tries waits.

    Give a function: the server's process that waits in a swap, 0 while none does.
    """
    with psycopg.connect(lab.dsn("postgres"), connect_timeout=10) as holder:
        assert holder.execute(_LOCKED.replace("{name}", name).encode()).fetchall()
        query = _WAITING.replace("{holder}", str(holder.info.backend_pid))
        yield lambda: sum(int(str(pid)) for (pid,) in lab.sql(query))


@contextmanager
def waiting_in_the_swap(lab: Lab, file: Path, statement: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Give a restore that waits in the first or second statement of its swap, and the server's process that does."""
    with ExitStack() as second:
        with row_locked(lab, lab.database) as waiting:
            process = lab.start("--yes", file.name)
            assert soon(lambda: waiting() > 0, 60), process.communicate(timeout=5)
            if statement == 1:
                yield process, waiting()
                return
            waiting = second.enter_context(row_locked(lab, lab.scratch()[0]))
        assert soon(lambda: waiting() > 0, 60)
        yield process, waiting()


@pytest.mark.parametrize("statement", [1, 2])
def test_a_restore_killed_in_its_swap_is_undone_by_the_next_command(
    lab: Lab, expected: Note, survived: Note, statement: int
) -> None:
    fault = "restore: kill -9 while the swap waits, then the next command"
    expected(32, fault, 1)
    file, new, old = lab.reset()
    with waiting_in_the_swap(lab, file, statement) as (process, _):
        killing.kill_process(process.pid)
        process.communicate()
        if statement == 1:
            assert not restores.after(lab, old, old), "the swap still waits in the server"
    if statement == 2:  # the row lock would hold up the DROP as well
        assert not restores.wholly(lab, old, new)
        assert not restores.after(lab, old, new)
    assert "the killed restore of" in "\n".join(lab.place.log())
    survived(32, fault)


def test_a_swap_that_the_server_finished_after_the_kill_is_found_to_be_in_place(
    lab: Lab, expected: Note, survived: Note
) -> None:
    fault = "restore: kill -9 while the swap waits, which then goes through"
    expected(32, fault, 1)
    file, new, old = lab.reset()
    with waiting_in_the_swap(lab, file, 1) as (process, _):
        killing.kill_process(process.pid)
        process.communicate()
    assert soon(lambda: bool(lab.kept()), 20), "psql had to go on"
    assert not restores.wholly(lab, old, new)
    assert not restores.after(lab, old, new)
    assert lab.content() == new
    assert "is in place" in "\n".join(lab.place.log())
    survived(32, fault)


@wide("statement", [2], [1, 2])
def test_a_swap_whose_session_is_ended_changes_nothing(
    lab: Lab, expected: Note, survived: Note, statement: int
) -> None:
    fault = "restore: the swap's session terminated"
    expected(32, fault, 1)
    file, _, old = lab.reset()
    with waiting_in_the_swap(lab, file, statement) as (process, backend):
        lab.sql(f"SELECT pg_terminate_backend({backend})")
    ended = lab.place.end(process)
    assert ended.status == 69, ended.stderr
    assert not restores.settled(lab, old, old)
    survived(32, fault)


@wide("statement", [2], [1, 2])
def test_a_server_that_crashes_in_the_swap_comes_back_wholly_old(
    lab: Lab, expected: Note, survived: Note, statement: int
) -> None:
    fault = "restore: PostgreSQL crashed in the swap"
    expected(32, fault, 1)
    file, new, old = lab.reset()
    with suppress(psycopg.OperationalError), waiting_in_the_swap(lab, file, statement) as (process, backend):
        os.kill(backend, signal.SIGKILL)
    ended = lab.place.end(process)
    assert ended.status == 69, ended.stderr
    assert soon(lambda: restores.answers(lab), 30)
    assert not restores.wholly(lab, old, old)
    assert not restores.after(lab, old, new)
    survived(32, fault)


def await_waiting_commits(lab: Lab, waits: Callable[[int], bool]) -> None:
    """Commit something again and again until a COMMIT waits: the servers' processes reload one after the other."""
    stop = threading.Event()
    with psycopg.connect(lab.dsn("postgres"), autocommit=True) as probe, ThreadPoolExecutor() as pool:
        probe.execute("SET synchronous_commit = on")

        def commit() -> None:
            while not stop.is_set():
                probe.execute("SELECT pg_logical_emit_message(true, 'of the tests', '')")

        done = pool.submit(commit)
        arrived = soon(lambda: waits(probe.info.backend_pid), 20)
        stop.set()
        lab.sql(f"SELECT pg_cancel_backend({probe.info.backend_pid})")
        done.result(20)
    assert arrived, "the reload did not arrive"


def test_a_swap_whose_answer_was_lost_is_told_as_done(lab: Lab, expected: Note, survived: Note) -> None:
    fault = "restore: the answer to COMMIT lost"
    expected(32, fault, 1)
    file, new, old = lab.reset()

    def committing(where: str) -> None:
        """COMMIT writes, then waits for a standby that there is not."""
        lab.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{where}'")
        lab.sql("SELECT pg_reload_conf()")

    def waits(backend: int) -> bool:
        return bool(lab.sql(f"SELECT 1 FROM pg_stat_activity WHERE pid = {backend} AND wait_event = 'SyncRep'"))

    try:
        with waiting_in_the_swap(lab, file, 1) as (process, backend):
            committing("nobody")
            await_waiting_commits(lab, waits)
        assert soon(lambda: waits(backend), 20)
        lab.sql(f"SELECT pg_terminate_backend({backend})")
        committing("")
        ended = lab.place.end(process)
    finally:
        committing("")
    assert lab.content() == new
    assert "is already the restored one" in ended.stderr, ended.stderr
    assert not restores.settled(lab, old, new)
    survived(32, fault)


def test_every_statement_of_the_swap_may_be_the_last(lab: Lab, tries: Tries, expected: Note, survived: Note) -> None:
    fault = "restore: session or server killed behind each statement of the swap"
    _, _, old = lab.reset()
    incoming, outgoing = f"{lab.database}_restore_20240101_000000", f"{lab.database}_before_restore_20240101_000000"
    lab.sql(f'CREATE DATABASE "{incoming}"')
    lab.sql(f'ALTER DATABASE "{incoming}" ALLOW_CONNECTIONS false')
    statements = restores.swap_statements(lab, outgoing, incoming)
    assert statements[0] == "BEGIN"
    assert statements[-1] == "COMMIT"
    turns = [(number, crash) for number in range(1, len(statements)) for crash in (False, True)[: tries(1, 2)]]
    expected(32, fault, len(turns))
    for number, crash in turns:
        session = psycopg.connect(lab.dsn("postgres"), autocommit=True, connect_timeout=10)
        for statement in statements[:number]:
            session.execute(statement.encode())
        if crash:
            os.kill(session.info.backend_pid, signal.SIGKILL)
            assert soon(lambda: restores.answers(lab), 30)
        else:
            lab.sql(f"SELECT pg_terminate_backend({session.info.backend_pid})")
        session.close()
        assert not restores.wholly(lab, old, old), f"behind {statements[number - 1]}"
        assert lab.databases() == [lab.database, incoming]
        survived(32, fault)


def test_a_container_killed_in_the_swap_loses_nothing(
    server: servers.Server, tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "restore: container killed in the swap"
    expected(32, fault, 1)
    lab = restores.in_container(server, tmp_path, "exec")
    file, new, old = lab.reset()
    with suppress(psycopg.OperationalError), waiting_in_the_swap(lab, file, 1) as (process, _):
        server.kill()
    ended = lab.place.end(process)
    assert ended.status == 69, ended.stderr
    server.start()
    assert not restores.problems(lab, old, old)
    assert not restores.after(lab, old, new)
    survived(32, fault)


# ------------------------------------------------------------------------------------- tests of these tests

BUGS = {
    "two transactions": (
        "database/loading/swap.py",
        '            f"ALTER DATABASE {identifier(incoming)} WITH ALLOW_CONNECTIONS true",\n',
        '            "COMMIT; BEGIN", f"ALTER DATABASE {identifier(incoming)} WITH ALLOW_CONNECTIONS true",\n',
    ),
    "nothing undone": (
        "commands/loading/unfinished.py",
        "        there = leaving.dropped(client, entry.scratch)\n",
        "        there = True\n",
    ),
    "earlier sessions not ended": (
        "commands/loading/unfinished.py",
        "    swap.end_sessions(client)\n",
        "",
    ),
}


@only_in_full
@pytest.mark.parametrize("bug", BUGS)
def test_a_suite_with_a_bug_is_caught(lab: Lab, tmp_path: Path, bug: str) -> None:
    lab.place.root = backups.mutated(tmp_path / "copy", BUGS[bug])
    lab.place.environment["COMMAND_SECONDS"] = "3"
    file, new, old = lab.reset()
    statement = 2 if bug == "two transactions" else 1
    with waiting_in_the_swap(lab, file, statement) as (process, backend):
        killing.kill_process(process.pid)
        process.communicate()
        if bug == "two transactions":
            lab.sql(f"SELECT pg_terminate_backend({backend})")
            found = restores.problems(lab, old, new)
        else:
            found = restores.after(lab, old, old)
    assert found, "checker is broken: no error found"
