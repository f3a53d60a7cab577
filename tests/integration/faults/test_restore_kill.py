"""Restores that are killed, or whose server is, at any moment: rows 31 to 33 of the table of faults.

Whatever happens, the live database is wholly old or wholly new and open, and the next command cleans up.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from demo import servers as demo_servers
from tests.conftest import FULL
from tests.integration.faults.test_kill import kill_everything, kill_process
from tests.support import backups, restores, servers
from tests.support.restores import Content, Lab, Writers
from tests.support.runs import soon

Tries = Callable[[int, int], int]
Note = Callable[..., None]


@pytest.fixture(scope="module")
def embedded() -> Iterator[demo_servers.Server]:
    with restores.embedded_server() as server:
        yield server


@pytest.fixture
def lab(embedded: demo_servers.Server, tmp_path: Path) -> Iterator[Lab]:
    """auth_db without Docker; that the server was crashed by a test is no concern of the next one."""
    lab = restores.direct(embedded, tmp_path)
    assert soon(lambda: answers(lab), 30)
    yield lab
    assert soon(lambda: answers(lab), 30), "the server did not come back"


def answers(lab: Lab) -> bool:
    with suppress(psycopg.Error):
        return lab.sql("SELECT 1") == [(1,)]
    return False


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[servers.Server]:
    with servers.running(
        15, name="pgbackup-test-restore-", database="auth_db", user="auth_user", durable=True
    ) as started:
        yield started


def old_again(lab: Lab, new: Content, old: Content) -> None:
    """The state before a try: the live database is the old one, nothing is kept, nobody has arrived."""
    for name in lab.kept():
        lab.sql(f'DROP DATABASE "{name}"')
    if lab.content() == new:
        lab.lose()
    lab.sql("TRUNCATE arrivals", lab.database)
    assert lab.content() == old


def wholly(lab: Lab, old: Content, new: Content, seconds: float = 15.0) -> list[str]:
    """restores.problems(), giving a swap that goes on in the server without its client the time to end."""
    deadline = time.monotonic() + seconds
    while (found := restores.problems(lab, old, new)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


# ------------------------------------------------------------------------------------------------- row 31


def killed_at_random(lab: Lab, count: int, done: Callable[[], None]) -> dict[str, int]:
    """Kill `count` restores at moments from 0 to 1.2 of a restore's time; return how often the old and new stayed."""
    file, new, old = lab.reset()
    with Writers(lab):
        took = lab.restore("--yes", file.name).seconds
    chosen, stayed = random.Random(31), {"old": 0, "new": 0}
    for number in range(count):
        old_again(lab, new, old)
        delay, how = chosen.uniform(0, 1.2 * took), (kill_process, kill_everything)[number % 2]
        with Writers(lab, stay=number % 3 == 0) as writers:
            process = lab.start("--yes", file.name)
            time.sleep(delay)
            if process.poll() is None:
                how(process.pid)
            process.communicate()
            where = f"try {number}: {how.__name__} after {delay:.3f} s of {took:.3f} s"
            assert not wholly(lab, old, new), where
            wrong = restores.after(lab, old, new)
            assert not wrong, where
        assert not writers.lost(), where
        assert writers.acknowledged, "nobody was writing"
        stayed["new" if lab.content() == new else "old"] += 1
        done()
    return stayed


def test_a_kill_at_any_moment_leaves_the_live_database_wholly_old_or_new(
    lab: Lab, tries: Tries, expected: Note, survived: Note
) -> None:
    fault, count = "restore: kill -9 under connecting writers, direct", tries(6, 200)
    expected(31, fault, count)
    print(killed_at_random(lab, count, lambda: survived(31, fault)))


@pytest.mark.parametrize("kind", ["sidecar", "exec"])
def test_a_kill_beside_a_container_too(
    server: servers.Server, tmp_path: Path, tries: Tries, expected: Note, survived: Note, kind: str
) -> None:
    fault, count = f"restore: kill -9 under connecting writers, {kind}", tries(1, 40)
    expected(31, fault, count)
    print(killed_at_random(restores.in_container(server, tmp_path, kind), count, lambda: survived(31, fault)))


# ------------------------------------------------------------------------------------------------- row 32

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
        kill_process(process.pid)
        process.communicate()
        if statement == 1:
            assert not restores.after(lab, old, old), "the swap still waits in the server"
    if statement == 2:  # the row lock would hold up the DROP as well
        assert not wholly(lab, old, new)
        assert not restores.after(lab, old, new)
    assert "was killed" in "\n".join(lab.place.log())
    survived(32, fault)


def test_a_swap_that_the_server_finished_after_the_kill_is_found_to_be_in_place(
    lab: Lab, expected: Note, survived: Note
) -> None:
    fault = "restore: kill -9 while the swap waits, which then goes through"
    expected(32, fault, 1)
    file, new, old = lab.reset()
    with waiting_in_the_swap(lab, file, 1) as (process, _):
        kill_process(process.pid)
        process.communicate()
    assert soon(lambda: bool(lab.kept()), 20), "psql had to go on"
    assert not wholly(lab, old, new)
    assert not restores.after(lab, old, new)
    assert lab.content() == new
    assert "is in place" in "\n".join(lab.place.log())
    survived(32, fault)


@pytest.mark.parametrize("statement", [1, 2])
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


@pytest.mark.parametrize("statement", [1, 2])
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
    assert soon(lambda: answers(lab), 30)
    assert not wholly(lab, old, old)
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
    assert "is the restored one already" in ended.stderr, ended.stderr
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
            assert soon(lambda: answers(lab), 30)
        else:
            lab.sql(f"SELECT pg_terminate_backend({session.info.backend_pid})")
        session.close()
        assert not wholly(lab, old, old), f"behind {statements[number - 1]}"
        assert lab.databases() == [lab.database, incoming]
        survived(32, fault)


@contextmanager
def stopped_in_the_load(lab: Lab, file: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """Give a restore that is stopped when its scratch database is there; it goes on when the block is left."""
    process = lab.start("--yes", *options, file.name)
    assert soon(lambda: bool(lab.scratch()) or process.poll() is not None, 60)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        assert process.poll() is None
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)


@pytest.mark.parametrize("kind", ["sidecar", "exec"])
def test_a_container_killed_in_mid_load_loses_nothing(
    server: servers.Server, tmp_path: Path, expected: Note, survived: Note, kind: str
) -> None:
    fault = f"restore: container killed in mid-load, {kind}"
    expected(32, fault, 1)
    lab = restores.in_container(server, tmp_path, kind)
    file, new, old = lab.reset()
    with stopped_in_the_load(lab, file) as process:
        server.kill()
    ended = lab.place.end(process)
    assert ended.status == 69, ended.stderr
    assert "next run" in ended.stderr
    server.start()
    assert not restores.problems(lab, old, old)
    assert not restores.after(lab, old, new)
    survived(32, fault)


def test_a_container_killed_in_the_swap_loses_nothing(
    server: servers.Server, tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "restore: container killed in the swap"
    expected(32, fault, 1)
    lab = restores.in_container(server, tmp_path)
    file, new, old = lab.reset()
    with suppress(psycopg.OperationalError), waiting_in_the_swap(lab, file, 1) as (process, _):
        server.kill()
    ended = lab.place.end(process)
    assert ended.status == 69, ended.stderr
    server.start()
    assert not restores.problems(lab, old, old)
    assert not restores.after(lab, old, new)
    survived(32, fault)


@pytest.mark.parametrize("moment", ["load", "swap"])
def test_a_killed_in_place_restore_is_brought_back_by_the_next_command(
    lab: Lab, expected: Note, survived: Note, moment: str
) -> None:
    fault = "restore --in-place: kill -9, brought back by the next command"
    expected(31, fault, 1)
    file, new, old = lab.reset()
    if moment == "load":
        with stopped_in_the_load(lab, file, "--in-place") as process:
            kill_everything(process.pid)
    else:
        process = lab.start("--yes", "--in-place", file.name)
        assert soon(lambda: lab.database not in lab.databases(), 60)
        kill_process(process.pid)
    process.communicate()
    assert not restores.after(lab, old, new)
    survived(31, fault)


# ------------------------------------------------------------------------------------------------- row 33


@pytest.mark.parametrize("options", [["--online"], []])
def test_fifty_reconnecting_clients_are_without_the_database_for_seconds(
    server: servers.Server, tmp_path: Path, expected: Note, survived: Note, options: list[str]
) -> None:
    lab = restores.in_container(server, tmp_path)
    fault = f"restore {' '.join(options)}: 50 clients reconnecting during the swap"
    expected(33, fault, 1)
    file, new, old = lab.reset()
    with Writers(lab, count=50, stay=True) as writers:
        assert soon(lambda: len(writers.acknowledged) > 500, 30)
        writers.gaps[:] = [0.0] * writers.count
        ended = lab.restore("--yes", *options, file.name)
        assert ended.status == 0, ended.stderr
        before = len(writers.acknowledged)
        assert soon(lambda: len(writers.acknowledged) > before + 500, 30), "they write again"
    print(f"\n{fault}: longest gap {max(writers.gaps):.2f} s, median {sorted(writers.gaps)[25]:.2f} s")
    assert lab.content() == new
    assert not restores.settled(lab, old, new)
    assert not writers.lost()
    assert max(writers.gaps) <= 5.0
    survived(33, fault)


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


@pytest.mark.parametrize("bug", BUGS if FULL else ["two transactions"])
def test_a_suite_with_a_bug_is_caught(lab: Lab, tmp_path: Path, bug: str) -> None:
    lab.place.root = backups.mutated(tmp_path / "copy", BUGS[bug])
    lab.place.environment["COMMAND_SECONDS"] = "3"
    file, new, old = lab.reset()
    statement = 2 if bug == "two transactions" else 1
    with waiting_in_the_swap(lab, file, statement) as (process, backend):
        kill_process(process.pid)
        process.communicate()
        if bug == "two transactions":
            lab.sql(f"SELECT pg_terminate_backend({backend})")
            found = restores.problems(lab, old, new)
        else:
            found = restores.after(lab, old, old)
    assert found, "checker is broken: no error found"


def test_the_checker_sees_what_is_broken(lab: Lab) -> None:
    _, new, old = lab.reset()
    assert restores.problems(lab, old, new) == restores.leftovers(lab) == []

    def sees(promise: str) -> None:
        found = restores.problems(lab, old, new) + restores.leftovers(lab)
        assert [trouble for trouble in found if trouble.startswith(promise)], f"checker is broken: {found}"

    lab.sql(f'CREATE DATABASE "{lab.database}_restore_20240101_000000"')
    sees("E")
    lab.sql(f'DROP DATABASE "{lab.database}_restore_20240101_000000"')
    lab.sql("DELETE FROM orders WHERE id = 1", lab.database)
    sees("D")
    lab.sql(f'ALTER DATABASE "{lab.database}" ALLOW_CONNECTIONS false')
    sees("D")
    lab.sql(f'ALTER DATABASE "{lab.database}" RENAME TO "{lab.database}_before_restore_20240101_000000"')
    sees("D")
    restores.remade(lab)
    lab.sql("INSERT INTO arrivals VALUES (1)", lab.database)
    assert Writers(lab, acknowledged={1, 2}).lost() == {2}
