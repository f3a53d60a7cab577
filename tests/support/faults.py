"""The table of faults in docs/promises.md, what the tests say of its rows, and where the two differ."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "promises.md"
_NOTES = ("expected", "survived")
_PROMISE = re.compile(r"^- \*\*([A-Z])\. ", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """One line of the table. faults: the lines of its first cell; promises: letters."""

    number: int
    faults: list[str]
    holds: str
    promises: list[str]


@dataclass(frozen=True)
class Use:
    """A place in the tests that names a row. words: what it calls the fault, None where they are made at run time."""

    number: int
    words: str | None
    place: str


def promises(page: str) -> list[str]:
    """The letters of the promises that the page makes, in its order."""
    return _PROMISE.findall(page)


def rows(page: str) -> list[Row]:
    """The rows of the table, in the page's order."""
    table = (line.strip("|\n").split(" | ") for line in page.splitlines() if re.match(r"\| *\d", line))
    return [Row(int(number), _lines(what), holds.strip(), letters.split()) for number, what, holds, letters in table]


def _lines(cell: str) -> list[str]:
    return [line.strip() for line in cell.split("<br>")]


@cache
def known() -> frozenset[int]:
    """The numbers that a test may name."""
    return frozenset(row.number for row in rows(PAGE.read_text(encoding="utf-8")))


def uses(folder: Path) -> Iterator[Use]:
    """All places in the tests below a folder that name a row by its number."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and (said := _said(node)):
                number, *words = (each.value if isinstance(each, ast.Constant) else None for each in said)
                if isinstance(number, int):
                    text = words[0] if words and isinstance(words[0], str) else None
                    yield Use(number, text, f"{path.relative_to(folder)}:{node.lineno}")


def _said(call: ast.Call) -> list[ast.expr]:
    """The arguments from the row's number on: of the marker, of a note, or of a helper that is handed both notes."""
    if ast.unparse(call.func) == "pytest.mark.fault":
        return call.args
    if isinstance(call.func, ast.Name) and call.func.id in _NOTES:
        return call.args if len(call.args) > 1 else []
    handed = [each.id for each in call.args[:2] if isinstance(each, ast.Name)]
    return call.args[2:] if handed == list(_NOTES) else []


def differences(page: str, named: Iterable[Use]) -> list[str]:
    """What differs between the page and the tests, a sentence each. Pure."""
    named, table, made = list(named), rows(page), promises(page)
    numbers = [row.number for row in table]
    found = [] if made == sorted(set(made)) else ["the promises are not in the order of their letters"]
    if numbers != sorted(set(numbers)):
        found.append("the rows are not in the order of their numbers, each once")
    found += [f"{use.place} names row {use.number}, which the page lacks" for use in named if use.number not in numbers]
    for row in table:
        found += [f"row {row.number}: there is no promise {one}" for one in row.promises if one not in made]
        if not (row.holds and row.promises and all(row.faults)):
            found.append(f"row {row.number} has an empty cell")
        found += _words(row, [use for use in named if use.number == row.number])
    return found


def _words(row: Row, named: list[Use]) -> Iterator[str]:
    if not named:
        yield f"row {row.number} is tried by no test"
        return
    for use in named:
        if use.words is not None and use.words not in row.faults:
            yield f"{use.place}: row {row.number} lacks the words {use.words!r}"
    said = [use.words for use in named]
    if None not in said:
        yield from (f"row {row.number}: no test says {line!r}" for line in row.faults if line not in said)
