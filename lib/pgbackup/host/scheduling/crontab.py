"""A user's crontab: which of its lines are the suite's, and how one is added, changed and removed.

All lines but the suite's own are kept byte for byte. Its own are found by the script that they start, not by a mark:
`grep -v backup-postgres.sh` has to remove everything that belongs to the backup, also the drill's line.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pgbackup import proc
from pgbackup.errors import IoFailed, PermissionDenied, Unavailable
from pgbackup.host.scheduling.installed import Change

_SECONDS = 30
_SPOOL = Path("/var/spool/cron/crontabs")
_SPOOLS = (_SPOOL, Path("/var/spool/cron"), Path("/var/spool/cron/tabs"))  # Debian's, Red Hat's, SUSE's
_OF = "crontab of "
_VERIFIED, _DRILLED = "0 4 * * 0", "0 5 * * 3"  # as systemd/*.timer
_WITH_THE_BACKUP = " # goes with backup-postgres.sh"  # a comment for sh, which cron starts
_BACKUP_DIR = re.compile(r"(?<!\S)BACKUP_DIR=(?:'[^']*'|\"[^\"]*\"|\\.|[^\s'\"\\])*")
_JOB = re.compile(r"[ \t]*(?P<when>@\S+|[0-9*~]\S*(?:[ \t]+\S+){4})[ \t]+(?P<command>\S.*)")


def job(cron: str, backup_dir: Path, retention_days: int, script: Path) -> str:
    """Given a schedule's five fields and what the job gets, return its line, without a newline.

    Quoted for the shell; and cron itself turns a bare '%' into a newline (crontab(5)).
    """
    words = (f"BACKUP_DIR={shlex.quote(str(backup_dir))}", f"RETENTION_DAYS={retention_days}", shlex.quote(str(script)))
    return f"{cron} " + " ".join(words).replace("%", r"\%")


def weekly_drill(backup_dir: str, script: Path) -> str:
    """Return the line of the weekly drill, without a newline. script: drill-backups.sh."""
    return _weekly(_DRILLED, backup_dir, script, "--rotate")


def weekly_verification(backup_dir: str, script: Path) -> str:
    """Return the line of the weekly verification, without a newline. script: verify-backups.sh."""
    return _weekly(_VERIFIED, backup_dir, script, "-q")


def _weekly(when: str, backup_dir: str, script: Path, option: str) -> str:
    words = (f"BACKUP_DIR={shlex.quote(backup_dir)}", shlex.quote(str(script)), option)
    return f"{when} " + " ".join(words).replace("%", r"\%") + _WITH_THE_BACKUP


def watchdog(backup_dir: Path, script: Path, argument: str) -> str:
    """Return the line of a job that lets a script run all the time: started each minute, it ends where it runs."""
    words = (f"BACKUP_DIR={shlex.quote(str(backup_dir))}", shlex.quote(str(script)), "-q --watchdog", argument)
    return "* * * * * " + " ".join(words).replace("%", r"\%")


def jobs_of(text: str, script: Path, argument: str = "") -> list[str]:
    """The lines of a crontab that start this very script: neither comments nor another installation's.

    argument: its last one, where only such lines are meant.
    """
    return [line.rstrip("\n") for line in _lines(text) if _starts(line, script, argument)]


def when_of(line: str) -> str:
    """When a job starts, as it is written: five fields or @daily; "" for a line that is no job."""
    found = _JOB.match(line)
    return found["when"] if found else ""


def command_of(line: str) -> str:
    """What a job starts, as it is written; "" for a line that is no job."""
    found = _JOB.match(line)
    return found["command"] if found else ""


def strangers(text: str, script: Path) -> list[str]:
    """The lines that start a script of the same name somewhere else."""
    lines = [line.rstrip("\n") for line in _lines(text) if not _starts(line, script)]
    return [line for line in lines if _JOB.match(line) and script.name in line.removesuffix(_WITH_THE_BACKUP)]


def added(text: str, script: Path, line: str, cron: str | None, argument: str = "") -> str:
    """Return the crontab `text` with the suite's job in it exactly once.

    A job that is there is kept as it is, for somebody may have edited it; with `cron` it gets that schedule, and
    further ones go. Otherwise `line` is added at the end.
    """
    if not jobs_of(text, script, argument):
        return text + ("\n" if text and not text.endswith("\n") else "") + line + "\n"
    if cron is None:
        return text
    kept, seen = [], False
    for old in _lines(text):
        if not _starts(old, script):
            kept.append(old)
        elif not seen:
            seen = True
            kept.append(_rescheduled(old, cron))
    return "".join(kept)


def redirected(text: str, script: Path, backup_dir: Path, argument: str) -> str:
    """Return the crontab `text` with another BACKUP_DIR in those of the suite's jobs that set one."""
    ours = "BACKUP_DIR=" + shlex.quote(str(backup_dir)).replace("%", r"\%")
    return "".join(
        _BACKUP_DIR.sub(lambda _found: ours, line, count=1) if _starts(line, script, argument) else line
        for line in _lines(text)
    )


def removed(text: str, script: Path, argument: str = "") -> str:
    """Return the crontab `text` without the suite's jobs."""
    return "".join(line for line in _lines(text) if not _starts(line, script, argument))


def _lines(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+$", text)  # not splitlines(): for cron only \n ends a line


def _starts(line: str, script: Path, argument: str = "") -> bool:
    found = _JOB.match(line)
    if found and argument and not found["command"].rstrip().endswith(f" {argument}"):
        return False
    word = rf"(?<![^\s'\"=;&|(])(?:{re.escape(str(script))})(?![^\s'\";&|)])"
    return found is not None and re.search(word, found["command"].replace(r"\%", "%")) is not None


def _rescheduled(line: str, cron: str) -> str:
    found = _JOB.match(line)
    if found is None or found["when"].split() == cron.split():
        return line
    return f"{cron} {line[found.start('command') :]}"


def change(user: str, before: str, after: str) -> Change:
    """What is to become of a user's crontab; '' is none. Pure."""
    return Change(Path(_OF + user), before or None, after or None)


def apply(changes: Iterable[Change]) -> None:
    """Write those of the changes that are a crontab's. Raise IoFailed as write() does."""
    for one in changes:
        user = str(one.path).removeprefix(_OF)
        if user != str(one.path) and one.after != one.before:
            write(user, one.after or "")


def holders(script: Path, argument: str) -> dict[str, str]:
    """The accounts that start the script, and their crontabs: whoever was named when it was set up, at some time."""
    found = {}
    for user in sorted({path.name for spool in _SPOOLS for path in _files(spool)}):
        with suppress(KeyError, PermissionDenied):
            pwd.getpwnam(user)
            text = read(user)
            if jobs_of(text, script, argument):
                found[user] = text
    return found


def _files(spool: Path) -> list[Path]:
    try:
        return [path for path in spool.iterdir() if path.is_file()]
    except OSError:  # another cron's, or not for this account to see
        return []


def installed() -> bool:
    """Whether this host has the program `crontab`."""
    places = proc.environment()["PATH"].split(":")
    return any(os.access(Path(place) / "crontab", os.X_OK) for place in places)


def read(user: str) -> str:
    """Return the user's crontab, '' if there is none. Bytes that are not UTF-8 survive reading and writing.

    Raise Unavailable where there is no cron, PermissionDenied where the user may not have a crontab.
    """
    if not installed():
        raise Unavailable(
            "there is no cron on this host: no program 'crontab'",
            "sudo apt-get install cron, or let systemd do it: sudo setup-backup-systemd.sh",
        )
    whose = ["-u", user] if os.geteuid() == 0 else []  # only root may name somebody, be it themselves
    finished = proc.run(["crontab", *whose, "-l"], seconds=_SECONDS)
    if finished.status == 0:
        shown = finished.stdout.decode("utf-8", "surrogateescape")
        return _not_shown(_SPOOL / user, shown) + shown
    if "no crontab for" in finished.stderr.lower():
        return ""
    raise PermissionDenied(
        f"cannot read the crontab of '{user}': {finished.stderr}", "see /etc/cron.allow and /etc/cron.deny"
    )


def _not_shown(file: Path, shown: str) -> str:
    """The comments that `crontab -l` has left out at the top of a file, unless they are crontab's own.

    Debian's crontab writes three lines of its own there and leaves out as many that begin with '#' when it shows the
    file. In one that was made without it, those are somebody's.
    """
    try:
        text = file.read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return ""
    head = text.removesuffix(shown)
    return head if text.endswith(shown) and not head.startswith("# DO NOT EDIT THIS FILE") else ""


def write(user: str, text: str) -> None:
    """Make `text` the user's crontab; '' removes it. Raise IoFailed unless it reads back as it was written."""
    if not text:
        finished = proc.run(["crontab", "-u", user, "-r"], seconds=_SECONDS)
    else:
        finished = _install(user, text if text.endswith("\n") else text + "\n")
    if finished.status != 0:
        raise IoFailed(f"cannot write the crontab of '{user}': {finished.stderr}", f"sudo crontab -u {user} -l")
    if read(user).rstrip("\n") != text.rstrip("\n"):
        raise IoFailed(f"the crontab of '{user}' is not what was written", f"sudo crontab -u {user} -l")


def _install(user: str, text: str) -> proc.Finished:
    argv = ["crontab", "-u", user, "-"]
    with proc.fed(text.encode("utf-8", "surrogateescape")) as descriptor:
        return proc.run(argv, seconds=_SECONDS, stdin=descriptor)
