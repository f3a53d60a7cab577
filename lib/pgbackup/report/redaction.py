"""Takes out of what PostgreSQL says the values that it quotes: the log, the history and JSON documents hold no row.

A person at the terminal sees the whole sentence. Names of objects stay, for they tell what to look at.
"""

from __future__ import annotations

import re
from typing import Any

# `ERROR:  ` has two blanks in every language of the server; the words for other servers' ways of passing it on.
_SERVER_SAYS = re.compile(r"\b(?:\w+:  |(?:ERROR|FATAL|PANIC|WARNING|NOTICE|DETAIL|CONTEXT|HINT|STATEMENT|QUERY): )")
# Fields that show rows and statements, by the names that they have in English.
_SHOWING = re.compile(r"\b(?:DETAIL|CONTEXT|STATEMENT|QUERY|LINE \d+): .*")
# What is a name and not a value: the word before it says so. All else in quotes is a value.
_NAMED = (
    r"access method|collation|column|constraint|conversion|database|dictionary|domain|encoding|event trigger|extension"
    r"|file|foreign table|function|index|language|library|materialized view|option|operator|operator class"
    r"|operator family|parameter|partition|policy|procedure|publication|relation|role|rule|schema|sequence|server at"
    r"|slot|socket|statistics object|subscription|table|tablespace|template|trigger|type|user|view"
)
_NAME = re.compile(rf'\b((?:{_NAMED})s?) "([^"\s][^"]{{0,62}})"')
_VALUE = re.compile(r'"[^\x01]*"|"[^\x01]*$|[»«„“”‚‘‹›].*[»«„“”‚‘‹›]|[»«„“‹›].*$')
_NUMBER = re.compile(r"\bvalue -?\d[\d.eE+-]*")
_PAIR = re.compile(r"\)=\(.*\)|\)=\(.*$")
_BYTES = re.compile(r"\b0x[0-9a-fA-F]{2}(?: 0x[0-9a-fA-F]{2})*")
_TEXTS = ("error", "outcome", "problem", "reason", "unreplayed", "unwell", "warning", "warnings")


def without_values(text: str) -> str:
    """Given one sentence of ours that may pass on what a server said, return it without the values in that. Pure."""
    found = _SERVER_SAYS.search(text)
    if not found:
        return text
    return text[: found.start()] + _plain(text[found.start() :])


def _plain(said: str) -> str:
    said = _SHOWING.sub("…", said)
    # A value may itself hold quotes, so what lies between the first and the last one is taken for it. Names are put
    # aside before that, but not behind the first value: in it anything may stand.
    head, tail = _names_first(said)
    said = head + _VALUE.sub('"…"', tail)
    return _NUMBER.sub("value …", _BYTES.sub("0x…", _PAIR.sub(")=(…)", said)))


def _names_first(said: str) -> tuple[str, str]:
    """Split what was said behind the last name that stands before the first value."""
    at = 0
    while (quote := said.find('"', at)) >= 0:
        name = _NAME.search(said, at)
        if not name or name.start(2) - 1 != quote:
            break
        at = name.end()
    return said[:at], said[at:]


def of_document(document: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON document with every sentence in it as without_values() has it. Pure."""
    return {key: _of(value, told=key in _TEXTS) for key, value in document.items()}


def _of(value: Any, *, told: bool) -> Any:
    if isinstance(value, dict):
        return of_document(value)
    if isinstance(value, list):
        return [_of(one, told=told) for one in value]
    return without_values(value) if told and isinstance(value, str) else value
