"""What a restore would take away: the backup's tables and the live ones side by side, the greatest loss first. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pgbackup.database.questions.live_tables import Rows

_SHOWN = 12
_WIDEST = 48


@dataclass(frozen=True)
class Compared:
    """One table. backup, now: its rows, None where it is not there. exact: `now` was counted."""

    table: str
    backup: int | None
    now: int | None
    exact: bool

    @property
    def lost(self) -> int:
        """Rows that are there now and have no place in the backup, at least."""
        return max(0, (self.now or 0) - (self.backup or 0))


def compared(backup: Mapping[str, int], now: Mapping[str, Rows]) -> list[Compared]:
    """Put both side by side: first what only the live database has, then what has grown, shrunk, and is the same."""
    tables = [
        Compared(name, backup.get(name), now[name].count if name in now else None, name not in now or now[name].exact)
        for name in backup.keys() | now.keys()
    ]
    return sorted(tables, key=lambda each: (each.backup is not None, -each.lost, each.now == each.backup, each.table))


def lines(tables: list[Compared]) -> list[str]:
    """A table for the screen, at most twelve rows of it."""
    shown = tables[:_SHOWN]
    cells = [("table", "backup", "now", "")]
    cells += [(_short(each.table), _number(each.backup), _now(each), _remark(each)) for each in shown]
    widths = [max(len(row[column]) for row in cells) for column in range(3)]
    found = [
        f"    {row[0]:{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip() for row in cells
    ]
    if rest := tables[_SHOWN:]:
        lost = sum(each.lost for each in rest)
        found.append(f"    and {len(rest):,} more" + (f", with {lost:,} rows that the backup lacks" if lost else ""))
    return found


def _number(rows: int | None) -> str:
    return "-" if rows is None else f"{rows:,}"


def _now(each: Compared) -> str:
    return _number(each.now) if each.exact else f"~{each.now:,}"


def _remark(each: Compared) -> str:
    if each.backup is None:
        return "ALL LOST" if each.now else "not in the backup"
    if each.now is None:
        return "comes back"
    return f"{each.lost:,} lost" if each.lost else ""


def _short(name: str) -> str:
    plain = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in name)
    return plain if len(plain) <= _WIDEST else plain[: _WIDEST - 1] + "…"
