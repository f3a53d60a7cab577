"""An S3 server of the tests' own, with versions, locks and conditional writes: SeaweedFS, a Python package."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pgbackup.remotes import probe

START_SECONDS = 60  # up to 16 have been seen
BUCKET = "backups"
_HOST_MAY = ("Read", "List", "Write", "GetObjectRetention", "PutObjectRetention")


@dataclass(frozen=True)
class Credential:
    key: str
    secret: str


@dataclass(frozen=True)
class S3Server:
    """endpoint: where it listens. admin: may do all; host: may write in the one bucket, and so delete as well.

    adder: may do what the policy allows that the set-up prints, and nothing else.
    """

    endpoint: str
    admin: Credential
    host: Credential
    adder: Credential
    log: Path

    def section(self, name: str, credential: Credential, endpoint: str = "") -> str:
        """A remote of that name for rclone.conf. endpoint: of a relay in between, if any."""
        return (
            f"[{name}]\ntype = s3\nprovider = Other\nregion = us-east-1\nforce_path_style = true\n"
            f"endpoint = {endpoint or self.endpoint}\n"
            f"access_key_id = {credential.key}\nsecret_access_key = {credential.secret}\n"
        )


def program() -> str:
    return str(Path(sys.executable).with_name("weed"))


@contextmanager
def running() -> Iterator[S3Server]:
    """A server with one bucket that has versions and object lock; afterwards nothing is left of it."""
    home = Path(tempfile.mkdtemp(prefix="pgbackup-s3-"))
    admin, host, adder = (Credential(f"KEY{secrets.token_hex(8)}", secrets.token_hex(16)) for _ in range(3))
    try:
        (home / "data").mkdir()
        (home / "s3.json").write_text(json.dumps(_config(admin, host, adder)))
        ports = _free_ports(8)
        names = ("master.port", "volume.port", "filer.port", "s3.port")
        flags = [f"-{name}={port}" for name, port in zip(names, ports[:4], strict=True)]
        flags += [f"-{name}.grpc={port}" for name, port in zip(names, ports[4:], strict=True)]
        flags += [
            "-filer",
            "-s3",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.config={home / 's3.json'}",
            "-master.telemetry=false",
        ]
        flags += [f"-dir={home / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=1024"]
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [program(), "server", "-volume.max=0", *flags],
                cwd=home,
                env={"PATH": os.environ["PATH"], "HOME": str(home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            server = S3Server(f"http://127.0.0.1:{ports[3]}", admin, host, adder, home / "log")
            _await(server, process)
            _make_bucket(server, home)
            yield server
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for port in ports:  # it has its sockets there, whatever TMPDIR says
                for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                    left.unlink()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _config(admin: Credential, host: Credential, adder: Credential) -> dict[str, object]:
    allowed = "\n".join(line for line in probe.policy(f"s3:{BUCKET}") if line.startswith(("{", "}", " ")))
    policy, _ = json.JSONDecoder().raw_decode(allowed)
    identities = [
        {"name": "admin", **_keys(admin), "actions": ["Admin"]},
        {"name": "host", **_keys(host), "actions": [f"{may}:{BUCKET}" for may in _HOST_MAY]},
        {"name": "adder", **_keys(adder), "policyNames": ["adding"]},
    ]
    return {"identities": identities, "policies": [{"name": "adding", "content": json.dumps(policy)}]}


def _keys(credential: Credential) -> dict[str, object]:
    return {"credentials": [{"accessKey": credential.key, "secretKey": credential.secret}]}


def _free_ports(count: int) -> list[int]:
    """Ports that nobody has; all are held until each is known."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


def _await(server: S3Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(server.endpoint, timeout=5)  # noqa: S310  a port of the loopback
        except urllib.error.HTTPError:
            return  # it answers, and wants a signature
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"the S3 server does not answer: {server.log.read_text(errors='replace')[-2000:]}")


def _make_bucket(server: S3Server, home: Path) -> None:
    config = home / "rclone.conf"
    config.write_text(server.section("admin", server.admin))
    deadline = time.monotonic() + START_SECONDS
    while True:
        make = ["mkdir", f"admin:{BUCKET}", "--s3-bucket-object-lock-enabled", "--config", str(config)]
        made = subprocess.run(
            [str(Path(sys.executable).with_name("rclone")), *make],
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if made.returncode == 0:
            return
        # It listens a little before its parts know each other.
        assert time.monotonic() < deadline, made.stderr
        time.sleep(0.2)
