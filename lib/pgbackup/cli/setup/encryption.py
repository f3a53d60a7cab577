"""setup-encryption.sh: the keys of encrypted copies, of which this host keeps the public halves."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from pathlib import Path

from pgbackup.cli.options import Command, Parser, settings
from pgbackup.errors import UsageError

SCRIPT = "setup-encryption.sh"


def parser() -> Parser:
    parser = Parser(
        SCRIPT,
        "Make the keys of encrypted copies elsewhere. A key is shown once, for paper, or written to a file on other\n"
        "media; this host keeps only its public half (a recipient), so what it has copied it cannot read.",
        [
            ("sudo setup-encryption.sh", "once: makes the first key; again: shows which there are"),
            ("sudo setup-encryption.sh --new-key --key-file /media/usb/key", "a second key, as a file on other media"),
            ("sudo setup-encryption.sh --prove", "type the key on paper: does it still open what this host encrypts?"),
        ],
    )
    parser.add_argument("--new-key", action="store_true", help="make one more key")
    parser.add_argument(
        "--add-recipient",
        metavar="AGE1…",
        help="encrypt for one more key, made elsewhere (age-keygen): its public half",
    )
    parser.add_argument(
        "--retire-recipient", metavar="AGE1…", help="encrypt new copies no longer for it; older ones stay as they are"
    )
    parser.add_argument(
        "--prove", action="store_true", help="read a private key, typed or from a pipe, and note that it opens a token"
    )
    parser.add_argument(
        "--key-file", metavar="FILE", help="write the new key into FILE (0600) instead of showing it on the terminal"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would change; change nothing")
    return parser


def command(options: Namespace) -> Command:
    asked = [options.new_key, options.add_recipient is not None, options.retire_recipient is not None, options.prove]
    if sum(asked) > 1:
        raise UsageError("--new-key, --add-recipient, --retire-recipient and --prove exclude each other")
    if options.key_file and any(asked[1:]):
        raise UsageError("--key-file goes with a new key only", "to prove a key in a file: --prove < FILE")
    if options.prove and options.dry_run:
        raise UsageError("--prove and --dry-run exclude each other")
    from pgbackup.commands.setup import encryption
    from pgbackup.host import accounts

    accounts.require_root(SCRIPT, "say whom copies are encrypted for")
    known = settings()
    if options.prove:
        return partial(encryption.prove, known)
    if options.add_recipient is not None:
        return partial(encryption.add, known, options.add_recipient, dry_run=options.dry_run)
    if options.retire_recipient is not None:
        return partial(encryption.retire, known, options.retire_recipient, dry_run=options.dry_run)
    file = Path(options.key_file).absolute() if options.key_file else None
    return partial(encryption.make_key, known, file, another=options.new_key, dry_run=options.dry_run)
