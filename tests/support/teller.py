"""An evaluator of promises that are as asked for: python -m tests.support.teller DIRECTORY CONFIG STATUS COMMAND …

CONFIG: the file of channels. STATUS: a name of tests.support.examples. COMMAND: of ALERT_COMMAND. Prints how many wait.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from pgbackup import interrupt
from pgbackup.host import channels
from pgbackup.report.alarms import notify
from pgbackup.store import folder

from tests.support import examples


def main(directory: str, config: str, status: str, *command: str) -> None:
    interrupt.install()
    known = channels.read(Path(config), command)
    with folder.opened(Path(directory), create=False, top=True) as top:
        now = datetime.now(timezone.utc)
        _, outcome = notify.notify(top, known, lambda: replace(getattr(examples, status)(), now=now))
        print(outcome.waiting, outcome.failing, outcome.warnings)


if __name__ == "__main__":
    main(*sys.argv[1:])
