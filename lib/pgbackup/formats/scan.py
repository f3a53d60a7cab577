"""What is learned of a dump while it flows by, on its way to the disk, back from it, or out of a drilled database."""

from __future__ import annotations

from pgbackup.formats.content import Checksums
from pgbackup.sql.outline import Outline
from pgbackup.sql.scanner import DumpScanner


class Scan:
    """Feed `scanner` every byte, then call finish(). checksums: of tables' rows; outline: of all that is no row."""

    def __init__(self) -> None:
        self.scanner, self.checksums, self.outline = DumpScanner(), Checksums(), Outline()
        self.scanner.on_rows = self.checksums.take
        self.scanner.on_text = self.outline.take

    def finish(self) -> None:
        """Say that the dump has ended."""
        self.scanner.finish()
        self.outline.finish()
