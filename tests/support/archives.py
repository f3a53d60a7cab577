"""WAL archiving of a server in a container, with the receiver as a process of the test's own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pgbackup.commands import archiving
from pgbackup.commands.job import Job, identity
from pgbackup.commands.setup import wal_agreement, wal_checks
from pgbackup.database.cluster import replication
from pgbackup.report.progress import Reporter
from pgbackup.settings import config
from pgbackup.store import folder
from pgbackup.store.wal import archive as walarchive
from pgbackup.store.wal import recoverable
from pgbackup.store.wal.recoverable import Archive

from tests.support import servers
from tests.support.servers import Server, docker

ROOT = Path(__file__).resolve().parents[2]
NAME = "payment"
SILENT = Reporter(lambda _text: None, lambda _text: None, None)


@dataclass
class Lab:
    """A server and a BACKUP_DIR. settings: more of the environment. receivers: processes that run."""

    server: Server
    place: Path
    settings: dict[str, str] = field(default_factory=dict)
    receivers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        known = {"BACKUP_DIR": str(self.place), "DATABASES": NAME, "PAYMENT_CONTAINER": self.server.name}
        known |= {"PAYMENT_DIR": "payment", "PAYMENT_DATABASE": self.server.database, "PAYMENT_USER": self.server.user}
        known |= {"PAYMENT_SERVICES": "", "PAYMENT_HEALTH_URL": "", "WAIT_SECONDS": "20", "COMMAND_SECONDS": "30"}
        known |= {"DRILL_AFTER_BACKUP": "no"}  # what is tried here is the archive
        return {**os.environ, **known, **self.settings}

    @property
    def archive_path(self) -> Path:
        return self.place / "pitr" / "payment"

    def run(self, script: str, *arguments: str, seconds: float = 240) -> subprocess.CompletedProcess[str]:
        """Run a script to its end."""
        command = [str(ROOT / "scripts" / script), *arguments]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=seconds, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def signalled(self, number: int, after: float, script: str, *arguments: str) -> int:
        """Start a script, send it a signal after so many seconds, and return its status."""
        with subprocess.Popen(
            [str(ROOT / "scripts" / script), *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            time.sleep(after)  # the moment is what is tried, nothing is waited for
            process.send_signal(number)
            return process.wait(60)

    def restore(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("restore-postgres.sh", NAME, *arguments)

    def window(self) -> dict[str, Any]:
        return dict(json.loads(self.restore("--window", "--json").stdout))

    def log(self) -> str:
        file = self.place / "backup.log"
        return file.read_text() if file.exists() else ""

    @contextmanager
    def job(self) -> Iterator[Job]:
        """What the library works with."""
        known = {key: value for key, value in self.environment.items() if key not in os.environ}
        settings = config.load(known, Path("/nonexistent/.env"), {})
        (target,) = settings.targets
        with folder.opened(self.place, create=True, top=True) as top:
            yield archiving.job_at(settings, target, top, SILENT)

    def agree(self) -> list[str]:
        """Do what setup-wal-archiving.sh does on the server and in BACKUP_DIR; return what it warns of."""
        with self.job() as job, job.client() as ask:
            target = job.target
            server = replication.look(ask, NAME)
            wal_checks.check_server(job, server)
            state, _ = wal_agreement.known(job.settings, target)
            wal_agreement.refuse_others(target, state, server, known=state is not None and state.owner == NAME)
            with walarchive.opened(self.place, "payment", create=True) as places:
                return wal_agreement.agree(job, ask, server, places, state)

    def look(self) -> Archive:
        with walarchive.opened(self.place, "payment", create=False) as places:
            return recoverable.look(places)

    def make_base_old(self, days: float) -> None:
        """Let the newest base backup have ended so many days ago: another one is due then, or it expires."""
        newest = sorted((self.archive_path / "base").glob("[0-9]*"))[-1] / "base.json"
        told = json.loads(newest.read_text())
        told["ended"] = (datetime.fromisoformat(told["ended"]) - timedelta(days=days)).isoformat()
        newest.write_text(json.dumps(told))

    def start(self) -> subprocess.Popen[bytes]:
        """Start a receiver."""
        command = [str(ROOT / "scripts/receive-wal.sh"), NAME]
        with (self.place.parent / "receiver.said").open("ab") as said:
            process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )
        self.receivers.append(process)
        return process

    def said(self) -> str:
        """What the receivers have said."""
        return (self.place.parent / "receiver.said").read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop the receiver that was started last and return its status."""
        process = self.receivers.pop()
        process.send_signal(number)
        return process.wait(30)

    def confirmed(self) -> tuple[str, str]:
        """Up to when, and to which position, all is archived."""
        receiver = self.look().receiver
        if receiver is None or receiver.confirmed_time is None:
            return "", ""
        return receiver.confirmed_time.isoformat(), receiver.confirmed_lsn

    def await_confirmed(self, seconds: float = 60) -> None:
        """Wait until all that is committed now is archived."""
        now = float(self.server.sql("SELECT extract(epoch FROM clock_timestamp())")[0][0])
        self.until(lambda: (found := self.confirmed()[0]) != "" and _instant(found).timestamp() >= now, seconds)

    def await_received(self, seconds: float = 60) -> None:
        """Wait until what is committed now is archived, though nobody has confirmed it."""
        lsn = self.server.sql("SELECT pg_current_wal_lsn()")[0][0]
        there = (
            "SELECT count(*) FROM pg_stat_replication"
            f" WHERE application_name = 'pgbackup_wal_{NAME}' AND write_lsn >= '{lsn}'"
        )
        self.until(lambda: self.server.sql(there) == [(1,)], seconds)

    def await_well(self, seconds: float = 90) -> None:
        """Wait until the archive reaches from a base backup to now."""
        self.until(lambda: bool((archive := self.look()).windows) and not recoverable.broken_off(archive), seconds)

    def until(self, happened: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not happened():
            assert time.monotonic() < deadline, f"not within {seconds} s; {self.said()[-2000:]}\n{self.log()[-2000:]}"
            time.sleep(0.1)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


@contextmanager
def archived(major: int, directory: Path, *, started: bool = True, **options: Any) -> Iterator[Lab]:
    """Give a server of `major` whose WAL is archived below `directory`, with a first base backup if `started`."""
    with ExitStack() as stack:
        known: dict[str, Any] = {"database": "payment_db", "user": "payment_user", "durable": True}
        server = stack.enter_context(servers.running(major, **{**known, **options}))
        lab = Lab(server, directory / "backups")
        stack.callback(_end, lab)
        if started:
            lab.agree()
            lab.start()
            lab.await_well()
        yield lab


def _end(lab: Lab) -> None:
    for process in lab.receivers:
        process.terminate()
    for process in lab.receivers:
        process.wait(30)


def copied(lab: Lab, where: Path) -> Lab:
    """A copy of the archive below `where`, to be damaged: nobody receives into it."""
    shutil.copytree(lab.place, where / "backups", ignore=shutil.ignore_patterns("*.pipes"))
    return Lab(lab.server, where / "backups")


def beside(lab: Lab, *to: str, sql: str = "SELECT count(*) FROM payments") -> list[tuple[Any, ...]]:
    """Recover beside the live database, and return what is answered there."""
    done = lab.restore(*to, "--into", "beside", "--yes")
    assert done.returncode == 0, done.stderr
    try:
        return lab.server.sql(sql, "beside")
    finally:
        lab.server.sql("DROP DATABASE beside")


def rows(lab: Lab, *to: str) -> int:
    """Recover beside the live database, and count the payments."""
    return int(beside(lab, *to)[0][0])


def found(lab: Lab, *said: str, statuses: tuple[int, ...] = (65,)) -> str:
    """Verify, which must end so and say all of this; return what was said."""
    done = lab.run("verify-backups.sh")
    assert done.returncode in statuses, done.stdout + done.stderr
    assert all(text in done.stderr for text in said), done.stderr
    return done.stderr


def leftovers(lab: Lab) -> list[str]:
    """What is there of recoveries and base backups: containers, volumes, hidden files.

    What a receiver has while it runs is no leftover: its FIFOs, and files that are to replace others.
    """
    with lab.job() as job, walarchive.opened(lab.place, "payment", create=False) as places:
        owners = [identity(job.target, part).owner for part in (places.base, folder.Folder(lab.place / "payment", -1))]
        receiver = identity(job.target, places.receiving).owner
    found = []
    for owner in owners:
        found += docker("ps", "-aq", "--filter", f"label=pgbackup.owner={owner}").stdout.split()
        found += docker("volume", "ls", "-q", "--filter", f"label=pgbackup.owner={owner}").stdout.split()
    kept = (".lock", ".drills.json", ".ledger.json", ".verified.json")
    hidden = [str(path) for path in lab.place.rglob(".*") if not path.name.endswith(kept)]
    own = rf"/\.pgbackup-{receiver}-\w+\.pipes$|/\.receiver\.json\.new$|/wal/\.\w+(\.\w+)*\.new$"
    return found + [path for path in hidden if not re.search(own, path)]
