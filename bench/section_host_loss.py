"""What is lost with the whole host, under load: only what lies at a place elsewhere is left. Default settings."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import point_in_time_loss as one_server
from contenders import OURS, Column, Row, Run, Table
from measure import MeasuredFailed
from point_in_time_loss import CLIENTS, DATABASE, MAJOR, Client
from scene import USER, Scene, archives, elsewhere, keys, s3_server, sealed, servers

LOAD_SECONDS = (35.0, 75.0)  # more than OFFSITE_WAL_SECONDS, so that the loss does not depend on the beginning
COLUMNS = [
    Column("acknowledged", "acknowledged", 1, 0),
    Column("of them recovered", "recovered", 1, 0),
    Column("lost", "lost", 1, 0),
    Column("s of commits lost", "span_seconds", 1, 1),
    Column("commits/s", "commits_per_second", 1, 0),
    Column("s to recover", "restore_seconds", 1, 1),
]
ROWS = [("busy", "as many commits as there can be", 0.0), ("calm", "some 20 commits a second", 0.2)]
RESTORE = "restore-postgres.sh payment --from s3 --latest --key FILE --yes --create-roles"


@dataclass(frozen=True)
class Away:
    """The place, and the key that is on no host."""

    where: elsewhere.Elsewhere
    key: Path
    recipients: Path

    def settings(self) -> dict[str, str]:
        return {
            "OFFSITE": "s3",
            "OFFSITE_HOST": "host-a",
            "S3_REMOTE": self.where.remote,
            "RCLONE_CONFIG": str(self.where.config),
            "ENCRYPTION_RECIPIENTS": str(self.recipients),
        }


def measure(scene: Scene, rounds: int) -> Iterator[Table]:
    """Yield one table: a busy database, and one that does not fill a segment in minutes."""
    title = f"Host lost with its disk under {CLIENTS} clients; recovered from S3 alone"
    print(f"\n{title}", flush=True)
    table = Table("host_loss", title, [], {"rounds": rounds}, columns=COLUMNS)
    with s3_server.running() as server:
        for key, label, pause in ROWS:
            row = Row(key, label, OURS, f"kill -9, rm -r BACKUP_DIR; {RESTORE}")
            table.rows.append(row)
            for number in range(rounds):
                try:
                    run = _once(scene, server, f"{key}-{number}", pause)
                except (AssertionError, subprocess.TimeoutExpired) as failed:  # of a Lab that has waited too long
                    raise MeasuredFailed(str(failed)) from None
                row.runs.append(run)
                told = f"{run['acknowledged']:7,} acknowledged {run['recovered']:7,} recovered {run['lost']:5,} lost"
                print(f"  {number + 1}/{rounds}  {label:32} {told} within {run['span_seconds']:.1f} s", flush=True)
            table.facts[f"{key}_longest_span"] = max(run["span_seconds"] for run in row.runs)
            table.facts[f"{key}_torn"] = sum(run["torn"] for run in row.runs)
    table.facts["longest_span"] = max(table.facts[f"{key}_longest_span"] for key, _, _ in ROWS)
    table.facts["notes"] = [
        "Seconds of commits lost: from the first acknowledgement that was lost to the moment when the first client was"
        " cut off. OFFSITE_WAL_SECONDS is 30."
    ]
    yield table


def _away(folder: Path, server: s3_server.S3Server, below: str) -> Away:
    private, public = sealed.new_key()
    made = Away(elsewhere.on_s3(server, folder, below), folder / "key", folder / "recipients")
    made.recipients.write_text(public + "\n")
    keys.write_identity(made.key, private, datetime.now().astimezone())
    return made


def _once(scene: Scene, server: s3_server.S3Server, name: str, pause: float) -> Run:
    """One round, with a host, a place and a server of its own."""
    folder = scene.folder("away")
    away = _away(folder, server, name)
    with one_server.archived(scene, away.settings()) as lab:
        one_server.begin(lab)
        follower = subprocess.Popen(
            [str(archives.ROOT / "scripts/copy-backups.sh"), "--follow", "--quiet"],
            env=lab.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            lab.until(lambda: '"newest": {\n  "' in _told(lab.place / "offsite/s3/base.json"), 120)
            lab.server.sql("CREATE TABLE ledger (client int, number int, PRIMARY KEY (client, number))")
            clients = [Client(number, pause=pause) for number in range(CLIENTS)]
            _written_until_lost(lab, clients, follower)
        finally:
            with suppress(ProcessLookupError):
                follower.kill()
            follower.wait()
        with servers.running(MAJOR, name=lab.server.name, database=DATABASE, user=USER) as lab.server:
            begun = time.monotonic()
            one_server.restored(lab, "--from", "s3", "--latest", "--key", str(away.key), "--create-roles")
            seconds = time.monotonic() - begun
            found = set(lab.server.sql("SELECT client, number FROM ledger"))
    shutil.rmtree(folder)
    return {**one_server.compared(clients, found), "restore_seconds": round(seconds, 2)}


def _told(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _written_until_lost(lab: archives.Lab, clients: list[Client], follower: subprocess.Popen[bytes]) -> None:
    """All of the host goes in one moment: who copies, who receives, the server, and every file."""
    dsn = lab.server.dsn()
    threads = [threading.Thread(target=client.write, args=(dsn,), daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    time.sleep(random.uniform(*LOAD_SECONDS))
    follower.kill()
    lab.stop(signal.SIGKILL)
    servers.docker("kill", "-s", "KILL", lab.server.name)
    servers.docker("rm", "-fv", lab.server.name)
    shutil.rmtree(lab.place, ignore_errors=True)
    lab.place.mkdir(mode=0o700)
    for thread in threads:
        thread.join(30)
        if thread.is_alive():
            raise MeasuredFailed("a client has not noticed within 30 s that its server is gone")
