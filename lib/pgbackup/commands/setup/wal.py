"""setup-wal-archiving.sh: a replication slot on the server, and a receiver that systemd or cron keeps alive."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path

from pgbackup import interrupt
from pgbackup.commands import archiving
from pgbackup.commands.job import Job, in_backup_dir
from pgbackup.commands.setup import frame as setup
from pgbackup.commands.setup import wal_agreement, wal_checks
from pgbackup.commands.setup.options import Options
from pgbackup.database.clients.client import Client
from pgbackup.database.cluster import libraries, replication
from pgbackup.database.cluster.replication import Server
from pgbackup.errors import LockHeld, SuiteError, Unavailable
from pgbackup.host import accounts
from pgbackup.host.scheduling import wal_service
from pgbackup.host.scheduling.installed import Change
from pgbackup.report.result import Result
from pgbackup.settings.config import Settings, Target
from pgbackup.store import lock
from pgbackup.store.state import statefile
from pgbackup.store.wal import archive as walarchive
from pgbackup.store.wal import base_backups, recoverable
from pgbackup.store.wal.archive import Places, State
from pgbackup.store.wal.recoverable import Archive
from pgbackup.store.wal.window import Confirmed

SCRIPT = "setup-wal-archiving.sh"
_SETTLE_SECONDS = 75.0  # cron starts a job at the next minute
_STOP_SECONDS = 30.0


@dataclass
class Told:
    """What is to be told in the end. changes: of files; steps: what was or would be done on the server."""

    changes: list[Change] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    status: int = 0


def set_up(settings: Settings, targets: Sequence[Target], root: Path, options: Options, *, quiet: bool) -> Result:
    """Set up archiving for each target in turn. Raise SuiteError, for the first one that cannot be.

    Before anything is changed for a target, everything about it is checked.
    """
    return _each(_set_up, settings, targets, root, options, quiet=quiet)


def take_down(settings: Settings, targets: Sequence[Target], root: Path, options: Options, *, quiet: bool) -> Result:
    """Stop receiving for each target in turn, and leave nothing on the server. Raise as set_up()."""
    return _each(_take_down, settings, targets, root, options, quiet=quiet)


def _each(
    work: Callable[[Job, Path, Options, Told], None],
    settings: Settings,
    targets: Sequence[Target],
    root: Path,
    options: Options,
    *,
    quiet: bool,
) -> Result:
    told = Told()
    with setup.alone(), in_backup_dir(settings, create=True, quiet=quiet) as (top, reporter):
        for target in targets:
            work(archiving.job_at(settings, target, top, reporter), root, options, told)
    lines = told.steps if options.dry_run else told.done
    result = setup.told(SCRIPT, options, told.changes, lines, told.warnings)
    if options.dry_run and (told.steps or told.changes):
        result = Result(0, [*told.steps, *(line for change in told.changes for line in change.diff())], result.document)
    return Result(told.status, result.lines, {**result.document, "status": told.status, "steps": told.steps})


def _set_up(job: Job, root: Path, options: Options, told: Told) -> None:
    wal_checks.check_target(job.target)
    with job.client() as ask:
        _set_up_on(ask, job, root, options, told)


def _set_up_on(ask: Client, job: Job, root: Path, options: Options, told: Told) -> None:
    target, settings = job.target, job.settings
    known = wal_service.user(root, target.name)
    account = accounts.find(options.user or known or accounts.DEFAULT)
    path = walarchive.path_of(settings.backup_dir, target.directory)
    accounts.check_directories([settings.backup_dir, path.parent, path], account)
    server = replication.look(ask, target.name)
    wal_checks.check_server(job, server)
    state, confirmed = wal_agreement.known(settings, target)
    if state and state.active and state.owner != target.name and state.system == server.system:
        told.done.append(f"the WAL of '{target.name}' is archived already, together with that of '{state.owner}'")
        return
    wal_agreement.refuse_others(target, state, server, known=state is not None and state.owner == target.name)
    changes = wal_service.setting_up(settings, root, account, target.name, options.user)
    told.changes += changes
    told.warnings += [*wal_service.warnings(changes, root), *accounts.docker_warnings(account)]
    old = state is not None and archiving.another_cluster(server, state, confirmed) != ""
    if options.dry_run:
        told.steps += _steps(target, server, path, old=old)
        return
    if old and state:
        _stopped(job, target, state)
        told.done.append(f"the archive of the other cluster is kept as '{_moved_aside(path, state)}'")
        state, confirmed = None, None
    accounts.make_directories([path.parent, path], account)
    with walarchive.opened(settings.backup_dir, target.directory, create=True) as places:
        try:
            told.warnings += wal_agreement.agree(job, ask, server, places, state)
            wal_service.start(changes, target.name)
        except SuiteError:
            if state is None or not state.active:
                wal_agreement.give_up(job, places)
            raise
        job.info("wal.set-up", archive=path, slot=replication.slot_name(target.name))
        _await_well(job, places, confirmed)
        archive = recoverable.look(places)
    told.warnings += [f"{target.name}: {loss}" for loss in recoverable.lost(archive)]
    if missing := list(archive.bases.values())[-1][1].missing:
        told.warnings.append(f"{target.name}: {libraries.told(missing)}")
    told.done += [
        f"the WAL of '{target.name}' is archived in '{path}', by {wal_service.told(target.name, account)}",
        *recoverable.described(archive.windows),
        f"see it: restore-postgres.sh {target.name} --window",
        *(f"let it go to '{one.name}', too, as it comes: sudo setup-offsite.sh {one.name}" for one in settings.offsite),
    ]


def _steps(target: Target, server: Server, path: Path, *, old: bool) -> list[str]:
    """What would be done, in words. Pure."""
    steps = [f"{target.name}: would move the archive of another cluster aside"] if old else []
    if server.slot is None:
        steps.append(f"{target.name}: would make the slot '{replication.slot_name(target.name)}'")
    if server.keep == "-1" and server.is_superuser:
        steps.append(f"{target.name}: would set max_slot_wal_keep_size = '{target.wal_keep_megabytes}MB'")
    return [*steps, f"{target.name}: would archive its WAL in '{path}', and take a base backup where there is none"]


def _moved_aside(path: Path, state: State) -> Path:
    """Give the archive of another cluster another name; it can still be recovered from."""
    aside = path.with_name(f"{path.name}.{state.system}")
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.{state.system}.{number}")
    return path.rename(aside)


def _await_well(job: Job, places: Places, before: Confirmed | None) -> None:
    """Wait until WAL arrives behind a base backup, which the receiver makes itself where there is none, or none after
    a gap. before: how far the archive reached. Raise Unavailable where it does not come to that.
    """
    job.tell("waiting for the receiver and a usable base backup …")
    begun, deadline = statefile.now(), time.monotonic() + _SETTLE_SECONDS
    while problems := _problems(recoverable.look(places), before):
        interrupt.check()
        time.sleep(0.5)
        receiver = walarchive.read_receiver(places)
        if receiver and receiver.checked and receiver.checked >= begun:  # it is at work
            if not receiver.trouble and not receiver.base_trouble and base_backups.unfinished(places.base):
                deadline = time.monotonic() + _SETTLE_SECONDS
            if receiver.base_trouble:
                deadline = 0
        if time.monotonic() > deadline:
            raise Unavailable(
                f"archiving is set up, but not well yet: {'; '.join(problems)}",
                f"see why: {wal_service.why(job.target.name)}; then: restore-postgres.sh {job.target.name} --window",
            )


def _problems(archive: Archive, before: Confirmed | None) -> list[str]:
    """Why the archive does not lead to now. What an earlier receiver has left may look well for a minute."""
    found = recoverable.behind(archive, datetime.now(timezone.utc))
    return found if found or archive.confirmed != before else ["nothing was received yet"]


def _stopped(job: Job, target: Target, state: State) -> None:
    """Stop the receiver, whoever runs it: it ends by itself when archiving is no longer active."""
    with walarchive.opened(job.settings.backup_dir, target.directory, create=True) as places:
        walarchive.write_state(places, replace(state, active=False))
        wal_service.stop(target.name)
        deadline = time.monotonic() + _STOP_SECONDS
        while True:
            with suppress(LockHeld), lock.held(places.top, walarchive.RECEIVER):
                return
            if time.monotonic() > deadline:
                raise Unavailable(f"the receiver of '{target.name}' does not stop", wal_service.why(target.name))
            interrupt.check()
            time.sleep(0.2)


def _take_down(job: Job, root: Path, options: Options, told: Told) -> None:
    """Stop receiving and leave nothing on the server. Nothing there: no error."""
    target, settings = job.target, job.settings
    if other := wal_service.elsewhere(root, target.name):
        told.done.append(
            f"the WAL of '{target.name}' is archived by the installation in '{other}', which was left as it is"
        )
        return
    changes = wal_service.taking_down(root, target.name)
    state, _ = wal_agreement.known(settings, target)
    mine = state is not None and state.owner == target.name
    if not changes and not mine:
        shared = f" by itself, but together with that of '{state.owner}'" if state and state.active else ""
        if not options.dry_run:
            told.done.append(f"the WAL of '{target.name}' is not archived{shared}")
        return
    told.changes += [change for change in changes if change not in told.changes]
    if options.dry_run:
        told.steps.append(f"{target.name}: would stop the receiver, and drop its slot")
        return
    if mine and state:
        wal_agreement.refuse_to_stop_commits(job)
        _stopped(job, target, state)
    wal_service.remove(changes, target.name)
    path = walarchive.path_of(settings.backup_dir, target.directory)
    now = "no longer" if changes or (state and state.active) else "not"
    told.done.append(f"the WAL of '{target.name}' is {now} archived; what was archived stays in '{path}'")
    try:
        told.warnings += wal_agreement.take_back(job, state)
        job.info("wal.taken-down", archive=path)
    except SuiteError as error:
        told.status = error.status
        told.warnings.append(
            f"{target.name}: the slot '{replication.slot_name(target.name)}' could not be dropped, and makes the server"
            f" keep WAL: {error.message}; when the server is up again: sudo {SCRIPT} {target.name} --uninstall"
        )
