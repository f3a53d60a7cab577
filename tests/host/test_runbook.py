"""Every command of docs/runbook.md, typed as it is written, by whom it says, on a whole host."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby, pairwise

import pytest

from tests.host import effects, expected, runbook
from tests.host.host import SCRIPTS, Host
from tests.host.runbook import Command
from tests.host.typist import Typist, typist
from tests.support.effort import FULL

_PAGE = runbook.PAGE.read_text()
_ALL = runbook.commands(_PAGE)
_BLOCKS = [list(block) for _, block in groupby(_ALL, key=lambda command: command.block)]
# What the first backups of the page have shown, that they are drilled by default, the later ones need not show again.
_AFTER_DRILLED = next(after for block, after in pairwise(_BLOCKS) if "backup-postgres.sh" in block[0].text)


@pytest.fixture(scope="module")
def person(host: Host) -> Iterator[Typist]:
    with typist(host) as somebody:
        yield somebody


@pytest.mark.parametrize(
    "block",
    # The disasters have tests of their own: they need another host.
    [
        pytest.param(block, id=f"{block[0].section} {block[0].block}")
        for block in _BLOCKS
        if not block[0].section.startswith("Disaster")
    ],
)
def test_a_block_does_what_it_says(
    block: list[Command], person: Typist, host: Host, ran: Callable[[Command], None]
) -> None:
    if block == _AFTER_DRILLED and not FULL:
        host.run(f"echo DRILL_AFTER_BACKUP=no >>{SCRIPTS}/../.env")
    repeated = [] if FULL else [command for command in block if is_repeated(command)]
    for command in person.block([command for command in block if command not in repeated]):
        ran(command)
    for command in repeated:
        ran(command)  # by the block that had it first


def is_repeated(command: Command) -> bool:
    """Whether a line of a section that only says again what was said is one that somebody has typed before it."""
    again = command.section in ("Quick reference", "Test backup and restore / A backup")
    typed = [(one.user, one.text) for one in _ALL if one.block < command.block]
    return again and (command.user, command.text) in typed


def test_of_every_command_it_is_known_what_it_has_to_do() -> None:
    excused = runbook.not_run(_PAGE)
    for command in _ALL:
        if (
            not command.typed
            and command.text not in excused
            and not command.text.startswith(("crontab -u deployer -e", "sudo nano"))
        ):
            expected.effect_of(command.text)
    assert set(excused) <= {command.text for command in _ALL}, "excused, but not in the runbook"


@pytest.mark.parametrize(
    "effect",
    [
        effects.shows("what was not said"),
        effects.holds("false"),
        effects.publishes("auth"),
        effects.made_by_hand("auth"),
        effects.restored("auth"),
        effects.drops_old("auth"),
        effects.stops("auth"),
        effects.restarts,
        effects.registers("+256700000001"),
        effects.adds_the_cron_job,
        effects.deletes("-32 days"),
    ],
)
def test_an_effect_that_does_not_come_about_is_noticed(effect: effects.Effect, installed: Host) -> None:
    steps = effect(installed)
    with pytest.raises((AssertionError, ValueError)):
        next(steps)
        steps.send("{}")


def test_a_command_that_fails_is_noticed(installed: Host) -> None:
    wrong = Command("", 0, "root", "gunzip -t /opt/backups/postgres-a/no_such_file.sql.gz")
    with typist(installed) as person, pytest.raises(AssertionError, match="ended with 1"):
        list(person.block([wrong]))


def test_a_command_of_which_nothing_is_known_is_noticed(installed: Host) -> None:
    with typist(installed) as person, pytest.raises(expected.Unknown):
        list(person.block([Command("", 0, "root", "frobnicate")]))


def test_a_block_is_split_where_bash_sees_the_end_of_a_command() -> None:
    block = ["# a comment", "ls |\\", "  wc", "", "if true; then", "  # inside", "  ls", "fi", "echo 'a", "b'", "ls"]
    assert runbook.split(block) == ["ls |\\\n  wc", "if true; then\n  # inside\n  ls\nfi", "echo 'a\nb'", "ls"]
    with pytest.raises(ValueError, match="without an end"):
        runbook.split(["echo 'a"])
