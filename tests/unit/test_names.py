"""Names of files: each database has its own, whatever it is called, and no name can do harm."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbackup.formats import names

from tests.support.mutants import mutant

# What PostgreSQL takes as a name: up to 63 bytes, none of them NUL; environments give any bytes.
DATABASES = st.binary(min_size=1, max_size=63).filter(lambda raw: 0 not in raw).map(os.fsdecode)
INSTANTS = st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2037, 12, 30)).map(  # noqa: DTZ001
    lambda moment: moment.replace(microsecond=0, tzinfo=timezone.utc)
)


@contextmanager
def time_zone(name: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TZ", name)
        time.tzset()
        try:
            yield
        finally:
            environment.undo()
            time.tzset()


@given(DATABASES, INSTANTS)
def test_a_name_is_one_safe_component_of_a_path(database: str, when: datetime) -> None:
    for name in (names.dated(database, when), names.latest(database)):
        assert name.isascii()
        assert name.isprintable()
        assert not set(name) & set("/\\ *?[]'\"$`;|&<>()!")
        assert name[0] not in ".-"
        assert len(name) <= 255
        assert name.endswith(".sql.gz")


@given(DATABASES, DATABASES, INSTANTS)
def test_two_databases_never_share_a_name(one: str, other: str, when: datetime) -> None:
    if one != other:
        assert names.dated(one, when) != names.dated(other, when)
        assert names.latest(one) != names.latest(other)


@given(DATABASES, DATABASES, INSTANTS)
def test_a_backup_is_read_as_that_of_its_database_and_of_no_other(one: str, other: str, when: datetime) -> None:
    name = names.dated(one, when)
    with time_zone("UTC"):
        name = names.dated(one, when)
        assert names.parse(one, name) == names.Named(when, manual=False)
    if other not in (one, one.removesuffix("_manual")):
        assert names.parse(other, name) is None
    assert names.parse(one, names.latest(one)) is None


@given(DATABASES, st.text(st.sampled_from("0189_manul.sqgz-% \n٣"), max_size=30))
def test_no_other_text_is_read_as_a_backup(database: str, text: str) -> None:
    stem = names.stem(database)
    for name in (text, f"{stem}{text}", f"{stem}_{text}.sql.gz", f"{stem}_20240115_020000{text}", f"{text}{stem}"):
        if names.parse(database, name) is not None:
            middle = name.removeprefix(f"{stem}_").removesuffix(".sql.gz").removeprefix("manual_")
            assert len(middle) == 15
            assert set(middle) <= set("0123456789_")


@pytest.mark.parametrize(
    "stamp", ["20241301_000000", "20240230_000000", "20240115_240000", "20240115_006000", "00000101_000000"]
)
def test_a_moment_that_does_not_exist_is_no_name(stamp: str) -> None:
    assert names.parse("app", f"app_{stamp}.sql.gz") is None


def test_the_guides_names_are_these() -> None:
    with time_zone("Europe/Moscow"):
        when = datetime(2024, 1, 14, 23, tzinfo=timezone.utc)
        assert names.dated("auth_db", when) == "auth_db_20240115_020000.sql.gz"
        assert names.latest("auth_db") == "auth_db_LATEST.sql.gz"
        assert names.parse("auth_db", "auth_db_20240115_020000.sql.gz") == names.Named(when, manual=False)
        assert names.parse("auth_db", "auth_db_manual_20240115_020000.sql.gz") == names.Named(when, manual=True)


@given(st.sampled_from(["Europe/Berlin", "America/Sao_Paulo", "Asia/Tehran", "Australia/Lord_Howe"]), INSTANTS)
def test_a_name_says_its_moment_in_every_zone_but_for_the_hour_that_is_there_twice(zone: str, when: datetime) -> None:
    with time_zone(zone):
        said = names.parse("app", names.dated("app", when))
    assert said is not None
    assert abs(said.taken - when) <= timedelta(hours=1)


def test_these_tests_see_names_that_are_matched_loosely() -> None:
    broken = mutant("pgbackup.formats.names", (r'r"_(manual_)?', r'r".*_(manual_)?'))
    assert broken.parse("app", "app_1_20240115_020000.sql.gz") is not None, "no error found: the test is broken"
    assert names.parse("app", "app_1_20240115_020000.sql.gz") is None


def test_names_are_the_same_under_any_locale() -> None:
    """Turkish has no i for I, and a C locale has no bytes over 127."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pgbackup.formats import names; print(names.stem('ID_Iıİ'))"
    )
    library = str(Path(names.__file__).parents[2])
    said = {
        subprocess.run(
            [sys.executable, "-c", code, library], env={"LC_ALL": locale}, capture_output=True, check=True
        ).stdout
        for locale in ("C", "C.UTF-8", "tr_TR.UTF-8", "POSIX")
    }
    assert len(said) == 1
