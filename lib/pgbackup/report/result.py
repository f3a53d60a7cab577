"""What a command hands back: an exit status, the lines for people and the document for programs."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import zip_longest
from typing import Any

from pgbackup import __version__
from pgbackup.report import redaction


@dataclass(frozen=True)
class Result:
    """document: JSON values, printed for --json; lines: printed otherwise."""

    status: int
    lines: list[str]
    document: dict[str, Any]


def document(command: str, status: int, **contents: Any) -> dict[str, Any]:
    """The frame that every command's JSON document has. Values of rows that a server has quoted are taken out."""
    return {"command": command, "version": __version__, "status": status, **redaction.of_document(contents)}


def instant(moment: datetime) -> str:
    """Given an instant, return it as the manifest and JSON documents have it: UTC, to the second."""
    return f"{moment.astimezone(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Return aligned lines. right: the numbers of columns aligned at their right edge."""
    cells = [[cell.split("\n") for cell in row] for row in (heads, *rows)]
    lines = [line for row in cells for line in zip_longest(*row, fillvalue="")]
    widths = [max(map(_columns, column)) for column in zip(*lines, strict=True)]

    def aligned(number: int, text: str) -> str:
        blanks = " " * (widths[number] - _columns(text))
        return blanks + text if number in right else text + blanks

    return ["  ".join(aligned(*cell) for cell in enumerate(line)).rstrip() for line in lines]


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(char) in "FW" for char in text)
    return len(text) + wide - sum(unicodedata.category(char) in ("Mn", "Me", "Cf") for char in text)


def size(count: int) -> str:
    """Given a number of bytes, return it for people, in powers of 1000 as `ls --si` does: 354 MB."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 9.95 else f"{value:.1f} {unit}"


def age(seconds: float) -> str:
    """Given an age in seconds, return it for people: 12 s, 35 min, 5.2 h, 12.0 d."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86400:.1f} d"


def short_version(server_version: str) -> str:
    """Given what a server calls its version, return it without the packager's: 15.20 (Debian 15.20-1) is 15.20."""
    return server_version.partition(" ")[0]
