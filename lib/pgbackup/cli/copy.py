"""copy-backups.sh: what is published and proven is copied to the places elsewhere."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pgbackup.cli.options import ROOT, Command, Parser, add_names, settings, verification_key
from pgbackup.errors import UsageError
from pgbackup.report.result import Result, document

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pgbackup.settings.config import Offsite, Settings

SCRIPT = "copy-backups.sh"


def parser() -> Parser:
    parser = Parser(
        SCRIPT,
        "Copy the backups to the places elsewhere that OFFSITE names: encrypted, one object a file, confirmed by the\n"
        "place. Nothing there is ever overwritten, nothing deleted but with --expire, and nothing here is changed.",
        [
            ("copy-backups.sh", "all databases to all places, as the schedule does it"),
            ("copy-backups.sh --to s3 --dry-run payment", "what would be copied, copying nothing"),
            ("copy-backups.sh --expire --to nas --credential /media/usb/rclone.conf", "let old copies go"),
        ],
    )
    add_names(parser)
    parser.add_argument("--to", metavar="PLACE", action="append", help="a place of OFFSITE; default: all of them")
    parser.add_argument("--now", action="store_true", help="also to a place that failed and is not to be tried yet")
    parser.add_argument(
        "--follow", action="store_true", help="copy base backups and WAL as they come, until it is stopped"
    )
    parser.add_argument(
        "--watchdog", action="store_true", help="with --follow: do nothing if one runs already; for cron"
    )
    parser.add_argument(
        "--verification-key",
        metavar="KEY",
        help="after a loss of this host: take back the index there, which this key, from paper, has signed",
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be copied, or deleted; do nothing")
    parser.add_argument(
        "--expire",
        action="store_true",
        help="delete copies at one place by RETENTION_DAYS and MIN_BACKUPS, WAL too, with --credential",
    )
    parser.add_argument(
        "--credential",
        metavar="FILE",
        type=Path,
        help="an rclone configuration, not kept on this host, whose remote of the same name may delete",
    )
    parser.add_argument("--yes", action="store_true", help="delete without asking")
    return parser


def _follows_already(known: Settings, places: Sequence[Offsite]) -> bool:
    """Asked before what would copy is loaded: cron starts one each minute, hardly ever in need."""
    from pgbackup.store import lock
    from pgbackup.store.offsite import progress

    directories = (progress.path_of(known.backup_dir, place.name) for place in places)
    return any(lock.is_held_in(each, progress.FOLLOWER) for each in directories)


def _expiring(options: Namespace) -> Command:
    from pgbackup.commands.offsite import expire

    if len(options.to or []) != 1 or options.credential is None or options.now or options.verification_key:
        example = "copy-backups.sh --expire --to nas --credential /media/usb/rclone.conf"
        raise UsageError(
            "--expire goes with --to PLACE and --credential FILE, and with neither --now nor a key", example
        )
    known = settings()
    targets = known.chosen(tuple(options.names))
    doing = {"dry_run": options.dry_run, "yes": options.yes, "quiet": options.quiet}
    return partial(expire.run, known, targets, known.place(options.to[0]), options.credential, **doing)


def command(options: Namespace) -> Command:
    if options.expire:
        return _expiring(options)
    if options.credential or options.yes:
        raise UsageError("--credential and --yes go with --expire", "copy-backups.sh --help")
    if options.follow and (options.now or options.dry_run):
        raise UsageError("--follow goes with neither --now nor --dry-run", "see: copy-backups.sh --help")
    if options.watchdog and not options.follow:
        raise UsageError("--watchdog goes with --follow", "copy-backups.sh -q --watchdog --follow")
    from pgbackup.commands import lost_settings

    key = verification_key(options.verification_key)
    if key and options.dry_run:
        raise UsageError("--verification-key takes the index back, which --dry-run does not", "leave one of them out")
    known = settings()
    targets = lost_settings.chosen(known, tuple(options.names))
    places = tuple(known.place(name) for name in dict.fromkeys(options.to)) if options.to else known.offsite
    if options.dry_run:
        from pgbackup.commands.offsite import plan

        return partial(plan.plan, known, targets, places)
    if options.watchdog and _follows_already(known, places):
        return partial(Result, 0, [], document("copy --follow", 0))
    if options.follow:
        from pgbackup.commands.offsite.wal import follow

        return partial(follow.run, known, targets, places, watchdog=options.watchdog, quiet=options.quiet)
    from pgbackup.cli.pinged import pinged
    from pgbackup.commands.offsite import copy

    run = partial(
        copy.run, known, targets, places, ROOT / ".env", now=options.now, quiet=options.quiet, verification_key=key
    )
    whole = len(targets) == len(known.targets)
    parts = [place.name for place in places] if whole else []
    return pinged("copy", known, run, parts, whole=whole and len(places) == len(known.offsite))
