"""An SFTP server of the tests' own: OpenSSH's, on the loopback, for one key."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support import engine

START_SECONDS = 20


@dataclass(frozen=True)
class SftpServer:
    """home: where a login begins, and where all that it holds lies."""

    port: int
    home: Path
    key: Path
    known_hosts: Path

    def section(self, name: str, port: int = 0, key: Path | None = None) -> str:
        """A remote of that name for rclone.conf. port: of a relay in between, if any."""
        if port:
            first = self.known_hosts.read_text().splitlines()[0]
            with self.known_hosts.open("a") as known:
                known.write(first.replace(f":{self.port} ", f":{port} ") + "\n")
        return (
            f"[{name}]\ntype = sftp\nhost = 127.0.0.1\nport = {port or self.port}\nuser = {getpass.getuser()}\n"
            f"key_file = {key or self.key}\nknown_hosts_file = {self.known_hosts}\n"
        )


@contextmanager
def running(*, shell: bool = True) -> Iterator[SftpServer]:
    """A server that is gone afterwards, with all that it held. shell: false: it computes no hashes for rclone."""
    engine.install({"openssh-server": "sshd"})
    place = Path(tempfile.mkdtemp(prefix="pgbackup-sftp-"))
    try:
        home = place / "home"
        home.mkdir()
        for name in ("host_key", "user_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(place / name)], check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        _configure(place, home, port, shell)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd's own, which a service would make
        process = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", str(place / "sshd_config"), "-E", str(place / "log")])
        try:
            _await(port, process, place / "log")
            yield SftpServer(port, home, place / "user_key", place / "known_hosts")
        finally:
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _configure(place: Path, home: Path, port: int, shell: bool) -> None:
    (place / "authorized_keys").write_text((place / "user_key.pub").read_text())
    host_key = " ".join((place / "host_key.pub").read_text().split()[:2])
    (place / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {place / 'host_key'}",
        f"AuthorizedKeysFile {place / 'authorized_keys'}",
        "StrictModes no",
        "UsePAM no",
        "PidFile none",
        "PasswordAuthentication no",
        "PermitRootLogin prohibit-password",
        f"Subsystem sftp internal-sftp -d {home}",
        *([] if shell else [f"ForceCommand internal-sftp -d {home}"]),
    ]
    (place / "sshd_config").write_text("\n".join(lines) + "\n")


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"sshd does not answer: {log.read_text(errors='replace') if log.exists() else ''}")
