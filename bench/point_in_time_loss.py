"""What is lost when the database's container is killed under load and its volume deleted, at a moment of chance."""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psycopg
from contenders import OURS, Column, Row, Run, Table
from measure import MeasuredFailed
from scene import USER, Scene, archives, recoverable, servers

MAJOR = 15
DATABASE = "payment_db"
CLIENTS = 4
LOAD_SECONDS = (2.0, 6.0)  # the shortest and the longest load before the kill
RECEIVER = f"pgbackup_wal_{archives.NAME}"
IS_RECEIVER = f"application_name = '{RECEIVER}'"  # in pg_stat_replication
# So that a client whose server is gone without a word notices it soon.
_IMPATIENT = "keepalives_idle=1 keepalives_interval=1 keepalives_count=2 tcp_user_timeout=3000"
COLUMNS = [
    Column("acknowledged", "acknowledged", 1, 0),
    Column("of them recovered", "recovered", 1, 0),
    Column("lost", "lost", 1, 0),
    Column("s of commits lost", "span_seconds", 1, 3),
    Column("commits/s", "commits_per_second", 1, 0),
    Column("s until the receiver noticed", "noticed_seconds", 1, 1),
    Column("s to recover", "restore_seconds", 1, 1),
]
ROWS = [("plain", "receiver as it is set up"), ("synchronous", "WAL_SYNC=yes and synchronous_standby_names")]


@dataclass
class Client:
    """One writer. acknowledged: its rows, each with the moment when it was. broke: when the client was cut off.

    pause: in seconds, behind each commit.
    """

    number: int
    acknowledged: list[tuple[int, float]] = field(default_factory=list)
    broke: float = 0.0
    pause: float = 0.0

    def write(self, dsn: str) -> None:
        """Commit one row after the other until the server is gone."""
        with suppress(psycopg.Error), psycopg.connect(f"{dsn} {_IMPATIENT}", autocommit=True) as session:
            for row in range(10**9):
                session.execute("INSERT INTO ledger VALUES (%s, %s)", (self.number, row))
                self.acknowledged.append((row, time.monotonic()))
                if self.pause:
                    time.sleep(self.pause)
        self.broke = time.monotonic()


def measure(scene: Scene, rounds: int, idle: float) -> Table:
    """Return one table: a receiver as it is set up, and one that the server waits for."""
    title = f"Container killed and volume deleted under {CLIENTS} clients that commit one row after the other"
    print(f"\n{title}", flush=True)
    table = Table("loss", title, [], {"rounds": rounds, "idle_cpu": round(idle, 3)}, columns=COLUMNS)
    for key, label in ROWS:
        row = Row(key, label, OURS, f"docker kill -s KILL; docker rm -fv; {RESTORE}")
        table.rows.append(row)
        for number in range(rounds):
            run = _once(scene, synchronous=key == "synchronous")
            row.runs.append(run)
            told = f"{run['acknowledged']:7,} acknowledged {run['recovered']:7,} recovered {run['lost']:4,} lost"
            print(f"  {number + 1}/{rounds}  {label:45} {told} within {run['span_seconds']:.3f} s", flush=True)
        table.facts[f"{key}_most_lost"] = max(run["lost"] for run in row.runs)
        table.facts[f"{key}_longest_span"] = max(run["span_seconds"] for run in row.runs)
        table.facts[f"{key}_torn"] = sum(run["torn"] for run in row.runs)
    table.facts["notes"] = [_note(table)]
    return table


RESTORE = "restore-postgres.sh payment --latest --yes --create-roles"


def _note(table: Table) -> str:
    torn = sum(table.facts[f"{key}_torn"] for key, _ in ROWS)
    return (
        "Seconds of commits lost: from the first acknowledgement that was lost to the moment when the first client was"
        f" cut off. A row that is missing before one of the same client that is there: {torn or 'none'}."
    )


def _once(scene: Scene, *, synchronous: bool) -> Run:
    """One round, with an archive and a server of its own."""
    with archived(scene, {"PAYMENT_WAL_SYNC": "yes" if synchronous else "no"}) as lab:
        begin(lab)
        lab.server.sql("CREATE TABLE ledger (client int, number int, PRIMARY KEY (client, number))")
        if synchronous:
            _wait_for_the_receiver(lab)
        clients = [Client(number) for number in range(CLIENTS)]
        killed = _written_until_killed(lab, clients)
        lab.until(lambda: bool((receiver := lab.look().receiver) and receiver.trouble), 120)
        noticed = time.monotonic() - killed
        with servers.running(MAJOR, name=lab.server.name, database=DATABASE, user=USER) as lab.server:
            begun = time.monotonic()
            restored(lab, "--latest", "--create-roles")
            seconds = time.monotonic() - begun
            found = set(lab.server.sql("SELECT client, number FROM ledger"))
    return {**compared(clients, found), "noticed_seconds": round(noticed, 2), "restore_seconds": round(seconds, 2)}


@contextmanager
def archived(
    scene: Scene, settings: Mapping[str, str] | None = None, server: Mapping[str, str] | None = None
) -> Iterator[archives.Lab]:
    """Give a durable server of its own, and what is needed to archive it. settings: of ours. server: of the server."""
    place = scene.folder("archived")
    options = {"database": DATABASE, "user": USER, "settings": server, "shm_size": "1g"}
    name = "pgbackup-test-bench-archived-"
    with archives.archived(MAJOR, place, started=False, name=name, **options) as lab:
        known = scene.settings(DATABASE, lab.place, "auto")
        lab.settings |= {**known, "PAYMENT_CONTAINER": lab.server.name, **(settings or {})}
        yield lab
    shutil.rmtree(place)


def begin(lab: archives.Lab, seconds: float = 120) -> None:
    """Agree with the server, start a receiver, and wait until it has made the first base backup."""
    lab.agree()
    lab.start()
    lab.until(lambda: bool((archive := lab.look()).windows) and not recoverable.broken_off(archive), seconds)


def restored(lab: archives.Lab, *arguments: str) -> None:
    """Run restore-postgres.sh. Raise MeasuredFailed with what it said."""
    done = lab.restore(*arguments, "--yes", "--quiet")
    if done.returncode != 0:
        raise MeasuredFailed(f"restore-postgres.sh {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")


def _wait_for_the_receiver(lab: archives.Lab) -> None:
    """Let the server wait for the receiver with each commit from now on."""
    lab.server.psql("-c", f"ALTER SYSTEM SET synchronous_standby_names = '{RECEIVER}'", "-c", "SELECT pg_reload_conf()")
    state = f"SELECT sync_state FROM pg_stat_replication WHERE {IS_RECEIVER}"
    lab.until(lambda: lab.server.sql(state) == [("sync",)], 20)


def _written_until_killed(lab: archives.Lab, clients: list[Client]) -> float:
    """Return the moment when the server was killed."""
    dsn = lab.server.dsn()
    threads = [threading.Thread(target=client.write, args=(dsn,), daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    time.sleep(random.uniform(*LOAD_SECONDS))
    killed = time.monotonic()
    servers.docker("kill", "-s", "KILL", lab.server.name)
    servers.docker("rm", "-fv", lab.server.name)
    for thread in threads:
        thread.join(30)
        if thread.is_alive():
            raise MeasuredFailed("a client has not noticed within 30 s that its server is gone")
    return killed


def compared(clients: list[Client], found: set[tuple[int, int]]) -> Run:
    """What was acknowledged against what is there. torn: missing rows before one of the same client that is there."""
    moments = {(client.number, row): when for client in clients for row, when in client.acknowledged}
    lost = [moments[row] for row in moments.keys() - found]
    broke, begun = min(client.broke for client in clients), min(moments.values())
    torn = 0
    for client in clients:
        there = {row for number, row in found if number == client.number}
        torn += max(there, default=-1) + 1 - len(there)
    return {
        "acknowledged": len(moments),
        "recovered": len(moments.keys() & found),
        "lost": len(lost),
        "span_seconds": round(max(0.0, broke - min(lost)), 4) if lost else 0.0,
        "commits_per_second": round(len(moments) / (broke - begun)),
        "unacknowledged": len(found - moments.keys()),
        "torn": torn,
    }
