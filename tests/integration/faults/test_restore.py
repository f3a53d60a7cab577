"""Restores that must not be, or fail on their way: rows 34 to 38 of the table of faults. The old database stays."""

from __future__ import annotations

import gzip
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pgbackup.formats import dumpfile

from tests.integration.faults.test_disk import disk
from tests.support import backups, promises, restores, servers
from tests.support.effort import only_in_full, wide
from tests.support.restores import Lab
from tests.support.runs import soon

Tries = Callable[[int, int], int]
Note = Callable[..., None]


# ------------------------------------------------------------------------------------------------- row 34


@contextmanager
def small_disks(path: Path) -> Iterator[tuple[servers.Server, Path, Path]]:
    """A server whose data and WAL lie on two small disks of this host; give their directories too."""
    settings = {"max_wal_size": "4MB", "min_wal_size": "2MB"}
    initdb = ["--waldir=/wal/inside", "--wal-segsize=1"]
    with disk(path / "data", size=96 << 20) as data, disk(path / "wal", size=24 << 20) as wal:
        wal.chmod(0o1777)
        mounts = {data: "/var/lib/postgresql/data", wal: "/wal"}
        name = "pgbackup-test-restore-"
        with servers.running(
            15, name=name, database="auth_db", user="auth_user", mounts=mounts, initdb=initdb, settings=settings
        ) as server:
            yield server, data, wal


def filled(where: Path, free: int) -> Path:
    """Leave so many bytes of a disk's room."""
    ballast = where / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while os.statvfs(where).f_bavail * os.statvfs(where).f_frsize > free:
            file.write(bytes(4096))
    return ballast


@pytest.mark.parametrize("which", ["data", "WAL"])
def test_a_disk_that_fills_up_while_it_loads_loses_nothing(
    engine: str, tmp_path: Path, side_by_side_root: Path, expected: Note, survived: Note, which: str
) -> None:
    fault = f"restore: disk full, {which}"
    expected(34, fault, 1)
    with small_disks(tmp_path / "disks") as (server, data, wal):
        lab = restores.in_container(server, tmp_path, "exec")
        lab.place.root = side_by_side_root
        file, new, old = lab.reset(rows=20_000)
        process = lab.start("--yes", file.name)
        assert soon(lambda: bool(lab.scratch()) or process.poll() is not None, 60)
        process.send_signal(signal.SIGSTOP)
        ballast = filled(data, 500_000) if which == "data" else filled(wal, 0)
        process.send_signal(signal.SIGCONT)
        ended = lab.place.end(process)
        assert ended.status == (74 if which == "data" else 69), ended.stderr
        if which == "data":
            assert "disk of the server of 'auth_db' is full" in ended.stderr
        # Where nothing at all is left, PostgreSQL ends itself at its next checkpoint.
        ballast.unlink()
        server.restart()  # whether it is still about to end itself or not
        assert not restores.problems(lab, old, new)
        assert not restores.after(lab, old, new)
        assert lab.restore("--yes", file.name).status == 0
        assert lab.content() == new
    survived(34, fault)


def test_a_disk_without_room_for_a_second_copy_is_told_before_anything_changes(
    engine: str, tmp_path: Path, expected: Note, survived: Note
) -> None:
    fault = "restore: no room for a second copy"
    expected(34, fault, 1)
    with small_disks(tmp_path / "disks") as (server, data, _):
        lab = restores.in_container(server, tmp_path, "exec")
        file, new, old = lab.reset(30_000)
        filled(data, 16_000_000)  # room for an empty database, which is what --in-place tries things out in
        ended = lab.restore("--yes", file.name)
        assert not restores.failed(lab, ended, 74, old)
        assert "too little space for a second copy" in ended.stderr
        assert "--in-place" in ended.stderr
        ended = lab.restore("--yes", "--in-place", file.name)
        assert ended.status == 0, ended.stderr
        assert lab.content() == new
    survived(34, fault)


def by_hand(lab: Lab, text: bytes, name: str = "") -> Path:
    """A dump that somebody wrote, with pg_dump's own first and last lines."""
    file = lab.directory / (name or f"{lab.database}_manual_20240101_000000.sql.gz")
    begin, end = b"--\n-- PostgreSQL database dump\n--\n\n", b"\n--\n-- PostgreSQL database dump complete\n--\n\n"
    file.write_bytes(gzip.compress(begin + text + end))
    return file


FAILING = {
    "error on the last statement": b"CREATE TABLE a (id int);\nCOPY a (id) FROM stdin;\n\\.\nSELECT 1 / 0;\n",
    "deferred foreign key at COMMIT": (
        b"BEGIN;\nCREATE TABLE a (id int PRIMARY KEY);\n"
        b"CREATE TABLE b (a int REFERENCES a DEFERRABLE INITIALLY DEFERRED);\nINSERT INTO b VALUES (1);\nCOMMIT;\n"
    ),
    "a transaction that nobody commits": (b"CREATE TABLE a (id int);\nBEGIN;\nCOPY a (id) FROM stdin;\n1\n\\.\n"),
    "a trigger that swallows rows": (
        b"CREATE TABLE public.a (id int);\nCREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS"
        b" $$ BEGIN RETURN NULL; END $$;\nCREATE TRIGGER no BEFORE INSERT ON public.a FOR EACH ROW"
        b" EXECUTE FUNCTION public.no();\nCOPY public.a (id) FROM stdin;\n1\n\\.\n"
    ),
    "a table that is gone at the end": (
        b"CREATE TABLE public.a (id int);\nCOPY public.a (id) FROM stdin;\n1\n\\.\nDROP TABLE public.a;\n"
    ),
}
LIKE_ANOTHER = ("deferred foreign key at COMMIT", "a trigger that swallows rows")  # an error at the end; a difference


@wide("how", [how for how in FAILING if how not in LIKE_ANOTHER], FAILING)
def test_a_dump_that_fails_or_is_not_equal_is_not_swapped_in(
    lab: Lab, expected: Note, survived: Note, how: str
) -> None:
    expected(34, f"restore: {how}", 1)
    _, _, old = lab.reset()
    ended = lab.restore("--yes", by_hand(lab, FAILING[how]).name)
    assert not restores.failed(lab, ended, 65, old)
    survived(34, f"restore: {how}")


# ------------------------------------------------------------------------------------------------- row 35


@pytest.fixture(scope="module")
def server(engine: str) -> Iterator[servers.Server]:
    settings: dict[str, str | int] = {"max_prepared_transactions": 5, "wal_level": "logical"}
    with servers.running(
        15, name="pgbackup-test-restore-", database="auth_db", user="auth_user", settings=settings
    ) as started:
        yield started


@contextmanager
def prepared(lab: Lab) -> Iterator[None]:
    with psycopg.connect(lab.dsn(lab.database)) as session:
        session.execute("INSERT INTO arrivals VALUES (77); PREPARE TRANSACTION 'of the tests'")
    yield
    lab.sql("ROLLBACK PREPARED 'of the tests'", lab.database)


@contextmanager
def slot(lab: Lab) -> Iterator[None]:
    lab.sql("SELECT pg_create_logical_replication_slot('of_the_tests', 'pgoutput')", lab.database)
    yield
    lab.sql("SELECT pg_drop_replication_slot('of_the_tests')", lab.database)


@contextmanager
def subscription(lab: Lab) -> Iterator[None]:
    create = "CREATE SUBSCRIPTION of_the_tests CONNECTION 'host=/nowhere' PUBLICATION none"
    lab.sql(f"{create} WITH (connect = false, slot_name = NONE)", lab.database)
    yield
    lab.sql("DROP SUBSCRIPTION of_the_tests", lab.database)


@pytest.mark.parametrize(
    ("how", "says"), [(prepared, "prepared transaction"), (slot, "of_the_tests"), (subscription, "subscription")]
)
def test_what_hangs_on_the_live_database_is_named_before_anything_changes(
    server: servers.Server,
    tmp_path: Path,
    expected: Note,
    survived: Note,
    how: Callable[[Lab], AbstractContextManager[None]],
    says: str,
) -> None:
    lab = restores.in_container(server, tmp_path)
    fault = "restore: prepared transaction, logical slot, subscription on the target"
    expected(35, fault, 1)
    file, _, old = lab.reset()
    with how(lab):
        ended = lab.restore("--yes", file.name)
        assert not restores.failed(lab, ended, 78, old)
        assert says in ended.stderr
        assert "nothing was touched" in ended.stderr
    survived(35, fault)


# ------------------------------------------------------------------------------------------------- row 36


def forged(lab: Lab, file: Path, **changes: Any) -> Path:
    """The same backup with another manifest. changes: of its top level; `server` is changed key by key."""
    other = lab.directory / f"{lab.database}_20240102_000000.sql.gz"
    shutil.copy(file, other)
    with other.open("r+b", buffering=0) as opened:
        manifest = dumpfile.check(opened.fileno()).manifest
        assert manifest is not None
        facts = manifest.raw
        server = {**facts["server"], **changes.pop("server", {})}
        opened.truncate(facts["gzip_bytes"])
        opened.seek(0, os.SEEK_END)
        dumpfile.append_manifest(opened.fileno(), {**facts, **changes, "server": server})
    return other


LACKING: dict[str, tuple[dict[str, Any], str]] = {
    "a role": ({"server": {"roles": {"no_such_role": "CREATE ROLE no_such_role WITH LOGIN;"}}}, "no_such_role"),
    "the owner": ({"server": {"owner": "no_such_owner"}}, "no_such_owner"),
    "an extension": ({"server": {"extensions": {"plpgsql": "1.0", "no_such_extension": "1"}}}, "no_such_extension"),
    "a tablespace": ({"server": {"tablespaces": ["no_such_space"]}}, "no_such_space"),
    "a newer major": ({"server_version": "99.1"}, "the dump is from PostgreSQL 99"),
}


@pytest.mark.parametrize("what", LACKING)
def test_what_the_server_lacks_is_named_before_anything_changes(
    lab: Lab, expected: Note, survived: Note, what: str
) -> None:
    fault = "restore: role, extension, tablespace, locale missing; newer major"
    expected(36, fault, 1)
    file, _, old = lab.reset()
    changes, says = LACKING[what]
    ended = lab.restore("--yes", forged(lab, file, **changes).name)
    assert not restores.failed(lab, ended, 78, old)
    assert says in ended.stderr
    assert "restore.start" not in "\n".join(ended.log), "it had begun"
    survived(36, fault)


def test_a_locale_that_the_server_lacks_is_named_before_anything_changes(
    lab: Lab, expected: Note, survived: Note
) -> None:
    fault = "restore: role, extension, tablespace, locale missing; newer major"
    expected(36, fault, 1)
    file, _, old = lab.reset()
    database = {"datcollate": "xx_YY.utf8", "datctype": "xx_YY.utf8", "datlocprovider": "c"}
    ended = lab.restore("--yes", forged(lab, file, server={"database": database}).name)
    assert not restores.failed(lab, ended, 78, old)
    assert "xx_YY.utf8" in ended.stderr
    assert "restore.start" not in "\n".join(ended.log), "it had begun"
    survived(36, fault)


def test_a_role_that_may_not_create_databases_is_told_before_anything_changes(lab: Lab) -> None:
    file, _, old = lab.reset()
    lab.sql("DROP ROLE IF EXISTS weak")
    lab.sql("CREATE ROLE weak LOGIN")
    url = lab.dsn("auth_db").replace("auth_user", "weak")
    ended = lab.restore("--yes", file.name, AUTH_URL=url, AUTH_USER="weak")
    assert not restores.failed(lab, ended, 78, old)
    assert "CREATEDB" in ended.stderr


def test_a_psql_that_knows_no_restrict_restores_all_the_same(lab: Lab, tmp_path: Path) -> None:
    file, new, _ = lab.reset()
    programs = tmp_path / "programs"
    programs.mkdir()
    real = Path(lab.source.values["PROGRAMS"]) / "psql"
    old_psql = f'#!/bin/sh\n[ "$1" = --version ] && exec echo "psql (PostgreSQL) 15.3"\nexec {real} "$@"\n'
    (programs / "psql").write_text(old_psql)
    (programs / "psql").chmod(0o755)
    ended = lab.restore("--yes", file.name, PATH=f"{programs}:{lab.place.environment['PATH']}")
    assert ended.status == 0, ended.stderr
    assert lab.content() == new


# ------------------------------------------------------------------------------------------------- row 37


def test_a_file_of_another_database_is_refused_unless_into_insists(lab: Lab, expected: Note, survived: Note) -> None:
    fault = "restore: a file of another database, or of nobody"
    expected(37, fault, 2)
    file, new, old = lab.reset()
    other = forged(lab, file, database="payment_db")
    ended = lab.restore("--yes", other.name)
    assert not restores.failed(lab, ended, 65, old)
    assert "is a backup of 'payment_db', not of 'auth_db'" in ended.stderr
    survived(37, fault)
    nameless = by_hand(lab, b"CREATE TABLE a (id int);\nCOPY a (id) FROM stdin;\n\\.\n", "somebody.sql.gz")
    ended = lab.restore("--yes", nameless.name)
    assert not restores.failed(lab, ended, 65, old)
    assert "unknown database" in ended.stderr
    survived(37, fault)
    assert lab.restore("--yes", "--into", "insisted", other.name).status == 0
    assert lab.content("insisted") == new


ANSWERS = {
    "end of file": b"\x04",
    "nothing": b"\n",
    "y": b"y\n",
    "yes": b"yes\n",
    "YES ": b"YES \n",
    "another name": b"payment_db\n",
    "the name and a blank": b"auth_db \n",
    "the name in capitals": b"AUTH_DB\n",
}


@wide("answer", ["end of file", "YES "], ANSWERS)
def test_no_other_answer_than_the_name_is_a_yes(lab: Lab, expected: Note, survived: Note, answer: str) -> None:
    fault = "restore: EOF, no terminal, y, YES, another name at the prompt"
    expected(37, fault, 1)
    file, _, old = lab.reset()
    typed = restores.on_terminal(lab.command(file.name), lab.place.environment, ANSWERS[answer])
    assert typed.status == 64, typed.screen
    assert "nothing was touched" in typed.screen
    assert "WILL BE LOST" in typed.screen
    assert not restores.settled(lab, old, old)
    survived(37, fault)


def test_the_name_typed_on_a_terminal_is_a_yes(lab: Lab) -> None:
    file, new, _ = lab.reset()
    typed = restores.on_terminal(lab.command(file.name), lab.place.environment, b"auth_db\n")
    assert typed.status == 0, typed.screen
    assert lab.content() == new
    typed = restores.on_terminal(lab.command("--rollback"), lab.place.environment, b"auth_db\n")
    assert typed.status == 0, typed.screen
    typed = restores.on_terminal(lab.command("--drop-old"), lab.place.environment, b"yes\n")
    assert typed.status == 64, typed.screen
    assert lab.kept()


def test_ctrl_c_at_the_prompt_touches_nothing(lab: Lab) -> None:
    file, _, old = lab.reset()
    typed = restores.on_terminal(lab.command(file.name), lab.place.environment, b"\x03")
    assert typed.status == 130, typed.screen
    assert not restores.settled(lab, old, old)


def test_without_a_terminal_only_yes_will_do(lab: Lab, expected: Note, survived: Note) -> None:
    fault = "restore: EOF, no terminal, y, YES, another name at the prompt"
    expected(37, fault, 1)
    file, _, old = lab.reset()
    for prefix in ([], ["sh", "-c", 'printf "auth_db\\n" | "$@"', "sh"], ["sh", "-c", '"$@" <&-', "sh"]):
        ended = lab.restore(file.name, prefix=prefix)
        assert not restores.failed(lab, ended, 64, old)
        assert "--yes" in ended.stderr
    survived(37, fault)


# ------------------------------------------------------------------------------------------------- row 38


def test_the_file_that_was_verified_is_the_one_that_is_loaded(
    lab: Lab, tmp_path: Path, tries: Tries, expected: Note, survived: Note
) -> None:
    fault, count = "restore: file renamed over between verify and load", tries(1, 1000)
    expected(38, fault, count)
    file, new, _ = lab.reset()
    evil = by_hand(lab, b"CREATE TABLE public.evil (id int);\n", "evil")
    good = tmp_path / "good"
    shutil.copy(file, good)
    for _ in range(count):
        shutil.copy(good, file)
        process = lab.start("--yes", "--into", "looked_at", file.name)
        restores.await_line(process, "every byte as its manifest says")
        shutil.copy(evil, tmp_path / "swapped")
        (tmp_path / "swapped").replace(file)
        assert lab.place.end(process).status == 0
        assert lab.content("looked_at") == new
        lab.sql("DROP DATABASE looked_at")
        survived(38, fault)


def test_a_file_overwritten_after_it_was_verified_is_noticed(lab: Lab, expected: Note, survived: Note) -> None:
    fault = "restore: file overwritten in place between verify and load"
    expected(38, fault, 1)
    file, _, old = lab.reset()
    evil = by_hand(lab, b"CREATE TABLE public.evil (id int);\n").read_bytes()
    with psycopg.connect(lab.dsn("template1")):  # CREATE DATABASE is from template0 and does not mind
        process = lab.start("--yes", file.name)
        restores.await_line(process, "every byte as its manifest says")
        with file.open("r+b") as opened:
            opened.write(evil)
            opened.truncate()
    ended = lab.place.end(process)
    assert not restores.failed(lab, ended, 65, old)
    survived(38, fault)


# ------------------------------------------------------------------------------------- tests of these tests

BUGS = {
    "counts not compared": (
        "commands/loading/fill.py",
        "        if here.get(name) != rows and not",
        "        if False and not",
    ),
    "scratch not dropped": (
        "commands/restore/undo.py",
        "record.swapped = unfinished.undo(job, client, entry)",
        "record.swapped = False",
    ),
}


@only_in_full
@pytest.mark.parametrize("bug", BUGS)
def test_a_suite_with_a_bug_is_caught(lab: Lab, tmp_path: Path, bug: str) -> None:
    lab.place.root = backups.mutated(tmp_path / "copy", BUGS[bug])
    _, _, old = lab.reset()
    ended = lab.restore("--yes", by_hand(lab, FAILING["a trigger that swallows rows"]).name)
    assert restores.failed(lab, ended, 65, old), "checker is broken: no error found"


@only_in_full
def test_a_suite_that_opens_the_file_twice_is_caught(lab: Lab, tmp_path: Path) -> None:
    """The test of row 38 must not pass only because nobody looks at the file again."""
    change = (
        "commands/loading/fill.py",
        "        reader = dumpfile.Reader(filling.source.descriptor)\n        parts = _counted",
        "        reader = dumpfile.Reader(__import__('os').open(filling.source.path, 0))\n        parts = _counted",
    )
    lab.place.root = backups.mutated(tmp_path / "copy", change)
    file, _, _ = lab.reset()
    evil = by_hand(lab, b"CREATE TABLE public.evil (id int);\n")
    process = lab.start("--yes", "--into", "looked_at", file.name)
    restores.await_line(process, "every byte as its manifest says")
    evil.replace(file)
    assert lab.place.end(process).status != 0, "checker is broken: no error found"
    assert promises.leftovers(lab.place) == []
