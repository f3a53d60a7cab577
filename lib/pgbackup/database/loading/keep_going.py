"""Loads a dump of which some statements fail: all the others first, then those again, until no more of them succeed.

PostgreSQL itself writes dumps that it cannot replay in their own order with their own empty search_path: a trigger's
condition, an index or a materialized view may need names that are only found in the database's own search_path, and a
constraint may look into a table that is loaded later. A session of psql stops at the first error, so that rows of a
table which could not be made are never read as statements; the next session goes on behind the statement.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pgbackup.database.clients import failures, session
from pgbackup.database.clients.client import Client
from pgbackup.database.loading import load, psql, sessions
from pgbackup.database.loading.psql import StatementFailed
from pgbackup.errors import BackupBad
from pgbackup.sql.locate import Unit
from pgbackup.sql.naming import identifier, literal
from pgbackup.sql.parts import EVENT_TRIGGER, SETTING, Part

_MOST = 500
_CHECK = "23514"  # check_violation (manual, appendix A)
_FIELDS = re.compile(r"^(SCHEMA|TABLE|CONSTRAINT) NAME:  (.*)$", re.MULTILINE)
_PATHS = (
    "RESET search_path",  # the database's own, where it has one
    "SELECT pg_catalog.set_config('search_path', (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(nspname), ', '"
    " ORDER BY nspname OPERATOR(pg_catalog.<>) 'public', nspname) FROM pg_catalog.pg_namespace"
    " WHERE nspname OPERATOR(pg_catalog.!~) '^pg_' AND nspname OPERATOR(pg_catalog.<>) 'information_schema'), false)",
)


@dataclass(frozen=True)
class Dump:
    """A dump that can be read again and again. parts: its text through the guard, settings apart.

    unit_at: the statement that ends in a line. rows_end: the last line of rows.
    """

    parts: Callable[[], Iterable[Part]]
    unit_at: Callable[[int], Unit]
    rows_end: Callable[[], int]


@dataclass(frozen=True)
class Failed:
    """A statement that failed, with what the server said last. final: it is not to be tried again."""

    unit: Unit
    said: str
    final: bool = False

    def __str__(self) -> str:
        return f"{self.unit.about or f'line {self.unit.last:,} of the dump'}: {self.said}"


def load_all(client: Client, database: str, dump: Dump, server: Mapping[str, Any], *, restricts: bool) -> list[Failed]:
    """Load all that can be loaded and return what failed to the end. Raise what is not a statement's failure.

    The rest is as load.load() has it, in one session after the other.
    """
    loading = _Loading(client, database, dump, psql.arguments(client, database, server), restricts, dict(server))
    # Rows that were refused are tried again before there are triggers that would be set off by them.
    end = dump.rows_end()
    failed = loading.until_no_more_succeed(loading.first_time(1, end) if end else [])
    failed = loading.until_no_more_succeed(failed + loading.first_time(end + 1, None))
    return failed + loading.event_triggers()


@dataclass(frozen=True)
class _Loading:
    client: Client
    database: str
    dump: Dump
    program: list[str]
    restricts: bool
    server: dict[str, Any]
    refused: set[int] = field(default_factory=set)  # lines in which a statement ends that failed

    def until_no_more_succeed(self, failed: list[Failed]) -> list[Failed]:
        """Run what failed again and again, in its order. Return what is left."""
        while failed:
            remaining = [left for one in failed if (left := self.again(one))]
            if len(remaining) == len(failed):
                return remaining
            failed = remaining
        return []

    def first_time(self, first: int, last: int | None) -> list[Failed]:
        """Run all from one line to another. Return what failed."""
        failed: list[Failed] = []
        while last is None or first <= last:
            try:
                self._feed(first, last)
            except StatementFailed as error:
                if error.line < 1:  # what we say ourselves in front of it
                    raise
                unit = self.dump.unit_at(first + error.line - 1)
                self.refused.add(unit.last)
                failed.append(Failed(unit, _said(error)))
                first = unit.last + 1
                if len(failed) > _MOST:
                    raise BackupBad(f"more than {_MOST} statements of the dump fail; the last: {failed[-1]}") from None
            else:
                break
        return failed

    def again(self, failed: Failed) -> Failed | None:
        """Run a unit once more: as it is, with other search_paths, without the CHECK that its rows break."""
        if failed.final:
            return failed
        said = failed.said
        for path in ("", *_PATHS):
            try:
                self._feed(failed.unit.first, failed.unit.last, path)
            except StatementFailed as error:
                said = _said(error)
                if error.sqlstate == _CHECK and (told := self._without_check(failed.unit, path, error)) is not None:
                    return Failed(failed.unit, told, final=True) if told else None
            else:
                return None
        return Failed(failed.unit, said)

    def event_triggers(self) -> list[Failed]:
        """Make what would be set off by all that comes before."""
        failed = []
        for part in self.dump.parts():
            if part.kind == EVENT_TRIGGER:
                try:
                    with psql.fed(self.client, self.program, self.restricts, b"") as feed:
                        feed.write(part.text + b"\n")
                except StatementFailed as error:
                    failed.append(Failed(Unit(0, 0, "an event trigger"), _said(error)))
        return failed

    def _without_check(self, unit: Unit, path: str, error: StatementFailed) -> str | None:
        """Load rows without the constraint that refuses them, and add that again.

        Return "" when it holds then, what is wrong when it does not, None when the rows did not come in so either.
        """
        fields = {key: value.strip() for key, value in _FIELDS.findall(error.stderr)}
        if fields.keys() != {"SCHEMA", "TABLE", "CONSTRAINT"}:
            return None
        table = f"{identifier(fields['SCHEMA'])}.{identifier(fields['TABLE'])}"
        name = identifier(fields["CONSTRAINT"])
        rule = self._ask(
            f"SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = {literal(table)}::regclass"
            f" AND conname = {literal(fields['CONSTRAINT'])} AND contype = 'c'"
        )
        if not rule:
            return None
        adding = f"ALTER TABLE {table} ADD CONSTRAINT {name} {rule.removesuffix(' NOT VALID')}"
        self._ask(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        try:
            self._feed(unit.first, unit.last, path)
        except StatementFailed:
            return None
        finally:
            self._ask(f"{adding} NOT VALID")
        if rule.endswith(" NOT VALID"):
            return ""
        try:
            with psql.fed(self.client, self.program, self.restricts, b"") as feed:
                feed.write(f"{path or 'SELECT 1'};\nALTER TABLE {table} VALIDATE CONSTRAINT {name};\n".encode())
        except StatementFailed as broken:
            return f"all rows are in; {fields['CONSTRAINT']} is there, but NOT VALID: {_said(broken)}"
        return ""

    def _ask(self, sql: str) -> str:
        return self.client.query(sql, database=self.database, seconds=self.client.settings.load_stall_seconds)

    def _feed(self, first: int, last: int | None, path: str = "") -> None:
        """Feed a session the lines of a dump from one to another, with a search_path."""
        made: dict[bytes, bytes] = {}
        configuration = session.origin(self.server).get(session.TEXT_SEARCH, "")
        pieces = _from(load.completed(_without_events(self.dump.parts()), configuration), first, made, self.refused)
        head = next(pieces, b"")  # now the settings are known that come before it
        prelude = b"".join(made.values()) + (f"{path};\n".encode() if path else b"")
        with psql.fed(self.client, self.program, self.restricts, prelude) as feed:
            left = last - first + 1 if last else 0
            for piece in _chain(head, pieces):
                text = _lines(piece, left) if last else piece
                feed.write(text)
                left -= text.count(b"\n")
                if last and left <= 0:
                    break


def _said(error: StatementFailed) -> str:
    return failures.first_failure(error.stderr)


def _chain(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest


def _without_events(parts: Iterable[Part]) -> Iterator[Part]:
    """Give the parts without event triggers; lines keep their numbers."""
    for part in parts:
        yield Part(b"\n" * part.text.count(b"\n"), "") if part.kind == EVENT_TRIGGER else part


def _from(parts: Iterable[Part], first: int, made: dict[bytes, bytes], refused: set[int]) -> Iterator[bytes]:
    """Give the text from that line on; settings before it are noted in `made`, but for those that were refused."""
    line = 1
    for part in parts:
        ends = line + part.text.count(b"\n")
        if line >= first:
            yield part.text
        elif ends >= first:
            yield part.text[len(_lines(part.text, first - line)) :]
        elif part.kind == SETTING and ends not in refused:
            sessions.note(part.text, made)
        line = ends


def _lines(text: bytes, count: int) -> bytes:
    """The first so many lines of a text, with their ends; all of it where there are not as many."""
    at = 0
    for _ in range(count):
        newline = text.find(b"\n", at)
        if newline < 0:
            return text
        at = newline + 1
    return text[:at]
