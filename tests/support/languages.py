"""A server that speaks another language: a catalogue of messages as gettext reads it, for a locale of the image."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from tests.support.servers import Server

LOCALE = "tr_TR.utf8"  # in every image; the words are German
WORDS = {
    "LOG": "LOG",
    "ERROR": "FEHLER",
    "FATAL": "FATAL",
    "requested WAL segment %s has already been removed": "das angeforderte WAL-Segment %s wurde schon entfernt",
    'replication slot "%s" does not exist': "Replikations-Slot »%s« existiert nicht",
    "cannot read from logical replication slot": "kann nicht aus logischem Replikations-Slot lesen",
    'can no longer get changes from replication slot "%s"': "Slot »%s« liefert keine Änderungen mehr",
    "terminating connection due to administrator command": "Verbindung wird auf Anweisung des Administrators beendet",
    "the database system is shutting down": "das Datenbanksystem fährt herunter",
}


def catalogue(words: Mapping[str, str]) -> bytes:
    """Given messages and what they are in another language, return a .mo file (GNU gettext manual, 10.3). Pure."""
    pairs = sorted({"": "Content-Type: text/plain; charset=UTF-8\n", **words}.items())
    at = 28 + 16 * len(pairs)
    tables: list[list[tuple[int, int]]] = [[], []]
    data = b""
    for table, texts in zip(tables, zip(*pairs, strict=True), strict=True):
        for text in texts:
            table.append((len(text.encode()), at + len(data)))
            data += text.encode() + b"\0"
    head = struct.pack("<7I", 0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    return head + b"".join(struct.pack("<2I", *each) for table in tables for each in table) + data


def speak(server: Server, words: Mapping[str, str] = WORDS) -> None:
    """Let the server say these messages in another language from now on. Only 15's image can."""
    place = f"/usr/share/locale/{LOCALE[:2]}/LC_MESSAGES"
    server.exec(["mkdir", "-p", place])
    server.exec(["sh", "-c", f"cat >{place}/postgres-{server.major}.mo"], stdin=catalogue(words))
    server.sql(f"ALTER SYSTEM SET lc_messages = '{LOCALE}'")
    server.restart()
