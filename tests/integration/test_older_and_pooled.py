"""Programs that are newer than the server, and a pooler between: what works, and what is said before anything stops."""

from __future__ import annotations

import gzip
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import engine as docker_engine
from tests.support import images, restores, runs, servers
from tests.support.restores import Lab
from tests.support.runs import soon
from tests.support.servers import Server

PORT = 16432


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[Server]:
    with servers.running(15, name="pgbackup-test-older-", database="shop", user="shop") as started:
        yield started


@contextmanager
def direct(server: Server, path: Path, port: int = 0) -> Iterator[Lab]:
    """A lab for the direct client with the programs of 18. port: of a pooler on this host."""
    with runs.passfile(server) as file:
        where = f"127.0.0.1:{port}" if port else f"{server.address}:5432"
        values = {"CLIENT": "direct", "URL": f"postgresql://shop@{where}/shop", "PASSFILE": file}
        programs = str(images.wheel_tree(18) / "bin")
        lab = restores.in_container(server, path, **{f"AUTH_{key}": value for key, value in values.items()})
        lab.place.environment["PATH"] = f"{programs}:{lab.place.environment['PATH']}"
        yield lab


@pytest.mark.fault(126, "a dump by a newer pg_dump, into the older server")
def test_a_newer_pg_dumps_backup_goes_into_the_older_server(server: Server, tmp_path: Path) -> None:
    with direct(server, tmp_path) as lab:
        file, new, _ = lab.reset(20)
        lab.sql("CREATE TABLE told AS SELECT 'SET transaction_timeout = 0;' AS it", "shop")
        assert b"SET transaction_timeout = 0;" in restores.plain(gzip.decompress(file.read_bytes()))
        ended = lab.restore("--yes", file.name)
        assert ended.status == 0, ended.stderr
        assert lab.content() == new
        assert lab.restore("--yes", "--drop-old").status == 0
        by_hand = lab.directory / "shop_manual_20240101_000000.sql.gz"
        text = restores.plain(gzip.decompress(file.read_bytes()))
        by_hand.write_bytes(gzip.compress(text))
        within = restores.in_container(server, tmp_path, "sidecar")
        ended = within.restore("--yes", "--into", "copy", str(by_hand))
        assert ended.status == 0, ended.stderr
        assert lab.content("copy") == new
        lab.sql("DROP DATABASE copy")


@contextmanager
def pooler(server: Server, mode: str, *settings: str) -> Iterator[None]:
    """PgBouncer in front of the server."""
    docker_engine.install({"pgbouncer": "pgbouncer"})
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        path.chmod(0o755)
        lines = ["[databases]", f"* = host={server.address} port=5432 user=shop password={server.password}"]
        lines += ["[pgbouncer]", "listen_addr = 127.0.0.1", f"listen_port = {PORT}", "unix_socket_dir ="]
        lines += ["auth_type = any", f"pool_mode = {mode}", *settings]
        (path / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
        account = "nobody" if os.geteuid() == 0 else None
        with subprocess.Popen(
            ["pgbouncer", "-q", path / "pgbouncer.ini"], stderr=subprocess.PIPE, user=account
        ) as running:
            try:
                ready = ["psql", "-h", "127.0.0.1", "-p", str(PORT), "-U", "shop", "-d", "shop", "-c", "SELECT 1"]
                program = str(images.wheel_tree(18) / "bin" / "psql")
                assert soon(
                    lambda: subprocess.run([program, *ready[1:]], capture_output=True, check=False).returncode == 0, 20
                )
                yield
            finally:
                running.terminate()


@pytest.mark.fault(127, "a connection pooler instead of the server")
@pytest.mark.parametrize(
    ("mode", "settings"),
    [("session", ()), ("transaction", ()), ("session", ("ignore_startup_parameters = options",))],
)
def test_through_a_pooler_is_backed_up_and_a_restore_refused_before_anything(
    server: Server, tmp_path: Path, mode: str, settings: tuple[str, ...]
) -> None:
    with pooler(server, mode, *settings), direct(server, tmp_path, PORT) as lab:
        restores.remade(lab, 20)
        ended = lab.place.run(lab.source.name)
        assert ended.status == 0, ended.stderr
        assert "pooler" in ended.stderr
        dry = lab.restore("--dry-run", "shop_LATEST.sql.gz")
        assert dry.status == 78, dry.stderr
        assert "the server's own port" in dry.stderr
