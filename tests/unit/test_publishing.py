"""backup-status.sh --html, --metrics and --scheduled: each file is there for whom it is for, and failures are told."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from pgbackup.errors import CannotCreate, ConfigurationError, NoBackup, UsageError
from pgbackup.report.metrics import series
from pgbackup.report.page import page

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def backup_dir(tmp_path: Path) -> Path:
    made = tmp_path / "backups"
    made.mkdir(mode=0o700)
    return made


def status(backup_dir: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the script where nothing was ever backed up, and no Docker answers."""
    environment = {**os.environ, "BACKUP_DIR": str(backup_dir), "DATABASES": "auth", "DOCKER": "/bin/false", **settings}
    return subprocess.run(
        [ROOT / "scripts/backup-status.sh", *words], env=environment, capture_output=True, text=True, check=False
    )


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_page_and_metrics_are_written_where_they_are_asked_for(backup_dir: Path, tmp_path: Path) -> None:
    html, metrics = tmp_path / "page.html", tmp_path / "x.prom"
    done = status(backup_dir, "--html", str(html), "--metrics", str(metrics))
    assert done.returncode == NoBackup.status and done.stdout.startswith("BROKEN")
    assert html.read_text().startswith(page.MARK) and mode(html) == 0o640
    assert metrics.read_text().startswith(series.MARK) and mode(metrics) == 0o644
    assert not list(backup_dir.iterdir()), "who only looks writes nothing else"


def test_a_schedule_writes_them_where_the_settings_say(backup_dir: Path, tmp_path: Path) -> None:
    metrics = tmp_path / "pgbackup.prom"
    assert status(backup_dir, "--scheduled", METRICS_FILE=str(metrics)).returncode == NoBackup.status
    written = backup_dir / "status/index.html"
    assert written.read_text().startswith(page.MARK) and mode(written) == 0o640 and mode(written.parent) & 0o027 == 0
    assert "pgbackup_status_timestamp_seconds" in metrics.read_text()
    elsewhere = tmp_path / "elsewhere.html"
    status(backup_dir, "--scheduled", "--quiet", PAGE_FILE=str(elsewhere))
    assert elsewhere.exists()


def test_what_a_schedule_cannot_write_is_told_and_the_other_file_is_written(backup_dir: Path, tmp_path: Path) -> None:
    metrics = tmp_path / "pgbackup.prom"
    done = status(backup_dir, "--scheduled", METRICS_FILE=str(metrics), PAGE_FILE=str(tmp_path / "missing/page"))
    assert metrics.exists()
    assert f"error: cannot write '{tmp_path}/missing/page'" in done.stderr and "\nHint: make it: mkdir" in done.stderr
    assert done.returncode == NoBackup.status, "a broken promise matters more"


def test_a_file_that_was_asked_for_and_cannot_be_written_fails_the_command(backup_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    done = status(backup_dir, "--html", str(tmp_path / "mine"), "--metrics", str(tmp_path / "x"))
    assert done.returncode == CannotCreate.status and not done.stdout
    assert done.stderr.count("\n") == 2 and "was not written by this script" in done.stderr
    assert (tmp_path / "mine").read_text() == "precious" and (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("words", "settings", "code", "said"),
    [
        (["--history", "--html", "x"], {}, UsageError.status, "--history"),
        (["--metrics"], {}, UsageError.status, "--metrics"),
        ([], {"METRICS_FILE": "/var/lib/x.txt"}, ConfigurationError.status, "ends in .prom"),
        ([], {"METRICS_FILE": "relative.prom"}, ConfigurationError.status, "absolute path"),
        ([], {"PAGE_FILE": "page.html"}, ConfigurationError.status, "absolute path"),
    ],
)
def test_what_makes_no_sense_is_refused(
    backup_dir: Path, words: list[str], settings: dict[str, str], code: int, said: str
) -> None:
    done = status(backup_dir, *words, **settings)
    assert (done.returncode, list(backup_dir.iterdir())) == (code, [])
    assert said in done.stderr
