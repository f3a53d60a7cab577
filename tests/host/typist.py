"""Types the blocks of the runbook into terminals of a host and sees to it that each command does what it has to do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from tests.host import effects, expected, runbook
from tests.host.host import SCRIPTS, Host
from tests.host.runbook import Command
from tests.host.terminal import Terminal

_EDITOR = re.compile(r"crontab -u deployer -e|sudo nano ")


class Typist:
    """Somebody with one terminal for each account."""

    def __init__(self, host: Host, stack: ExitStack) -> None:
        self._host, self._stack = host, stack
        self._terminals: dict[str, Terminal] = {}

    def block(self, commands: Sequence[Command]) -> Iterator[Command]:
        """Type the commands of one block; yield each that was run as written and did what it has to do."""
        person = self._terminal(commands[0].user)
        person.type("cd")
        lines = list(commands)
        while lines:
            command = lines.pop(0)
            if command.text in runbook.not_run(runbook.PAGE.read_text()):
                continue
            if _EDITOR.match(command.text):
                typed = lines.pop(0) if lines and lines[0].typed else None
                self._edit(person, command.text, typed.text if typed else "")
                yield from [command] + ([typed] if typed else [])
            elif command.typed:
                self._schedule(command.text)
                yield command
            else:
                self._run(person, command.text)
                yield command

    def _terminal(self, user: str) -> Terminal:
        if user not in self._terminals:
            self._terminals[user] = self._stack.enter_context(Terminal(self._host, user))
        return self._terminals[user]

    def _run(self, person: Terminal, written: str) -> None:
        steps = expected.effect_of(written)(self._host)
        next(steps)
        auth, payment = (
            self._host.newest(name) if "{" in runbook.filled(written, "{", "{", "") else ""
            for name in ("auth", "payment")
        )
        moment = self._host.run(f"cat {effects.MOMENT}", check=False)
        follows = written.startswith("tail -f")
        status, said = person.type(runbook.filled(written, auth, payment, moment), stop_at=r"event=" if follows else "")
        # 130: ended by Ctrl-C, as the runbook says.
        assert status == (130 if follows else 0), f"`{written}` ended with {status}: {said}"
        _finish(steps, said)

    def _edit(self, person: Terminal, command: str, line: str) -> None:
        if not line:
            before = self._host.run("crontab -u deployer -l")
            assert person.edit(command, "", "")[0] == 0
            assert self._host.run("crontab -u deployer -l") == before
            return
        script = "setup-backup-cron.sh" if "crontab" in command else "setup-backup-systemd.sh"
        self._host.run(f"{SCRIPTS}/{script}")
        find, effect = next((find, effect) for start, find, effect in expected.EDITS if re.match(start, line))
        steps = effect(self._host)
        next(steps)
        status, said = person.edit(command, find, line)
        assert status == 0, f"`{command}` ended with {status}: {said}"
        _finish(steps, said)

    def _schedule(self, line: str) -> None:
        """Put a line into root's crontab, and do what cron does when its time has come."""
        host = self._host
        host.run(f"(crontab -l; cat) <<'LINE' | crontab -\n{line}\nLINE")
        command = re.sub(r"^(\S+ ){5}", "", host.run("crontab -l").splitlines()[-1])
        host.run("touch /opt/backups/postgres-a/only_here.sql.gz")
        host.run(f"cd ~ && env -i HOME=/root PATH=/usr/bin:/bin:/usr/local/bin /bin/sh -c '{command}'")
        assert "postgres-a/only_here.sql.gz" in host.run("aws s3 ls --recursive s3://my-backup-bucket")
        host.run("rm /opt/backups/postgres-a/only_here.sql.gz; crontab -r")


@contextmanager
def typist(host: Host) -> Iterator[Typist]:
    """Yield somebody at the terminals of a host."""
    with ExitStack() as stack:
        yield Typist(host, stack)


def _finish(steps: effects.Steps, said: str) -> None:
    try:
        steps.send(said)
    except StopIteration:
        return
    raise AssertionError("an effect yields once")
