"""Exit statuses are an interface: one number for each kind of failure, in one table, the same everywhere."""

from __future__ import annotations

import itertools
import signal

import pytest
from pgbackup import errors
from pgbackup.errors import EXIT_STATUSES, SuiteError, overall_status

# What other programs rely on; a number keeps its meaning for ever.
PROMISED = {
    "UsageError": 64,
    "BackupBad": 65,
    "NoBackup": 66,
    "Unavailable": 69,
    "SuiteError": 70,
    "CannotCreate": 73,
    "IoFailed": 74,
    "LockHeld": 75,
    "PermissionDenied": 77,
    "ConfigurationError": 78,
}
STATUSES = [0, *PROMISED.values(), 130, 143]


def kinds() -> dict[str, type[SuiteError]]:
    found = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    return {name: kind for name, kind in found.items() if issubclass(kind, SuiteError)}


def test_every_kind_of_failure_has_its_promised_status() -> None:
    assert {name: kind.status for name, kind in kinds().items() if name != "Interrupted"} == PROMISED


def test_the_table_has_every_status_once_in_order_with_a_meaning() -> None:
    statuses = [status for status, _ in EXIT_STATUSES]
    assert statuses == ["0", "1", *map(str, sorted(PROMISED.values())), "128+n"]
    assert all(meaning.strip() for _, meaning in EXIT_STATUSES)
    assert len({meaning for _, meaning in EXIT_STATUSES}) == len(EXIT_STATUSES)


def test_every_kind_of_failure_is_in_the_table_in_its_own_words() -> None:
    meanings = dict(EXIT_STATUSES)
    for name, kind in kinds().items():
        assert meanings["128+n" if name == "Interrupted" else str(kind.status)] == kind.meaning


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_128_and_its_number(number: signal.Signals) -> None:
    assert errors.Interrupted(number).status == 128 + number
    assert str(128 + number) in errors.Interrupted.meaning


def test_a_failure_carries_its_message_and_hint() -> None:
    failure = errors.NoBackup("there is no backup of 'auth'", "backup-postgres.sh auth")
    assert (str(failure), failure.message, failure.hint) == (
        "there is no backup of 'auth'",
        "there is no backup of 'auth'",
        "backup-postgres.sh auth",
    )
    assert errors.NoBackup("none").hint is None


@pytest.mark.parametrize(
    ("statuses", "overall"),
    [
        ([], 0),
        ([0], 0),
        ([0, 0], 0),
        ([69], 69),
        ([69, 69], 69),
        ([0, 69], 1),
        ([69, 0, 74], 1),
        ([77, 69], 77),
        ([69, 77], 69),
        ([0, 143], 143),
        ([69, 130], 130),
        ([143, 143], 143),
    ],
)
def test_the_status_of_a_run_is_that_of_its_databases(statuses: list[int], overall: int) -> None:
    assert overall_status(statuses) == overall


def test_a_run_is_green_only_if_every_database_is() -> None:
    for statuses in itertools.product(STATUSES, repeat=3):
        before = list(statuses)
        assert (overall_status(before) == 0) == (not any(statuses))
        assert before == list(statuses), "it changed what it was given"


def test_a_run_that_was_stopped_says_so_whatever_else_failed() -> None:
    for statuses in itertools.product(STATUSES, repeat=3):
        assert (overall_status(statuses) > 128) == any(status > 128 for status in statuses)
