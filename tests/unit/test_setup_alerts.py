"""setup-alerts.sh and what its schedule runs: channels are kept for one account, tried out, and told of what breaks."""

from __future__ import annotations

import json
import os
import pty
import select
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import pytest
from pgbackup import proc
from pgbackup.commands.setup import alerts, frame
from pgbackup.commands.setup.options import Options
from pgbackup.errors import CannotCreate, ConfigurationError, UsageError
from pgbackup.host.scheduling import crontab, systemctl
from pgbackup.report.result import Result
from pgbackup.settings import config

from tests.support import alarm_servers, backup_files
from tests.support.alarm_servers import Hook

ROOT = Path(__file__).resolve().parents[2]
SECRET = "s3cr3t-T0ken-4711"
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root lets another account tell")


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    with alarm_servers.hook() as made:
        yield made


@dataclass
class Place:
    """A host without systemd: its directory, its crontabs, the environment of what runs there, its web hook."""

    path: Path
    hook: Hook
    crontabs: dict[str, str]
    environment: dict[str, str]

    @property
    def config(self) -> Path:
        return self.path / "etc" / "alerts"

    def set_up(self, *lines: str, dry_run: bool = False, file: str | None = "given") -> Result:
        given = self.path / "given"
        given.write_text("\n".join(lines))
        known = config.load(self.environment, self.path / "absent", {})
        return alerts.set_up(known, ROOT, Options("root", None, dry_run), str(given) if file == "given" else file)

    def run(self, script: str, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [str(ROOT / "scripts" / script), *words]
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=False)


@pytest.fixture
def place(tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch) -> Place:
    hook.behave = "ok"
    hook.came.clear()
    crontabs: dict[str, str] = {}
    for name in ("run", "backups", "backups/postgres-a"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setattr(frame, "_DIRECTORY", tmp_path / "run")
    monkeypatch.setattr(systemctl, "running", lambda: False)
    monkeypatch.setattr(crontab, "installed", lambda: True)
    monkeypatch.setattr(crontab, "read", lambda user: crontabs.get(user, ""))
    monkeypatch.setattr(crontab, "write", crontabs.__setitem__)
    monkeypatch.setattr(crontab, "holders", lambda _script, _argument: {})
    environment = {
        "PATH": os.environ["PATH"],
        "BACKUP_DIR": str(tmp_path / "backups"),
        "DATABASES": "auth",
        "ALERTS_CONFIG": str(tmp_path / "etc" / "alerts"),
        "ALERTS_STATE": str(tmp_path / "state"),
        "DOCKER_HOST": f"unix://{tmp_path}/absent",
        "COMMAND_SECONDS": "2",
    }
    clean: Callable[..., dict[str, str]] = proc.environment
    # The settings for the test as well, which starts with a clean environment: as if they stood in `.env`.
    monkeypatch.setattr(proc, "environment", lambda *given, **more: {**clean(*given, **more), **environment})
    return Place(tmp_path, hook, crontabs, environment)


@ROOT_ONLY
def test_the_channels_are_kept_for_one_account_tried_out_and_told_by_cron(place: Place) -> None:
    line = f"json://{place.hook.host}/{SECRET}"
    made = place.set_up(
        line, f"ping status http://{place.hook.host}/{SECRET}", "ping backup/auth https://hc.example.org/1"
    )
    assert made.status == 0
    assert "json (line 1): a test was taken; look whether it is there" in made.lines
    assert any(told.split() == ["backup/auth", "1", "day", "2", "hours"] for told in made.lines)
    assert SECRET not in f"{made.lines}{made.document}"
    (came,) = place.hook.came
    assert "a test of the alarms" in came.body
    status = place.config.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, 0)
    assert place.config.read_text().startswith(f"{line}\nping status ")
    (job,) = place.crontabs["root"].splitlines()
    assert job.startswith("*/4 * * * * BACKUP_DIR=") and job.endswith("scripts/backup-status.sh --scheduled -q")
    assert place.set_up(file=None).status == 0
    assert place.crontabs["root"].splitlines() == [job], "once"
    assert [entry.name for entry in place.config.parent.iterdir()] == ["alerts"]
    assert alerts.take_down(ROOT, Options("root", None, dry_run=False)).status == 0
    assert place.crontabs["root"] == "" and place.config.exists()


@ROOT_ONLY
def test_a_channel_that_does_not_work_is_told_though_the_set_up_is_done(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.hook.behave = "500"
    with alarm_servers.hook() as other:
        made = place.set_up(f"json://{other.host}/x", f"json://{place.hook.host}/{SECRET}")
    said = capsys.readouterr().err
    assert made.status == 69
    assert "this is done, but an alarm would fail now (69): json (line 2): " in said and "error=500" in said
    assert SECRET not in said and "json (line 1): a test was taken" in made.lines[0]
    assert "backup-status.sh" in place.crontabs["root"]
    place.hook.behave = "ok"
    again = place.run("setup-alerts.sh", "--test", "--json")
    told = json.loads(again.stdout)
    assert again.returncode == 69 and [one["arrived"] for one in told["channels"]] == [False, True]


@ROOT_ONLY
def test_what_is_wrong_is_refused_before_anything_is_changed(place: Place) -> None:
    for lines in ([SECRET], ["ping backup https://hc.example.org/1"], [f"ping {SECRET} https://x.org"]):
        with pytest.raises(ConfigurationError) as caught:
            place.set_up(*lines)
        assert SECRET not in f"{caught.value.message}{caught.value.hint}"
    with pytest.raises(ConfigurationError, match="cannot be read"):
        place.set_up(file="/no/such/file")
    with pytest.raises(UsageError, match="no terminal"):
        place.set_up(file=None)
    assert place.crontabs == {} and not place.config.exists() and not (place.path / "state").exists()


@ROOT_ONLY
def test_a_dry_run_changes_and_sends_nothing(place: Place) -> None:
    made = place.set_up(f"json://{place.hook.host}/{SECRET}", dry_run=True)
    assert made.status == 0 and "+*/4 * * * *" in "\n".join(made.lines) and SECRET not in f"{made.lines}{made.document}"
    assert place.crontabs == {} and not place.config.exists() and not place.hook.came


_ASKING = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
from pgbackup.commands.setup import alerts
print("TEXT:", alerts._asked(None, Path("/etc/pgbackup/alerts")))
"""


def test_on_a_terminal_it_asks_for_one_after_the_other() -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-c", _ASKING, str(ROOT / "lib")])
    os.write(terminal, b"nonsense\njson://hook.example.org/x\nping backup https://hc.example.org/1\n\n")
    shown, deadline = b"", time.monotonic() + 30
    while time.monotonic() < deadline and select.select([terminal], [], [], 30)[0]:
        try:
            shown += os.read(terminal, 4096)
        except OSError:  # its last program has ended
            break
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, shown
    os.close(terminal)
    text = shown.decode()
    assert "not taken: " in text and "neither a URL of Apprise nor a ping" in text
    assert "\njson://hook.example.org/x\r\nping backup https://hc.example.org/1\r\n" in text.partition("TEXT:")[2]


@ROOT_ONLY
def test_a_promise_that_breaks_is_told_once_and_pinged_and_one_that_is_kept_again(place: Place) -> None:
    place.set_up(f"json://{place.hook.host}/hook", f"ping status http://{place.hook.host}/ping")
    place.hook.came.clear()
    for _ in range(2):
        done = place.run("backup-status.sh", "--scheduled", "-q")
        assert (done.returncode, done.stdout) == (66, ""), done.stderr
    alarms = [one.body for one in place.hook.came if one.path == "/hook"]
    assert len(alarms) == 1 and "backup made (auth)" in alarms[0] and "backup-postgres.sh auth" in alarms[0]
    assert place.hook.paths.count("/ping/start") == 2 and place.hook.paths.count("/ping/66") == 2
    now = datetime.now(timezone.utc).replace(microsecond=0)
    data = backup_files.contents(backup_files.dump(backup_files.USERS), now, backup_files.DATABASE)
    backup_files.place(place.path / "backups/postgres-a", now, data=data, database=backup_files.DATABASE)
    place.run("backup-status.sh", "--scheduled", "-q")
    again = [one.body for one in place.hook.came if one.path == "/hook"][1:]
    assert len(again) == 1 and "KEPT AGAIN\\n- backup made (auth)" in again[0]
    log = (place.path / "backups/backup.log").read_text()
    assert log.count("event=alarm.made level=broken") == 1


@ROOT_ONLY
def test_a_disk_of_backups_that_is_gone_is_told(place: Place) -> None:
    place.set_up(f"json://{place.hook.host}/hook")
    place.run("backup-status.sh", "--scheduled", "-q")
    place.hook.came.clear()
    (place.path / "backups").rename(place.path / "unmounted")
    for _ in range(2):
        assert place.run("backup-status.sh", "--scheduled", "-q").returncode == 66
    (came,) = place.hook.came
    assert "room for three backups" in came.body


@ROOT_ONLY
def test_where_prometheus_tells_no_channel_is_needed_and_its_directory_is_opened(place: Place) -> None:
    metrics = place.path / "collected" / "pgbackup.prom"
    place.environment["METRICS_FILE"] = str(metrics)
    made = place.set_up(file=None)
    assert made.status == 0 and place.hook.came == []
    assert made.lines[0] == f"made '{metrics.parent}'"
    assert f"there is no channel; '{metrics}' tells Prometheus every four minutes:" in made.lines
    assert place.crontabs["root"].endswith("--scheduled -q\n")
    assert place.run("backup-status.sh", "--scheduled", "-q").returncode == 66
    assert "pgbackup_promise_kept" in metrics.read_text() and stat.S_IMODE(metrics.stat().st_mode) == 0o644
    assert (place.path / "backups/status/index.html").exists()


@ROOT_ONLY
def test_a_directory_of_others_is_not_opened_for_metrics_and_nothing_is_changed(place: Place) -> None:
    os.chown(place.path, 12345, 12345)
    place.path.chmod(0o755)
    place.environment["METRICS_FILE"] = str(place.path / "pgbackup.prom")
    known = config.load(place.environment, place.path / "absent", {})
    with pytest.raises(CannotCreate, match="METRICS_FILE"):
        alerts.set_up(known, ROOT, Options("nobody", None, False), None)
    assert place.crontabs == {} and not place.config.exists()
