"""test-alarms.sh: what is broken in a throwaway set-up comes out of the real channels, or it is said that not."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from pgbackup.commands.sabotage import run, sabotages
from pgbackup.commands.sabotage.world import World
from pgbackup.report.alarms import notify, remembered
from pgbackup.settings import config
from pgbackup.settings.config import Settings
from pgbackup.store import lock

from tests.support import alarm_servers, images
from tests.support.alarm_servers import Hook, Post
from tests.support.databases import embedded_programs
from tests.support.effort import chosen, only_in_full
from tests.support.servers import docker

ROOT = Path(__file__).resolve().parents[2]
FAULT = "each sabotage of a throwaway set-up"
SHORT = tuple(one for one in sabotages.ALL if "cut" in one.what or "WAL" in one.what)


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    with alarm_servers.hook() as made:
        yield made


@pytest.fixture(scope="module")
def post() -> Iterator[Post]:
    with alarm_servers.post() as made:
        yield made


@pytest.fixture
def environment(engine: str, tmp_path: Path, hook: Hook, post: Post) -> Iterator[dict[str, str]]:
    """A host whose database's container is there and does not run, with web hook, mailbox, ping and no backups."""
    name = f"pgbackup-test-sabotage-{os.getpid()}"
    docker("create", "--name", name, images.ensure(15))
    hook.came.clear()
    post.mails.clear()
    for part in ("backups", "state"):
        (tmp_path / part).mkdir(mode=0o700)
    file = tmp_path / "alerts"
    file.touch(0o600)
    file.write_text(f"json://{hook.host}/hook\n{post.url('x')}\nping backup http://{hook.host}/ping\n")
    yield {
        **{key: os.environ[key] for key in ("PATH", "HOME", "DOCKER_HOST") if key in os.environ},
        "BACKUP_DIR": str(tmp_path / "backups"),
        "DATABASES": "auth",
        "AUTH_CONTAINER": name,
        "ALERTS_CONFIG": str(file),
        "ALERTS_STATE": str(tmp_path / "state"),
    }
    docker("rm", "-f", name)


def settings_of(environment: dict[str, str], tmp_path: Path) -> Settings:
    return config.load(environment, tmp_path / "absent", {})


def date(known: Settings) -> datetime | None:
    return remembered.look(known.alerts_state, known.backup_dir).tested


def left() -> list[str]:
    """Containers and directories that should be gone."""
    there = docker("ps", "-aq", "--filter", "label=pgbackup.test-alarms").stdout.split()
    return there + [str(path) for path in Path("/tmp").glob("pgbackup-test-alarms-*")]


@pytest.mark.wide
def test_each_sabotage_comes_out_of_the_channels_as_an_alarm_and_as_a_recovery(
    environment: dict[str, str],
    tmp_path: Path,
    hook: Hook,
    post: Post,
    monkeypatch: pytest.MonkeyPatch,
    expected: Callable[[int, str, int], None],
    survived: Callable[..., None],
) -> None:
    wanted = chosen(SHORT, sabotages.ALL)
    monkeypatch.setattr(sabotages, "ALL", wanted)
    expected(232, FAULT, len(wanted))
    known = settings_of(environment, tmp_path)
    made = run.run(known, ROOT, quiet=True)
    assert made.status == 0, made.document
    assert [one["sabotage"] for one in made.document["sabotages"]] == [one.what for one in wanted]
    assert len(hook.came) == len(post.mails) == 2 * len(wanted), "and nobody was pinged"
    for number in range(len(wanted)):
        alarm, recovery = (json.loads(one.body)["title"] for one in hook.came[2 * number : 2 * number + 2])
        assert ": BROKEN: " in alarm and ": kept again: " in recovery
        assert alarm.startswith("TEST of alarms, nothing is wrong:")
        survived(232, FAULT)
    assert date(known)
    assert left() == [] and list((tmp_path / "backups").iterdir()) == []


def test_without_a_container_the_hosts_own_programs_are_the_server(
    environment: dict[str, str], tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = chosen(tuple(one for one in sabotages.ALL if "drill" in one.what), sabotages.ALL)
    monkeypatch.setattr(sabotages, "ALL", wanted)
    path = f"{embedded_programs(18)}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    del environment["AUTH_CONTAINER"]
    made = run.run(
        settings_of(environment | {"PATH": path, "AUTH_URL": "postgresql://app@127.0.0.1:1/app"}, tmp_path),
        ROOT,
        quiet=True,
    )
    assert made.status == 0, made.document
    assert len(hook.came) == 2 * len(wanted)
    assert left() == [] and list((tmp_path / "backups").iterdir()) == []


@only_in_full
@pytest.mark.fault(232, FAULT)
def test_what_a_channel_does_not_take_is_said_and_no_date_is_kept(
    environment: dict[str, str], tmp_path: Path, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sabotages, "ALL", SHORT[:1])
    post.behave = "554 no"
    try:
        known = settings_of(environment, tmp_path)
        made = run.run(known, ROOT, quiet=True)
    finally:
        post.behave = "ok"
    assert made.status == 69 and "failed" in made.document["sabotages"][0]["alarm"]
    assert date(known) == "" and left() == []


@only_in_full
@pytest.mark.fault(232, FAULT)
def test_a_promise_that_does_not_break_is_said(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checker itself: a sabotage that does nothing."""

    def nothing(_world: World) -> None:
        pass

    idle = sabotages.Sabotage("nothing", SHORT[0].key, nothing, nothing)
    monkeypatch.setattr(sabotages, "ALL", (idle,))
    made = run.run(settings_of(environment, tmp_path), ROOT, quiet=True)
    assert made.status == 69 and "is not broken" in made.document["sabotages"][0]["alarm"]


def test_without_a_channel_or_beside_another_one_nothing_is_begun(environment: dict[str, str], tmp_path: Path) -> None:
    script = [str(ROOT / "scripts" / "test-alarms.sh"), "--json"]
    none = {**environment, "ALERTS_CONFIG": "/nonexistent"}
    done = subprocess.run(script, env=none, capture_output=True, text=True, check=False)
    assert done.returncode == 78 and "no channel" in json.loads(done.stdout)["error"]
    known = settings_of(environment, tmp_path)
    with notify.memory(known.alerts_state, known.backup_dir) as memory, lock.held(memory, run._LOCK):
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 75 and left() == []
