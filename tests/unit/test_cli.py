"""A command line is read once, into what a command takes or an error; and no script loads what it does not need."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pgbackup.cli import main, moments, restore, verify
from pgbackup.cli.restore import Request
from pgbackup.cli.setup import backup_cron as setup_backup_cron
from pgbackup.cli.setup import frame as setup
from pgbackup.commands.recover.aim import Aim
from pgbackup.commands.restore.options import Options
from pgbackup.errors import UsageError
from pgbackup.host.scheduling import schedule

LIB = Path(__file__).resolve().parents[2] / "lib"


def request(*words: str) -> Request:
    return restore.request(restore.parser().parse_intermixed_args(["shop", *words]))


@pytest.mark.parametrize("action", ["list", "history", "window", "rollback", "drop-old"])
def test_a_restore_does_one_thing(action: str) -> None:
    assert request(f"--{action}") == Request("shop", action, "", None, Options())
    assert request(f"--{action}", f"--{action}").action == action
    for other in (["file"], ["--latest"], ["--to-xid", "7"], ["--list" if action != "list" else "--rollback"]):
        with pytest.raises(UsageError, match="name one FILE"):
            request(f"--{action}", *other)


def test_what_is_restored_is_a_file_or_a_moment() -> None:
    assert request("file", "--yes", "--into", "x") == Request(
        "shop", "restore", "file", None, Options(yes=True, into="x")
    )
    assert request("--latest", "--archive", "old") == Request("shop", "restore", Aim("latest"), "old", Options())
    at = request("--to-time", "2024-01-15 13:37+03").source
    assert isinstance(at, Aim) and at.moment == datetime(2024, 1, 15, 10, 37, tzinfo=timezone.utc)
    assert str(at) == "time 2024-01-15 13:37+03"
    assert request("--to-lsn", "0/10").source == Aim("lsn", "0/10", position=16)
    assert request("--to-name", "before").source == Aim("name", "before")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name one FILE"),
        (["file", "--latest"], "name one FILE"),
        (["--to-xid", "7", "--to-name", "before"], "name one FILE"),
        (["file", "--into", "x", "--online"], "exclude each other"),
        (["--rollback", "--in-place"], "exclude each other"),
        (["file", "--archive", "old"], "--archive goes with"),
        (["--latest", "--archive", "../old"], "is not the name of a directory"),
        (["--to-time", "yesterday"], "is not a time"),
        (["--to-lsn", "yesterday"], "is not a position"),
    ],
)
def test_a_restore_that_cannot_be_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        request(*words)


def test_every_kind_of_moment_has_its_option() -> None:
    for kind, text in zip(moments.KINDS, ["2024-01-15 10:00Z", "0/10", "7", "before", ""], strict=True):
        assert moments.aim(kind, text).kind == kind


def test_an_age_is_one_of_hours() -> None:
    assert verify.max_age("26") == timedelta(hours=26)
    for text in ("0", "-1", "nan", "inf", "1d", ""):
        with pytest.raises(UsageError):
            verify.max_age(text)


def test_a_schedule_is_read_before_the_set_up_begins() -> None:
    def requested(*words: str) -> object:
        return setup.requested(setup_backup_cron.parser().parse_args(words)).schedule

    assert requested() is None
    assert requested("--schedule", "hourly") == schedule.parse("hourly")
    for words in (["--schedule", "hourly", "--uninstall"], ["--schedule", "never"]):
        with pytest.raises(UsageError):
            requested(*words)


def loaded(code: str, *words: str, backup_dir: Path = Path("/nonexistent")) -> set[str]:
    """The modules that are there when `code` has ended: with a result, an error or an exit status."""
    code = (
        f"import sys; sys.path.insert(0, sys.argv[1])\ntry: {code}\nfinally: sys.stderr.write('\\n'.join(sys.modules))"
    )
    command = [sys.executable, "-I", "-c", code, str(LIB), *words]
    settings = {"BACKUP_DIR": str(backup_dir), "OFFSITE": "nas", "NAS_REMOTE": "nas:backups"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=settings)
    return set(done.stderr.splitlines())


def prepared(verb: str, *words: str, backup_dir: Path = Path("/nonexistent")) -> set[str]:
    """The modules that are there when the command is about to begin."""
    return loaded(
        f"from pgbackup.cli import {verb} as it; it.command(it.parser().parse_intermixed_args(sys.argv[2:]))",
        *words,
        backup_dir=backup_dir,
    )


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["--no-such-option"]])
@pytest.mark.parametrize("verb", main.VERBS)
def test_help_and_usage_need_nothing_but_python(verb: str, words: list[str]) -> None:
    there = loaded("from pgbackup.cli.main import main; main(sys.argv[2:])", verb, *words)
    assert "argparse" in there
    assert not there & {"sh", "rich", "dotenv", "isal", "asyncio", "pgbackup.settings.config", "pgbackup.proc"}


def test_a_script_loads_its_own_command_only() -> None:
    there = prepared("backup")
    assert "pgbackup.commands.backup.all_databases" in there
    others = ("restore", "recover", "verify", "setup", "wal")
    assert not [name for name in there if name.startswith(tuple(f"pgbackup.commands.{other}" for other in others))]
    assert not there & {"rich", "dotenv", "pgbackup.host.scheduling", "pgbackup.commands.backup.plan"}
    listing = prepared("restore", "auth", "--list")
    assert "pgbackup.commands.restore.listing" in listing
    assert not listing & {"pgbackup.commands.restore.restore", "pgbackup.commands.recover.recover"}


# What takes long to load, and only who runs programs, speaks to others or writes archives has a use for.
HEAVY = {
    "sh",
    "rich",
    "dotenv",
    "pyrage",
    "asyncio",
    "socket",
    "secrets",
    "ctypes",
    "difflib",
    "concurrent.futures",
    "statistics",
}


def test_a_status_loads_nothing_that_backs_up_or_tells() -> None:
    there = prepared("status")
    assert "pgbackup.commands.status.gathering" in there
    assert not there & HEAVY
    busy = ("database", "sql", "remotes", "formats.dumpfile", "report.page", "report.metrics", "report.alarms.notify")
    assert not [name for name in there if name.startswith(tuple(f"pgbackup.{each}" for each in busy))]


@pytest.mark.parametrize(
    ("verb", "words", "held"),
    [
        ("receive_wal", ["auth", "--watchdog"], "pitr/postgres-a/.receiver.lock"),
        ("copy", ["--follow", "--watchdog", "--to", "nas"], "offsite/nas/.follow.lock"),
    ],
)
def test_a_watchdog_whose_work_is_being_done_loads_nothing_of_it(
    verb: str, words: list[str], held: str, tmp_path: Path
) -> None:
    (tmp_path / held).parent.mkdir(parents=True)
    with (tmp_path / held).open("w") as lock:
        needed = prepared(verb, *words, backup_dir=tmp_path)
        fcntl.flock(lock, fcntl.LOCK_EX)
        there = prepared(verb, *words, backup_dir=tmp_path)
    command = {"receive_wal": "pgbackup.commands.wal.receive", "copy": "pgbackup.commands.offsite.wal.follow"}[verb]
    assert command in needed
    assert not there & {*HEAVY, command, "pgbackup.commands.archiving", "pgbackup.commands.offsite.one_place"}
