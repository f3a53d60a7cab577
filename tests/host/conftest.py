"""Fixtures: the network, the other place, one booted host; and how much of the runbook was run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host import host as hosts
from tests.host import image, runbook
from tests.host.host import Host
from tests.integration.conftest import engine  # noqa: F401  the fixture is used by its name
from tests.support import images
from tests.support.engine import NoEngine

_noted: dict[str, list[str]] = {runbook.RAN: [], runbook.TOLD: []}


@pytest.fixture(scope="session")
def network(engine: str) -> Iterator[str]:  # noqa: F811
    """A network on which the hosts know each other by name; without an image of a host there is nothing to test."""
    try:
        image.ensure()
    except (images.NoImage, NoEngine) as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))
    with hosts.network() as name:
        yield name


@pytest.fixture(scope="session")
def backup_server(network: str) -> Iterator[Host]:
    """The other place: ssh, and S3 with the guide's bucket."""
    with hosts.backup_server(network) as server:
        yield server


@pytest.fixture(scope="session")
def host(network: str, backup_server: Host) -> Iterator[Host]:
    """A host on which the payment system runs and the checkout lies."""
    with hosts.booted(network) as booted:
        yield booted


@pytest.fixture(scope="session")
def installed(host: Host) -> Host:
    """That host with the suite at its place."""
    if not host.succeeds(f"test -x {hosts.SCRIPTS}/backup-postgres.sh"):
        host.run(f"make -C {hosts.SOURCE} install")
    return host


@pytest.fixture
def undrilled(installed: Host) -> Iterator[None]:
    """Backups alone, as what is drilled is no part of the test."""
    env = f"{hosts.SCRIPTS}/../.env"
    installed.run(f"cp -p {env} /root/drilled; echo DRILL_AFTER_BACKUP=no >>{env}")
    yield
    installed.run(f"mv /root/drilled {env}")


@pytest.fixture
def doomed(network: str, installed: Host) -> Iterator[Host]:
    """A host with the suite, to be destroyed: the shared one, or one of its own where that is gone already."""
    if installed.exists():
        yield installed
        return
    with hosts.booted(network) as another:
        another.run(f"make -C {hosts.SOURCE} install")
        yield another


@pytest.fixture
def ran(record_property: Callable[[str, object], None]) -> Callable[[runbook.Command], None]:
    """A function to tell each command of the runbook that was run as written and did what it has to do."""
    return lambda command: record_property(runbook.RAN, command.text)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Collect what the tests noted of the runbook, whichever process ran them."""
    if report.when == "teardown":
        for kind, noted in report.user_properties:
            if kind in _noted:
                _noted[kind].append(str(noted))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test waits for the image to be built, where there is none yet."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how many commands of the runbook were run, if any was."""
    if _noted[runbook.RAN]:
        page = runbook.PAGE.read_text()
        total = len(runbook.commands(page))
        terminalreporter.write_line(f"runbook: {len(_noted[runbook.RAN])} of {total} commands run as written")
        for command, reason in runbook.not_run(page).items():
            terminalreporter.write_line(f"runbook: not run: {command}: {reason}")
        for told in _noted[runbook.TOLD]:
            terminalreporter.write_line(f"runbook: {told}")
