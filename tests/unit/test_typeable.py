"""What a text tells people to type can be typed where they are."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from pgbackup.report.typeable import typeable, with_paths

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path("/opt/it's here/scripts")


@pytest.mark.parametrize(
    ("text", "elsewhere", "beside"),
    [
        (
            "sudo setup-backup-systemd.sh; else sudo setup-backup-cron.sh",
            "sudo /opt/pay/scripts/setup-backup-systemd.sh; else sudo /opt/pay/scripts/setup-backup-cron.sh",
            "sudo scripts/setup-backup-systemd.sh; else sudo scripts/setup-backup-cron.sh",
        ),
        ("see: restore-postgres.sh auth --list", "see: /opt/pay/scripts/restore-postgres.sh auth --list", ""),
        ("verify-backups.sh", "/opt/pay/scripts/verify-backups.sh", "scripts/verify-backups.sh"),
    ],
)
def test_a_script_is_named_with_its_path(text: str, elsewhere: str, beside: str) -> None:
    scripts = Path("/opt/pay/scripts")
    assert with_paths(text, scripts, "/") == elsewhere
    assert not beside or with_paths(text, scripts, "/opt/pay") == beside


@pytest.mark.parametrize(
    "text",
    [
        "/opt/other/scripts/verify-backups.sh auth",
        "scripts/verify-backups.sh auth",
        "verify-backups.sh: auth: nothing",
        "my-backup-postgres.sh",
        "ls -l backup-postgres.sh.old",
        "see: journalctl -u postgres-backup",
    ],
)
def test_what_has_a_path_or_is_no_command_stays(text: str) -> None:
    assert with_paths(text, SCRIPTS, "") == text


def test_a_path_that_needs_quotes_has_them(tmp_path: Path) -> None:
    scripts = tmp_path / "it's here" / "scripts"
    scripts.mkdir(parents=True)
    (scripts / "verify-backups.sh").symlink_to("/bin/echo")
    typed = with_paths("verify-backups.sh auth", scripts, "")
    done = subprocess.run(["sh", "-c", typed], capture_output=True, text=True, check=True)
    assert done.stdout == "auth\n"


def test_every_script_is_known_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for script in (ROOT / "scripts").iterdir():
        assert typeable(f"sudo {script.name} --help") == f"sudo {script} --help"


def test_a_directory_that_is_gone_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert typeable("verify-backups.sh").endswith("/scripts/verify-backups.sh")
