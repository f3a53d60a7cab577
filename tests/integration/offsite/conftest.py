"""Fixtures: places elsewhere on the loopback."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import copies, elsewhere, engine, s3_server, sftp_server
from tests.support.copies import Copier
from tests.support.elsewhere import Elsewhere
from tests.support.s3_server import S3Server
from tests.support.sftp_server import SftpServer


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server with a bucket that has versions and object lock; each test has a path of its own in it."""
    with s3_server.running() as server:
        yield server


@pytest.fixture(scope="session")
def sftp() -> Iterator[SftpServer]:
    """An SFTP server, as on a NAS with a shell; each test has a directory of its own on it."""
    try:
        with sftp_server.running() as server:
            yield server
    except engine.NoEngine as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=["s3", "sftp"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Elsewhere:
    """Each kind of place in turn, empty."""
    below = secrets.token_hex(8)
    if request.param == "s3":
        return elsewhere.on_s3(request.getfixturevalue("s3"), tmp_path, below)
    return elsewhere.on_sftp(request.getfixturevalue("sftp"), tmp_path, below)


@pytest.fixture
def host(place: Elsewhere, tmp_path: Path) -> Copier:
    """A host whose copies go to each kind of place in turn."""
    return copies.copier(tmp_path, place)


@pytest.fixture
def disk_host(tmp_path: Path) -> Copier:
    """A host whose copies go to a directory, by rclone as well: for what does not depend on the kind of place."""
    return copies.copier(tmp_path, elsewhere.on_disk(tmp_path))


@pytest.fixture
def s3_host(s3: S3Server, tmp_path: Path) -> Copier:
    """A host whose copies go to S3."""
    return copies.copier(tmp_path, elsewhere.on_s3(s3, tmp_path, secrets.token_hex(8)))
