"""What is learned of a dump while it flows by, on its way to the disk, back from it, or out of a drilled database."""

from __future__ import annotations

from collections.abc import Sequence

from pgbackup.errors import BackupBad
from pgbackup.formats.content import Checksums
from pgbackup.sql.outline import Outline
from pgbackup.sql.scanner import DumpScanner


class Scan:
    """Feed it, or `scanner`, every byte, then call finish().

    checksums: of tables' rows; outline: of all that is no row.
    refused, left_out: why a restore would refuse the dump, and what of it is left out, where that is asked, see
    loadable.JudgedScan.
    """

    refused: BackupBad | None = None
    left_out: Sequence[str] = ()

    def __init__(self) -> None:
        self.scanner, self.checksums, self.outline = DumpScanner(), Checksums(), Outline()
        self.scanner.on_rows = self.checksums.take
        self.scanner.on_text = self.outline.take

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the dump, of any length."""
        self.scanner.feed(piece)

    def finish(self) -> None:
        """Say that the dump has ended."""
        self.scanner.finish()
        self.outline.finish()
