"""What goes along with the dumps, so that a bare host comes back: the clusters' roles, the settings, RECOVER.txt.

Roles with the hashes of their passwords, and the settings, go into encrypted copies only. None of it is copied again
until it has changed. What cannot be had now is a warning: the dumps do not wait for it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from pgbackup.commands.job import Job, identity
from pgbackup.commands.offsite import recover_text
from pgbackup.commands.offsite.sending import Sender
from pgbackup.commands.offsite.wal import archives
from pgbackup.commands.offsite.wal import recover_text as wal_text
from pgbackup.errors import Interrupted, SuiteError
from pgbackup.formats import copies
from pgbackup.report.events import Events
from pgbackup.report.progress import Reporter
from pgbackup.settings import envfile
from pgbackup.settings.config import Settings, Target
from pgbackup.store import folder
from pgbackup.store.folder import Folder
from pgbackup.store.offsite import index, spool
from pgbackup.store.state import statefile

_STATE = "along.json"
# What differs each time that pg_dumpall runs.
_EACH_TIME = re.compile(rb"^(?:\\(?:un)?restrict |-- (?:Started|Completed) on ).*\n", re.MULTILINE)


@dataclass(frozen=True)
class Sent:
    """What was copied last. digests: directory of a cluster's databases, or `.env`, to SHA-256 of the content."""

    digests: dict[str, str] = field(default_factory=dict)


def send(
    sender: Sender, settings: Settings, targets: Sequence[Target], env: Path, events: Events, reporter: Reporter
) -> None:
    """Copy what has changed since the last time. env: where `.env` lies. Raise SuiteError where the place fails.

    It has a spool of its own: backups are on their way meanwhile.
    """
    with folder.opened(sender.own.path / "spool-along", create=True) as spooling:
        spool.clear(spooling)
        known = index.read(sender.own, index.ALONG)
        _send(
            replace(sender, known=known, stream=index.ALONG, spooling=spooling),
            settings,
            targets,
            env,
            events,
            reporter,
        )


def _send(
    sender: Sender, settings: Settings, targets: Sequence[Target], env: Path, events: Events, reporter: Reporter
) -> None:
    where, warnings = sender.where, sender.copies.warnings
    if where.offsite.encrypted:
        for target in targets:
            job = Job(target, settings, sender.own, identity(target, sender.own), events, reporter)
            under = copies.globals_of(where.host, target.directory)
            _send_changed(
                sender, target.directory, f"the roles of '{target.name}'", _roles(job, warnings), under, "sql"
            )
        _send_changed(sender, ".env", f"'{env}'", lambda: envfile.raw(env), copies.settings(where.host), "env")
    _send_texts(sender, settings)


def _roles(job: Job, warnings: list[str]) -> Callable[[], bytes]:
    def dumped() -> bytes:
        # Here, for they are a quarter of the start-up, and are needed only where roles go along.
        from pgbackup.commands import claim
        from pgbackup.database import pg_dumpall

        claim.sweep(job)
        with job.client() as client:
            text, missing = pg_dumpall.dumped(client)
        warnings.extend(f"{job.target.name}: {what}" for what in missing)
        return text

    return dumped


def _send_changed(sender: Sender, key: str, what: str, content: Callable[[], bytes], under: str, suffix: str) -> None:
    try:
        data = content()
    except Interrupted:
        raise
    except (SuiteError, OSError) as error:
        sender.copies.warnings.append(f"{what} could not be had, so no new copy was made: {error}")
        return
    if not data:
        return
    sent = _read(sender.own, sender.copies.warnings)
    digest = hashlib.sha256(_EACH_TIME.sub(b"", data)).hexdigest()
    if sent.digests.get(key) == digest:
        return
    now = datetime.now(timezone.utc).astimezone()
    sender.send_bytes(f"{under}/{now:%Y%m%d_%H%M%S}.{suffix}{copies.ENCRYPTED}", data, encrypted=True)
    statefile.write(sender.own, _STATE, Sent({**sent.digests, key: digest}))


def _read(own: Folder, warnings: list[str]) -> Sent:
    try:
        return statefile.read(own, _STATE, Sent) or Sent()
    except statefile.Unreadable as error:
        warnings.append(f"{error.message}; what it tells of is copied again")
        return Sent()


def _send_texts(sender: Sender, settings: Settings) -> None:
    """RECOVER.txt, and where WAL is archived, RECOVER-WAL.txt."""
    remote, host, encrypted = sender.where.offsite.remote, sender.where.host, sender.where.offsite.encrypted
    databases = [(target.database, target.directory) for target in settings.targets]
    _send_text(sender, recover_text.NAME, recover_text.text(remote, host, databases, encrypted=encrypted))
    if archived := archives.directories(settings, settings.targets):
        _send_text(sender, wal_text.NAME, wal_text.text(remote, host, archived, encrypted=encrypted))


def _send_text(sender: Sender, called: str, content: str) -> None:
    """Send it once; where its text has become another one, beside it under a name of its own."""
    text = content.encode()
    digest = hashlib.sha256(text).hexdigest()
    first = f"{sender.where.host}/{called}"
    for name in (first, first.replace(".txt", f"_{digest[:8]}.txt")):
        known = sender.known.entries.get(name)
        if known is None:
            sender.send_bytes(name, text, encrypted=False)
            return
        if known.hashes.get("sha256") == digest:
            return
