"""A drill in trouble: killed, disturbed, walled in, without its image or room. It is not green, and leaves nothing."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pgbackup.database.clients.sidecar import INSIDE

from demo import servers as demo_servers
from tests.support import drills, restores, servers
from tests.support.effort import wide
from tests.support.restores import Lab
from tests.support.servers import Server, docker

NIGHTLY = {"DRILL_AFTER_BACKUP": "yes"}


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[Server]:
    """PostgreSQL 15 with auth_db of auth_user."""
    with servers.running(15, name="pgbackup-test-drills-", database="auth_db", user="auth_user") as started:
        yield started


@pytest.mark.fault(165, "drill: a backup of the same database begins")
def test_a_drill_makes_way_for_a_backup(server: Server, tmp_path: Path) -> None:
    lab = restores.in_container(server, tmp_path, "sidecar")
    restores.remade(lab, 300_000)
    lab.backup()
    running = drills.start(lab, "scripts/drill-backups.sh")
    drills.await_container(lab)
    ended = drills.run(lab, "scripts/backup-postgres.sh")
    assert ended.status == 0, ended.stderr
    out, err = running.communicate(timeout=60)
    assert running.returncode == 75, (out, err)
    assert b"not done" in err
    assert b"makes way" in err
    assert drills.nothing_left(lab) == []


@pytest.mark.fault(166, "drill: killed with its container at work")
@wide("way", ["KILL"], ["KILL", "TERM"])
def test_a_drill_that_is_killed_leaves_nothing(server: Server, tmp_path: Path, way: str) -> None:
    lab = restores.in_container(server, tmp_path, "sidecar")
    restores.remade(lab, 50_000)
    lab.backup()
    running = drills.start(lab, "scripts/drill-backups.sh")
    drills.await_container(lab)
    os.killpg(running.pid, signal.Signals[f"SIG{way}"])
    running.communicate(timeout=30)
    assert drills.nothing_left(lab, in_docker=True) == []
    ended = drills.drill(lab)
    assert ended.status == 0, ended.stderr
    assert drills.nothing_left(lab) == []


@pytest.mark.fault(166, "drill: killed with the host's own programs at work")
def test_a_drill_on_the_host_that_is_killed_leaves_nothing_for_long(
    embedded: demo_servers.Server, tmp_path: Path
) -> None:
    lab = restores.direct(embedded, tmp_path)
    restores.remade(lab, 50_000)
    lab.backup()
    scratch = Path(tempfile.mkdtemp())  # pytest's own directories are closed to the server's account
    scratch.chmod(0o711)
    running = drills.start(lab, "scripts/drill-backups.sh", TMPDIR=str(scratch))
    deadline = time.monotonic() + 60
    while not list(scratch.glob("*/data/postmaster.pid")) and time.monotonic() < deadline:
        time.sleep(0.02)
    postmaster = int(next(scratch.glob("*/data/postmaster.pid")).read_text().split()[0])
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate(timeout=30)
    while Path(f"/proc/{postmaster}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{postmaster}").exists()
    assert drills.drill(lab, TMPDIR=str(scratch)).status == 0
    scratch.rmdir()


def test_the_server_of_a_drill_is_walled_in_and_a_second_drill_waits_for_another_time(
    server: Server, tmp_path: Path, expected: Callable[[int, str, int], None], survived: Callable[..., None]
) -> None:
    limits = "the drill's server: no network, no secret, limited memory and processors"
    twice = "drill: another drill of the same database is at work"
    expected(168, limits, 1)
    expected(165, twice, 1)
    lab = restores.in_container(server, tmp_path, "sidecar", DRILL_CPUS="1", RECOVERY_MEGABYTES="512")
    restores.remade(lab, 100_000)
    lab.backup()
    running = drills.start(lab, "scripts/drill-backups.sh")
    try:
        drills.await_container(lab)
        (found,) = json.loads(docker("inspect", *drills.containers(lab)).stdout)
        second = drills.drill(lab, "--json")
    finally:
        out, err = running.communicate(timeout=120)
    assert running.returncode == 0, (out, err)
    host = found["HostConfig"]
    assert (host["NetworkMode"], host["NanoCpus"], host["Memory"]) == ("none", 1_000_000_000, 512 << 20)
    assert host["CpuShares"] < 1024 and host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["PidsLimit"] and not host["PortBindings"] and not host["Privileged"]
    assert found["Config"]["User"].partition(":")[0] not in ("", "0")
    assert [mount["Destination"] for mount in found["Mounts"] if mount["Type"] == "bind"] == [INSIDE]
    live = json.loads(docker("inspect", "--format", "{{json .Mounts}}", server.name).stdout)
    assert not {mount["Source"] for mount in found["Mounts"]} & {mount["Source"] for mount in live}
    assert not any("PASS" in variable for variable in found["Config"]["Env"])
    assert server.password not in json.dumps(found)
    survived(168, limits)
    assert (second.status, drills.told(second)["verdict"]) == (75, "not done"), second.stderr
    survived(165, twice)
    assert drills.nothing_left(lab) == []


@wide("content", ['{"passed": {"'], ['{"passed": {"', '{"version": 99}'])
@pytest.mark.fault(169, "what is known of the drills is damaged, or of a newer version")
def test_what_cannot_be_read_of_drills_is_told_and_left_alone(lab: Lab, content: str) -> None:
    restores.remade(lab, 10)
    lab.backup()
    known = lab.directory / ".auth_db.drills.json"
    known.write_text(content)
    known.chmod(0o600)
    ended = drills.drill(lab, "--json")
    assert ended.status != 0
    assert drills.told(ended)["verdict"] == "not done"
    assert str(known) in ended.stderr
    nightly = drills.run(lab, "scripts/backup-postgres.sh", **NIGHTLY)
    assert nightly.status == 0, nightly.stderr
    assert "was not drilled" in nightly.stderr and str(known) in nightly.stderr
    shown = lab.restore("--list", "--json")
    assert shown.status == 0
    assert [entry["drilled"] for entry in json.loads(shown.stdout)["files"]] == [None, None]
    assert str(known) in shown.stderr
    assert known.read_text() == content
    known.unlink()
    assert drills.drill(lab).status == 0


# A Docker client that lacks something.
LACKS = {
    "the image": ('case "$1 $2" in "image inspect") exit 1 ;; esac', 69, "no longer on this host"),
    "room": (
        'if [ "$1" = run ]; then shift; set -- run --volume "${0%/*}/df:/usr/local/bin/df:ro" "$@"; fi',
        74,
        "too little space on Docker's disk",
    ),
}
_FULL = r"""#!/bin/sh
printf "\nd 9 9 265000 9%% /\n"
"""


@pytest.mark.parametrize("lacks", LACKS)
@pytest.mark.fault(170, "Docker has no longer the image, or no room")
def test_what_cannot_be_done_is_not_green(server: Server, tmp_path: Path, lacks: str) -> None:
    lab = restores.in_container(server, tmp_path, "sidecar")
    restores.remade(lab, 10)
    file = lab.backup()
    stub, status, said = LACKS[lacks]
    client = tmp_path / "docker"
    client.write_text(f'#!/bin/sh\n{stub}\nexec docker "$@"\n')
    (tmp_path / "df").write_text(_FULL)
    for program in (client, tmp_path / "df"):
        program.chmod(0o755)
    absent = {"AUTH_CONTAINER": "absent"} if lacks == "the image" else {}
    ended = drills.drill(lab, "--json", DOCKER=str(client), **absent)
    made = drills.told(ended)
    assert (made["verdict"], ended.status) == ("not done", status), ended.stderr
    assert said in ended.stderr
    assert drills.listed(lab)[0]["drilled"] is None
    assert file.exists()
    assert drills.nothing_left(lab) == []
