"""Runs beside each other, clocks, locks, odd files, hostile environments and secrets: rows 13 to 16, 18 and 20."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import psycopg
import pytest
from pgbackup.formats import names

from tests.conftest import FULL
from tests.support import backups, databases, promises, servers
from tests.support.backups import Place, Source
from tests.support.runs import soon
from tests.support.servers import docker

Tries = Callable[[int, int], int]
Note = Callable[..., None]
WAITING = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'pgbackup-%' AND wait_event_type = 'Lock'"


@pytest.fixture(scope="module")
def small() -> Iterator[list[Source]]:
    """Two databases of half a megabyte, for the direct client."""
    with databases.embedded_sources() as sources:
        yield sources


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[servers.Server]:
    with servers.running(15, name="pgbackup-test-a-", database="auth_db", user="auth_user") as running:
        yield running


@pytest.fixture
def place(small: list[Source], tmp_path: Path) -> Place:
    """auth alone, with three old backups."""
    made = backups.place(tmp_path / "backups", small[:1])
    made.plant(small[0])
    return made


@contextlib.contextmanager
def locked(source: Source) -> Iterator[None]:
    """Let every dump wait for a table until the block is left."""
    with psycopg.connect(source.values["URL"]) as holder:
        holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        yield


# ------------------------------------------------------------------------------------------------ row 13


def test_of_many_runs_of_one_database_at_once_one_wins(
    place: Place, tries: Tries, expected: Note, survived: Note
) -> None:
    fault, count = "32 runs of one database at once", tries(8, 32)
    expected(13, fault, count)
    with locked(place.sources[0]):
        runs = [place.start() for _ in range(count)]
        assert soon(lambda: sum(run.poll() is not None for run in runs) == count - 1, 100)
        done = [place.end(run) for run in runs if run.returncode is not None]
    won = [place.end(run) for run in runs if run.returncode is None or run.poll() == 0]
    assert [ended.status for ended in done] == [75] * (count - 1)
    assert [ended.status for ended in won][-1:] == [0]
    assert all("another run" in ended.stderr for ended in done)
    assert len(place.fresh()) == 1
    log = place.log()
    assert sum("run.start" in line for line in log) == sum("run.finish" in line for line in log) == count
    assert not promises.settled(place)
    survived(13, fault, count)


def test_many_runs_of_different_databases_at_once_all_succeed(
    small: list[Source], tmp_path: Path, tries: Tries, expected: Note, survived: Note
) -> None:
    fault, count = "32 runs of different databases at once", tries(4, 32)
    expected(13, fault, count)
    url = small[0].values["URL"]
    fresh = [f"copy_{number}" for number in range(count)]
    for name in fresh:
        small[0].sql(f"CREATE DATABASE {name} TEMPLATE auth_db")
    try:
        sources = [
            Source(
                name,
                name,
                small[0].text,
                {**small[0].values, "DIR": name, "DATABASE": name, "URL": url.replace("/auth_db?", f"/{name}?")},
                small[0].sql,
                small[0].said,
            )
            for name in fresh
        ]
        place = backups.place(tmp_path / "backups", sources)
        runs = [place.start(name) for name in fresh]
        done = [place.end(run) for run in runs]
        assert [ended.status for ended in done] == [0] * count, [ended.stderr for ended in done if ended.status]
        assert len(place.fresh()) == count
        assert not promises.settled(place)
    finally:
        for name in fresh:
            small[0].sql(f"DROP DATABASE {name} WITH (FORCE)")
    survived(13, fault, count)


def test_cron_and_timer_at_the_same_time_make_one_backup_of_each_database(
    small: list[Source], tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "cron and timer both on"
    expected(13, fault, 1)
    place = backups.place(tmp_path / "backups", small)
    with locked(small[0]):
        first = place.start()
        assert soon(lambda: bool(small[0].sql(WAITING)), 30)
        second = place.run()
        assert second.status == (1 if len(place.fresh(small[1])) == 2 else 75)
    assert place.end(first).status == 0
    assert len(place.fresh(small[0])) == 1
    assert not promises.settled(place)
    survived(13, fault)


# ------------------------------------------------------------------------------------------------ row 14


def run_at(place: Place, clock: datetime | str, **environment: str) -> backups.Ended:
    """Run at an instant, at which time stands still, or with a clock that is off by, say, "+366d".

    What the file system says of times stays as it is: libfaketime would get half of it wrong.
    """
    backups.needs(faketime="faketime")
    text = clock if isinstance(clock, str) else f"{clock.timestamp():.0f}"
    form = {} if isinstance(clock, str) else {"FAKETIME_FMT": "%s"}
    prefix = ["faketime", "-f", text]
    return place.run("-q", prefix=prefix, **environment, **form, NO_FAKE_STAT="1", FAKE_UTIME="0")


def test_two_runs_in_one_second_make_two_backups(place: Place, expected: Note, survived: Note) -> None:
    fault = "runs in one second"
    expected(14, fault, 3)
    moment = datetime.now(timezone.utc)
    for number in range(3):
        ended = run_at(place, moment)
        assert ended.status == 0, ended.stderr
        assert len(place.fresh()) == number + 1
        survived(14, fault)
    assert not promises.settled(place)


# In Berlin one hour comes twice on the first day, and one never on the second.
CHANGES = {
    "summer time ends": datetime(2025, 10, 26, 0, 0, 1, tzinfo=timezone.utc),
    "summer time begins": datetime(2025, 3, 30, 0, 0, 1, tzinfo=timezone.utc),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_summer_time_loses_no_backup_and_keeps_their_order(
    place: Place, expected: Note, survived: Note, change: str
) -> None:
    """The same local time comes twice; names stay different, and the manifest knows the instants."""
    fault = f"{change}: one run each half hour"
    expected(14, fault, 5)
    place.reset()
    for number in range(5):
        ended = run_at(place, CHANGES[change] + timedelta(minutes=30 * number), TZ="Europe/Berlin")
        assert ended.status == 0, ended.stderr
        assert len(place.fresh()) == number + 1
        survived(14, fault)
    assert not promises.settled(place)
    started = [line for line in place.log() if "run.start" in line]
    assert len({line[:24] for line in started}) == 5, "the clock did not move: the test proves nothing"
    assert len({line[19:24] for line in started}) == 2, "summer time did not change: the test proves nothing"


def test_another_time_zone_loses_no_backup(place: Place, expected: Note, survived: Note) -> None:
    zones = ("Pacific/Kiritimati", "America/Adak", "Asia/Kathmandu", "UTC")
    fault = "another TZ at each run"
    expected(14, fault, len(zones))
    for number, zone in enumerate(zones, 1):
        ended = place.run("-q", TZ=zone)
        assert ended.status == 0, ended.stderr
        assert len(place.fresh()) == number
        assert not promises.problems(place, sweep=True)
        survived(14, fault)


CLOCKS: dict[str, datetime | str] = {
    "a year ahead": "+366d",
    "a year behind": "-366d",
    "1970": datetime(1970, 1, 2, tzinfo=timezone.utc),
    "2038": datetime(2038, 1, 20, tzinfo=timezone.utc),
}


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_clock_that_is_wrong_never_costs_the_newest_good_backups(
    place: Place, expected: Note, survived: Note, clock: str
) -> None:
    fault = f"clock: {clock}"
    expected(14, fault, 1)
    assert place.run("-q").status == 0
    right = place.fresh()[0]
    here = set(place.files())
    ended = run_at(place, CLOCKS[clock])
    assert ended.status == 0, ended.stderr
    assert right.exists(), "the backup from before the jump is gone"
    assert len(place.files()) >= backups.MINIMUM
    assert not promises.problems(place, sweep=True) or clock in ("a year ahead", "2038")
    if clock in ("a year behind", "1970"):
        assert here < set(place.files()), "a clock that stands behind expires nothing"
        assert any("WARNING" in line and "clock" in line for line in ended.log), "and says so"
    else:
        assert here - set(place.files()) <= set(place.planted), "only what is old by the right clock too"
    here = set(place.files())
    assert place.run("-q").status == 0, "the clock is right again"
    assert right.exists()
    if clock in ("a year ahead", "2038"):
        assert here < set(place.files()), "now the clock stands behind"
    survived(14, fault)


# ------------------------------------------------------------------------------------------------ row 15


@pytest.mark.parametrize("content", ["", "1\n", f"{os.getpid()}\n", "garbage \0 \n"], ids=["empty", "1", "live", "odd"])
def test_a_lock_file_without_its_process_is_free(place: Place, expected: Note, survived: Note, content: str) -> None:
    """No pid is read from it, so no pid that is used again can hold it."""
    fault = "stale lock file, with the pid of a live process too"
    expected(15, fault, 1)
    lock = place.directory() / ".auth_db.lock"
    lock.write_text(content)
    lock.chmod(0o600)
    assert not promises.after(place)
    survived(15, fault)


def test_a_lock_file_deleted_in_mid_run_costs_no_backup(place: Place, expected: Note, survived: Note) -> None:
    """The second run cannot know of the first one; whatever it does to it, both tell the truth."""
    fault = "lock file deleted while a run holds it"
    expected(15, fault, 1)
    with locked(place.sources[0]):
        first = place.start()
        assert soon(lambda: bool(place.sources[0].sql(WAITING)), 30)
        (place.directory() / ".auth_db.lock").unlink()
        second = place.start()
        assert soon(
            lambda: len(list(place.directory().glob(".pgbackup-*.partial"))) == 2 or first.poll() is not None, 30
        )
    done = [place.end(first), place.end(second)]
    assert len(place.fresh()) == sum(ended.status == 0 for ended in done) >= 1
    assert done[1].status == 0, done[1].stderr
    assert not promises.settled(place)
    assert not promises.after(place)
    survived(15, fault)


# ------------------------------------------------------------------------------------------------ row 16


def test_files_are_private_whatever_the_umask(
    small: list[Source], tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "umask 000, 777"
    for umask in ("000", "777"):
        expected(16, fault, 1)
        place = backups.place(tmp_path / umask, small)
        ended = place.run(prefix=["sh", "-c", f'umask {umask}; exec "$@"', "sh"])
        assert ended.status == 0, ended.stderr
        assert not promises.settled(place)  # the modes of the backups among them
        modes = {
            path.name: stat.S_IMODE(path.lstat().st_mode) for path in place.path.rglob("*") if not path.is_symlink()
        }
        assert modes.pop("backup.log") == 0o640
        assert all(mode == (0o700 if "." not in name else 0o600) for name, mode in modes.items()), modes
        survived(16, fault)


def test_a_directory_that_others_may_write_is_refused(place: Place, expected: Note, survived: Note) -> None:
    fault = "directory of mode 0777, 0770"
    for where in (place.path, place.directory()):
        for mode in (0o777, 0o770):
            expected(16, fault, 1)
            where.chmod(mode)
            ended = place.run()
            assert ended.status == 73, ended.stderr
            assert "may be written by others" in ended.stderr
            assert not place.fresh()
            where.chmod(0o700)
            survived(16, fault)
    assert not promises.after(place)


def test_a_directory_of_somebody_else_is_refused(
    server: servers.Server, tmp_path: Path, expected: Note, survived: Note
) -> None:
    """Run by an account that is not root: in a user namespace, where this account has another number."""
    backups.needs_root()
    fault = "directory of a foreign owner"
    expected(16, fault, 2)
    unprivileged = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if subprocess.run([*unprivileged, "true"], capture_output=True, check=False).returncode != 0:
        backups.missing("this machine has no user namespaces")
    place = backups.place(tmp_path / "backups", [databases.container_source(server, "auth", kind="exec")])
    mine = place.run(prefix=unprivileged)
    assert mine.status == 0, f"its own directory is fine: {mine.stderr}"
    before = len(place.fresh())
    for where in (place.directory(), place.path):
        shutil.chown(where, "nobody")
        ended = place.run(prefix=unprivileged)
        assert ended.status in (73, 77), ended.stderr
        assert ended.stderr.strip()
        shutil.chown(where, "root")
        assert len(place.fresh()) == before
        survived(16, fault)
    assert not promises.after(place)


def test_root_gives_what_it_makes_to_the_directorys_owner(place: Place) -> None:
    backups.needs_root()
    shutil.chown(place.path, "nobody")
    shutil.chown(place.directory(), "nobody")
    assert place.run().status == 0
    owners = {path.name: path.lstat().st_uid for path in place.path.rglob("*") if path not in place.planted}
    assert set(owners.values()) == {place.path.stat().st_uid}, owners


def test_a_link_in_place_of_a_directory_is_refused(
    place: Place, tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "symlink as directory"
    expected(16, fault, 1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    aside = tmp_path / "aside"
    place.directory().rename(aside)
    place.directory().symlink_to(elsewhere)
    ended = place.run()
    assert ended.status == 73, ended.stderr
    assert not list(elsewhere.iterdir())
    place.directory().unlink()
    aside.rename(place.directory())
    assert not promises.after(place)
    survived(16, fault)


def plant_odd(path: Path, kind: str, victim: Path) -> None:
    """Put something under that name that is no plain file of its own; victim: what it leads to."""
    makers: dict[str, Callable[[], object]] = {
        "symlink": lambda: path.symlink_to(victim),
        "dangling symlink": lambda: path.symlink_to(victim.with_name("nothing")),
        "hard link": lambda: path.hardlink_to(victim),
        "FIFO": lambda: os.mkfifo(path),
        "device": lambda: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
        "directory": lambda: path.mkdir(),
        "socket": lambda: socket.socket(socket.AF_UNIX).bind(str(path)),
    }
    makers[kind]()


ODD = ["symlink", "hard link", "FIFO", *(["dangling symlink", "device", "directory"] if FULL else [])]
SECRET = "this must not change\n"


def victim_of(tmp_path: Path) -> Path:
    victim = tmp_path / "victim"
    victim.write_text(SECRET)
    victim.chmod(0o644)
    return victim


def untouched(victim: Path) -> bool:
    """Whether what an odd file leads to is as it was, and nothing came into being beside it (G)."""
    return (
        victim.read_text() == SECRET
        and stat.S_IMODE(victim.stat().st_mode) == 0o644
        and not victim.with_name("nothing").exists()
    )


def remove(path: Path) -> None:
    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_file_in_a_place_of_ours_is_refused_or_passed_over(
    place: Place, tmp_path: Path, expected: Note, survived: Note, kind: str
) -> None:
    backups.needs_root()
    victim = victim_of(tmp_path)

    def tried(name: str, path: Path, statuses: set[int], published: int) -> backups.Ended:
        """One run with the odd file there."""
        fault = f"{kind} as {name}"
        expected(16, fault, 1)
        before = len(place.fresh())
        plant_odd(path, kind, victim)
        ended = place.end(place.start(), 30)
        assert ended.status in statuses, f"{fault}: {ended.status} {ended.stderr}"
        assert untouched(victim), fault
        assert len([one for one in place.fresh() if one != path]) - before == published, fault
        assert not [one for one in promises.problems(place) if path.name not in one], fault
        survived(16, fault)
        return ended

    lock = place.directory() / ".auth_db.lock"
    tried("lock", lock, {73}, 0)
    remove(lock)
    log = place.path / "backup.log"
    log.unlink()
    ended = tried("log", log, {74}, 1)
    assert "backup.log" in ended.stderr
    remove(log)
    latest = place.directory() / names.latest("auth_db")
    latest.unlink()
    if kind.endswith("symlink"):
        tried("LATEST", latest, {0}, 1)
        assert latest.resolve().parent == place.directory()
    else:
        tried("LATEST", latest, {73}, 1)
        remove(latest)
    leftover = place.directory() / f".pgbackup-{promises.owner(place, place.sources[0])}-0000.partial"
    if kind != "directory":
        tried("temporary file", leftover, {0}, 1)
        assert not os.path.lexists(leftover), "it was not swept"
    old = place.directory() / "auth_db_20240101_000000.sql.gz"
    tried("backup", old, {0}, 1)
    if os.path.lexists(old):
        remove(old)
    assert not promises.after(place)


@pytest.mark.parametrize("kind", [*ODD, "dangling symlink"] if not FULL else ODD)
def test_a_final_name_that_is_taken_is_passed_over(
    place: Place, tmp_path: Path, expected: Note, survived: Note, kind: str
) -> None:
    backups.needs_root()
    fault = f"{kind} as final name"
    expected(16, fault, 1)
    victim = victim_of(tmp_path)
    now = datetime.now(timezone.utc)
    taken = place.directory() / f"auth_db_{now:%Y%m%d_%H%M%S}.sql.gz"
    plant_odd(taken, kind, victim)
    ended = run_at(place, now, TZ="UTC")
    assert ended.status == 0, ended.stderr
    assert untouched(victim)
    assert os.path.lexists(taken)
    assert len([path for path in place.fresh() if path != taken]) == 1
    remove(taken)
    assert not promises.after(place)
    survived(16, fault)


# ------------------------------------------------------------------------------------------------ row 18

HOSTILE = {
    "PGOPTIONS": "-c search_path=nowhere -c statement_timeout=1",
    "PGSERVICE": "nowhere",
    "PGHOST": "192.0.2.1",
    "PGPORT": "1",
    "PGUSER": "nobody",
    "PGDATABASE": "nowhere",
    "PGPASSFILE": "/nonexistent",
    "PGCLIENTENCODING": "LATIN1",
    "PGTZ": "Asia/Kathmandu",
    "PSQLRC": "psqlrc",
    "BASH_ENV": "shell",
    "ENV": "shell",
    "IFS": "/_",
    "CDPATH": "/",
    "PYTHONPATH": ".",
    "PYTHONSTARTUP": "json.py",
    "PYTHONHOME": "/nonexistent",
    "PYTHONINSPECT": "1",
    "PYTHONIOENCODING": "utf-16",
    "LC_ALL": "tr_TR.UTF-8",
    "LANG": "tr_TR.UTF-8",
    "GZIP": "-1",
    "POSIXLY_CORRECT": "1",
    "TERM": "",
    "COLUMNS": "-1",
}


@pytest.mark.parametrize("name", [*(HOSTILE if FULL else ("LC_ALL", "PYTHONPATH")), "all of them"])
def test_a_hostile_environment_changes_nothing(
    place: Place, tmp_path: Path, expected: Note, survived: Note, name: str
) -> None:
    fault = "hostile environment, each variable and all"
    expected(18, fault, 1)
    trap, sprung = tmp_path / "current", tmp_path / "sprung"
    trap.mkdir()
    for module in ("json", "os", "sh", "pgbackup", "argparse", "sitecustomize"):
        (trap / f"{module}.py").write_text(f"open({str(sprung)!r}, 'w')\nraise SystemExit(99)\n")
    (trap / "psqlrc").write_text(f"\\! touch {sprung}\n")
    (trap / "shell").write_text(f"touch {sprung}\n")
    (trap / ".env").write_text("RETENTION_DAYS=nonsense\n")
    environment = HOSTILE if name == "all of them" else {name: HOSTILE[name]}
    ended = place.run(prefix=["env", f"--chdir={trap}"], **environment)
    assert ended.status == 0, ended.stderr
    assert not sprung.exists(), "something of the current directory was run"
    assert not promises.told(ended) + promises.settled(place)
    survived(18, fault)


@contextlib.contextmanager
def engine_on_tcp() -> Iterator[str]:
    """The engine's socket as a port of this machine: another machine, as far as a DOCKER_HOST tells."""
    from tests.integration.faults import test_server

    with test_server.relay(tcp=True) as way:
        yield way.host


def test_a_docker_host_is_honoured_and_another_machine_is_asked_by_exec(
    server: servers.Server, tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "DOCKER_HOST: unix socket, another machine"
    expected(18, fault, 2)
    source = databases.container_source(server, "auth")
    place = backups.place(tmp_path / "backups", [source])
    with engine_on_tcp() as host:
        for given, client in ((place.environment.get("DOCKER_HOST", ""), "sidecar"), (host, "exec")):
            ended = place.run("--json", **({"DOCKER_HOST": given} if given else {}))
            assert ended.status == 0, ended.stderr
            assert json.loads(ended.stdout)["databases"][0]["client"] == client
            survived(18, fault)
    assert not promises.settled(place)


# ------------------------------------------------------------------------------------------------ row 20

PASSWORD = "Tr0ub4dor&3-'\"correct horse"


class Watch:
    """Looks at the command lines and environments of all processes, and at the helper containers, as long as it is."""

    def __init__(self, secret: str, mark: str) -> None:
        self.secret, self.mark = secret.encode(), mark
        self.seen: set[str] = set()
        self.looks = self.containers = 0
        self.over = threading.Event()
        self.threads = [threading.Thread(target=look) for look in (self._processes, self._containers)]

    def _processes(self) -> None:
        while not self.over.is_set():
            self.looks += 1
            for entry in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        if self.secret in (entry / name).read_bytes():
                            self.seen.add(f"F: {name} of {(entry / 'cmdline').read_bytes()[:80]!r}")

    def _containers(self) -> None:
        while not self.over.is_set():
            names = docker("ps", "-aq", "--filter", f"label=pgbackup.owner={self.mark}", check=False).stdout.split()
            for name in names:
                shown = docker("inspect", name, check=False).stdout
                self.containers += '"Id"' in shown
                if self.secret.decode() in shown or json.dumps(self.secret.decode())[1:-1] in shown:
                    self.seen.add("F: docker inspect of the sidecar")

    def __enter__(self) -> Watch:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()


def written_secrets(place: Place, ended: backups.Ended) -> list[str]:
    """Where the password stands in what a run has written: log, stdout, stderr, the files and their manifests."""
    texts = {"stdout": ended.stdout, "stderr": ended.stderr, "log": "\n".join(place.log())}
    for path in place.fresh():
        texts[path.name] = subprocess.run(["gunzip", "-c", str(path)], capture_output=True, check=True).stdout.decode()
    shapes = {PASSWORD, json.dumps(PASSWORD)[1:-1], PASSWORD.replace("'", "''")}
    return [f"F: {name}" for name, text in texts.items() if any(shape in text for shape in shapes)]


@pytest.fixture(scope="module")
def guarded(server: servers.Server) -> servers.Server:
    """A server that asks everybody for a password, on the loopback too; a role of ours has one."""
    databases.container_source(server, "auth", bulk=databases.BULK_ROWS)
    with server.connect() as session:
        session.execute(
            psycopg.sql.SQL("CREATE ROLE keeper LOGIN SUPERUSER PASSWORD {}").format(psycopg.sql.Literal(PASSWORD))
        )
    data = server.sql("SHOW data_directory")[0][0]
    server.exec(["sh", "-c", f"echo 'host all all all scram-sha-256' >{data}/pg_hba.conf"])
    server.sql("SELECT pg_reload_conf()")
    return server


@pytest.mark.parametrize("kind", ["sidecar", "direct"])
def test_a_password_is_nowhere_to_be_seen(
    guarded: servers.Server, tmp_path: Path, expected: Note, survived: Note, kind: str
) -> None:
    fault = f"password in processes, containers, log, files, {kind}"
    expected(20, fault, 2)
    passfile = tmp_path / "pass"
    passfile.touch(0o600)
    passfile.write_text("*:*:*:keeper:" + PASSWORD.replace("\\", "\\\\").replace(":", "\\:") + "\n")
    values = {"CONTAINER": guarded.name, "DIR": "auth", "CLIENT": kind, "DATABASE": "auth_db", "USER": "keeper"}
    values |= {"PASSFILE": str(passfile)}
    if kind == "direct":
        values |= {"URL": f"postgresql://keeper@{guarded.address}:5432/auth_db"}
        programs = str(databases.embedded_programs(18))
        values["PROGRAMS"] = programs
    source = Source("auth", "auth_db", b"", values, lambda text: guarded.sql(text, "postgres"), lambda: "")
    place = backups.place(tmp_path / "backups", [source])
    with Watch(PASSWORD, promises.owner(place, source)) as watch:
        ended = place.run()
    assert ended.status == 0, ended.stderr
    assert watch.looks > 2
    assert kind == "direct" or watch.containers > 0, "the watch saw no container: it proves nothing"
    assert not watch.seen
    assert not written_secrets(place, ended)
    survived(20, fault)
    passfile.write_text(f"*:*:*:keeper:{PASSWORD}wrong\n")
    with Watch(PASSWORD, promises.owner(place, source)) as watch:
        ended = place.run()
    assert ended.status == 77, ended.stderr
    assert not list(watch.seen) + written_secrets(place, ended)
    survived(20, fault)


def test_a_password_in_a_url_is_refused_and_not_repeated(place: Place, expected: Note, survived: Note) -> None:
    fault = "password in a URL"
    expected(20, fault, 2)
    for url in ("postgresql://keeper:Sekret77@localhost/auth_db", "postgresql://localhost/auth_db?password=Sekret77"):
        ended = place.run("--json", AUTH_URL=url)
        assert ended.status == 78
        assert "Sekret77" not in ended.stdout + ended.stderr + "".join(place.log())
        survived(20, fault)


# ------------------------------------------------------------------------------------- tests of these tests


def test_the_watch_sees_a_secret_on_a_command_line_and_in_an_environment() -> None:
    with (
        Watch("a-secret-of-the-test", "x") as watch,
        subprocess.Popen(["sh", "-c", "read x", "a-secret-of-the-test"], stdin=subprocess.PIPE),
    ):
        assert soon(lambda: bool(watch.seen)), "checker is broken: no error found"
    given = {"PATH": os.environ["PATH"], "SECRET": "another-secret-of-the-test"}
    with (
        Watch("another-secret-of-the-test", "x") as watch,
        subprocess.Popen(["sh", "-c", "read x"], env=given, stdin=subprocess.PIPE),
    ):
        assert soon(lambda: bool(watch.seen)), "checker is broken: no error found"


BUGS = {
    "no lock": [
        ("store/lock.py", "            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n", "            pass\n")
    ],
    "a final name replaced": [
        (
            "store/publish.py",
            "        os.link(partial_name, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd, follow_symlinks=False)\n",
            "        os.rename(partial_name, name, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)\n",
        )
    ],
    "links followed": [("store/folder.py", "flags | os.O_NOFOLLOW | ", "flags | ")],
    "umask trusted": [
        ("cli/main.py", "    os.umask(0o077)", "    # os.umask(0o077)"),
        ("store/workfiles.py", "        folder.close_to_others(descriptor)\n", ""),
    ],
    "the directory's mode not looked at": [
        ("store/folder.py", "if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)", "if False")
    ],
}


@pytest.mark.parametrize("bug", BUGS if FULL else ["a final name replaced"])
def test_a_suite_with_a_bug_is_caught(small: list[Source], tmp_path: Path, bug: str) -> None:
    """Each bug makes that test fail which looks for it."""
    place = backups.place(tmp_path / "backups", small[:1])
    place.plant(small[0])
    place.root = backups.mutated(tmp_path / "copy", *BUGS[bug])

    def quiet(*_: object) -> None:
        """Nothing is noted of a try that has to fail."""

    tests: dict[str, Callable[[], object]] = {
        "no lock": lambda: test_of_many_runs_of_one_database_at_once_one_wins(place, lambda a, _b: 2, quiet, quiet),
        "a final name replaced": lambda: test_two_runs_in_one_second_make_two_backups(place, quiet, quiet),
        "links followed": lambda: log_behind_a_link(place, tmp_path),
        "umask trusted": lambda: private(place),
        "the directory's mode not looked at": lambda: test_a_directory_that_others_may_write_is_refused(
            place, quiet, quiet
        ),
    }
    with pytest.raises(AssertionError):
        tests[bug]()


def log_behind_a_link(place: Place, tmp_path: Path) -> None:
    victim = victim_of(tmp_path)
    (place.path / "backup.log").symlink_to(victim)
    place.run()
    assert untouched(victim)


def private(place: Place) -> None:
    assert place.run(prefix=["sh", "-c", 'umask 777; exec "$@"', "sh"]).status == 0
    assert not promises.settled(place)
