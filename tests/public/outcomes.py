"""What happened to the schemas, and the Markdown page of it, which keeps the lines of earlier runs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SAID = 300  # characters of a message
EQUAL = "equal"
LIKE_PSQLS = "as pg_dump and psql make it"
NOT_LOADED = "cannot be loaded"


@dataclass(frozen=True)
class Schema:
    """One entry of schemas.toml; its head says what each field means."""

    name: str
    source: str
    version: str
    files: Sequence[str]
    licence: str = ""
    major: int = 15
    packages: Sequence[str] = ()
    roles: Sequence[str] = ()
    before: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    replace: Sequence[Sequence[str]] = ()
    natural: bool = False
    transactions: bool = False
    no_fault: Sequence[str] = ()

    @property
    def home(self) -> Path:
        """Where its files are in DIRECTORY."""
        kind, _, name = self.source.partition(" ")
        return Path(kind.lower(), name)


@dataclass
class Outcome:
    """What happened to one schema.

    wrong: why it is not equal, or why there was nothing to compare. spelled: what is not as in the source, but just as
    pg_dump and psql alone make it, for PostgreSQL spells some expressions anew. refused: by psql, so that it took
    --keep-going. into: the major it was restored to.
    """

    schema: Schema
    into: int = 0
    loaded: bool = False
    tables: int = 0
    rows: int = 0
    size: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    spelled: list[str] = field(default_factory=list)
    refused: str = ""

    @property
    def verdict(self) -> str:
        """In one line."""
        first = (self.wrong or self.spelled or [""])[0][:SAID]
        if not self.loaded:
            return f"{NOT_LOADED}: {first}"
        if self.wrong:
            return first
        if self.refused:
            return f"{EQUAL} by --keep-going; psql alone says: {self.refused[:SAID]}"
        return f"{LIKE_PSQLS}: {first}" if self.spelled else EQUAL

    @property
    def majors(self) -> str:
        """Of the servers."""
        return f"{self.schema.major} → {self.into}" if self.into else str(self.schema.major)


def line(outcome: Outcome) -> str:
    """One line for the terminal."""
    verdict = "not loaded" if not outcome.loaded else "NOT EQUAL" if outcome.wrong else outcome.verdict
    steps = " ".join(f"{seconds:.1f}" for seconds in outcome.seconds.values())
    return f"{outcome.schema.name}: {outcome.tables} tables, {outcome.rows} rows, {outcome.size}, {steps} s: {verdict}"


def written(file: Path, outcomes: Sequence[Outcome], known: Mapping[str, int]) -> None:
    """Write the page; lines that are there of other runs stay. known: the schemas that are listed, with their major."""
    lines = {key: text for key, text in _lines(file) if str(known.get(key[0])) == key[1].split()[0]}
    lines |= {(of.schema.name, of.majors): f"| {' | '.join(_cells(of))} |" for of in outcomes}
    ordered = [text for _, text in sorted(lines.items(), key=lambda item: (item[0][0].lower(), item[0][1]))]
    file.write_text(_head(list(lines), ordered, len(known)) + "".join(f"{text}\n" for text in ordered))


def _lines(file: Path) -> Iterator[tuple[tuple[str, str], str]]:
    """The lines of a page by name and majors."""
    for text in file.read_text().splitlines() if file.exists() else []:
        if found := re.match(r"\| (\S+) \| [^|]+ \| (\d+(?: → \d+)?) \|", text):
            yield (found[1], found[2]), text


def _head(keys: Sequence[tuple[str, str]], lines: Sequence[str], known: int) -> str:
    loaded = [text for text in lines if f"| {NOT_LOADED}" not in text]
    same = [text for text in loaded if " → " not in text.split("|")[3]]
    newer = [text for text in loaded if text not in same]
    return (
        "# Public schemas\n\n"
        f"{len(same)} schemas of public projects were loaded with psql, backed up, verified, restored and compared"
        f" (`tests/public/run.py`);\n{_equal(same)}. "
        + (f"{len(newer)} were restored into a newer PostgreSQL, too; {_equal(newer)}.\n" if newer else "")
        + f"The list (`tests/public/schemas.toml`) has {known}; {len({name for name, _ in keys})} of them were tried.\n"
        "Each line is of the last run of its schema. The seconds are those of a busy machine of two cores:"
        " they say nothing about speed.\n\n"
        f"“{LIKE_PSQLS[0].upper()}{LIKE_PSQLS[1:]}”: not every text of the source comes back, but what does is what"
        " `pg_dump` and `psql` alone make of it,\nfor PostgreSQL spells some expressions anew. A database of another"
        " major version is compared with that one, and its rows with the source's.\n\n"
        "| name | source | PostgreSQL | tables | rows | size | backup s | restore s | result |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n"
    )


def _equal(lines: Sequence[str]) -> str:
    equal = sum(f"| {EQUAL}" in text for text in lines)
    spelled = sum(f"| {LIKE_PSQLS}" in text for text in lines)
    return f"{equal} came back equal" + (f" and {spelled} {LIKE_PSQLS}" if spelled else "")


def _cells(outcome: Outcome) -> Iterator[str]:
    schema = outcome.schema
    yield schema.name
    at = f"@{schema.version[:10]}" if schema.source.startswith("GitHub") else schema.version
    yield f"{schema.source} {at}"
    yield outcome.majors
    yield from [f"{outcome.tables:,}", f"{outcome.rows:,}"] if outcome.size else ["", ""]
    yield outcome.size
    for script in ("backup-postgres.sh", "restore-postgres.sh"):
        yield f"{outcome.seconds[script]:.1f}" if script in outcome.seconds else ""
    yield " ".join(outcome.verdict.split()).replace("|", "\\|")
