"""Reads docs/runbook.md: which commands it has, in which section, typed by whom."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.effort import chosen

PAGE = Path(__file__).resolve().parents[2] / "docs/runbook.md"

# What tests note in their reports: a command that was run as written, and a line for the end of the whole run.
RAN, TOLD = "runbook command", "runbook line"

# The only things that are put in place of what is written: what the page itself calls an example or a blank.
# {auth}, {payment}: the path of the newest backup. {moment}: one that can be recovered.
PLACEHOLDERS = (
    ("/opt/backups/postgres-a/auth_db_20240115_020000.sql.gz", "{auth}"),
    ("/opt/backups/postgres-b/payment_db_20240115_020000.sql.gz", "{payment}"),
    ("auth BACKUP_FILE", "auth {auth}"),
    ("payment BACKUP_FILE", "payment {payment}"),
    ("gunzip -t backup_file.sql.gz", "gunzip -t {auth}"),
    ("--to-time '2024-01-15 13:37:00+03'", "--to-time '{moment}'"),
    ("sleep 30", chosen("sleep 1", "sleep 30")),  # what it waits for is waited for as well
)

# Not commands but lines that belong into the editor, or the crontab, of which the block speaks.
_TYPED = re.compile(r"([0-9*]+ ){4}[0-9*]+ |Environment=")


@dataclass(frozen=True)
class Command:
    """One command, of one line or more, as it is written. typed: a line for an editor instead."""

    section: str
    block: int
    user: str
    text: str

    @property
    def typed(self) -> bool:
        return _TYPED.match(self.text) is not None


def commands(page: str) -> list[Command]:
    """Given the page, return all commands of its `sh` blocks in order.

    A block is root's unless the line before it says "As `NAME`:".
    """
    found: list[Command] = []
    headings: dict[int, str] = {}
    user, block = "root", 0
    text = iter(page.splitlines())
    for line in text:
        if heading := re.match(r"(##+) (.*)", line):
            headings = {level: name for level, name in headings.items() if level < len(heading[1])}
            headings[len(heading[1])] = heading[2]
        elif line == "```sh":
            lines = list(iter(lambda: next(text), "```"))
            block += 1
            section = " / ".join(headings.values())
            found += [Command(section, block, user, command) for command in split(lines)]
            user = "root"
        elif line:
            said = re.fullmatch(r"As `(\w+)`:", line)
            user = said[1] if said else "root"
    return found


def split(lines: list[str]) -> list[str]:
    """Given the lines of a block, return its commands: a line goes on while bash says that it is not whole."""
    found, pending = [], ""
    for line in lines:
        if not pending and (not line.strip() or line.startswith("#")):
            continue
        pending += line + "\n"
        if not line.endswith("\\") and (_TYPED.match(pending) or _whole(pending)):
            found.append(pending.rstrip("\n"))
            pending = ""
    if pending:
        raise ValueError(f"a command without an end: {pending}")
    return found


def _whole(text: str) -> bool:
    return subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False).returncode == 0


def filled(text: str, auth: str, payment: str, moment: str) -> str:
    """Return a command with the placeholders filled in."""
    for written, meant in PLACEHOLDERS:
        text = text.replace(written, meant.format(auth=auth, payment=payment, moment=moment))
    return text


def not_run(page: str) -> dict[str, str]:
    """Given the page, return its own list of commands that the tests do not run, with the reasons."""
    _, _, table = page.partition("## Not run by the tests")
    return dict(re.findall(r"^\| `(.+?)` \| (.+) \|$", table, re.MULTILINE))
