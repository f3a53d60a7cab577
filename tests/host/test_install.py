"""`make install` into a staging directory: whole, again, after a failure, half done; and what it never touches.

What takes a real host (accounts, cron, systemd) is tried in tests/host.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.effort import FULL, only_in_full, wide

ROOT = Path(__file__).resolve().parents[2]
PREFIX = Path("/opt/payment-system/deployment")
NO_NETWORK = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_EXTRA_INDEX_URL": "", "PIP_RETRIES": "0"}
SCRIPTS = ["backup-postgres.sh", "restore-postgres.sh", "setup-backup-cron.sh", "setup-backup-systemd.sh"]


def copy_checkout(to: Path) -> Path:
    for name in ("lib", "scripts", "systemd", "docs", "monitoring"):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", ".env.example", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, to / name)
    return to


def make(checkout: Path, *words: str, network: bool = False) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    environment |= {key: value for key, value in os.environ.items() if network and key.startswith("PIP_")}
    environment |= {} if network else NO_NETWORK
    return subprocess.run(
        ["make", "-C", checkout, f"PYTHON={sys.executable}", *words],
        env=environment,
        umask=0o077,  # as hardened hosts have it
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheels")
    done = make(copy_checkout(tmp_path_factory.mktemp("source")), "wheelhouse", f"WHEELHOUSE={place}", network=True)
    assert done.returncode == 0, done.stderr
    return place


class Stage:
    """A checkout, and where it is installed to."""

    def __init__(self, checkout: Path, stage: Path, wheels: Path) -> None:
        self.checkout, self.stage, self.wheels = checkout, stage, wheels
        self.place = stage / PREFIX.relative_to("/")

    def make(self, verb: str, *words: str, wheels: bool = True) -> subprocess.CompletedProcess[str]:
        house = self.wheels if wheels else "no-such-directory"
        return make(self.checkout, verb, f"DESTDIR={self.stage}", f"WHEELHOUSE={house}", *words)

    def install(self) -> None:
        done = self.make("install")
        assert done.returncode == 0, done.stderr

    def works(self) -> bool:
        libraries = ".venv/bin/python -I -c 'import dotenv, rich, sh'"
        argv = ["sh", "-c", f"{libraries} && scripts/backup-postgres.sh --version"]
        done = subprocess.run(argv, cwd=self.place, env={"PATH": os.defpath}, capture_output=True, check=False)
        return done.returncode == 0


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Stage:
    """An installation, not to be changed."""
    made = Stage(copy_checkout(tmp_path_factory.mktemp("source")), tmp_path_factory.mktemp("stage"), wheels)
    made.install()
    return made


@pytest.fixture
def stage(tmp_path: Path, first: Stage, wheels: Path) -> Iterator[Stage]:
    """A copy of that, with a checkout of its own."""
    shutil.copytree(first.stage, tmp_path / "stage", symlinks=True)
    yield Stage(copy_checkout(tmp_path / "checkout"), tmp_path / "stage", wheels)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def tree(place: Path) -> dict[str, int]:
    return {str(path.relative_to(place)): mode(path) for path in place.rglob("*") if "__pycache__" not in path.parts}


def test_everything_is_there_for_all_to_read_and_none_to_write(first: Stage) -> None:
    assert first.works()
    assert set(SCRIPTS) <= {path.name for path in (first.place / "scripts").iterdir()}
    for path in first.place.rglob("*"):
        if path.is_symlink() or path.name == ".env":
            continue
        assert mode(path) & 0o022 == 0, path
        assert mode(path) & 0o044 == 0o044, path
        assert path.lstat().st_uid == os.geteuid(), path
    assert mode(first.place / ".env") == 0o640
    assert (first.place / ".env").read_bytes() == (ROOT / ".env.example").read_bytes()
    for name in ("", "postgres-a", "postgres-b"):
        assert mode(first.stage / "opt/backups" / name) == 0o700
    assert not any(path.name.endswith((".new", ".old")) for path in first.place.rglob("*"))


def test_the_checkout_is_left_as_it_was(first: Stage, tmp_path: Path) -> None:
    assert tree(first.checkout) == tree(copy_checkout(tmp_path / "fresh"))


def test_again_is_an_upgrade_that_keeps_what_the_operator_wrote(stage: Stage) -> None:
    env = stage.place / ".env"
    env.write_text("RETENTION_DAYS=14\n")
    env.chmod(0o600)
    own = {name: stage.place / name for name in ("docker-compose.yml", "scripts/deploy.sh", "lib/mine", "docs/mine.md")}
    for path in own.values():
        path.write_text("mine\n")
        path.chmod(0o604)
    (stage.place / "scripts").chmod(0o750)
    (stage.place / "lib/pgbackup/gone.py").write_text("a module of the old version\n")
    (stage.checkout / "lib/pgbackup/__init__.py").write_text('__version__ = "9.9"\n')
    venv = (stage.place / ".venv").stat().st_ino
    stage.install()
    assert env.read_text() == "RETENTION_DAYS=14\n" and mode(env) == 0o600
    assert all(path.read_text() == "mine\n" and mode(path) == 0o604 for path in own.values())
    assert mode(stage.place / "scripts") == 0o750
    assert not (stage.place / "lib/pgbackup/gone.py").exists()
    assert "9.9" in (stage.place / "lib/pgbackup/__init__.py").read_text()
    assert (stage.place / ".venv").stat().st_ino == venv, "nothing it depends on has changed"
    assert stage.works()


def test_the_env_of_the_checkout_is_taken_along_and_none_is_overwritten(stage: Stage) -> None:
    installed, mine = stage.place / ".env", stage.checkout / ".env"
    mine.write_text("DATABASES=shop\nSHOP_CONTAINER=pg15\n")
    mine.chmod(0o600)
    before = installed.read_bytes()
    done = stage.make("install")
    assert done.returncode == 0 and installed.read_bytes() == before
    assert "'/opt/payment-system/deployment/.env' is kept as it is" in done.stderr
    installed.unlink()
    mine.write_text("DATABASES=shop\nAUTH_CONTAINER=x\n")
    done = stage.make("install")
    assert done.returncode != 0 and not installed.exists()
    assert f"{mine}:2: unknown setting 'AUTH_CONTAINER'" in done.stderr
    mine.write_text("DATABASES=shop\nSHOP_CONTAINER=pg15\n")
    done = stage.make("install")
    assert done.returncode == 0 and "with the settings of the checkout" in done.stdout
    assert installed.read_text() == mine.read_text() and mode(installed) == 0o640
    assert (stage.stage / "opt/backups/pg15").is_dir(), "its settings are in force"
    assert "is kept" not in stage.make("install").stderr


def test_what_was_there_under_the_same_name_is_kept_aside_even_where_the_path_has_blanks(
    tmp_path: Path, stage: Stage
) -> None:
    new = Stage(stage.checkout, tmp_path / "a  stage", stage.wheels)
    mine = new.place / "scripts/backup-postgres.sh"
    mine.parent.mkdir(parents=True)
    mine.write_text("#!/bin/sh\n# by hand\n")
    done = new.make("install")
    assert done.returncode == 0 and "backup-postgres.sh.before-pgbackup" in done.stderr
    assert mine.with_name("backup-postgres.sh.before-pgbackup").read_text() == "#!/bin/sh\n# by hand\n"
    assert new.works()
    if FULL:
        new.install()
    assert len(list(mine.parent.glob("*.before-pgbackup"))) == 1


def test_an_upgrade_that_fails_leaves_an_installation_that_works(stage: Stage) -> None:
    with (stage.checkout / "constraints.txt").open("a") as file:
        file.write("# another version\n")
    done = stage.make("install", wheels=False)
    assert done.returncode != 0, "the checker is broken: there was a network"
    assert stage.works()
    if FULL:
        stage.install()
        assert stage.works()


@wide("part", ["bin/python"], ["lib/python*/site-packages/sh", "bin/python"])
def test_an_environment_that_is_broken_is_made_anew(stage: Stage, part: str) -> None:
    (broken,) = (stage.place / ".venv").glob(part)
    broken.rename(broken.with_name("away"))
    assert not stage.works()
    stage.install()
    assert stage.works()


@wide("seconds", [1.5], [0.1, 1.5])
def test_one_that_was_killed_is_finished_by_the_next(
    tmp_path: Path, first: Stage, wheels: Path, seconds: float
) -> None:
    killed = Stage(first.checkout, tmp_path / "stage", wheels)
    words = [f"DESTDIR={killed.stage}", f"WHEELHOUSE={wheels}", f"PYTHON={sys.executable}"]
    process = subprocess.Popen(
        ["make", "-C", first.checkout, "install", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    killed.install()
    assert killed.works()
    expected = {name: bits for name, bits in tree(first.place).items() if not name.startswith(".venv/")}
    assert {name: bits for name, bits in tree(killed.place).items() if not name.startswith(".venv/")} == expected


def test_uninstall_leaves_the_backups_and_what_the_operator_wrote(stage: Stage) -> None:
    backup = stage.stage / "opt/backups/postgres-a/auth_db_20240115_020000.sql.gz"
    backup.write_bytes(b"x")
    (stage.place / "scripts/deploy.sh").write_text("mine\n")
    done = stage.make("uninstall")
    assert done.returncode == 0, done.stderr
    left = {str(path.relative_to(stage.place)) for path in stage.place.rglob("*") if not path.is_dir()}
    assert left == {".env", "scripts/deploy.sh"}
    assert backup.exists()
    again = stage.make("uninstall")
    assert again.returncode == 0 and "nothing of the suite" in again.stdout


WRONG = {
    "relative": ("PREFIX=opt/x", "is not an absolute path"),
    "up": ("PREFIX=/opt/../etc", "has '..' in it"),
    "shell": ("PREFIX=/opt/$$(id)", "has characters"),
    "quote": ("PREFIX=/opt/it's", "has characters"),
    "no python": ("PYTHON=/nonexistent/python", "sudo apt-get install python3"),
}


REFUSED = [("install", name) for name in WRONG] + [("uninstall", name) for name in WRONG if name != "no python"]


@wide("verb, name", REFUSED[::2], REFUSED)
def test_a_wrong_variable_is_refused_before_anything_is_made(
    tmp_path: Path, first: Stage, verb: str, name: str
) -> None:
    word, reason = WRONG[name]
    done = make(first.checkout, verb, f"DESTDIR={tmp_path}/stage", word)
    assert done.returncode != 0
    assert reason in done.stderr and "Hint: " in done.stderr
    assert not (tmp_path / "stage").exists()


def test_a_checkout_is_not_installed_over_itself(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / PREFIX.relative_to("/"))
    before = tree(checkout)
    done = make(checkout, "install", f"DESTDIR={tmp_path}")
    assert done.returncode != 0 and "is the checkout itself" in done.stderr
    assert tree(checkout) == before


def test_a_env_that_cannot_be_read_is_told_when_all_else_is_done(stage: Stage) -> None:
    (stage.place / ".env").write_text("COMPOSE_PROJECT_NAME=payment\n")
    done = stage.make("install")
    assert done.returncode != 0
    assert ".env:1: unknown setting 'COMPOSE_PROJECT_NAME'" in done.stderr
    assert (stage.place / ".env").read_text() == "COMPOSE_PROJECT_NAME=payment\n"


def test_while_another_run_is_at_work_it_is_told(stage: Stage) -> None:
    lock = os.open(stage.place, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    done = stage.make("install")
    os.close(lock)
    assert done.returncode != 0 and "another run is working on" in done.stderr
    assert stage.works()


@only_in_full
def test_two_at_once_are_one_after_the_other_or_told(stage: Stage) -> None:
    (stage.place / ".venv/.recipe").unlink()  # so that it takes some time
    words = [f"DESTDIR={stage.stage}", f"WHEELHOUSE={stage.wheels}", f"PYTHON={sys.executable}"]
    argv = ["make", "-C", str(stage.checkout), "install", *words]
    both = [subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in both]
    failed = [text for process, text in zip(both, said, strict=True) if process.returncode]
    assert len(failed) <= 1 and all("another run is working on" in text for text in failed), said
    assert stage.works()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_is_not_root_is_told_so(tmp_path: Path) -> None:
    checkout = copy_checkout(tmp_path / "checkout")
    before = tree(checkout)
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "lib/install", "install"]
    variables = {"PREFIX": str(PREFIX), "DESTDIR": "", "BACKUP_USER": "deployer", "CREATE_USER": "yes"}
    variables |= {"WHEELHOUSE": "wheelhouse", "PYTHON": "python3", "PATH": os.environ["PATH"]}
    for path in [*tmp_path.parents, tmp_path][3:]:
        path.chmod(0o755)
    done = subprocess.run(argv, cwd=checkout, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 77, done.stderr
    assert done.stderr.endswith("Hint: sudo make install\n")
    assert tree(checkout) == before
