"""What the steps of a restore share."""

from __future__ import annotations

from dataclasses import dataclass

from pgbackup.commands.job import Job
from pgbackup.commands.loading.record import Record
from pgbackup.commands.restore.checks import Situation
from pgbackup.commands.restore.options import Options
from pgbackup.database.clients.client import Client
from pgbackup.formats.dumpfile import Contents
from pgbackup.store.source import Source
from pgbackup.store.state import journal


@dataclass(frozen=True)
class Work:
    """What the steps share. ask: a client for questions; entry: what the journal says."""

    job: Job
    ask: Client
    source: Source
    contents: Contents
    situation: Situation
    options: Options
    record: Record
    entry: journal.Entry
