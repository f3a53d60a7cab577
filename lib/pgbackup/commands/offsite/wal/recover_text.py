"""RECOVER-WAL.txt: how to get a cluster back up to its last copied commit with nothing of this suite.

It lies unencrypted beside RECOVER.txt, where WAL is copied.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

NAME = "RECOVER-WAL.txt"


def text(remote: str, host: str, directories: Sequence[str], *, encrypted: bool) -> str:
    """Return the text. Pure: the same copies always give the same, so it is never written over.

    remote: the remote path below which `host` has its copies, as rclone takes it. directories: of the archives. What is
    indented by four blanks is for a shell.
    """
    place = f"{remote}{'' if remote.endswith((':', '/')) else '/'}{host}"
    shown = {
        "host": host,
        "programs": "rclone, age, gunzip, tar" if encrypted else "rclone, gunzip, tar",
        "ending": ".age" if encrypted else "",
        "open": 'age --decrypt --identity key "$FILE"' if encrypted else 'cat "$FILE"',
        "place": shlex.quote(place),
    }
    each = [_CLUSTER.format(directory=shlex.quote(one), name=one, **shown) for one in directories]
    return "".join([_HEAD.format(**shown), _KEY if encrypted else "", *each, _END])


_HEAD = """\
Copies of the base backups and the WAL of the host '{host}', made by pgbackup: a whole cluster, up to the last
commit that was copied. For one database as it was last dumped, RECOVER.txt is shorter.

They are ordinary files. Get a cluster back with {programs} and PostgreSQL: nothing else is needed.

What is here, below this directory; SERIES is one archive: the cluster's identifier, MB of a segment, since when.

  base/DIR/SERIES/BASE/*           base backups: tar archives, PostgreSQL's backup_manifest, and a record
  wal/DIR/SERIES/*.gz{ending}      finished segments of WAL, and histories of timelines
  unfinished/DIR/SERIES/SEGMENT/*  parts of a segment that was not finished: from which byte, up to which

The name of a record says with which segment recovery begins, and upon which other base backup it builds.

You need:

- rclone, with a remote for this place: `rclone config`. The host gave it the name before the colon below.
- PostgreSQL of the same major version and an account that is not root, with its programs on the PATH.
"""
_KEY = """\
- age, and a private key: AGE-SECRET-KEY-1…, from paper or other media, on a line of a file that is called `key` here.
  Keep others from reading it: chmod 600 key.
"""
_CLUSTER = """
The cluster of '{name}', in an empty directory with room for it. First its newest full base backup:

    set -eu
    umask 077
    PLACE={place}
    DIR={directory}
    SERIES=$(rclone lsf --dirs-only "$PLACE/base/$DIR" | tr -d / | sort -t - -k 3 | tail -n 1)
    RECORD=$(rclone lsf -R --files-only "$PLACE/base/$DIR/$SERIES" | grep -e '-full[.]json' | sort | tail -n 1)
    rclone copy "$PLACE/base/$DIR/$SERIES/${{RECORD%/*}}" base
    mkdir data wal
    FILE=base/base.tar.gz{ending}
    {open} | gunzip | tar -x -f - -C data
    FILE=base/backup_manifest{ending}
    {open} >data/backup_manifest
    for FILE in base/[0-9]*.tar.gz{ending}; do
        OID=$(basename "$FILE" .tar.gz{ending})
        [ -e "$FILE" ] || continue
        mkdir "tablespace-$OID"
        {open} | gunzip | tar -x -f - -C "tablespace-$OID"
        ln -sfn "$PWD/tablespace-$OID" "data/pg_tblspc/$OID"
    done
    pg_verifybackup --no-parse-wal data
    rm -f data/tablespace_map data/standby.signal

Then the WAL from there on, and what there is of the segment that was not finished:

    BEGIN=$(basename "$RECORD" | cut -c 9-24)
    rclone lsf "$PLACE/wal/$DIR/$SERIES" >names
    LC_ALL=C awk -v begin="$BEGIN" '/history/ || substr($0, 9, 16) >= begin' names >wanted
    rclone copy --files-from-raw wanted "$PLACE/wal/$DIR/$SERIES" segments
    for FILE in segments/*.gz{ending}; do
        [ -e "$FILE" ] || continue
        {open} | gunzip >"wal/$(basename "$FILE" .gz{ending})"
    done
    LAST=$(rclone lsf --dirs-only "$PLACE/unfinished/$DIR/$SERIES" | tr -d / | sort | tail -n 1)
    if [ -n "$LAST" ] && [ ! -e "wal/$LAST" ]; then
        rclone copy "$PLACE/unfinished/$DIR/$SERIES/$LAST" parts
        for FILE in parts/*; do
            AT="oflag=seek_bytes seek=$((0x$(basename "$FILE" | cut -c 1-8)))"
            {open} | gunzip | dd of="wal/$LAST" conv=notrunc $AT status=none
        done
        truncate -s "$(echo "$SERIES" | cut -d - -f 2)M" "wal/$LAST"
    fi

Let PostgreSQL replay it. The server then answers on a socket in this directory, and to nobody else:

    printf "restore_command = 'cp \\"%s/wal/%%f\\" \\"%%p\\"'\\n" "$PWD" >data/postgresql.auto.conf
    printf "lc_%s = 'C'\\n" messages monetary numeric time >>data/postgresql.auto.conf
    touch data/recovery.signal
    ALONE="-c hot_standby=off -c listen_addresses= -c unix_socket_directories=$PWD -c archive_mode=off"
    pg_ctl -D data -l log -w -t 86400 -o "$ALONE" start
    until pg_isready -q -h "$PWD"; do
        pg_ctl -D data status >state
        sleep 1
    done
"""
_END = """
`tail log` says where recovery has ended. Dump from there what you need: pg_dump -h "$PWD" -U USER DATABASE. To go on
with this cluster, stop it, look through data/postgresql.conf, and start it as always.

A database can be connected to where the system has its locale: `locale -a`. The four lines with lc_ are for a system
that lacks those of the cluster's settings. Leave them out where it has them: lc_monetary decides how money is written.

To stop earlier, add a line to data/postgresql.auto.conf before the last command, for example
recovery_target_time = '2024-01-15 13:37:00+03', and recovery_target_action = 'promote'.
"""
