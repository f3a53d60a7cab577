"""A host with many databases, for what must stay fast and small."""

from __future__ import annotations

from dataclasses import replace

from pgbackup.report.promises.evaluate import status as evaluated
from pgbackup.report.promises.limits import Limits
from pgbackup.report.promises.status import Status

from tests.support import examples


def status(*, databases: int, nights: int) -> Status:
    """Databases that were backed up for so many nights, and whose promises are kept."""
    facts = examples.facts()
    found = tuple(examples.database(f"db{number:02}", f"pg-{number:02}", nights=nights) for number in range(databases))
    newest = {one.name: one.backups[0].taken for one in found}
    copies = (replace(facts.copies[0], newest=newest),)
    return evaluated(replace(facts, databases=found, copies=copies), examples.NOW, Limits())
