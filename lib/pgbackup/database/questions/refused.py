"""What a server would not take of a database's settings and locale, tried out on it."""

from __future__ import annotations

import re
from typing import Any

from pgbackup.database.clients import session
from pgbackup.database.clients.client import Client
from pgbackup.database.questions.properties import LIBRARIES, setting_sql, settings, words
from pgbackup.sql.naming import identifier, literal

_NO_LOCALE = "22023"  # invalid_parameter_value, as the server says it of a locale that it cannot make
# It has the same code for a locale that is there and is of another encoding than the database that was asked in; then
# it names that encoding, in whatever language. Others of its objections do not matter: a collation is never made.
_OF_ENCODING = re.compile(
    r"(?<![\w.])(?:UTF8|SQL_ASCII|LATIN\d+|EUC_\w+|WIN\d+|KOI8\w|ISO_8859_\d|MULE_INTERNAL)(?![\w.])"
)
# Each statement is really run, and then taken back: the only answer that is sure.
_PROBE = """
BEGIN;
DO $probe$
DECLARE
  one text;
  refused text[] := '{{}}';
BEGIN
  FOREACH one IN ARRAY ARRAY[{statements}]::text[] LOOP
    BEGIN
      EXECUTE one;
      RAISE EXCEPTION USING ERRCODE = 'PGB00';
    EXCEPTION
      WHEN SQLSTATE 'PGB00' THEN refused := refused || '='::text;
      WHEN OTHERS THEN refused := refused || ('=' || sqlstate || ' ' || translate(sqlerrm, E'\\n', ' '));
    END;
  END LOOP;
  PERFORM set_config('pgbackup.refused', array_to_string(refused, E'\\n'), true);
END $probe$;
SELECT current_setting('pgbackup.refused');
ROLLBACK
"""


def look(client: Client, server: dict[str, Any], roles: list[str]) -> list[str]:
    """Let the server say which settings and locale it would not take from this role; nothing is changed.

    server: what facts.gather() says, the manifest's `server`. roles: those that the server has. Return what stands in
    the way, a sentence for each.
    """
    where = identifier(client.maintenance())
    tried: dict[str, str] = {}
    for role, key, value in settings(server):
        subject = f"ROLE {identifier(role)} IN DATABASE {where}" if role in roles else "ROLE CURRENT_USER"
        what = f"the database's setting {key} = '{value}' cannot be put back"
        tried[setting_sql(subject, key, value)] = what
        if key.lower() in LIBRARIES:
            tried |= {f"LOAD {literal(library)}": what for library in words(value)}
    for key, value in session.origin(server).items():
        what = f"the server lacks what the backup's values are written in, {key} = '{value}'"
        tried.setdefault(setting_sql("ROLE CURRENT_USER", key, value), what)
    collation = _collation_sql(server)
    if collation:
        tried[collation] = "a locale that the dump needs is missing on the server"
    if not tried:
        return []
    answer = client.server_query(_PROBE.format(statements=", ".join(map(literal, tried))))
    found = []
    for (statement, what), line in zip(tried.items(), answer.split("\n"), strict=True):
        state, _, why = line.removeprefix("=").partition(" ")
        if why and (statement != collation or (state == _NO_LOCALE and not _OF_ENCODING.search(why))):
            found.append(f"{what}: {why}")
    return list(dict.fromkeys(found))


def _collation_sql(server: dict[str, Any]) -> str:
    """A collation of the database's locale: the server looks for it, and does so only when asked. Pure."""
    found = server.get("database", {})
    parts = {"LC_COLLATE": found.get("datcollate"), "LC_CTYPE": found.get("datctype")}
    if not all(parts.values()):
        return ""
    options = ", ".join(f"{option} = {literal(value)}" for option, value in parts.items())
    return f"CREATE COLLATION pg_temp.probe ({options})"
