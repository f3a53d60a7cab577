"""setup-encryption.sh: keys are made and shown once; who may open copies is kept, and that their keys still exist."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from pgbackup.commands import confirm, key
from pgbackup.commands.setup import frame
from pgbackup.errors import ConfigurationError, UsageError, path_error
from pgbackup.formats import sealed
from pgbackup.report.log import say
from pgbackup.report.result import Result, age, document, instant
from pgbackup.settings.config import Settings
from pgbackup.store.state import keys

SCRIPT = "setup-encryption.sh"
_NOTED = 8  # characters of the key that are asked for: whoever has it on paper can type them
_TRIES = 3


def make_key(settings: Settings, file: Path | None, *, another: bool, dry_run: bool) -> Result:
    """Make a key, unless there is one and `another` was not asked for; keep its public half.

    file: where the private half goes; None: it is shown on the terminal, and somebody types its end. Until then
    nothing is kept. Raise UsageError without a terminal, SuiteError.
    """
    path = settings.encryption_recipients
    there = keys.recipients(path)
    if there.current and not another:
        if file:
            raise UsageError("there is a key already, so none was made", f"for one more: {SCRIPT} --new-key --key-file")
        return _told(path, [], changed=False, dry_run=dry_run)
    if not file:
        _require_terminal()
    else:
        _check_file(file, settings.backup_dir)
    if dry_run:
        where = f"into '{file}'" if file else "on this terminal"
        lines = [f"would make a key, write its private half {where}, and its public half into '{path}'"]
        return _told(path, lines, changed=True, dry_run=True)
    identity, recipient = sealed.new_key()
    now = datetime.now(timezone.utc)
    if file:
        keys.write_identity(file, identity, now.astimezone())
        done = [f"the private key is in '{file}': keep it on media that are not on this host"]
    else:
        _show(identity, recipient, now.astimezone())
        done = ["the private key was shown once, and is nowhere on this host"]
    _change(path, now, add=[recipient])
    return _told(path, [*done, f"copies are encrypted for {recipient} from now on"], changed=True, file=file)


def add(settings: Settings, recipient: str, *, dry_run: bool) -> Result:
    """Encrypt new copies for one more recipient. Raise UsageError for what is none, SuiteError."""
    path, recipient = settings.encryption_recipients, recipient.strip()
    try:
        sealed.check_recipient(recipient)
    except ValueError as error:
        raise UsageError(f"--add-recipient: {error}", "a recipient begins with age1: age-keygen -y KEYFILE") from None
    if recipient in keys.recipients(path).current:
        return _told(path, [f"copies are encrypted for {recipient} already"], changed=False, dry_run=dry_run)
    if dry_run:
        return _told(path, [f"would encrypt copies for {recipient} too"], changed=True, dry_run=True)
    _change(path, datetime.now(timezone.utc), add=[recipient])
    return _told(path, [f"new copies are encrypted for {recipient} too; those before were not"], changed=True)


def retire(settings: Settings, recipient: str, *, dry_run: bool) -> Result:
    """Encrypt new copies no longer for a recipient. Raise UsageError for the last one and for one that is none."""
    path, recipient = settings.encryption_recipients, recipient.strip()
    there = keys.recipients(path)
    if recipient in there.retired:
        return _told(path, [f"copies are not encrypted for {recipient} already"], changed=False, dry_run=dry_run)
    if recipient not in there.current:
        raise UsageError("--retire-recipient: copies are not encrypted for that", f"see whom: sudo {SCRIPT}")
    if len(there.current) == 1:
        raise UsageError(
            "it is the only recipient: nobody could open a copy", f"first another one: sudo {SCRIPT} --new-key"
        )
    if dry_run:
        return _told(path, [f"would encrypt copies no longer for {recipient}"], changed=True, dry_run=True)
    _change(path, datetime.now(timezone.utc), retire=[recipient])
    done = f"new copies are not encrypted for {recipient}; keep its key as long as there are older ones"
    return _told(path, [done], changed=True)


def prove(settings: Settings) -> Result:
    """Read a private key, typed or from a pipe, and keep the date if it opens the token. Raise SuiteError."""
    path = settings.encryption_recipients
    there = keys.recipients(path)
    if not there.current:
        raise ConfigurationError(f"there are no keys: no '{path}'", f"make one: sudo {SCRIPT}")
    given = key.asked("the key from paper")
    done, now = [], datetime.now(timezone.utc)
    with frame.alone():
        for one in given:
            recipient = sealed.recipient_of(one)
            if recipient not in there.current:
                raise sealed.WrongKey(*_stranger(recipient, there))
            if not keys.prove(path, one, now):
                raise ConfigurationError(
                    f"the token in '{path}.proofs' was not encrypted for {recipient}, or was changed",
                    f"look at who changed it, then make it anew: sudo rm '{path}.proofs'; sudo {SCRIPT} --prove",
                )
            done.append(f"the key of {recipient} opens what this host encrypts")
    return _told(path, done, changed=True)


def _stranger(recipient: str, there: keys.Recipients) -> tuple[str, str]:
    """What is wrong with a key that is none of this host's, and what to do. Pure."""
    if recipient in there.retired:
        return (
            f"the key of {recipient} was retired: it opens older copies, and no new ones",
            f"keep it as long as there are older ones; see whom new ones are for: sudo {SCRIPT}",
        )
    return (
        f"the key is not one of this host's: its public half is {recipient}",
        f"copies are encrypted for {', '.join(there.current)}: look for a paper with one of these",
    )


def _require_terminal() -> None:
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr and sys.stderr.isatty()):
        raise UsageError(
            "the new key is shown on a terminal only, and this is none: none was made",
            f"run it in a terminal, or write the key to other media: sudo {SCRIPT} --key-file /media/…/key",
        )


def _check_file(file: Path, backup_dir: Path) -> None:
    """Raise UsageError or SuiteError where a private key must or can not lie."""
    if os.path.lexists(file):
        raise ConfigurationError(f"'{file}' is there already: no key was made", "name another file")
    if not file.parent.is_dir():
        raise path_error(FileNotFoundError(2, os.strerror(2)), file.parent)
    if backup_dir.resolve() in (file.parent.resolve(), *file.parent.resolve().parents):
        raise UsageError(f"'{file}' lies among the backups that it is to protect", "name a file on other media")


def _show(identity: str, recipient: str, now: datetime) -> None:
    """Show a private key on the terminal, and return when somebody has typed its end. Raise UsageError, Interrupted."""
    say(
        f"\nA key of '{os.uname().nodename}', made {now:%Y-%m-%d}. Write it down: it is shown only now, and nobody\n"
        f"can open the copies without it.\n\n  {identity}\n\n  (its public half: {recipient})\n"
    )
    for _ in range(_TRIES):
        sys.stderr.write(f"From the paper, type its last {_NOTED} characters: ")
        sys.stderr.flush()
        typed = confirm.typed()
        if not typed:
            break
        if typed.strip().upper() == identity[-_NOTED:]:
            say("")
            return
        say("that is not how it ends")
    raise UsageError("the key was not confirmed, so it was not kept: it opens nothing", f"again: sudo {SCRIPT}")


def _change(path: Path, now: datetime, *, add: Sequence[str] = (), retire: Sequence[str] = ()) -> None:
    with frame.alone():
        try:
            keys.change(path, now.astimezone(), add=add, retire=retire)
        except OSError as error:
            raise path_error(error, path.parent) from None


def _told(path: Path, done: list[str], *, changed: bool, dry_run: bool = False, file: Path | None = None) -> Result:
    """The result: what was done, whom copies are encrypted for now, and when each key was last seen."""
    there, known = keys.recipients(path), keys.proofs(path)
    proven = known.proven if known else {}
    warnings = _warnings(there, proven, file)
    for warning in warnings:
        say(f"{SCRIPT}: warning: {warning}")
    now = datetime.now(timezone.utc)
    lines = [*done, *(_line(one, proven.get(one), now) for one in there.current)]
    listed = [{"recipient": one, "proven": instant(proven[one]) if one in proven else ""} for one in there.current]
    contents = document(
        SCRIPT.removesuffix(".sh"),
        0,
        dry_run=dry_run,
        changed=changed,
        file=str(path),
        recipients=listed,
        retired=list(there.retired),
        warnings=warnings,
    )
    return Result(0, lines, contents)


def _line(recipient: str, proven: datetime | None, now: datetime) -> str:
    if not proven:
        return f"  {recipient}  its key was not proven yet"
    return f"  {recipient}  its key was proven {age((now - proven).total_seconds())} ago"


def _warnings(there: keys.Recipients, proven: dict[str, datetime], file: Path | None) -> list[str]:
    found = []
    if len(there.current) == 1:
        found.append(
            "there is one key: who loses it loses every copy. A second one, kept elsewhere:"
            f" sudo {SCRIPT} --new-key, or --add-recipient AGE1…"
        )
    if unproven := [one for one in there.current if one not in proven]:
        found.append(f"nobody has shown yet that the key of {' and of '.join(unproven)} exists: sudo {SCRIPT} --prove")
    if file and file.parent.stat().st_dev == Path("/").stat().st_dev:
        found.append(f"'{file}' is on this host's own disk: move it to other media, then: shred -u '{file}'")
    return found
