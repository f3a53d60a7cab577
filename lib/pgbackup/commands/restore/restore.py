"""restore-postgres.sh TARGET FILE: loaded beside the live database, compared, swapped in, in one transaction.

The steps in their order. Until the swap the live database is not touched; after it the old one is kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial

from pgbackup.commands import claim, confirm, dump
from pgbackup.commands.job import Job, Outcome
from pgbackup.commands.loading import one_copy, unfinished
from pgbackup.commands.loading.fill import Filling, fill
from pgbackup.commands.loading.record import Record
from pgbackup.commands.restore import checks, outage, undo
from pgbackup.commands.restore.checks import Situation
from pgbackup.commands.restore.options import Options
from pgbackup.commands.restore.work import Work
from pgbackup.database import pg_dumpall
from pgbackup.database.clients.client import Client
from pgbackup.database.loading import leaving, swap
from pgbackup.database.questions import roles
from pgbackup.errors import BackupBad, Unavailable, UsageError
from pgbackup.formats import loadable
from pgbackup.formats.dumpfile import Contents
from pgbackup.report.log import say
from pgbackup.sql import naming
from pgbackup.sql.cluster import Globals
from pgbackup.store.source import Source
from pgbackup.store.state import journal
from pgbackup.store.state.statefile import Unreadable


def restore(
    job: Job,
    opening: Callable[[Client], AbstractContextManager[Source]],
    options: Options,
    record: Record,
    roles_of: Callable[[], Globals] | None = None,
) -> None:
    """Restore a source; what comes of it is noted in `record`. Raise SuiteError or OSError.

    opening: opens the source, when the lock is held and what earlier runs have left is settled; given who answers
    questions about the server. roles_of: gives the
    roles that options.with_roles brings back.

    Whatever is raised, the live database is as it was, open, and the services that ran run again.
    """
    with claim.connected(job) as (ask, unsettled):
        if isinstance(unsettled, Unreadable):
            raise unsettled  # it may say what brings the live database back, and would be overwritten
        if unsettled:
            record.warnings.append(unsettled.message)
        with opening(ask) as opened:
            found = roles_of() if roles_of else None
            prepared = _prepared(job, ask, opened, options, record)
            if found:
                say("\n".join(pg_dumpall.told(found, pg_dumpall.missing(found, prepared.situation.present))))
            if options.dry_run:
                return
            work = _carrying_on(prepared)
            if not options.yes:
                confirm.ask(options.into or job.target.database, "a restore")
            lacking = work.situation.roles
            if found:
                record.warnings += pg_dumpall.bring_back(ask, found)
                lacking = checks.lacking_roles(ask, opened)
            if options.makes_roles:
                record.warnings += roles.create(ask, lacking, work.situation.major)
            _carry_out(work)
    if record.unreplayed:
        raise BackupBad(
            f"the restore is done, but {len(record.unreplayed)} things are not as they were, as listed above",
            "docs/restore.md, When a dump cannot be replayed",
        )
    if record.unwell:
        raise Unavailable(
            f"the restore is done, but {'; '.join(record.unwell)}",
            "look into their logs; the restored database stays, --rollback brings the old one back",
        )


def _prepared(job: Job, ask: Client, opened: Source, options: Options, record: Record) -> Work:
    """Verify the file, look at the server, and show what will happen. Nothing is touched."""
    record.file, record.into = opened.name, options.into
    contents, situation = _examined(job, ask, opened, options, record)
    record.rows, record.tables = sum(contents.rows.values()), len(contents.rows)
    record.sql_bytes = contents.sql_bytes
    record.warnings += [
        *contents.left_out,
        *situation.warnings,
        *(f"service '{name}' does not exist" for name in situation.absent),
    ]
    record.compared = [asdict(each) for each in situation.tables or []]
    when = "only while the databases are swapped" if options.online else "until the restore is over"
    say("\n".join(checks.lines(job, opened, contents, situation, into=options.into, when=when)))
    now = datetime.now().astimezone()

    def new_name(infix: str) -> str:
        taken = naming.of_kind(situation.databases, job.target.database, infix)
        return naming.next_derived(job.target.database, infix, now, taken[0] if taken else None)

    replaces = situation.valid and not options.into
    entry = journal.Entry(
        started=now.replace(microsecond=0),
        file=opened.name,
        scratch=new_name(naming.SCRATCH),
        outgoing=new_name(naming.BEFORE) if replaces else "",
        stopped=situation.up,
    )
    return Work(job, ask, opened, contents, situation, options, record, entry)


def _carrying_on(work: Work) -> Work:
    """An earlier restore may have left no live database: what would bring it back is not forgotten by this one."""
    job, left = work.job, journal.read(work.job.place, work.job.run.owner)
    if left is None or not unfinished.is_missing(job, work.ask, left):
        return work
    return replace(work, entry=replace(work.entry, safety=left.safety, outgoing=left.outgoing))


def _examined(job: Job, ask: Client, opened: Source, options: Options, record: Record) -> tuple[Contents, Situation]:
    """Read the file while the server is asked. Of two things that are wrong, the file's is the one that is told."""
    with record.timed("verify"), ThreadPoolExecutor(1) as pool:
        reading = pool.submit(_verified, job, opened, options.into)
        try:
            situation = checks.examine(
                job,
                ask,
                opened,
                reading.result,
                into=options.into,
                create_roles=options.makes_roles,
                in_place=options.in_place,
            )
        finally:
            contents = reading.result()
    return contents, situation


def _verified(job: Job, opened: Source, into: str) -> Contents:
    """What the file holds, read through as the load will read it, before anything is stopped."""
    if opened.contents:
        contents, refused = opened.contents, opened.refused
    else:
        contents, refused = _read(job, opened)
    if refused:
        raise BackupBad(f"'{opened.name}' cannot be restored: {refused.message}", refused.hint)
    if not into and (lacking := loadable.rowless(contents)):
        raise BackupBad(f"'{opened.name}' would empty the database: {lacking}", "--into NAME allows it")
    return contents


def _read(job: Job, opened: Source) -> tuple[Contents, BackupBad | None]:
    file_bytes = os.fstat(opened.descriptor).st_size
    with job.reporter.bar(f"{job.target.name}: verify", file_bytes) as advance:
        try:
            return loadable.read(opened.descriptor, advance)
        except BackupBad as bad:
            hint = bad.hint or "take an older one: --list"
            raise BackupBad(f"'{opened.name}' is bad: {bad.message}", hint) from None


def _set_aside(work: Work) -> journal.Entry:
    """Give the live database another name and back it up: nobody writes to it any more, so nothing is missing in it.

    Nothing expires, and LATEST does not lead to it: it holds what the restore is to get rid of. Return the journal's
    entry, which names it.
    """
    job, record, entry = work.job, work.record, work.entry
    outcome = Outcome(job.target.name, job.target.database)
    with record.timed("safety backup"):
        swap.rename(work.ask, job.target.database, entry.outgoing)
        dump.make(job, outcome, lambda: nullcontext(work.ask.of(entry.outgoing)))
    record.safety = outcome.file
    entry = replace(entry, safety=outcome.file)
    journal.write(job.place, job.run.owner, entry)
    return entry


def _drop_old(work: Work) -> None:
    with work.record.timed("drop"):
        swap.drop(work.ask, work.entry.outgoing)


def _carry_out(work: Work) -> None:
    """From here on something exists that has to be cleaned up: the journal says what."""
    job, options, entry = work.job, work.options, work.entry
    replaces_in_place = options.in_place and work.situation.valid
    roomless = replaces_in_place and not work.situation.fits
    work.record.began = True
    journal.write(job.place, job.run.owner, entry)
    job.info("restore.start", file=work.source.name, into=options.into or job.target.database)
    with ExitStack() as stack:
        stack.enter_context(undo.undone(work))
        filling = Filling(
            work.source,
            work.situation.server,
            work.situation.major,
            work.situation.restricts,
            work.contents,
            partial(_accepted, options, job.target.database) if options.keep_going else None,
        )
        if roomless:
            with work.record.timed("try out"):
                one_copy.prove(job, work.ask, filling, entry.scratch)
        if not options.into and not options.online:
            stack.enter_context(outage.services_stopped(work))
        if replaces_in_place:
            entry = _set_aside(work)
        if roomless:
            _drop_old(work)
        is_in_place = _filled(work, filling, entry)
        if options.online:
            stack.enter_context(outage.services_stopped(work))
        journal.write(job.place, job.run.owner, replace(entry, swapping=True))
        if not is_in_place:
            with work.record.timed("swap"):
                _swap(work)
        work.record.swapped = True
        if replaces_in_place and not roomless:
            _drop_old(work)
        elif work.situation.valid and not options.in_place:
            work.record.replaced = entry.outgoing


def _accepted(options: Options, database: str, wrong: list[str]) -> bool:
    """Whether what is not as it was may take its place: beside the live database always, in its place when a person
    who has seen the list says so. --yes was said before the list was known.
    """
    say("\n".join(["not as it was:", *(f"  {one}" for one in wrong)]))
    try:
        if not options.into:
            confirm.ask(database, "a database that is not as it was")
    except UsageError:
        return False
    return True


def _filled(work: Work, filling: Filling, entry: journal.Entry) -> bool:
    """Load it beside the live database; where there is none, under its name, if nothing else will do.

    There are extensions that can be made in a database of one name only. Return whether it has that name.
    """
    job, live = work.job, work.job.target.database
    try:
        fill(job, work.ask, filling, entry.scratch, work.record)
        return False
    except BackupBad as error:
        if work.situation.exists or work.options.into or work.options.keep_failed:
            raise
        told = f"it can be loaded only under the name '{live}', which is free: {error.message}"
        job.tell(f"{told}; loading it under that name", always=True)
    swap.drop(work.ask, entry.scratch)
    journal.write(job.place, job.run.owner, replace(entry, scratch=live))
    fill(job, work.ask, filling, live, work.record)
    return True


def _subscribed(database: str, subscriptions: list[str]) -> list[str]:
    """How a copy is dropped that has subscriptions: they are as they were dumped, and not enabled. Pure."""
    if not subscriptions:
        return []
    statements = [
        f"ALTER SUBSCRIPTION {name} {what};"
        for name in map(naming.identifier, subscriptions)
        for what in ("DISABLE", "SET (slot_name = NONE)")
    ]
    statements += [f"DROP SUBSCRIPTION {name};" for name in map(naming.identifier, subscriptions)]
    return [f"'{database}' has subscriptions; to be able to drop it, run in it: {' '.join(statements)}"]


def _swap(work: Work) -> None:
    job, scratch = work.job, work.entry.scratch
    if work.options.into:
        swap.rename(work.ask, scratch, work.options.into)
        work.record.warnings += _subscribed(work.options.into, leaving.subscriptions(work.ask, work.options.into))
        return
    if work.situation.exists and not work.situation.valid:  # nobody can use it, and it cannot be renamed
        swap.drop(work.ask, job.target.database)
    keeps_old = work.situation.valid and not work.options.in_place
    swap.swap(work.ask, scratch, work.entry.outgoing if keeps_old else None)
