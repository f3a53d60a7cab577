"""Arguments in, exit status out. The only place that turns an error into a message and a status."""

from __future__ import annotations

import argparse
import json
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pgbackup import interrupt
from pgbackup.cli import arguments
from pgbackup.cli.stdout import StdoutFailed, show
from pgbackup.commands import lost_settings
from pgbackup.commands.backup import all_databases, plan
from pgbackup.commands.job import Job
from pgbackup.commands.loading.record import Record
from pgbackup.commands.recover import moments, recover, window
from pgbackup.commands.restore import frame as restore_run
from pgbackup.commands.restore import kept, listing, restore
from pgbackup.commands.restore import work as restore_work
from pgbackup.commands.setup import cron, prepare, systemd, wal
from pgbackup.commands.setup.frame import Options as SetupOptions
from pgbackup.commands.verify import backups
from pgbackup.commands.wal import frame
from pgbackup.errors import SuiteError, UsageError
from pgbackup.host import accounts
from pgbackup.host.scheduling import schedule
from pgbackup.report.log import say
from pgbackup.report.result import Result, document
from pgbackup.settings import config

ROOT = Path(__file__).resolve().parents[3]


def main(words: Sequence[str]) -> int:
    """Run one verb and return the exit status."""
    interrupt.install()
    os.umask(0o077)  # whatever the caller's: nothing here is for others to read
    verb, rest = (words[0], words[1:]) if words else ("", [])
    script, parser, run = _VERBS.get(verb, ("pgbackup", None, None))
    try:
        if parser is None or run is None:
            raise UsageError(f"unknown verb '{verb}'", "use the scripts in scripts/")
        return _show_result(*run(parser().parse_intermixed_args(rest)))
    except StdoutFailed as error:
        _say_error(script, error)
        return error.status
    except SuiteError as error:
        return _failed(script, verb, error, as_json="--json" in rest)
    except Exception:  # noqa: BLE001  the last line of defence: a bug must still end with its own status
        traceback.print_exc()
        bug = SuiteError("internal error", "please report it with the lines above")
        return _failed(script, verb, bug, as_json="--json" in rest)


def _failed(script: str, verb: str, error: SuiteError, *, as_json: bool) -> int:
    """Tell what stopped the run before it had a result, on stderr and for --json on stdout; return its status."""
    _say_error(script, error)
    if as_json:
        try:
            show(json.dumps(document(verb, error.status, error=error.message, hint=error.hint), indent=2))
        except StdoutFailed as second:
            _say_error(script, second)
    return error.status


def _say_error(script: str, error: SuiteError) -> None:
    """Print `script: message` and the hint, as every failure is told, in one piece."""
    say(f"{script}: {error.message}" + (f"\nHint: {error.hint}" if error.hint else ""))


def _settings(overrides: Mapping[str, str | None]) -> config.Settings:
    given = {key: value for key, value in overrides.items() if value is not None}
    return config.load(os.environ, ROOT / ".env", given)


def _backup(options: argparse.Namespace) -> tuple[Result, argparse.Namespace]:
    overrides: dict[str, str | None] = {
        "RETENTION_DAYS": options.retention_days,
        "MIN_BACKUPS": options.min_backups,
        "BACKUP_JOBS": options.jobs,
    }
    settings = config.with_client(_settings(overrides), options.client)
    targets = lost_settings.chosen(settings, tuple(options.names))
    if options.dry_run:
        return plan.plan(settings, targets), options
    return all_databases.run(settings, targets, quiet=options.quiet), options


def _verify(options: argparse.Namespace) -> tuple[Result, argparse.Namespace]:
    try:
        hours = float(options.max_age)
    except ValueError:
        hours = -1.0
    if not 0 < hours < 1e6:
        raise UsageError(f"--max-age {options.max_age!r} must be a number of hours above 0", "for example --max-age 26")
    settings = _settings({})
    targets = lost_settings.chosen(settings, tuple(options.names))
    return backups.run(settings, targets, max_age_hours=hours, quiet=options.quiet), options


def _restore(options: argparse.Namespace) -> tuple[Result, argparse.Namespace]:
    action = _restore_action(options)
    aim = _aim(options)
    settings = config.with_client(_settings({}), options.client)
    (target,) = lost_settings.chosen(settings, (options.target,))
    archive = options.archive or target.directory
    if action == "window":
        return window.show(settings, target, archive), options
    if action == "list":
        return listing.listing(settings, target), options
    if action == "history":
        return listing.past(settings, target), options
    chosen = restore_work.Options(
        yes=options.yes,
        into=options.into,
        online=options.online,
        create_roles=options.create_roles,
        keep_failed=options.keep_failed,
        keep_going=options.keep_going,
        in_place=options.in_place,
        dry_run=options.dry_run,
    )

    def from_file_or_archive(job: Job, record: Record) -> None:
        if not aim:
            restore.restore(job, lambda: restore.from_file(job, options.file), chosen, record)
            return
        recover.check_early(job, yes=options.yes or options.dry_run, into=options.into)
        restore.restore(job, lambda: recover.source_at(job, archive, aim, record), chosen, record)

    work: dict[str, Callable[[Job, Record], object]] = {
        "restore": from_file_or_archive,
        "rollback": lambda job, record: kept.rollback(job, record, yes=options.yes, dry_run=options.dry_run),
        "drop-old": lambda job, record: kept.drop_old(job, record, yes=options.yes, dry_run=options.dry_run),
    }
    return restore_run.run(settings, target, action, work[action], quiet=options.quiet, dry=options.dry_run), options


def _restore_action(options: argparse.Namespace) -> str:
    """The one thing that is to be done. Raise UsageError where the command line asks for none or for several."""
    asked = [word for word in ("list", "history", "window", "rollback", "drop_old") if getattr(options, word)]
    asked += ["restore" for source in (options.file, *_aims(options).values()) if source is not None]
    if len(asked) != 1:
        raise UsageError(
            "name one FILE, or one of --list, --history, --window, --latest, --to-…, --rollback, --drop-old",
            f"see what there is: restore-postgres.sh {options.target} --list",
        )
    ways = [word for word in ("into", "online", "in_place") if getattr(options, word)]
    if len(ways) > 1 or (ways and asked != ["restore"]):
        raise UsageError(
            "--into, --online and --in-place exclude each other and go with what is to be restored",
            f"for example: restore-postgres.sh {options.target} FILE --into NAME",
        )
    if options.archive is not None:
        if asked != ["window"] and not any(value is not None for value in _aims(options).values()):
            raise UsageError("--archive goes with --window, --latest and --to-…")
        if "/" in options.archive or options.archive.startswith("."):
            raise UsageError(
                f"--archive {options.archive!r} is no name of a directory in BACKUP_DIR/pitr", "see: ls BACKUP_DIR/pitr"
            )
    return asked[0].replace("_", "-")


def _aims(options: argparse.Namespace) -> dict[str, str | None]:
    """What was asked to be recovered to, by its kind."""
    found = {kind: getattr(options, f"to_{kind}") for kind in moments.KINDS if kind != "latest"}
    return {**found, "latest": "" if options.latest else None}


def _aim(options: argparse.Namespace) -> moments.Aim | None:
    """Raise UsageError for a value that can be none."""
    given = ((kind, value) for kind, value in _aims(options).items() if value is not None)
    return next((moments.checked(moments.Aim(kind, value)) for kind, value in given), None)


def _setup_options(options: argparse.Namespace, script: str) -> SetupOptions:
    """Raise UsageError, and PermissionDenied before a `.env` is looked at that only root may read."""
    when = None if options.schedule is None else schedule.parse(options.schedule)
    if when and options.uninstall:
        raise UsageError("--schedule and --uninstall exclude each other")
    accounts.require_root(script)
    return SetupOptions(user=options.user, schedule=when, dry_run=options.dry_run, uninstall=options.uninstall)


def _setup_cron(options: argparse.Namespace) -> tuple[Result, argparse.Namespace]:
    asked = _setup_options(options, cron.SCRIPT)
    if asked.uninstall:
        return cron.take_down(ROOT, asked), options
    return cron.set_up(_settings({}), ROOT, asked), options


def _setup_systemd(options: argparse.Namespace) -> tuple[Result, argparse.Namespace]:
    asked = _setup_options(options, systemd.SCRIPT)
    if asked.uninstall:
        return systemd.take_down(ROOT, asked), options
    return systemd.set_up(_settings({}), ROOT, asked), options


def _setup_wal(options: argparse.Namespace) -> tuple[Result, argparse.Namespace]:
    if not options.names and not options.uninstall:
        raise UsageError("name the databases whose WAL is to be archived", "sudo setup-wal-archiving.sh payment")
    accounts.require_root(wal.SCRIPT)
    settings = _settings({})
    asked = SetupOptions(user=options.user, schedule=None, dry_run=options.dry_run, uninstall=options.uninstall)
    targets = settings.chosen(tuple(options.names))
    return wal.run(settings, targets, ROOT, asked, quiet=options.quiet), options


def _receive_wal(options: argparse.Namespace) -> tuple[Result, argparse.Namespace]:
    settings = _settings({})
    (target,) = settings.chosen((options.target,))
    return frame.run(settings, target, watchdog=options.watchdog, quiet=options.quiet), options


def _prepare(options: argparse.Namespace) -> tuple[Result, argparse.Namespace]:
    return prepare.run(_settings({}), options.user, Path(options.under)), options


_VERBS = {
    "backup": ("backup-postgres.sh", arguments.backup_parser, _backup),
    "verify": ("verify-backups.sh", arguments.verify_parser, _verify),
    "restore": ("restore-postgres.sh", arguments.restore_parser, _restore),
    "setup-cron": (cron.SCRIPT, arguments.setup_cron_parser, _setup_cron),
    "setup-systemd": (systemd.SCRIPT, arguments.setup_systemd_parser, _setup_systemd),
    "setup-wal": (wal.SCRIPT, arguments.setup_wal_parser, _setup_wal),
    "receive-wal": ("receive-wal.sh", arguments.receive_wal_parser, _receive_wal),
    "prepare": ("make install", arguments.prepare_parser, _prepare),
}


def _show_result(result: Result, options: argparse.Namespace) -> int:
    """Write the result to stdout, as one JSON document or as lines, and return the exit status."""
    try:
        if options.json:
            show(json.dumps(result.document, indent=2))
        elif not options.quiet and result.lines:
            show("\n".join(result.lines))
    except StdoutFailed as error:
        if not result.status:
            raise
        say(error.message)  # what failed before tells more than this: a hung-up terminal takes stdout along
    return result.status
