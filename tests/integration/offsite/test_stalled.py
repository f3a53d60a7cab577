"""A place that takes a connection and never says a word."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import copies, elsewhere

LIMIT_SECONDS = 1


@pytest.mark.fault(189, "a place that accepts and never answers")
@pytest.mark.parametrize("kind", ["s3", "sftp"])
def test_a_place_that_never_answers_is_away_within_a_limit(kind: str, tmp_path: Path) -> None:
    disk = elsewhere.on_disk(tmp_path)
    host = copies.copier(tmp_path, disk)
    (backup,) = host.plant(0)
    right = disk.config.read_text()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # the kernel takes connections, and nobody reads them
        port = silent.getsockname()[1]
        text = {
            "s3": f"type = s3\nprovider = Other\nendpoint = http://127.0.0.1:{port}\naccess_key_id = x\n"
            "secret_access_key = y\n",
            "sftp": f"type = sftp\nhost = 127.0.0.1\nport = {port}\nuser = x\nkey_file = {tmp_path / 'key'}\n",
        }[kind]
        disk.config.write_text(f"[disk]\n{text}")
        begun = time.monotonic()
        ended = host.run(OFFSITE_STALL_SECONDS=str(LIMIT_SECONDS))
        lasted = time.monotonic() - begun
    assert ended.status == 69, ended.stderr
    assert "'disk:" in ended.stderr and "is the line to it up" in ended.stderr
    assert lasted < 60 * LIMIT_SECONDS  # a few tries, and the machine may do something else
    assert host.state()["failures"] == 1
    disk.config.write_text(right)
    assert host.run("--now").status == 0
    assert not host.problems([backup])
