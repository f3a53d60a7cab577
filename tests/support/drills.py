"""Runs drill-backups.sh, and looks for what its throwaway server leaves behind."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from typing import Any

from pgbackup.database.clients.sidecar import LABEL

from tests.support import backups, promises
from tests.support.restores import Lab
from tests.support.servers import docker

# pg_dump writes it down, and no psql can load it: the function finds its helper by the path of those who use it.
CANNOT_BE_LOADED = """
CREATE FUNCTION helper(int) RETURNS bool LANGUAGE sql AS 'SELECT $1 > 0';
CREATE FUNCTION fits(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN helper($1); END';
CREATE TABLE prices (cents int CHECK (fits(cents)));
INSERT INTO prices VALUES (995)
"""


def drill(lab: Lab, *arguments: str, **environment: str) -> backups.Ended:
    return run(lab, "scripts/drill-backups.sh", *arguments, **environment)


def run(lab: Lab, script: str, *arguments: str, **environment: str) -> backups.Ended:
    before = len(lab.place.log())
    return lab.place.end(start(lab, script, *arguments, **environment), seconds=300, before=before)


def start(lab: Lab, script: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [str(lab.place.root / script), *arguments],
        env={**lab.place.environment, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def told(ended: backups.Ended) -> dict[str, Any]:
    """The document of a drill of one database."""
    (made,) = json.loads(ended.stdout)["drills"]
    return dict(made)


def listed(lab: Lab) -> list[dict[str, Any]]:
    ended = lab.restore("--list", "--json")
    return list(json.loads(ended.stdout)["files"])


def nothing_left(lab: Lab, *, in_docker: bool = False) -> list[str]:
    """What is left behind, given a while to end. in_docker: what is there only."""
    deadline = time.monotonic() + promises.SETTLE_SECONDS
    while (found := _left(lab, in_docker)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def _left(lab: Lab, in_docker: bool) -> list[str]:
    found = containers(lab) + _of(lab, "volume", "ls") if lab.server else []
    return found if in_docker else found + promises.leftovers(lab.place)


def await_container(lab: Lab) -> None:
    deadline = time.monotonic() + 60
    while not containers(lab):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def containers(lab: Lab) -> list[str]:
    """The throwaway servers of drills that run now, by their ids."""
    return _of(lab, "ps", "--all")


def _of(lab: Lab, *listing: str) -> list[str]:
    """What Docker has of the drills of this database: they go by another name than its other runs."""
    where = f"{lab.directory.resolve()}\0{lab.database}\0drill"
    owner = hashlib.sha256(where.encode()).hexdigest()[:16]
    return docker(*listing, "--quiet", "--filter", f"label={LABEL}={owner}").stdout.split()
