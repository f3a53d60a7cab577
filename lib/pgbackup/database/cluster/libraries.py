"""Which of the libraries that a server loads at its start are in its image: only they are there for a recovery."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pgbackup import proc
from pgbackup.database.clients.client import Client

PRELOADED, PATH = "shared_preload_libraries", "dynamic_library_path"
_LISTED = re.compile(r'\s*(?:"((?:[^"]|"")*)"|([^,]*?))\s*(?:,|$)')
# PostgreSQL's own directory is where its language lies. What is asked for is a name and a place in turn.
_FOUND = """
home=$(dirname "$(readlink -f "$(command -v postgres)")")/..
for libdir in "$home/lib" "$home/lib/postgresql"; do [ -e "$libdir/plpgsql.so" ] && break; done
[ -e "$libdir/plpgsql.so" ] || exit 1
while [ $# -gt 0 ]; do
    case $2 in '$libdir'*) place=$libdir${2#'$libdir'} ;; *) place=$2 ;; esac
    if [ -f "$place" ] || [ -f "$place.so" ]; then echo "$1"; fi
    shift 2
done
"""


def preloaded(settings: Mapping[str, str]) -> tuple[str, ...]:
    """The libraries that a server with these settings loads at its start. Pure."""
    listed = [(quoted or plain).replace('""', '"') for quoted, plain in _LISTED.findall(settings.get(PRELOADED, ""))]
    return tuple(dict.fromkeys(name for name in listed if name))


def missing(client: Client, settings: Mapping[str, str]) -> list[str]:
    """Which of them are not in the client's image; none where that is not to be seen. client: a container of it."""
    names = preloaded(settings)
    if not names:
        return []
    asked = [word for name in names for place in _places(name, settings.get(PATH, "$libdir")) for word in (name, place)]
    argv = client.command(["sh", "-c", _FOUND, "sh", *asked])
    finished = proc.run(argv, seconds=client.settings.command_seconds)
    found = finished.stdout.decode("utf-8", "replace").splitlines()
    return [name for name in names if name not in found] if finished.status == 0 else []


def _places(name: str, path: str) -> Sequence[str]:
    """Where a server looks for a library (PostgreSQL manual, CREATE FUNCTION, obj_file). Pure."""
    return [name] if "/" in name else [f"{directory}/{name}" for directory in path.split(":") if directory]


def told(names: Sequence[str]) -> str:
    """What a recovery has to do without, in words. Pure."""
    listed = ", ".join(map(repr, names))
    return (
        f"point-in-time recovery has to do without {listed}: the server loads it at its start, and its image lacks it."
        " WAL that an extension of it has written cannot be replayed; add it to the image"
    )
