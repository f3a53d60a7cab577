"""Places elsewhere as the tests have them: an S3 server and an SFTP server on the loopback, and a file for rclone."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pgbackup.remotes.rclone import Rclone

from tests.support import engine
from tests.support.s3_server import BUCKET, Credential, S3Server
from tests.support.sftp_server import SftpServer

if TYPE_CHECKING:
    from pgbackup.remotes.place import Place


@dataclass(frozen=True)
class Elsewhere:
    """One place. remote: as in <NAME>_REMOTE; config: rclone's file with the credential of a host in it."""

    kind: str
    remote: str
    config: Path

    @property
    def directory(self) -> Path:
        """Where its objects lie, of a place on disk."""
        return Path(self.remote.partition(":")[2])

    def break_off(self) -> None:
        """Nothing answers at the place any more, until mend()."""
        self.config.with_suffix(".right").write_text(self.config.read_text())
        away = "type = sftp\nhost = 127.0.0.1\nport = 1\nuser = nobody\n"
        self.config.write_text("".join(f"[{name}]\n{away}" for name in ("s3", "nas", "disk")))

    def mend(self) -> None:
        self.config.write_text(self.config.with_suffix(".right").read_text())

    def place(self, program: str = "rclone") -> Place:
        return Rclone(self.remote, self.config, program=program)


def configured(directory: Path, text: str) -> Path:
    """rclone's configuration in that directory, mode 0600."""
    path = directory / "rclone.conf"
    path.touch(0o600)
    path.write_text(text)
    return path


def on_s3(server: S3Server, directory: Path, below: str, credential: Credential | None = None) -> Elsewhere:
    """A place in the bucket, below a path that is the test's own. credential: of the host, if not the usual one."""
    text = server.section("s3", credential or server.host) + server.section("owner", server.admin)
    return Elsewhere("s3", f"s3:{BUCKET}/{below}", configured(directory, text))


def on_sftp(server: SftpServer, directory: Path, below: str) -> Elsewhere:
    return Elsewhere("sftp", f"nas:{below}", configured(directory, server.section("nas")))


def on_disk(directory: Path) -> Elsewhere:
    """A directory that rclone takes for a place: quick, and all that can be looked at there can be seen."""
    below = directory / "disk"
    below.mkdir(mode=0o700)
    return Elsewhere("disk", f"disk:{below}", configured(directory, "[disk]\ntype = local\n"))


def own_rclone() -> Path:
    """The rclone that was installed with the suite."""
    return Path(sys.executable).with_name("rclone")


def debians_rclone() -> Path:
    """The oldest that is supported, Debian 12's; the test is skipped where it cannot be had."""
    try:
        engine.install({"rclone": "rclone"})
    except engine.NoEngine as reason:
        pytest.skip(str(reason))
    path = Path("/usr/bin/rclone")
    if not path.exists():
        pytest.skip("this machine has no rclone of its distribution's")
    return path
