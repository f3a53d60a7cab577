"""Where everything is measured: one PostgreSQL 15 container with made-up payments, and a temporary directory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "lib")]

from pgbackup.commands.setup import wal_agreement  # noqa: E402  the line above decides where this comes from
from pgbackup.formats import dumpfile, gzipped, manifest, names, sealed  # noqa: E402  likewise
from pgbackup.sql.guarding import guard  # noqa: E402  likewise
from pgbackup.store import folder  # noqa: E402  likewise
from pgbackup.store.state import keys, verified  # noqa: E402  likewise
from pgbackup.store.wal import archive as walarchive  # noqa: E402  likewise
from pgbackup.store.wal import recoverable  # noqa: E402  likewise

from tests.support import archives, copies, elsewhere, engine, images, s3_server, servers, sftp_server  # noqa: E402  likewise

__all__ = [
    "NO_SERVER",
    "ROOT",
    "USER",
    "Scene",
    "archives",
    "built",
    "copies",
    "dumpfile",
    "elsewhere",
    "engine",
    "engine_is_there",
    "folder",
    "guard",
    "gzipped",
    "keys",
    "manifest",
    "missing_tools",
    "names",
    "recoverable",
    "s3_server",
    "sealed",
    "servers",
    "sftp_server",
    "verified",
    "wal_agreement",
    "walarchive",
]
# What says in one sentence that there is nothing to measure with.
NO_SERVER = (images.NoImage, servers.ServerFailed)
PREFIX = "pgbackup-bench-"
USER = "payment_user"
DEMO, BODIES = ROOT / "demo/payment_db.sql", ROOT / "bench/webhook_bodies.sql"
ONE_TABLE = ROOT / "bench/one_table.sql"
# What the commands keep of the caller's environment; settings and PG* of a real installation stay out.
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "DOCKER_HOST")
_LOAD_SECONDS = 3600


@dataclass
class Scene:
    """server: the container; its first database, payment_db, stays empty. place: a directory of ours.

    databases: those filled so far, by their number of payments.
    """

    server: servers.Server
    place: Path
    databases: dict[int, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the peers' command lines, with CONTAINER and PLACE as they use them."""
        kept = {key: os.environ[key] for key in KEPT if key in os.environ}
        return {**kept, "CONTAINER": self.server.name, "PLACE": str(self.place)}

    def settings(self, database: str, folder: Path, client: str) -> dict[str, str]:
        """The environment of our commands for one database, backed up into `folder`.

        Settings that do not matter here are empty: nothing of a real .env may apply.
        """
        chosen = {
            "DATABASES": "payment",
            "BACKUP_DIR": str(folder),
            "BACKUP_MOUNT": "",
            "RETENTION_DAYS": "36500",
            "MIN_BACKUPS": "7",
            "BACKUP_JOBS": "2",
            "DOCKER": "docker",
            "DRILL_AFTER_BACKUP": "no",
            "PAYMENT_CONTAINER": self.server.name,
            "PAYMENT_DATABASE": database,
            "PAYMENT_USER": USER,
            "PAYMENT_DIR": "payment",
            "PAYMENT_CLIENT": client,
            **{f"PAYMENT_{word}": "" for word in ("URL", "PASSFILE", "SERVICES", "HEALTH_URL")},
        }
        if client == "direct":
            chosen["PAYMENT_URL"] = f"postgresql://{USER}@{self.server.address}:5432/{database}"
            chosen["PAYMENT_PASSFILE"] = str(self._passfile())
        return {**self.environment, **chosen}

    def _passfile(self) -> Path:
        path = self.place / "passfile"
        if not path.exists():
            path.touch(0o600)
            path.write_text(f"*:*:*:{USER}:{self.server.password}\n")
        return path

    def folder(self, name: str) -> Path:
        """An empty directory of ours."""
        path = self.place / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
        return path

    def payments(self, rows: int) -> str:
        """The name of a payment database with so many payments, whose webhooks keep what they were sent."""
        if rows not in self.databases:
            self.databases[rows] = self._made(f"payment_db_{rows}", rows, DEMO, BODIES)
        return self.databases[rows]

    def demo_payments(self, rows: int) -> str:
        """The name of a new payment database as the demo has it: gzip makes a fifth of it."""
        return self._made(f"payment_db_demo_{rows}", rows, DEMO)

    def one_table(self, rows: int) -> str:
        """The name of a new database with nine tenths of its data in one table, as large as that many payments."""
        return self._made(f"payment_db_one_{rows}", rows, ONE_TABLE)

    def limit(self, processors: Sequence[int]) -> None:
        """Let the server have those processors only."""
        servers.docker("update", "--cpuset-cpus", ",".join(map(str, processors)), self.server.id)

    def _made(self, name: str, rows: int, *files: Path) -> str:
        self.server.sql(f'CREATE DATABASE "{name}"', "postgres")
        print(f"\nloading {rows:,} payments into '{name}' …", flush=True)
        for file in files:
            self._load(name, rows, file)
        self._settle(name)
        return name

    def _load(self, database: str, rows: int, file: Path) -> None:
        with file.open("rb") as text:
            psql = ["psql", "-X", "-q", "-U", USER, "-d", database, "-v", f"rows={rows}", "-f", "-"]
            subprocess.run(
                ["docker", "exec", "-i", self.server.id, *psql],
                stdin=text,
                stdout=subprocess.DEVNULL,
                timeout=_LOAD_SECONDS,
                check=True,
            )

    def _settle(self, database: str) -> None:
        # So that no autovacuum, hint bit or checkpoint falls into a measurement; and everybody reads from a warm cache.
        for statement in ("VACUUM (ANALYZE)", "CHECKPOINT"):
            self.server.psql("-c", statement, database=database)
        self.server.exec(["sh", "-c", 'pg_dump -U "$0" "$1" >/dev/null', USER, database])

    def drop(self, database: str) -> None:
        """Drop a database, to give its space back."""
        self.server.sql(f'DROP DATABASE "{database}"', "postgres")
        self.databases = {rows: name for rows, name in self.databases.items() if name != database}

    def database_bytes(self, database: str) -> int:
        return int(self.server.sql("SELECT pg_database_size(current_database())", database)[0][0])


@contextmanager
def built(base: Path) -> Iterator[Scene]:
    """Start the server and make the directory beneath `base`; both are gone afterwards, whatever happened."""
    servers.sweep()
    _sweep(base)
    with ExitStack() as stack:
        place = base / f"{PREFIX}{os.getpid()}"
        stack.callback(shutil.rmtree, place, ignore_errors=True)
        place.mkdir(mode=0o700)
        server = stack.enter_context(
            servers.running(
                15,
                name="pgbackup-test-bench-",
                database="payment_db",
                user=USER,
                settings={"max_wal_size": "8GB", "checkpoint_timeout": "1h"},
                shm_size="1g",  # Docker's 64 MB are too few to load gigabytes
            )
        )
        yield Scene(server, place)


def _sweep(base: Path) -> None:
    """Remove the directories of benches that were killed."""
    for path in base.glob(PREFIX + "*"):
        pid = path.name.removeprefix(PREFIX)
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(path, ignore_errors=True)


def engine_is_there() -> bool:
    """Whether tests/support/engine.py, which starts us, has found a Docker engine; if not, it has said so."""
    return os.environ.get(engine.ANSWER, "yes") == "yes"


def missing_tools(packages: Mapping[str, str]) -> dict[str, str]:
    """Given package -> program, install what is missing if that is possible; return package -> why it is not there."""
    left_out = {}
    for package, program in packages.items():
        with suppress(engine.NoEngine):
            engine.install({package: program})
        if not shutil.which(program):
            left_out[package] = f"'{program}' is not installed. Hint: sudo apt-get install {package}"
    return left_out
