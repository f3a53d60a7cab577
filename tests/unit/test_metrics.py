"""The metrics: each fact is there from the first day on, in the format that Prometheus reads."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from pgbackup.report.metrics import series
from pgbackup.report.promises.facts import Finding, Key
from pgbackup.report.promises.status import Status
from prometheus_client.parser import text_string_to_metric_families

from tests.support import examples, many, speed

# What only a host with places, archives, keys has: names of what is not there are not known.
OF_WHAT_IS_THERE = ("copy", "wal", "base", "key")


def samples(status: Status) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Read the text as Prometheus does, and refuse a series that is there twice, which the collector would."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(series.text(status)):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def value(status: Status, name: str, **labels: str) -> float:
    return samples(status)[f"pgbackup_{name}", frozenset(labels.items())]


@pytest.mark.parametrize("example", examples.ALL)
def test_each_metric_is_there_in_every_example(example: Callable[[], Status]) -> None:
    status = example()
    there = {name for name, _ in samples(status)}
    bare = not status.facts.copies
    wanted = {
        metric.name
        for metric in series.METRICS
        if not (bare and metric.name.removeprefix("pgbackup_").startswith(OF_WHAT_IS_THERE))
    }
    assert there == wanted


@pytest.mark.fault(222, "metrics of a database that was never backed up")
def test_a_database_has_all_its_series_from_the_first_day_on() -> None:
    def of(status: Status) -> set[str]:
        return {name for name, labels in samples(status) if ("database", "auth") in labels}

    fresh = examples.never_backed_up()
    assert of(fresh) == of(examples.all_kept()) - {"pgbackup_copy_timestamp_seconds"}
    assert value(fresh, "backup_timestamp_seconds", database="auth") == 0
    assert value(fresh, "promise_timestamp_seconds", promise="backup", subject="auth") == 0
    assert value(fresh, "promise_kept", promise="backup", subject="auth") == 0
    assert math.isnan(value(fresh, "backup_attempt_status", database="auth"))


def test_the_numbers_are_those_of_the_status() -> None:
    status = examples.several_broken()
    auth, payment = status.facts.databases
    assert value(status, "status_timestamp_seconds") == examples.NOW.timestamp()
    assert value(status, "backup_bytes", database="payment") == payment.backups[0].bytes
    assert value(status, "backup_timestamp_seconds", database="auth") == auth.backups[0].taken.timestamp()
    assert value(status, "backups_bad", database="auth") == 1
    assert value(status, "backup_attempt_status", database="auth") == 69
    assert value(status, "copy_timestamp_seconds", place="s3", database="payment") == examples.ago(days=4).timestamp()
    assert value(status, "copy_failures", place="s3") == 96
    assert value(status, "wal_lag_seconds", archive="postgres-b") == 5 * 3600
    assert value(status, "alarm_undelivered") == 2
    assert value(status, "coverage_findings", kind="database") == 1
    assert value(status, "coverage_findings", kind="unreadable") == 0
    assert value(status, "schedule_next_timestamp_seconds", run="backup") == 0
    for promise in status.promises:
        labels = {"promise": promise.kind, "subject": promise.subject}
        assert value(status, "promise_kept", **labels) == (promise.state == "kept")
        assert value(status, "promise_alarm", **labels) == promise.is_to_be_told(status.now)


def test_what_nobody_wants_has_no_series() -> None:
    unwanted = [one for one in examples.never_backed_up().promises if one.state == "not wanted"]
    there = samples(examples.never_backed_up())
    assert unwanted
    for one in unwanted:
        assert ("pgbackup_promise_kept", frozenset({("promise", one.kind), ("subject", one.subject)})) not in there


def test_a_backup_from_the_future_is_not_the_newest() -> None:
    status = examples.all_kept()
    auth = status.facts.databases[0]
    future = replace(auth.backups[0], taken=examples.ago(days=-400))
    odd = replace(status.facts, databases=(replace(auth, backups=(future, *auth.backups)),))
    assert value(replace(status, facts=odd), "backup_timestamp_seconds", database="auth") == (
        auth.backups[0].taken.timestamp()
    )


@pytest.mark.fault(218, "a database that is called like a script, in page and metrics")
def test_whatever_things_are_called_is_read_back_as_it_was() -> None:
    odd = 'a"b\\c\nd\x1b{e="f"} 1\n# HELP x'
    status = examples.all_kept()
    facts = status.facts
    status = replace(
        status, facts=replace(facts, host=odd, databases=tuple(replace(one, name=odd) for one in facts.databases))
    )
    assert value(status, "backups", database=odd) == 7
    assert [dict(labels)["host"] for name, labels in samples(status) if name == "pgbackup_info"] == [odd]


def test_what_is_there_twice_has_one_series() -> None:
    status = examples.all_kept()
    facts = status.facts
    twice = replace(facts, keys=(*facts.keys, Key(facts.keys[0].recipient, None)))
    assert facts.coverage
    findings = (Finding("database", "a", "b", "c"), Finding("database", "a", "d", "c"))
    twice = replace(twice, coverage=replace(facts.coverage, findings=findings))
    assert value(replace(status, facts=twice), "coverage_findings", kind="database") == 2


def test_thirty_databases_take_no_longer_than_ten_times_three_and_are_small() -> None:
    few, status = (many.status(databases=databases, nights=300) for databases in (3, 30))
    assert speed.times(lambda: series.text(status), lambda: series.text(few)) < 20
    assert len(series.text(status)) < 200_000
