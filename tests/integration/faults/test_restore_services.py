"""The payment services around a restore: stopped in order, started again whatever happens; and signals."""

from __future__ import annotations

import gzip
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from demo import servers as demo_servers
from tests.support import backups, health_server, images, restores
from tests.support.effort import each_value, only_in_full, wide
from tests.support.restores import Lab, moments, up
from tests.support.runs import soon
from tests.support.servers import docker

Tries = Callable[[int, int], int]
Note = Callable[..., None]
STOP_SECONDS = 10.0


@pytest.fixture(scope="module")
def names(engine: str) -> Iterator[list[str]]:
    """Two services that run."""
    with restores.services(images.ensure(15), "service-a-1", "service-a-2") as started:
        yield started


@pytest.fixture
def lab(embedded: demo_servers.Server, names: list[str], tmp_path: Path) -> Lab:
    docker("start", *names)
    return restores.direct(embedded, tmp_path, AUTH_SERVICES=" ".join(names))


@pytest.mark.parametrize("options", [[], ["--online"], ["--in-place"]])
def test_services_are_stopped_in_order_and_started_in_reverse(lab: Lab, names: list[str], options: list[str]) -> None:
    file, new, _ = lab.reset()
    before = [moments(name) for name in names]
    ended = lab.restore("--yes", "--json", *options, file.name)
    assert ended.status == 0, ended.stderr
    assert up(names) == [True, True]
    after = [moments(name) for name in names]
    assert all(now[0] > then[0] for now, then in zip(after, before, strict=True)), "both were restarted"
    (first_start, first_end), (second_start, second_end) = after
    assert first_end < second_end < second_start < first_start
    assert lab.content() == new
    assert json.loads(ended.stdout)["downtime_seconds"] > 0


def test_online_leaves_services_running_while_it_loads(lab: Lab, names: list[str]) -> None:
    file, _, _ = lab.reset()
    for options, expected_up in (([], [False, False]), (["--online"], [True, True])):
        process = lab.start("--yes", *options, file.name)
        assert soon(lambda: bool(lab.scratch()), 60)
        process.send_signal(signal.SIGSTOP)
        assert up(names) == expected_up
        process.send_signal(signal.SIGCONT)
        assert lab.place.end(process).status == 0


def test_into_and_a_refused_restore_leave_services_alone(lab: Lab, names: list[str]) -> None:
    file, _, _ = lab.reset()
    before = [moments(name) for name in names]
    assert lab.restore("--yes", "--into", "beside", file.name).status == 0
    assert lab.restore(file.name).status == 64, "nobody is there to confirm"
    assert lab.restore("--yes", "no_such_file").status == 66
    assert [moments(name) for name in names] == before


def test_a_missing_service_is_a_warning_and_one_that_did_not_run_stays_down(lab: Lab, names: list[str]) -> None:
    file, _, _ = lab.reset()
    docker("stop", "--time", "1", names[1])
    ended = lab.restore("--yes", file.name, AUTH_SERVICES=f"{names[0]} no-such-service {names[1]}")
    assert ended.status == 0, ended.stderr
    assert "warning: service 'no-such-service' does not exist" in ended.stderr
    assert up(names) == [True, False]


def test_services_are_started_again_after_a_failed_load(lab: Lab, names: list[str]) -> None:
    _, _, old = lab.reset()
    broken = unloadable(lab)
    before = moments(names[0])
    ended = lab.restore("--yes", broken.name)
    assert not restores.failed(lab, ended, 65, old)
    assert up(names) == [True, True]
    assert moments(names[0]) > before


def unloadable(lab: Lab) -> Path:
    """A dump that is whole and fails at a statement."""
    file = lab.directory / f"{lab.database}_manual_20240101_000000.sql.gz"
    end = b"--\n-- PostgreSQL database dump complete\n--\n\n"
    rows = b"CREATE TABLE b (id int);\nCOPY b (id) FROM stdin;\n\\.\n"
    text = b"--\n-- PostgreSQL database dump\n--\n\n" + rows + b"CREATE TABLE a (id no_such_type);\n\n" + end
    file.write_bytes(gzip.compress(text))
    return file


def test_a_service_that_does_not_start_again_is_a_failure_although_the_restore_is_done(
    lab: Lab, names: list[str]
) -> None:
    file, new, _ = lab.reset()
    process = lab.start("--yes", file.name)
    assert soon(lambda: up(names) == [False, False], 60)
    docker("rm", names[1])
    try:
        ended = lab.place.end(process)
        assert ended.status == 69
        assert "the restore is done, but service" in ended.stderr
        assert f"docker start {names[1]}" in ended.stderr
        assert lab.kept()[0] in ended.stdout
        assert lab.content() == new
        assert up(names[:1]) == [True]
        assert not restores.leftovers(lab)
    finally:
        command = ["-d", "--name", names[1], "--entrypoint", "sh", images.ensure(15), "-c", restores.OBEDIENT]
        docker("run", *command)


# ------------------------------------------------------------------------------------------------- signals


def interrupted_well(lab: Lab, ended: backups.Ended, number: int, old: restores.Content) -> list[str]:
    found = restores.failed(lab, ended, 128 + number, old)
    if ended.seconds > STOP_SECONDS:
        found.append(f"H: it took {ended.seconds:.1f} s to stop")
    return found


@each_value(number=[signal.SIGINT, signal.SIGTERM], phase=["stopping", "load", "swap"])
def test_a_signal_in_any_phase_stops_it_and_starts_the_services_again(
    lab: Lab, names: list[str], expected: Note, survived: Note, number: signal.Signals, phase: str
) -> None:
    fault = f"restore: SIGINT, SIGTERM in phase {phase}"
    expected(31, fault, 1)
    file, new, old = lab.reset()
    process = lab.start("--yes", file.name)
    if phase == "stopping":
        restores.await_line(process, "stopping service")
    elif phase == "load":
        assert soon(lambda: bool(lab.scratch()), 60)
    else:
        query = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'ALTER DATABASE%RENAME TO%'"
        with psycopg.connect(lab.dsn(lab.database)):
            assert soon(lambda: bool(lab.sql(query)) or bool(lab.kept()), 60)
    process.send_signal(number)
    ended = lab.place.end(process)
    if phase == "swap":  # it is not looked at in a swap: done it is
        assert not restores.settled(lab, old, new)
        assert ended.status in (0, 128 + number)
        if ended.status and lab.content() == new:
            assert "is already the restored one" in ended.stderr
    else:
        assert not interrupted_well(lab, ended, number, old)
    assert up(names) == [True, True]
    survived(31, fault)


def interrupted_at_a_stubborn_service(lab: Lab, name: str) -> backups.Ended:
    """Send SIGINT while Docker waits four seconds for a service that ignores SIGTERM."""
    file, _, _ = lab.reset()
    process = lab.start("--yes", file.name, AUTH_SERVICES=name)
    assert soon(lambda: "told to end" in docker("logs", name).stdout, 60)
    process.send_signal(signal.SIGINT)
    return lab.place.end(process)


def goes_down(name: str) -> bool:
    return soon(lambda: up([name]) == [False], 6)


def test_a_signal_while_a_stubborn_service_is_stopped_leaves_it_running(
    lab: Lab, expected: Note, survived: Note
) -> None:
    fault = "restore: SIGINT while Docker waits for a service to stop"
    expected(31, fault, 1)
    with restores.services(images.ensure(15), "service-b-1", stubborn=True) as (name,):
        before = moments(name)
        ended = interrupted_at_a_stubborn_service(lab, name)
        assert not interrupted_well(lab, ended, signal.SIGINT, lab.content())
        assert moments(name)[0] > before[0], "it was stopped and started again"
        assert not goes_down(name), "Docker's stopping came after our starting"
    survived(31, fault)


# ------------------------------------------------------------------------------------------------- health


@pytest.fixture
def health(tmp_path: Path) -> Iterator[health_server.Health]:
    backups.needs(openssl="openssl")
    with health_server.running(tmp_path) as running:
        yield running


def restored(lab: Lab, health: health_server.Health, **environment: str) -> backups.Ended:
    file, new, _ = lab.reset()
    ended = lab.restore("--yes", file.name, AUTH_HEALTH_URL=health.url, HEALTH_SECONDS="2", **environment)
    assert lab.content() == new
    assert not restores.leftovers(lab)
    return ended


def test_health_is_asked_by_https_with_any_certificate_and_told(lab: Lab, health: health_server.Health) -> None:
    ended = restored(lab, health, https_proxy="http://127.0.0.1:1", HTTPS_PROXY="http://127.0.0.1:1")
    assert ended.status == 0, ended.stderr
    assert health.asked
    assert "; healthy" in ended.stdout


def test_health_is_waited_for(lab: Lab, health: health_server.Health) -> None:
    health.status = 503
    file, _, _ = lab.reset()
    process = lab.start("--yes", file.name, AUTH_HEALTH_URL=health.url, HEALTH_SECONDS="60")
    assert soon(lambda: len(health.asked) >= 2, 60)
    health.status = 200
    assert lab.place.end(process).status == 0


def test_health_with_the_right_authority_passes_and_with_another_one_does_not(
    lab: Lab, health: health_server.Health, tmp_path: Path
) -> None:
    right = restored(lab, health, HEALTH_CA=str(health.certificate))
    assert right.status == 0, right.stderr
    (tmp_path / "other").mkdir()
    wrong, _ = health_server.certificate(tmp_path / "other")
    ended = restored(lab, health, HEALTH_CA=str(wrong))
    assert ended.status == 69
    assert "certificate verify failed" in ended.stderr
    missing = restored(lab, health, HEALTH_CA=str(tmp_path / "no_such.pem"))
    assert missing.status == 69, missing.stderr
    assert "No such file" in missing.stderr


def test_services_that_never_get_well_are_a_failure_although_the_restore_is_done(
    lab: Lab, health: health_server.Health, names: list[str]
) -> None:
    health.status = 500
    ended = restored(lab, health)
    assert ended.status == 69
    assert "the restore is done, but the services are not healthy" in ended.stderr
    assert "HTTP 500" in ended.stderr
    assert "--rollback" in ended.stderr
    assert up(names) == [True, True]


@wide("number", [signal.SIGTERM], [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_health_is_waited_for_ends_the_waiting_and_says_that_the_restore_is_done(
    lab: Lab, health: health_server.Health, names: list[str], number: signal.Signals
) -> None:
    health.status = 503
    file, new, old = lab.reset()
    process = lab.start("--yes", file.name, AUTH_HEALTH_URL=health.url, HEALTH_SECONDS="300")
    assert soon(lambda: bool(health.asked), 60)
    process.send_signal(number)
    ended = lab.place.end(process)
    assert ended.status == 128 + number
    assert ended.seconds < STOP_SECONDS
    assert "is already the restored one" in ended.stderr
    assert lab.content() == new
    assert not restores.settled(lab, old, new)
    assert up(names) == [True, True]


# ------------------------------------------------------------------------------------- tests of these tests

LEFT_DOWN = (
    "commands/restore/outage.py",
    " for name in services.start(up, job.settings.docker)\n",
    " for name in up if not __import__('sys').exc_info()[0] and services.start(up, job.settings.docker)\n",
)
NOT_HASTENED = ("host/services.py", '"stop", "--time", "1", "--", name', '"version"')


@only_in_full
def test_a_suite_that_leaves_services_down_after_a_failure_is_caught(
    lab: Lab, names: list[str], tmp_path: Path
) -> None:
    lab.place.root = backups.mutated(tmp_path / "copy", LEFT_DOWN)
    lab.reset()
    assert lab.restore("--yes", unloadable(lab).name).status == 65
    assert up(names) != [True, True], "checker is broken: no error found"


@only_in_full
def test_a_suite_that_starts_what_is_still_being_stopped_is_caught(lab: Lab, tmp_path: Path) -> None:
    lab.place.root = backups.mutated(tmp_path / "copy", NOT_HASTENED)
    with restores.services(images.ensure(15), "service-b-1", stubborn=True) as (name,):
        assert interrupted_at_a_stubborn_service(lab, name).status == 130
        assert goes_down(name), "checker is broken: no error found"
