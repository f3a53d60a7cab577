"""verify-backups.sh on directories of all kinds: what it says of each file, and its exit status."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pgbackup.formats import names

from tests.support import backup_files
from tests.support.backup_files import DATABASE

ROOT = Path(__file__).resolve().parents[2]
HOUR = timedelta(hours=1)
Verify = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def top() -> Iterator[Path]:
    """BACKUP_DIR with one directory in it, reachable for other users."""
    with tempfile.TemporaryDirectory() as made:
        top = Path(made)
        top.chmod(0o755)
        (top / "auth").mkdir(0o700)
        yield top


@pytest.fixture
def verify(top: Path) -> Verify:
    def run(*arguments: str, prefix: tuple[str, ...] = (), **environment: str) -> subprocess.CompletedProcess[str]:
        values = {"DATABASES": "auth", "AUTH_DIR": "auth", "AUTH_DATABASE": DATABASE, "BACKUP_DIR": str(top)}
        return subprocess.run(
            [*prefix, str(ROOT / "scripts/verify-backups.sh"), *arguments],
            env={"PATH": "/usr/bin:/bin", **values, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def ago(hours: float = 1) -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0) - hours * HOUR


def put(top: Path, started: datetime | None = None, **options: Any) -> Path:
    """Put a backup there, and point LATEST to it if it is the newest."""
    path = backup_files.place(top / "auth", started or ago(), **options)
    point(top, max(other.name for other in path.parent.glob(f"{DATABASE}_2*.sql.gz")))
    return path


def point(top: Path, name: str) -> None:
    link = top / "auth" / names.latest(DATABASE)
    link.unlink(missing_ok=True)
    link.symlink_to(name)


def states(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [f"{file['state']} {file['problem']}".strip() for file in json.loads(done.stdout)["databases"][0]["files"]]


def test_good_backups_are_good(top: Path, verify: Verify) -> None:
    put(top, ago(25))
    path = put(top, ago(1))
    done = verify()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "2 backups: 2 good, 0 bad"
    assert done.stdout.splitlines()[1].split()[0] == f"auth/{path.name}", "the newest is first"


def test_json_is_one_document_with_every_file(top: Path, verify: Verify) -> None:
    path = put(top)
    done = verify("--json")
    document = json.loads(done.stdout)
    assert (document["command"], document["status"], done.returncode) == ("verify", 0, 0)
    (database,) = document["databases"]
    (file,) = database["files"]
    assert (database["target"], database["database"], database["error"]) == ("auth", DATABASE, "")
    assert (file["file"], file["state"], file["manifest"]) == (path.name, "good", True)
    assert file["file_bytes"] == path.stat().st_size
    assert (file["sql_bytes"], file["rows"]) == (len(backup_files.dump()), {"public.users": 3})


@pytest.mark.parametrize("arguments", [(), ("--json",), ("-q",)])
def test_a_bad_one_among_good_ones_is_65_and_named_on_stderr(
    top: Path, verify: Verify, arguments: tuple[str, ...]
) -> None:
    put(top)
    data = bytearray(backup_files.contents(backup_files.dump()))
    data[100] ^= 1
    bad = put(top, ago(30), data=bytes(data))
    done = verify(*arguments)
    assert done.returncode == 65
    assert f"'{bad}' is bad: " in done.stderr
    assert "Hint: " in done.stderr


def test_quiet_says_nothing_of_good_ones(top: Path, verify: Verify) -> None:
    put(top)
    done = verify("-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_none_at_all_is_66(top: Path, verify: Verify) -> None:
    assert verify().returncode == 66
    (top / "auth").rmdir()
    done = verify()
    assert done.returncode == 66
    assert f"there is no good backup of '{DATABASE}'" in done.stderr


def test_an_old_one_is_66_and_max_age_says_what_is_old(top: Path, verify: Verify) -> None:
    put(top, ago(30))
    assert verify().returncode == 66
    assert "30.0 h old" in verify().stderr
    assert verify("--max-age", "31").returncode == 0
    assert verify("--max-age", "29.5").returncode == 66


@pytest.mark.parametrize("hours", ["0", "-1", "x", "nan", "inf", "", "1e9"])
def test_an_age_that_is_none_is_64(verify: Verify, hours: str) -> None:
    assert verify("--max-age", hours).returncode == 64


def test_the_future_is_not_fresh(top: Path, verify: Verify) -> None:
    """A file with a wrong year in its name would otherwise say for years that all is well."""
    put(top, ago(-24 * 365))
    done = verify()
    assert done.returncode == 66
    assert "later than now" in done.stderr
    put(top, ago(1))
    assert verify().returncode == 0


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_or_full_output_does_not_change_the_answer(verify: Verify, closed: str) -> None:
    assert verify(prefix=("sh", "-c", f'exec "$@" {closed}', "sh")).returncode == 66


def test_one_database_without_backups_and_one_with_is_told_apart(top: Path, verify: Verify) -> None:
    put(top)
    both = {"DATABASES": "auth payment", "PAYMENT_DIR": "payment"}
    assert verify(**both).returncode == 66
    assert verify("auth", **both).returncode == 0
    assert verify("payment", **both).returncode == 66


def test_no_directory_of_backups_is_73(top: Path, verify: Verify) -> None:
    assert verify(BACKUP_DIR=str(top / "absent")).returncode == 73


def test_a_directory_that_others_may_write_to_is_73(top: Path, verify: Verify) -> None:
    put(top)
    (top / "auth").chmod(0o777)
    assert verify().returncode == 73


def test_one_made_by_hand_is_good_and_says_so(top: Path, verify: Verify) -> None:
    put(top, data=backup_files.by_hand(backup_files.dump()))
    done = verify()
    assert done.returncode == 0
    assert "good (no manifest to compare with, under 1 kB)" in done.stdout


def test_one_made_by_hand_that_was_cut_is_65(top: Path, verify: Verify) -> None:
    put(top)
    put(top, name=names.dated(f"{DATABASE}_manual", ago(2)), data=backup_files.by_hand(backup_files.dump()[:-40]))
    done = verify()
    assert done.returncode == 65
    assert "incomplete" in done.stderr


def test_another_databases_backup_under_this_name_is_65(top: Path, verify: Verify) -> None:
    put(top)
    put(
        top,
        ago(5),
        data=backup_files.contents(backup_files.dump(), database="other\nline"),
        name=names.dated(DATABASE, ago(5)),
    )
    done = verify("--json")
    assert done.returncode == 65
    assert "of the database 'other\\nline'" in done.stderr
    assert states(done)[0] == "good"


def test_what_is_no_file_is_65(top: Path, verify: Verify) -> None:
    path = put(top)
    os.mkfifo(top / "auth" / names.dated(DATABASE, ago(3)))
    (top / "auth" / names.dated(DATABASE, ago(4))).mkdir()
    (top / "auth" / names.dated(DATABASE, ago(5))).symlink_to(path.name)
    done = verify("--json")
    assert done.returncode == 65
    assert [state.split()[0] for state in states(done)] == ["good", "bad", "bad", "bad"]


def test_files_of_others_are_passed_over(top: Path, verify: Verify) -> None:
    put(top)
    for name in ("notes.txt", "auth_db_2_20240115_020000.sql.gz", "auth_db_20240115_020000.sql.gz.bak"):
        (top / "auth" / name).write_text("not ours")
    assert verify().stdout.splitlines()[-1] == "1 backup: 1 good, 0 bad"


@pytest.mark.parametrize(
    ("target", "warning"),
    [
        (None, "is not a link to the newest good backup"),
        ("older", "which is an older one"),
        ("absent", "which is not a good backup"),
        ("/etc/hostname", "which is not a good backup"),
    ],
)
def test_a_latest_that_does_not_lead_to_the_newest_is_a_warning(
    top: Path, verify: Verify, target: str | None, warning: str
) -> None:
    older, _newest = put(top, ago(30)), put(top, ago(1))
    assert verify().stderr == ""
    if target is None:
        (top / "auth" / names.latest(DATABASE)).unlink()
    else:
        point(top, older.name if target == "older" else target)
    done = verify()
    assert done.returncode == 0
    assert "warning: " in done.stderr
    assert warning in done.stderr


def test_a_newer_one_made_by_hand_needs_no_latest(top: Path, verify: Verify) -> None:
    put(top, ago(2))
    backup_files.place(
        top / "auth", name=names.dated(f"{DATABASE}_manual", ago(1)), data=backup_files.by_hand(backup_files.dump())
    )
    assert verify().stderr == ""


def as_stranger(top: Path, verify: Verify) -> subprocess.CompletedProcess[str]:
    """Run as a user who is not the owner of the files: as nobody if we are root, else as ourselves.

    As nobody the Python and the library, which may lie where only root can go, are loaded before.
    """
    if os.geteuid() != 0:
        return verify()
    nobody = pwd.getpwnam("nobody")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pgbackup.cli import main as cli, pinged, verify; from pgbackup.commands.verify import backups\n"
        "import gettext, locale, sh\n"
        f"import os; os.setgroups([]); os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid})\n"
        "sys.exit(cli.main(['verify']))"
    )
    values = {"DATABASES": "auth", "AUTH_DIR": "auth", "AUTH_DATABASE": DATABASE, "BACKUP_DIR": str(top)}
    return subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "lib")], env=values, capture_output=True, text=True, check=False
    )


def test_a_user_who_may_not_read_the_directory_is_told_what_to_type(top: Path, verify: Verify) -> None:
    put(top)
    (top / "auth").chmod(0)
    done = as_stranger(top, verify)
    (top / "auth").chmod(0o700)
    assert done.returncode == 77
    assert str(top / "auth") in done.stderr
    assert f"sudo -u {pwd.getpwuid(os.geteuid()).pw_name}" in done.stderr


def test_one_file_that_may_not_be_read_is_77_and_the_others_are_checked_all_the_same(top: Path, verify: Verify) -> None:
    put(top).chmod(0o644)
    secret = put(top, ago(5))
    secret.chmod(0)
    (top / "auth").chmod(0o755)
    done = as_stranger(top, verify)
    assert done.returncode == 77
    assert f"'{secret}' is unknown: this user may not read it" in done.stderr
    assert "sudo" in done.stderr
    assert done.stdout.splitlines()[-1] == "2 backups: 1 good, 0 bad, 1 unknown"
