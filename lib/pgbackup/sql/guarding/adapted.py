r"""What pg_dump's options add to a dump that is not for a new, empty database, and how it is made to fit.

`--clean` begins with statements that drop everything; in an empty database they fail, or do nothing. `--create` makes
a database of its own, connects to it, and says what belongs to the database itself. `--schema=public` makes a schema
that each new database has. All this stands in fixed places and in a fixed form (pg_backup_archiver.c, RestoreArchive;
pg_dump.c, dumpDatabase and dumpNamespace), and only in that it is left out or changed, and only in what says at its
beginning that pg_dump wrote it.

A pg_dump that is older than its server takes `pg_attver`, a mark of the server's own, for an option of a column, which
a server without that mark refuses. It is left out, too.
"""

from __future__ import annotations

import re

from pgbackup.sql.guarding.refusals import refusal

_NAME = rb'(?:"(?:[^"]|"")+"|[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*)'
_DROPS = re.compile(
    rb"DROP |ALTER (?:FOREIGN )?(?:TABLE|DOMAIN) .* DROP |SELECT pg_catalog\.lo_unlink\("
    rb"|CREATE OR REPLACE VIEW .* AS\r?\nSELECT\r?\n    NULL::",
    re.DOTALL,
)
_OF_DATABASE = re.compile(
    rb"(?:(DROP DATABASE (?:IF EXISTS )?|CREATE DATABASE )|ALTER DATABASE |COMMENT ON DATABASE"
    rb"|SECURITY LABEL FOR [^';]+ ON DATABASE |(?:GRANT|REVOKE) [A-Z, ]+ ON DATABASE "
    rb"|ALTER ROLE " + _NAME + rb" IN DATABASE ) ?(" + _NAME + rb")[ ;]"
)
_CONNECT = re.compile(rb"\\connect (?:(" + _NAME + rb')|-reuse-previous=on "dbname=\'((?:[^"\r\n]|"")*)\'")\r?')
_MARKED = re.compile(
    rb"(ALTER (?:FOREIGN )?TABLE ONLY "
    + _NAME
    + rb"\."
    + _NAME
    + rb" ALTER COLUMN "
    + _NAME
    + rb" SET \()([a-z0-9_=., +-]*)\);"
)
_OF_COLUMN = (b"ALTER TABLE ONLY ", b"ALTER FOREIGN TABLE ONLY ")
_MARK = re.compile(rb"pg_attver=[0-9]+")
_SETTINGS = (b"set", b"reset")
_OF_OWN = (b"alter", b"comment", b"security", b"grant", b"revoke")
_SCHEMA_PUBLIC = b"CREATE SCHEMA public;"


class Adapter:
    """Reads along, statement by statement. left_out: why statements are left out or changed, for people to read."""

    def __init__(self) -> None:
        self.left_out: list[str] = []
        self._is_head = True
        self._own = b""  # the name of the database that --create makes, as it is spelled

    def may_change(self, words: list[bytes], text: bytes) -> bool:
        """Whether a statement that has begun with these words and bytes may be left out or changed at its end."""
        verb = words[0] if words else b""
        if verb == b"create":
            starts = ([], [b"database"]) if self._is_head else ([],)
            makes_view = self._is_head and words[1:4] == [b"or", b"replace", b"view"][: len(words) - 1]
            return words[1:2] in starts or makes_view or _SCHEMA_PUBLIC.startswith(text)
        if (self._own and verb in _OF_OWN) or any(start.startswith(text[: len(start)]) for start in _OF_COLUMN):
            return True
        return self._is_head and verb in (b"drop", b"alter", b"select")

    def change(self, words: list[bytes], text: bytes) -> bytes | None:
        """Given a whole statement, return what takes its place: None for itself, b"" for nothing."""
        verb = words[0] if words else b""
        if self._is_of_own_database(text):
            self._note("--create: what it says of the database itself is left out (owner, settings, privileges)")
            return b""
        if self._is_head and _DROPS.match(text) and not refusal(words, text, names_setter=False, ended=True):
            self._note("--clean: the statements at its beginning that drop everything are left out")
            return b""
        if verb not in _SETTINGS and not text.startswith(b"SELECT pg_catalog.set_config("):
            self._is_head = False
        if text == _SCHEMA_PUBLIC:
            self._note("--schema=public: its CREATE SCHEMA public is left out, a new database has that schema")
            return _SCHEMA_PUBLIC.replace(b"SCHEMA", b"SCHEMA IF NOT EXISTS")
        return self._unmarked(text)

    def _unmarked(self, text: bytes) -> bytes | None:
        found = _MARKED.fullmatch(text) if b"pg_attver=" in text else None
        if not found:
            return None
        options = found[2].split(b", ")
        kept = [option for option in options if not _MARK.fullmatch(option)]
        if kept == options:
            return None
        return found[1] + b", ".join(kept) + b");" if kept else b""

    def _is_of_own_database(self, text: bytes) -> bool:
        found = _OF_DATABASE.match(text)
        if not found or not (self._own or (self._is_head and found[1])):
            return False
        self._own = self._own or found[2]
        return found[2] == self._own

    def connects(self, line: bytes) -> bool:
        r"""Whether a line belongs to the `\connect` of --create, to the database that the dump itself makes.

        Before a name that is no plain word stands an `\encoding` (appendPsqlMetaConnect in string_utils.c).
        """
        found = _CONNECT.fullmatch(line)
        if not found or not self._own:
            return bool(self._own) and line.rstrip(b"\r") == b"\\encoding SQL_ASCII"
        if found[1]:
            return found[1] == self._own
        name = re.sub(rb"\\(.)", rb"\1", found[2].replace(b'""', b'"'))
        return self._own == b'"' + name.replace(b'"', b'""') + b'"'

    @property
    def may_connect(self) -> bool:
        r"""Whether a `\connect` may come."""
        return bool(self._own)

    def _note(self, what: str) -> None:
        if what not in self.left_out:
            self.left_out.append(what)
