"""What docs/json.md says of each JSON document, and where a real one differs from it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "json.md"
EVERY = "Every document"
_ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| (.+) \|$", re.MULTILINE)
_PLAIN: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": dict,
    "map": dict,
}


@dataclass(frozen=True)
class Field:
    """One row of a table. kind: a type as the page has it, without `, optional`."""

    kind: str
    optional: bool
    meaning: str


Fields = dict[str, Field]


def sections(page: str) -> dict[str, Fields]:
    """The fields of each section that has a table of them, by its heading."""
    found = {}
    for part in page.split("\n## ")[1:]:
        heading, _, text = part.partition("\n")
        rows = [(name, kind.strip(), meaning) for name, kind, meaning in _ROW.findall(text)]
        if rows and heading != "Types":
            found[heading] = {name: _field(kind, meaning) for name, kind, meaning in rows}
    return found


def _field(kind: str, meaning: str) -> Field:
    plain = kind.removesuffix(", optional")
    return Field(plain, plain != kind, meaning)


def differences(fields: Fields, documents: Sequence[dict[str, Any]]) -> list[str]:
    """What differs between the page's fields and documents of that kind: also fields that none of them has."""
    found, seen = [], set()
    for document in documents:
        for name, problem in _compared(fields, document, ""):
            seen.add(name)
            found += [f"{name}: {problem}"] if problem else []
    found += [f"{name}: no document has it" for name in fields if name not in seen]
    return list(dict.fromkeys(found))


def _compared(fields: Fields, value: dict[str, Any], where: str) -> Iterator[tuple[str, str]]:
    """Each field that is there or should be, with what is wrong with it or ""."""
    for key, inner in value.items():
        name = where + key
        if name not in fields:
            yield name, "the page lacks it"
            continue
        kind = fields[name].kind
        yield name, "" if fits(inner, kind) else f"{inner!r:.60} is no {kind}"
        if kind == "array of object" and isinstance(inner, list):
            for each in inner:
                yield from _compared(fields, each, f"{name}[].")
    for name, field in fields.items():
        head, _, key = name.rpartition("[].")
        if where == (f"{head}[]." if head else "") and key not in value and not field.optional:
            yield name, "it is absent, and the page does not say optional"


def fits(value: object, kind: str) -> bool:
    """Whether a value is of that type."""
    if kind.endswith(" or null") and value is None:
        return True
    word, _, inner = kind.removesuffix(" or null").partition(" of ")
    if word == "array":
        return isinstance(value, list) and all(fits(each, inner) for each in value)
    if not isinstance(value, _PLAIN[word]) or (isinstance(value, bool) and word != "boolean"):
        return False
    return not inner or all(fits(each, inner) for each in dict(value).values())  # type: ignore[call-overload]
