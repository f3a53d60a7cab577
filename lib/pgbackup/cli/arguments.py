"""The command lines of the scripts: their options, examples and exit statuses, as --help shows them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from pgbackup import __version__
from pgbackup.cli.stdout import show
from pgbackup.errors import EXIT_STATUSES, UsageError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"{self.prog} --help")

    def _print_message(self, message: str, file: object = None) -> None:
        """--help and --version go the way of every result: argparse itself would not notice a full disk."""
        show(message.rstrip("\n"))


def _exit_status_section() -> str:
    rows = "\n".join(f"  {status:<6} {meaning}" for status, meaning in EXIT_STATUSES)
    return f"exit status:\n{rows}"


def _parser(script: str, what: str, examples: Sequence[tuple[str, str]]) -> _Parser:
    shown = "\n".join(f"  {command}\n      {meaning}" for command, meaning in examples)
    parser = _Parser(
        prog=script,
        description=what,
        epilog=f"examples:\n{shown}\n\n{_exit_status_section()}\n\nsettings: docs/configuration.md, .env.example",
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=28),
        allow_abbrev=False,
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but warnings and errors")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout instead of lines")
    parser.add_argument(
        "--version", action="version", version=f"{script} {__version__}", help="show the version and exit"
    )
    return parser


def _names(parser: _Parser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="databases by their names in DATABASES; default: all")


def backup_parser() -> argparse.ArgumentParser:
    parser = _parser(
        "backup-postgres.sh",
        "Back up the databases: dump, compress, read back from disk and check, publish, expire old backups.\n"
        "A file under its final name is complete and proven; a failure never leaves one.",
        [
            ("sudo -u deployer backup-postgres.sh", "all databases, as cron does it every night"),
            ("backup-postgres.sh --dry-run payment", "what would be written and expired, changing nothing"),
        ],
    )
    _names(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="show the plan and the retention decisions; change nothing"
    )
    parser.add_argument("--retention-days", metavar="DAYS", help="instead of RETENTION_DAYS")
    parser.add_argument("--min-backups", metavar="COUNT", help="instead of MIN_BACKUPS")
    parser.add_argument("--jobs", metavar="COUNT", help="instead of BACKUP_JOBS")
    parser.add_argument("--client", metavar="KIND", help="auto, sidecar, exec or direct, instead of each <NAME>_CLIENT")
    return parser


def verify_parser() -> argparse.ArgumentParser:
    parser = _parser(
        "verify-backups.sh",
        "Read every backup from its first to its last byte and compare it with its manifest.\n"
        "Checks files, changes nothing. It cannot tell what only a restore can.",
        [
            ("verify-backups.sh", "every backup of every database, as a table"),
            ("verify-backups.sh --max-age 26 --json payment", "for monitoring: fails without a good one from 26 hours"),
        ],
    )
    _names(parser)
    parser.add_argument(
        "--max-age", metavar="HOURS", default="24", help="how old the newest good backup may be; default 24"
    )
    return parser


def restore_parser() -> argparse.ArgumentParser:
    parser = _parser(
        "restore-postgres.sh",
        "Restore one database: check the file, load it beside the live database, count every table, then let them\n"
        "change places in one transaction. Until then nothing is touched; the old database is kept.",
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
    what.add_argument("--list", action="store_true", help="show what can be restored: age, size, rows, verified")
    what.add_argument("--history", action="store_true", help="show the restores so far and how long they took")
    what.add_argument("--rollback", action="store_true", help="swap the database that the last restore kept back in")
    what.add_argument("--drop-old", action="store_true", help="drop the databases that restores have kept")
    point = parser.add_argument_group("instead of FILE, with WAL archiving")
    point.add_argument("--window", action="store_true", help="show which moments can be recovered")
    point.add_argument("--to-time", metavar="TIME", help="as it was then: '2024-01-15 13:37:00+03'")
    point.add_argument("--to-lsn", metavar="LSN", help="up to a position in WAL")
    point.add_argument("--to-xid", metavar="XID", help="up to a transaction, and with it")
    point.add_argument("--to-name", metavar="NAME", help="up to a restore point (pg_create_restore_point)")
    point.add_argument("--latest", action="store_true", help="up to the last commit that was archived")
    point.add_argument("--archive", metavar="NAME", help="another directory in BACKUP_DIR/pitr than the database's own")
    how = parser.add_argument_group("how")
    how.add_argument("--yes", action="store_true", help="do not ask; needed where there is no terminal")
    how.add_argument(
        "--dry-run", action="store_true", help="check everything and show what would happen; change nothing"
    )
    how.add_argument("--into", metavar="NAME", default="", help="restore into a new database NAME and swap nothing")
    how.add_argument("--online", action="store_true", help="stop the services only for the swap, not for the load")
    how.add_argument("--in-place", action="store_true", help="drop the live database first, where two do not fit")
    how.add_argument("--create-roles", action="store_true", help="make roles that are missing, without passwords")
    how.add_argument("--keep-failed", action="store_true", help="keep what was loaded when it is not what it should be")
    how.add_argument(
        "--keep-going", action="store_true", help="pass over statements that fail, try them again last, list the rest"
    )
    how.add_argument("--client", metavar="KIND", help="auto, sidecar, exec or direct, instead of <NAME>_CLIENT")
    return parser


def _setup_parser(script: str, what: str, examples: Sequence[tuple[str, str]], user: str) -> argparse.ArgumentParser:
    parser = _parser(script, what, examples)
    parser.add_argument(
        "--schedule",
        metavar="WHEN",
        help="daily (at 2), hourly, every-6h, or five cron fields; default: what is set up now, else daily",
    )
    parser.add_argument("--user", metavar="NAME", help=f"the account that makes the backups; default: {user}")
    parser.add_argument("--dry-run", action="store_true", help="show as a diff what would change; change nothing")
    parser.add_argument("--uninstall", action="store_true", help="remove what this script has set up")
    return parser


def setup_cron_parser() -> argparse.ArgumentParser:
    return _setup_parser(
        "setup-backup-cron.sh",
        "Let cron make the backups: one line in the account's crontab, and the rotation of backup.log.\n"
        "Every other line stays as it is; so does a line of the suite's that somebody has edited.",
        [
            ("sudo setup-backup-cron.sh", "every night at 2"),
            ("sudo setup-backup-cron.sh --schedule '30 1 * * 1-5' --dry-run", "what would change, as a diff"),
        ],
        "deployer",
    )


def setup_systemd_parser() -> argparse.ArgumentParser:
    return _setup_parser(
        "setup-backup-systemd.sh",
        "Let systemd make the backups and verify them weekly: units, timers, and the rotation of backup.log.\n"
        "Lines with Environment= and OnCalendar= are kept, and a unit with other changes by hand is kept whole.",
        [
            ("sudo setup-backup-systemd.sh", "every night at 2, made up for when the host was down"),
            ("sudo setup-backup-systemd.sh --schedule every-6h", "four times a day"),
        ],
        "that of the unit, else deployer",
    )


def setup_wal_parser() -> argparse.ArgumentParser:
    parser = _parser(
        "setup-wal-archiving.sh",
        "Archive the WAL of a database's cluster, so that it can be recovered to any moment: check the server, make a\n"
        "replication slot, let systemd (else cron) run the receiver, and wait for the first base backup.",
        [
            ("sudo setup-wal-archiving.sh payment", "once; again to see that all is as it should be"),
            ("sudo setup-wal-archiving.sh payment --uninstall", "take it back; what was archived stays"),
        ],
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="databases by their names in DATABASES; with --uninstall default: all"
    )
    parser.add_argument(
        "--user", metavar="NAME", help="the account that receives; default: that of the unit, else deployer"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check everything and show what would change; change nothing"
    )
    parser.add_argument(
        "--uninstall", action="store_true", help="stop receiving, drop the slot, leave what was archived"
    )
    return parser


def receive_wal_parser() -> argparse.ArgumentParser:
    parser = _parser(
        "receive-wal.sh",
        "Receive WAL until it is stopped, whatever happens to the database. setup-wal-archiving.sh lets it run.",
        [
            ("receive-wal.sh payment", "as postgres-wal@payment.service does it"),
            ("receive-wal.sh -q --watchdog payment", "as cron does it each minute: nothing where one runs"),
        ],
    )
    parser.add_argument("target", metavar="NAME", help="the database by its name in DATABASES")
    parser.add_argument("--watchdog", action="store_true", help="do nothing where one runs already: for cron")
    return parser


def prepare_parser() -> argparse.ArgumentParser:
    parser = _parser(
        "make install",
        "Check the settings and make the directories that hold backups, as the last step of an installation.",
        [
            ("lib/run prepare --user deployer", "the directories of .env, owned by that account"),
            ("lib/run prepare --under /tmp/stage", "below another root, whoever owns them"),
        ],
    )
    parser.add_argument("--user", metavar="NAME", help="who owns them; default: who runs this")
    parser.add_argument("--under", metavar="DIRECTORY", default="/", help="in front of every path; default /")
    return parser
