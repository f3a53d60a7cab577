"""Backups of a standby: good, and cancelled by what its primary sends. Row 99 of the table of faults."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from demo import servers, workspace
from tests.support import backups, databases, embedded, promises
from tests.support.backups import Source
from tests.support.runs import soon

Note = Callable[..., None]


class Standby(servers.Server):
    """A standby of another embedded server that lets no query hold up what it replays."""

    def __init__(self, primary: servers.Server, directory: Path) -> None:
        super().__init__(primary.installation, directory, primary.superuser)
        self._primary = primary

    def initialise(self) -> subprocess.Popen[bytes]:
        self.directory.mkdir(mode=0o700)
        if account := self.installation.account:
            os.chown(self.directory, account.pw_uid, account.pw_gid)
        data = self.directory / "data"
        with psycopg.connect(self._primary.url("postgres"), autocommit=True) as session:
            session.execute("SELECT pg_backup_start('standby', fast => true)")
            copying = subprocess.Popen(["cp", "-a", self._primary.directory / "data", data])
            assert copying.wait(servers.START_SECONDS) == 0
            label = session.execute("SELECT labelfile FROM pg_backup_stop(false)").fetchone()
        assert label is not None
        (data / "postmaster.pid").unlink()
        (data / "backup_label").write_text(label[0])
        (data / "standby.signal").touch()
        where = f"host={self._primary.directory} user={self.superuser}"
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = '{where}'\nmax_standby_streaming_delay = 0\n")
        for path in data.iterdir():
            path.chmod(0o600 if path.is_file() else 0o700)
            if account := self.installation.account:
                os.chown(path, account.pw_uid, account.pw_gid)
        self._process = copying
        return copying


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[servers.Server, Source]]:
    """A primary, and its standby as the source of backups."""
    with workspace.workspace(shared=servers.runs_as_root()) as place:
        installation = servers.install(place)
        with servers.running(installation, place, ["auth_user"]) as (primary,):
            primary.load("auth_db", embedded.AUTH_SQL, 20)
            standby = Standby(primary, place / "standby")
            try:
                standby.initialise()
                standby.start()
                yield primary, databases._embedded(standby, "auth")
            finally:
                standby.stop()


def test_a_standby_is_backed_up_like_any_other(pair: tuple[servers.Server, Source], tmp_path: Path) -> None:
    place = backups.place(tmp_path / "backups", [pair[1]])
    assert not promises.after(place)


def test_a_standby_that_cancels_the_dump_is_told_with_what_to_set(
    pair: tuple[servers.Server, Source], tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "a standby cancels the dump in favour of its primary"
    expected(99, fault, 1)
    primary, source = pair
    place = backups.place(tmp_path / "backups", [source])
    place.plant(source)
    tables = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY oid"
    first, *_, last = primary.psql("auth_db", "-c", tables).split()  # in this order pg_dump locks them
    locked = "SELECT 1 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted"
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name LIKE 'pgbackup-%'"
    with psycopg.connect(primary.url("auth_db")) as holder:
        holder.execute(f"LOCK TABLE {last} IN ACCESS EXCLUSIVE MODE")  # the standby does the same, and pg_dump waits
        primary.psql("auth_db", "-c", "CREATE TABLE sent ()")  # and with it what was written before
        assert soon(lambda: bool(source.sql(locked)))
        run = place.start()
        assert soon(lambda: bool(source.sql(waits)))
        primary.psql("auth_db", "-c", f"ALTER TABLE {first} ADD changed integer")
        ended = place.end(run)
    assert not promises.failed(place, ended, 69)
    assert "the standby of 'auth_db' has cancelled the dump" in ended.stderr
    assert "hot_standby_feedback = on" in ended.stderr and "max_standby_streaming_delay" in ended.stderr
    assert not promises.settled(place)
    survived(99, fault)
