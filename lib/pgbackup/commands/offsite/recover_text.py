"""RECOVER.txt: it lies unencrypted beside the copies and says how to get a database back with nothing of this suite."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pgbackup.formats import names

NAME = "RECOVER.txt"


def text(remote: str, host: str, databases: Sequence[tuple[str, str]], *, encrypted: bool) -> str:
    """Return the text. Pure: the same copies always give the same, so it is never written over.

    remote: the remote path below which `host` has its copies, as rclone takes it. databases: name on the server and
    directory of each. encrypted: the copies need a key. What is indented by four blanks is for a shell.
    """
    place = f"{remote}{'' if remote.endswith((':', '/')) else '/'}{host}"
    ending = ".age" if encrypted else ""
    return "".join(
        [
            _HEAD.format(host=host, programs="rclone, age, gunzip, psql" if encrypted else "rclone, gunzip, psql"),
            *(f"  dumps/{directory}/{names.stem(name)}_*.sql.gz{ending}\n" for name, directory in databases),
            _ALONG if encrypted else "\n",
            _NEEDED,
            _KEY if encrypted else "",
            _BEGIN.format(place=shlex.quote(place)),
            *(_database(name, directory, encrypted=encrypted) for name, directory in databases),
            _CAREFUL if encrypted else "",
        ]
    )


def _database(name: str, directory: str, *, encrypted: bool) -> str:
    quoted = shlex.quote(names.stem(name).replace(".", "[.]"))
    shown = {
        "name": name,
        "database": shlex.quote(name),
        "directory": shlex.quote(directory),
        "pattern": quoted,
        "opened": 'age --decrypt --identity key --output dump.sql.gz "$FILE"'
        if encrypted
        else 'mv "$FILE" dump.sql.gz',
    }
    return (_ROLES if encrypted else "").format(**shown) + _DUMP.format(**shown)


_HEAD = """\
Copies of the database backups of the host '{host}', made by pgbackup.

They are ordinary files. Get a database back with {programs}: nothing else is needed.

What is here, below this directory; a name ends in date and time, local time of that host:

"""
_ALONG = """\
  globals/*/*.sql.age    the roles of each cluster, with their passwords
  settings/*.env.age     the settings of the suite

"""
_NEEDED = """\
You need:

- rclone, with a remote for this place: `rclone config`. The host gave it the name before the colon below.
- A PostgreSQL server of the same or a later major version that psql reaches: set PGHOST, PGPORT, PGUSER as a superuser,
  or put `docker exec -i CONTAINER psql -U USER` in the place of psql.
"""
_KEY = """\
- age, and a private key: AGE-SECRET-KEY-1…, from paper or other media, on a line of a file that is called `key` here.
  Keep others from reading it: chmod 600 key.
"""
_BEGIN = """
First, in an empty directory with room for the backup:

    set -eu
    umask 077
    PLACE={place}
"""
_ROLES = """
The roles of '{name}', with their passwords; of those that are there already it says so, and they stay:

    DIR={directory}
    FILE=$(rclone lsf "$PLACE/globals/$DIR" | sort | tail -n 1)
    rclone copyto "$PLACE/globals/$DIR/$FILE" "$FILE"
    age --decrypt --identity key --output roles.sql "$FILE"
    psql -X -q -d postgres -f roles.sql || true
    rm roles.sql
"""
_DUMP = """
The database '{name}': its newest backup, or put the name of another one into FILE. The last lines of the dump say which
encoding, locale, owner and extensions it had (gunzip -c dump.sql.gz | tail -n 300).

    DIR={directory}
    DATABASE={database}
    FILE=$(rclone lsf "$PLACE/dumps/$DIR" | grep -E ^{pattern}'_[0-9]{{8}}_[0-9]{{6}}' | sort | tail -n 1)
    rclone copyto "$PLACE/dumps/$DIR/$FILE" "$FILE"
    {opened}
    gunzip --test dump.sql.gz
    psql -X -q -d postgres -v name="$DATABASE" <<'END'
    CREATE DATABASE :"name" TEMPLATE template0;
    END
    gunzip --stdout dump.sql.gz | psql -X -q -v ON_ERROR_STOP=1 -d "$DATABASE"
"""
_CAREFUL = """
Whoever could write here could also lay something here that the key opens: a key reads, it does not vouch for anybody.
A dump is a program for psql; look into one that surprises you before you load it.
"""
