"""`.env`: read as data and line by line, or refused before anything is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pgbackup.errors import PermissionDenied, SuiteError
from pgbackup.settings import config
from pgbackup.settings.named_table import TARGET_SETTINGS
from pgbackup.settings.table import GLOBAL_SETTINGS

from tests.support.accounts import nobody
from tests.support.effort import chosen
from tests.support.settings import load, refusal

ROOT = Path(__file__).resolve().parents[2]
KEYS = [row.key for row in GLOBAL_SETTINGS] + [f"AUTH_{row.key}" for row in TARGET_SETTINGS]


# --- how `.env` is read


@pytest.mark.parametrize(
    "written",
    [
        "AUTH_DATABASE=${X}",
        "AUTH_DATABASE='${X}'",
        'AUTH_DATABASE="${X}"',
    ],
)
def test_a_variable_is_not_expanded(tmp_path: Path, written: str) -> None:
    assert load(tmp_path, written + "\nAUTH_USER=x\n", {"X": "expanded"}).targets[0].database == "${X}"


@pytest.mark.parametrize("quote", ["", "'", '"'])
@pytest.mark.parametrize("command", ["$(touch PWNED)", "`touch PWNED`", "; touch PWNED", "$((1+1))", "~", "*"])
def test_nothing_is_executed(tmp_path: Path, quote: str, command: str) -> None:
    text = command.replace("PWNED", str(tmp_path / "pwned"))
    assert load(tmp_path, f"AUTH_DATABASE={quote}{text[:63]}{quote}\n").targets[0].database == text[:63]
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("line", "database"),
    [
        ("AUTH_DATABASE=a b", "a b"),
        ("AUTH_DATABASE=  a b  ", "a b"),
        ("  AUTH_DATABASE = a", "a"),
        ("export AUTH_DATABASE=a", "a"),
        ("AUTH_DATABASE=a # comment", "a"),
        ("AUTH_DATABASE=a#b", "a#b"),
        ("AUTH_DATABASE=#a", "#a"),
        ("AUTH_DATABASE='a # b' # comment", "a # b"),
        ("AUTH_DATABASE='  a '", "  a "),
        ('AUTH_DATABASE="a\'b"', "a'b"),
        ("AUTH_DATABASE='a\"b'", 'a"b'),
        (r'AUTH_DATABASE="a\"b\\c\nd"', 'a"b\\c\nd'),
        (r"AUTH_DATABASE='a\'b\\c\nd'", "a'b\\c\\nd"),
        (r"AUTH_DATABASE=a\nb", r"a\nb"),
        ("AUTH_DATABASE=dbname=postgres host=evil", "dbname=postgres host=evil"),
        ("AUTH_DATABASE=ünïcode", "ünïcode"),
        ("# AUTH_DATABASE=b\n\n   # c\nAUTH_DATABASE=a", "a"),
        ("AUTH_DATABASE=a\n\n\n# the end", "a"),
    ],
)
def test_quotes_blanks_and_comments(tmp_path: Path, line: str, database: str) -> None:
    for env in (line, line + "\n"):
        assert load(tmp_path, env).targets[0].database == database


HOSTILE = {
    "CRLF": (b"\nRETENTION_DAYS=7\r\n", ":2", "Windows line ends"),
    "NUL": (b"MIN_BACKUPS=7\n\nRETENTION_DAYS=7\0\n", ":3", "NUL byte"),
    "BOM": (b"\xef\xbb\xbfRETENTION_DAYS=7\n", ":1", "byte order mark"),
    "BOM in the middle": (b"MIN_BACKUPS=7\n\xef\xbb\xbfRETENTION_DAYS=7\n", ":2", "byte order mark"),
    "UTF-16": ("RETENTION_DAYS=7\n".encode("utf-16-le"), ":1", "NUL byte"),
    "Latin-1": (b"MIN_BACKUPS=7\nAUTH_DATABASE=\xe9\n", ":2", "UTF-8"),
    "set twice": (b"RETENTION_DAYS=7\n\nRETENTION_DAYS=8\n", ":3", "set twice"),
    "set twice, equal": (b"RETENTION_DAYS=7\nexport RETENTION_DAYS=7\n", ":2", "set twice"),
    "unknown": (b"MIN_BACKUPS=7\nRETENTION_DAY=7\n", ":2", "did you mean RETENTION_DAYS?"),
    "unknown, far from all": (b"ZZZ=7\n", ":1", "docs/configuration.md"),
    "small letters": (b"retention_days=7\n", ":1", "did you mean RETENTION_DAYS?"),
    "slip in a database's name": (b"AUHT_CONTAINER=x\n", ":1", "did you mean AUTH_CONTAINER?"),
    "password": (b"AUTH_PASSWORD=hunter2\n", ":1", "did you mean AUTH_PASSFILE?"),
    "database not listed": (b"SHOP_HEALTH_URL=https://x/\n", ":1", "DATABASES has no 'shop'"),
    "no value": (b"MIN_BACKUPS=7\nRETENTION_DAYS\n", ":2", "KEY=value"),
    "colon": (b"RETENTION_DAYS: 7\n", ":1", "KEY=value"),
    "no key": (b"=7\n", ":1", "KEY=value"),
    "quote not closed": (b"MIN_BACKUPS=7\nAUTH_USER='a\n", ":2", "KEY=value"),
    "quote closed lines later": (b"AUTH_USER='a\nRETENTION_DAYS=1\nPAYMENT_USER='\n", ":1", "KEY=value"),
    "text behind a quote": (b"AUTH_USER='a'b\n", ":1", "KEY=value"),
    "shell": (b"if true; then RETENTION_DAYS=7; fi\n", ":1", "KEY=value"),
    "section": (b"[settings]\nRETENTION_DAYS=7\n", ":1", "KEY=value"),
}


@pytest.mark.fault(19, "a `.env` with odd bytes, slips and values that are not allowed")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_by_line(tmp_path: Path, name: str) -> None:
    raw, line, what = HOSTILE[name]
    said = refusal(tmp_path, raw)
    assert f"{tmp_path / '.env'}{line}: " in said
    assert what in said
    assert "hunter2" not in said


def test_the_hints_for_sed_make_the_file_good(tmp_path: Path) -> None:
    for raw in (b"RETENTION_DAYS=5\r\nMIN_BACKUPS=6\r\n", b"\xef\xbb\xbfRETENTION_DAYS=5\nMIN_BACKUPS=6\n"):
        hint = refusal(tmp_path, raw).splitlines()[-1]
        subprocess.run(["sh", "-c", hint], check=True)
        assert (load(tmp_path).retention_days, load(tmp_path).min_backups) == (5, 6)


# --- what lies under the name `.env`


def test_an_absent_file_is_an_empty_one(tmp_path: Path) -> None:
    assert load(tmp_path) == load(tmp_path, "") == load(tmp_path, "\n# nothing\n")


def test_a_link_to_settings_is_followed_and_one_to_nothing_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("RETENTION_DAYS=9\n")
    (tmp_path / ".env").symlink_to("elsewhere")
    assert load(tmp_path).retention_days == 9
    (tmp_path / "elsewhere").unlink()
    assert "symbolic link to nothing" in refusal(tmp_path)


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    "make",
    [Path.mkdir, os.mkfifo, make_loop, lambda path: path.symlink_to("/dev/zero")],
    ids=["dir", "fifo", "loop", "zero"],
)
def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / ".env")
    assert str(tmp_path / ".env") in refusal(tmp_path)


def test_a_file_that_anybody_may_change_is_refused(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("RETENTION_DAYS=9\n")
    for mode, good in ((0o600, True), (0o640, True), (0o664, True), (0o602, False), (0o666, False)):
        file.chmod(mode)
        if good:
            assert load(tmp_path).retention_days == 9
        else:
            assert f"chmod o-w '{file}'" in refusal(tmp_path)


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    with file.open("wb") as out:
        for _ in range(100):
            out.write(b"# padding\n" * 100_000)
    code = (
        "import resource, sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from pgbackup.settings import config\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: config.load({}, Path(sys.argv[2]), {})\n"
        "except config.ConfigurationError as error: print(error.status, error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ROOT / "lib", file], capture_output=True, text=True, check=True, timeout=60
    )
    said, grown = done.stdout.splitlines()
    assert said.startswith("78 ") and "larger than 64 KiB" in said
    assert int(grown) < 5_000, "KiB of memory for a file that was not to be read"


def test_the_largest_file_is_read_to_its_end(tmp_path: Path) -> None:
    env = "# padding\n" * 6000 + "RETENTION_DAYS=9"
    assert load(tmp_path, env).retention_days == 9
    assert "64 KiB" in refusal(tmp_path, "# padding\n" * 6554 + "RETENTION_DAYS=9")


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that every account can reach, as tmp_path is not."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        yield place
        place.chmod(0o755)


@pytest.mark.parametrize("closed", ["file", "directory"])
def test_a_file_that_may_not_be_read_is_never_skipped(public_directory: Path, closed: str) -> None:
    place = public_directory
    file = place / ".env"
    file.write_text("RETENTION_DAYS=9\n")
    file.chmod(0o644)
    with nobody():
        assert config.load({}, file, {}).retention_days == 9, "the checker is broken: it may not even be read when open"
    (file if closed == "file" else place).chmod(0)
    with nobody(), pytest.raises(PermissionDenied) as caught:
        config.load({}, file, {})
    assert caught.value.status == 77
    assert str(file) in caught.value.message
    assert caught.value.hint is not None and "sudo -u deployer" in caught.value.hint


# --- whatever is written

LINES = st.one_of(
    st.text(max_size=30),
    st.builds("{}={}".format, st.sampled_from([*KEYS, "X", "PAYMENT_USER"]), st.text("ab'\"# \\$`\t=7/", max_size=12)),
)


@settings(max_examples=chosen(60, 300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.one_of(st.binary(max_size=100), st.lists(LINES, max_size=6).map(lambda lines: "\n".join(lines).encode())))
def test_any_file_is_taken_or_refused(tmp_path: Path, raw: bytes) -> None:
    try:
        load(tmp_path, raw)
    except SuiteError as error:
        assert error.status == 78
        assert str(error)


# --- nothing is touched

TOUCHES_NOTHING = {
    "CRLF": "RETENTION_DAYS=7\r\n",
    "NUL": "RETENTION_DAYS=7\0\n",
    "set twice": "MIN_BACKUPS=1\nMIN_BACKUPS=1\n",
    "unknown": "RETENTION_DAY=1\n",
    **{f"{days} days": f"RETENTION_DAYS={days}\n" for days in ("0", "-1", "7d", "1e9", "")},
}


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The suite in a directory of its own, backups that are long expired, and a Docker that notes being asked."""
    for name in ("lib", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.pyc.*"))
    (tmp_path / ".venv").symlink_to(sys.prefix)
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\ntouch '{tmp_path}/asked'\nexit 1\n")
    docker.chmod(0o755)
    place = tmp_path / "backups" / "postgres-a"
    place.mkdir(parents=True)
    for directory in (place, place.parent):
        directory.chmod(0o700)
    for day in range(1, 21):
        (place / f"auth_db_202001{day:02}_020000.sql.gz").write_bytes(b"x" * day)
    return tmp_path


def run(installed: Path, more: str) -> subprocess.CompletedProcess[str]:
    env = f"BACKUP_DIR={installed}/backups\nDOCKER={installed}/docker\nWAIT_SECONDS=0\n" + more
    (installed / ".env").write_bytes(env.encode())
    script = installed / "scripts" / "backup-postgres.sh"
    return subprocess.run([script], env={"PATH": os.defpath}, capture_output=True, text=True, timeout=60, check=False)


def tree(place: Path) -> dict[str, tuple[int, int, int]]:
    found = {str(path): path.lstat() for path in [place, *place.rglob("*")]}
    return {path: (status.st_ino, status.st_size, status.st_mtime_ns) for path, status in found.items()}


@pytest.mark.fault(19, "a `.env` with odd bytes, slips and values that are not allowed")
@pytest.mark.parametrize("name", TOUCHES_NOTHING)
def test_a_refused_file_ends_the_run_before_anything_is_touched(installed: Path, name: str) -> None:
    before = tree(installed / "backups")
    done = run(installed, TOUCHES_NOTHING[name])
    assert done.returncode == 78, done.stderr
    assert f"{installed}/.env:" in done.stderr and "Hint: " in done.stderr
    assert done.stdout == ""
    assert tree(installed / "backups") == before
    assert not (installed / "asked").exists()


def test_a_good_file_in_the_same_place_lets_the_run_go_on(installed: Path) -> None:
    """A test of the test above."""
    before = tree(installed / "backups")
    done = run(installed, "RETENTION_DAYS=7\n")
    assert done.returncode == 69, done.stderr
    assert (installed / "asked").exists()
    assert tree(installed / "backups") != before
