"""backup-postgres.sh: dump every database, or say what that would do."""

from __future__ import annotations

from argparse import Namespace
from functools import partial

from pgbackup.cli.options import Command, Parser, add_names, settings

SCRIPT = "backup-postgres.sh"


def parser() -> Parser:
    parser = Parser(
        SCRIPT,
        "Back up the databases: dump, compress, read back from disk and check, publish, expire old backups.\n"
        "A file under its final name is complete and proven; a failure never leaves one.",
        [
            ("sudo -u deployer backup-postgres.sh", "all databases, as cron does it every night"),
            ("backup-postgres.sh --dry-run payment", "what would be written and expired, changing nothing"),
        ],
    )
    add_names(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="show the plan and the retention decisions; change nothing"
    )
    parser.add_argument("--retention-days", metavar="DAYS", help="instead of RETENTION_DAYS")
    parser.add_argument("--min-backups", metavar="COUNT", help="instead of MIN_BACKUPS")
    parser.add_argument("--jobs", metavar="COUNT", help="instead of BACKUP_JOBS")
    parser.add_argument("--client", metavar="KIND", help="auto, sidecar, exec or direct, instead of each <NAME>_CLIENT")
    return parser


def command(options: Namespace) -> Command:
    from pgbackup.commands import lost_settings
    from pgbackup.settings import config

    overrides = {
        "RETENTION_DAYS": options.retention_days,
        "MIN_BACKUPS": options.min_backups,
        "BACKUP_JOBS": options.jobs,
    }
    known = config.with_client(settings(overrides), options.client)
    targets = lost_settings.chosen(known, tuple(options.names))
    if options.dry_run:
        from pgbackup.commands.backup import plan

        return partial(plan.plan, known, targets)
    from pgbackup.cli.pinged import pinged
    from pgbackup.commands.backup import all_databases

    run = partial(all_databases.run, known, targets, quiet=options.quiet)
    names = [target.name for target in targets]
    return pinged("backup", known, run, names, whole=len(targets) == len(known.targets))
