"""restore-postgres.sh: one database, from a file or the WAL archive; what there is to restore, and what was."""

from __future__ import annotations

import argparse
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING

from pgbackup.cli import moments
from pgbackup.cli.options import Command, Parser, settings
from pgbackup.commands.recover.aim import Aim
from pgbackup.commands.restore.options import Options
from pgbackup.errors import UsageError

if TYPE_CHECKING:
    from pgbackup.commands.job import Job
    from pgbackup.commands.loading.record import Record
    from pgbackup.settings.config import Settings, Target

SCRIPT = "restore-postgres.sh"


@dataclass(frozen=True)
class Request:
    """One thing to do. action: list, history, window, restore, rollback or drop-old.

    source: of a restore, a file or a moment; "" for all else. archive: another directory than the database's own.
    place: elsewhere, by its name in OFFSITE; key: a file of private keys, "-" for stdin; None where not given.
    """

    target: str
    action: str
    source: str | Aim
    archive: str | None
    options: Options
    place: str | None = None
    key: str | None = None


def parser() -> Parser:
    parser = Parser(
        SCRIPT,
        "Restore one database: check the file, load it beside the live database, count every table, then swap\n"
        "the two in one transaction. Until then nothing is touched; the old database is kept.",
        [
            ("sudo restore-postgres.sh auth --list", "which backups there are, each read through"),
            (
                "sudo restore-postgres.sh auth auth_db_LATEST.sql.gz",
                "the newest one; asks for the database's name before anything is touched",
            ),
            ("sudo restore-postgres.sh auth --rollback", "back to how it was before the last restore"),
            (
                "sudo restore-postgres.sh payment --to-time '2024-01-15 13:37:00+03' --into payment_db_at_1337",
                "as it was at that moment, beside the live one; needs WAL archiving (docs/point-in-time.md)",
            ),
        ],
    )
    parser.add_argument("target", metavar="TARGET", help="the database by its name in DATABASES: auth, payment")
    parser.add_argument("file", nargs="?", metavar="FILE", help="a path, or the name of a file in its directory")
    what = parser.add_argument_group("instead of FILE")
    _asked(what, "list", "show what can be restored: age, size, rows, verified")
    _asked(what, "history", "show the restores so far and how long they took")
    _asked(what, "rollback", "bring back the database that the last restore kept")
    _asked(what, "drop-old", "drop the databases that restores have kept")
    point = parser.add_argument_group("instead of FILE, with WAL archiving")
    _asked(point, "window", "show which moments can be recovered")
    point.add_argument("--to-time", metavar="TIME", help="as it was then: '2024-01-15 13:37:00+03'")
    point.add_argument("--to-lsn", metavar="LSN", help="up to a position in WAL")
    point.add_argument("--to-xid", metavar="XID", help="up to a transaction, and including it")
    point.add_argument("--to-name", metavar="NAME", help="up to a restore point (pg_create_restore_point)")
    point.add_argument(
        "--latest", action="store_const", const="", dest="to_latest", help="up to the last commit that was archived"
    )
    point.add_argument(
        "--archive", metavar="NAME", help="another archive: a directory in BACKUP_DIR/pitr, or with --from, as it shows"
    )
    away = parser.add_argument_group("from a place elsewhere")
    away.add_argument(
        "--from",
        metavar="PLACE",
        dest="place",
        help="from copies at a place in OFFSITE: FILE, a moment, --list, --window",
    )
    away.add_argument(
        "--key", metavar="KEYFILE", help="the private key that opens it, mode 0600; - to type it or give it by a pipe"
    )
    away.add_argument(
        "--with-roles", action="store_true", help="bring missing roles back as they were, with passwords and powers"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--yes", action="store_true", help="do not ask; needed where there is no terminal")
    how.add_argument(
        "--dry-run", action="store_true", help="check everything and show what would happen; change nothing"
    )
    how.add_argument("--into", metavar="NAME", default="", help="restore into a new database NAME and swap nothing")
    how.add_argument("--online", action="store_true", help="stop the services only for the swap, not for the load")
    how.add_argument("--in-place", action="store_true", help="drop the live database first, if two do not fit")
    how.add_argument("--create-roles", action="store_true", help="create missing roles, without passwords")
    how.add_argument("--keep-failed", action="store_true", help="keep what was loaded even if the restore fails")
    how.add_argument(
        "--keep-going", action="store_true", help="skip statements that fail, retry them last, list what still fails"
    )
    how.add_argument("--client", metavar="KIND", help="auto, sidecar, exec or direct, instead of <NAME>_CLIENT")
    return parser


def _asked(group: argparse._ArgumentGroup, action: str, meaning: str) -> None:
    group.add_argument(f"--{action}", action="append_const", dest="asked", const=action, help=meaning)


def request(options: Namespace) -> Request:
    """Raise UsageError where the command line asks for nothing, for several things, or for what cannot be."""
    aims = [(kind, text) for kind in moments.KINDS if (text := getattr(options, f"to_{kind}")) is not None]
    asked = [*set(options.asked or ()), *["restore"] * (len(aims) + (options.file is not None))]
    if len(asked) != 1:
        raise UsageError(
            "name one FILE, or one of --list, --history, --window, --latest, --to-…, --rollback, --drop-old",
            f"see what there is: restore-postgres.sh {options.target} --list",
        )
    (action,) = asked
    ways = [word for word in ("into", "online", "in_place") if getattr(options, word)]
    if len(ways) > 1 or (ways and action != "restore"):
        raise UsageError(
            "--into, --online and --in-place exclude each other, and need something to restore",
            f"for example: restore-postgres.sh {options.target} FILE --into NAME",
        )
    if options.archive is not None:
        if action != "window" and not aims:
            raise UsageError("--archive goes with --window, --latest and --to-…")
        if "/" in options.archive or options.archive.startswith("."):
            see = f"restore-postgres.sh {options.target} --window --from {options.place}"
            raise UsageError(
                f"--archive {options.archive!r} is not the name of a directory in BACKUP_DIR/pitr",
                f"see: {see if options.place else 'ls BACKUP_DIR/pitr'}",
            )
    _check_place(options, action)
    source = moments.aim(*aims[0]) if aims else options.file or ""
    how = {field.name: getattr(options, field.name) for field in fields(Options)}
    return Request(options.target, action, source, options.archive, Options(**how), options.place, options.key)


def _check_place(options: Namespace, action: str) -> None:
    """Raise UsageError where --from, --key and --with-roles do not go with what is asked."""
    if options.place is not None and action not in ("restore", "list", "window"):
        raise UsageError(
            "--from goes with FILE, --latest, --to-…, --list and --window",
            f"see: restore-postgres.sh {options.target} --from PLACE --list",
        )
    if options.with_roles and (options.place is None or action != "restore"):
        raise UsageError("--with-roles goes with --from PLACE, and something to restore")
    if options.key is not None and (options.place is None or action not in ("restore", "window")):
        raise UsageError("--key goes with --from PLACE, and FILE, --latest, --to-… or --window")
    if options.key == "-" and not (options.yes or options.dry_run) and not (sys.stdin and sys.stdin.isatty()):
        raise UsageError("a key that comes by a pipe leaves no terminal to ask on", "add --yes, or name a key file")


def command(options: Namespace) -> Command:
    asked = request(options)
    from pgbackup.commands import lost_settings
    from pgbackup.settings import config

    known = config.with_client(settings(), options.client)
    (target,) = lost_settings.chosen(known, (asked.target,))
    archive = asked.archive or target.directory
    if asked.action == "window" and asked.place is not None:
        from pgbackup.commands import key
        from pgbackup.commands.elsewhere.wal import window as there

        keys = key.given(asked.key) if asked.key else []
        return partial(there.show, known, target, asked.place, asked.archive, keys)
    if asked.action == "window":
        from pgbackup.commands.recover import window

        return partial(window.show, known, target, archive)
    if asked.place is not None and asked.action == "list":
        from pgbackup.commands.restore import elsewhere

        return partial(elsewhere.show, known, target, asked.place)
    if asked.action in ("list", "history"):
        from pgbackup.commands.restore import listing

        return partial(listing.listing if asked.action == "list" else listing.past, known, target)
    from pgbackup.commands.restore import frame

    work = _from_place(asked, asked.place, known, target) if asked.place is not None else _work(asked, archive)
    dry = asked.options.dry_run
    return partial(frame.run, known, target, asked.action, work, quiet=options.quiet, dry=dry)


def _from_place(asked: Request, place: str, known: Settings, target: Target) -> Callable[[Job, Record], object]:
    """A restore of a copy, or to a moment, elsewhere. The key is asked for before anything is begun."""
    from pgbackup.commands import key
    from pgbackup.commands.elsewhere import copies, fetching
    from pgbackup.commands.elsewhere.wal import archive
    from pgbackup.commands.recover import recover
    from pgbackup.commands.restore import elsewhere, restore

    there, chosen, source = copies.at(known, target, place), asked.options, asked.source

    def restored(job: Job, record: Record) -> None:
        copies.require_key(known, place, asked.key)
        keys = key.given(asked.key) if asked.key else []
        roles = partial(elsewhere.globals_at, there, keys) if chosen.with_roles else None
        if isinstance(source, str):
            fetched = fetching.from_place(job, there, source, keys, record)
            restore.restore(job, lambda _ask: fetched, chosen, record, roles)
            return
        opened = archive.for_recovery(job, there, asked.archive, keys, source.position)
        recovered = recover.when_it_may(job, opened, source, record, chosen.into, yes=chosen.yes or chosen.dry_run)
        restore.restore(job, recovered, chosen, record, roles)

    return restored


def _work(asked: Request, archive: str) -> Callable[[Job, Record], object]:
    """What changes the database, as the frame takes it."""
    from pgbackup.commands.restore import kept, restore
    from pgbackup.store import source as sources

    chosen, source = asked.options, asked.source
    if asked.action == "rollback":
        return partial(kept.rollback, yes=chosen.yes, dry_run=chosen.dry_run)
    if asked.action == "drop-old":
        return partial(kept.drop_old, yes=chosen.yes, dry_run=chosen.dry_run)
    if isinstance(source, str):

        def from_file(job: Job, record: Record) -> None:
            found = sources.found(source, job.place.path, job.target.database)
            restore.restore(job, lambda _ask: found, chosen, record)

        return from_file
    from pgbackup.commands.recover import recover

    def to_a_moment(job: Job, record: Record) -> None:
        opened = recover.on_disk(job.settings, archive)
        recovered = recover.when_it_may(job, opened, source, record, chosen.into, yes=chosen.yes or chosen.dry_run)
        restore.restore(job, recovered, chosen, record)

    return to_a_moment
