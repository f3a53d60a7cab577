"""A run that is heard of elsewhere: the dead man's pings around a command, where the file of channels has any."""

from __future__ import annotations

import time
from collections.abc import Sequence

from pgbackup.cli.options import Command
from pgbackup.errors import EXIT_STATUSES, LockHeld, SuiteError
from pgbackup.host import channels
from pgbackup.report.log import say
from pgbackup.report.result import Result
from pgbackup.settings.config import Settings

# Where the parts of a run, and what they are called, stand in its document.
_PARTS = {"backup": ("databases", "target"), "drill": ("drills", "target"), "copy": ("places", "place")}


def pinged(run: str, settings: Settings, command: Command, parts: Sequence[str] = (), *, whole: bool) -> Command:
    """Return the command with its pings: start, and how it ended, of the run and of each of its parts.

    run: one of channels.RUNS. parts: databases or places, by their names. whole: it is the run that is expected, not
    one of some databases. What is pinged when: success only with status 0, nothing for another run that is at work.
    """

    def work() -> Result:
        urls = _wanted(run, settings, parts, whole=whole)
        if not urls:
            return command()
        from pgbackup.report.alarms.pings import Pings  # with all that speaks HTTP

        begun, pings, statuses = time.monotonic(), Pings(urls), dict.fromkeys(urls, SuiteError.status)
        pings.start()
        try:
            result = command()
            statuses = {name: _status(run, name, result) for name in urls}
            return result
        except SuiteError as error:
            statuses = dict.fromkeys(urls, error.status)
            raise
        finally:
            for name, status in statuses.items():
                if status != LockHeld.status:
                    pings.end(name, status, _said(status, time.monotonic() - begun))
            for name, why in pings.close().items():
                say(f"warning: the ping of '{name}' was not heard: {why}")

    return work


def _wanted(run: str, settings: Settings, parts: Sequence[str], *, whole: bool) -> dict[str, str]:
    """The pings of this run, by name. A file that cannot be used stops no backup."""
    try:
        known = channels.read(settings.alerts_config, ()).pings
    except SuiteError as error:
        say(f"warning: nobody is pinged: {error.message}")
        return {}
    names = [*([run] if whole else []), *(f"{run}/{part}" for part in parts)]
    return {name: known[name] for name in names if name in known}


def _status(run: str, name: str, result: Result) -> int:
    """The exit status of the run, or of one of its parts."""
    if name == run:
        return result.status
    listing, called = _PARTS[run]
    found = [one["status"] for one in result.document.get(listing, []) if f"{run}/{one[called]}" == name]
    return int(found[0]) if found else result.status


def _said(status: int, seconds: float) -> str:
    meaning = dict(EXIT_STATUSES).get(str(status), EXIT_STATUSES[-1][1])
    return f"done in {seconds:.0f} s" if not status else f"exit status {status} after {seconds:.0f} s: {meaning}"
