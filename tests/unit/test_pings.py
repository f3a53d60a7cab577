"""The dead man's pings: success only after the proof, and never a run that waits for them or fails by them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from pgbackup.cli.options import Command
from pgbackup.cli.pinged import pinged
from pgbackup.errors import BackupBad, Interrupted
from pgbackup.report.alarms import pings
from pgbackup.report.result import Result, document
from pgbackup.settings import config
from pgbackup.settings.config import Settings

from tests.support import alarm_servers
from tests.support.alarm_servers import Hook

SECRET = "6f2c1b7e-0000-4711"
FAULT = "a ping that is slow, dead, answers 500 or redirects"


@pytest.fixture
def hook() -> Iterator[Hook]:
    with alarm_servers.hook() as made:
        yield made


@pytest.fixture
def settings(hook: Hook, tmp_path: Path) -> Settings:
    file = tmp_path / "alerts"
    runs = ("backup", "backup/auth", "backup/payment", "verify")
    file.write_text("".join(f"ping {run} http://{hook.host}/{SECRET}/{run.replace('/', '-')}\n" for run in runs))
    file.chmod(0o600)
    return config.load({"ALERTS_CONFIG": str(file)}, tmp_path / "absent", {})


def backup(*statuses: int) -> Command:
    parts = [{"target": name, "status": one} for name, one in zip(("auth", "payment"), statuses, strict=True)]
    return lambda: Result(max(statuses), [], document("backup", max(statuses), databases=parts))


def ends(hook: Hook) -> dict[str, str]:
    """What was heard of each run at last: "" for success."""
    found = {}
    for path in hook.paths:
        _, _, name, *ending = path.split("/")
        found[name] = ending[0] if ending else ""
    return found


def test_start_end_and_what_failed_are_heard_with_the_runs_id(hook: Hook, settings: Settings) -> None:
    assert pinged("backup", settings, backup(0, 69), ["auth", "payment"], whole=True)().status == 69
    assert ends(hook) == {"backup": "69", "backup-auth": "", "backup-payment": "69"}
    assert [path for path in hook.paths if path.endswith("/start")] == hook.paths[:3]
    ids = {parse_qs(urlsplit(one.path).query)["rid"][0] for one in hook.came}
    assert len(ids) == 1 and len(ids.pop()) == 36
    assert hook.came[-1].body.startswith("exit status 69 after 0 s: the server, its container")
    assert hook.came[4].body == "done in 0 s"


def test_success_is_heard_only_after_the_proof(hook: Hook, settings: Settings) -> None:
    def work() -> Result:
        deadline = time.monotonic() + 10
        while not hook.came and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ends(hook) == {"verify": "start"}, "the start is heard while it works, and nothing else"
        return Result(0, [], {})

    pinged("verify", settings, work, whole=True)()
    assert ends(hook) == {"verify": ""}


@pytest.mark.parametrize(("error", "status"), [(BackupBad("x"), "65"), (Interrupted(15), "143"), (KeyError("x"), "70")])
def test_a_run_without_a_result_is_a_failure(hook: Hook, settings: Settings, error: Exception, status: str) -> None:
    def work() -> Result:
        raise error

    with pytest.raises(type(error)):
        pinged("verify", settings, work, whole=True)()
    assert ends(hook) == {"verify": status}


def test_a_run_of_some_databases_is_not_the_run(hook: Hook, settings: Settings) -> None:
    part = Result(0, [], document("backup", 0, databases=[{"target": "auth", "status": 0}]))
    pinged("backup", settings, lambda: part, ["auth"], whole=False)()
    assert ends(hook) == {"backup-auth": ""}


def test_beside_another_run_it_is_that_one_which_ends(hook: Hook, settings: Settings) -> None:
    pinged("backup", settings, backup(0, 75), ["auth", "payment"], whole=True)()
    assert ends(hook) == {"backup": "start", "backup-auth": "", "backup-payment": "start"}


@pytest.mark.fault(231, FAULT)
@pytest.mark.parametrize("behave", ["slow", "drips", "500", "cut"])
def test_a_ping_that_is_not_heard_neither_delays_nor_fails_a_run(
    hook: Hook, settings: Settings, behave: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who waited for a ping before the work, or for longer than the limit after it, would wait for a minute."""
    monkeypatch.setattr(pings, "SECONDS", 60.0)
    hook.behave = behave
    begun = time.monotonic()

    def work() -> Result:
        monkeypatch.setattr(pings, "SECONDS", 1.0)
        return Result(0, [], {})

    assert pinged("verify", settings, work, whole=True)().status == 0
    assert time.monotonic() - begun < 30
    said = capsys.readouterr().err
    assert "warning: the ping of 'verify' was not heard: " in said and SECRET not in said
    hook.over.set()


@pytest.mark.fault(231, FAULT)
def test_no_other_host_hears_of_a_ping(hook: Hook, settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    with alarm_servers.hook() as other:
        hook.behave = f"http://{other.host}/{SECRET}"
        assert pinged("verify", settings, lambda: Result(0, [], {}), whole=True)().status == 0
        assert hook.came and not other.came
    assert "HTTP 307" in capsys.readouterr().err


@pytest.mark.fault(231, FAULT)
@pytest.mark.parametrize("spoil", [lambda file: file.chmod(0o644), lambda file: file.write_text("nonsense")])
def test_a_file_of_channels_that_cannot_be_used_stops_no_run(
    settings: Settings, spoil: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(settings.alerts_config)
    assert pinged("verify", settings, lambda: Result(0, [], {}), whole=True)().status == 0
    assert "warning: nobody is pinged: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "ending", "made"),
    [
        ("https://hc.example.org/u", "", "https://hc.example.org/u?rid=R"),
        ("https://hc.example.org/u/", "start", "https://hc.example.org/u/start?rid=R"),
        ("https://hc.example.org/key/slug?create=1", "65", "https://hc.example.org/key/slug/65?create=1&rid=R"),
    ],
)
def test_an_address_is_as_the_protocol_has_it(url: str, ending: str, made: str) -> None:
    assert pings.address(url, ending, "R") == made
