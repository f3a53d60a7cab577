"""Copies elsewhere: one backup to S3 and to SFTP, encrypted, against rclone alone; many objects; and the way back."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path

import contenders
from contenders import OURS, PEER, Contender, Run, Table
from measure import run as run_once
from scene import USER, Scene, copies, elsewhere, engine, names, s3_server, sftp_server
from section_drill import SMALL_PAYMENTS

_BYTES_A_ROW = 650  # of a backup of the payments, compressed
_BODY = "CREATE TABLE public.t (v text);\n\nCOPY public.t (v) FROM stdin;\n{}\\.\n\n"
_PROBE = "--s3-no-check-bucket --s3-upload-cutoff 200Mi"


def measure(scene: Scene, rows: int, many: int, rounds: int) -> Iterator[Table]:
    """Give a table for each kind of place, one of the listing of `many` objects, and one of a lost host."""
    with ExitStack() as stack:
        folder = scene.folder("offsite")
        server = stack.enter_context(s3_server.running())
        yield _copy(folder, elsewhere.on_s3(server, _below(folder, "s3"), secrets.token_hex(4)), rows, rounds)
        try:
            nas = stack.enter_context(sftp_server.running())
        except engine.NoEngine as reason:
            print(f"  left out: SFTP: {reason}")
        else:
            yield _copy(folder, elsewhere.on_sftp(nas, _below(folder, "sftp"), secrets.token_hex(4)), rows, rounds)
        yield _listing(elsewhere.on_s3(server, _below(folder, "many"), secrets.token_hex(4)), folder, many, rounds)
        yield _lost(scene, elsewhere.on_s3(server, _below(folder, "lost"), secrets.token_hex(4)), folder, rows, rounds)
    contenders.remove(folder)


def _below(folder: Path, name: str) -> Path:
    path = folder / name
    path.mkdir(mode=0o700)
    return path


def _copy(folder: Path, where: elsewhere.Elsewhere, rows: int, rounds: int) -> Table:
    host = copies.copier(folder / where.kind, where)
    host.environment["DOCKER"] = "false"  # the roles' own dump is no part of a copy
    (file,) = host.plant(0, body=_BODY.format("".join(f"{os.urandom(_BYTES_A_ROW).hex()}\n" for _ in range(rows))))
    bytes_of_it = file.stat().st_size
    rclone, config = elsewhere.own_rclone(), where.config
    alone = f"'{rclone}' copyto --config '{config}' {_PROBE} '{file}' '{where.remote}'/alone/$(date +%s%N)"
    # Another name of the host is another place: nothing of it is there yet.
    ours = "OFFSITE_HOST=host-$(date +%s%N) scripts/copy-backups.sh --now --json --quiet"
    lines = [
        Contender("alone", "rclone copyto, not encrypted", PEER, alone, host.environment),
        Contender("ours", "copy-backups.sh: encrypted, confirmed, in the index", OURS, ours, host.environment,
                  inspect=_copied),
    ]  # fmt: skip
    title = f"Copy of a backup of {bytes_of_it / 1e6:.0f} MB to {where.kind.upper()}"
    run_once(ours, host.environment, 0.0)  # makes the key that signs the index
    table = contenders.compare(f"copy_{where.kind}", title, lines, rounds, {})
    table.facts |= {"bytes": bytes_of_it}
    return table


def _copied(stdout: str) -> Run:
    (place,) = contenders.only_document(stdout)["places"]
    if len(place["copied"]) != 1:
        raise ValueError(f"it has not copied the backup: {place['error'] or place['problems']}")
    return {"place_seconds": place["seconds"]}


def _listing(where: elsewhere.Elsewhere, folder: Path, many: int, rounds: int) -> Table:
    host = copies.copier(folder / "many", where)
    source, now = folder / "small", datetime.now(timezone.utc)
    below = source / copies.HOST / "dumps" / copies.DIRECTORY
    below.mkdir(parents=True)
    for number in range(many):
        (below / f"{names.dated('auth_db', now - timedelta(minutes=number))}.age").touch()
    upload = f"'{elsewhere.own_rclone()}' copy --transfers 16 --config '{where.config}' {_PROBE} --no-traverse"
    run_once(f"{upload} '{source}' '{where.remote}'", host.environment, 0.0)
    line = "scripts/verify-backups.sh --at s3 --json --quiet >/dev/null"
    listed = Contender("ours", "verify-backups.sh --at", OURS, line, host.environment)
    table = contenders.compare("listing", f"A place with {many:,} copies is looked at", [listed], rounds, {})
    table.facts |= {"objects": many}
    return table


def _lost(scene: Scene, where: elsewhere.Elsewhere, folder: Path, rows: int, rounds: int) -> Table:
    """Both databases come back from S3 into empty ones; the suite's own installation is not counted."""
    large, small = scene.payments(rows), scene.demo_payments(SMALL_PAYMENTS)
    host = copies.copier(folder / "lost", where)
    key = folder / "lost/key"
    key.touch(0o600)
    key.write_text(f"{host.identity}\n")
    second = {"CONTAINER": scene.server.name, "DATABASE": small, "USER": USER, "DIR": "auth", "CLIENT": "sidecar"}
    second |= {name: "" for name in ("URL", "PASSFILE", "SERVICES", "HEALTH_URL")}
    settings = scene.settings(large, host.path, "sidecar") | {f"AUTH_{name}": value for name, value in second.items()}
    settings |= {name: value for name, value in host.environment.items() if name not in ("PATH", "HOME", "DATABASES")}
    settings |= {"DATABASES": "payment auth"}
    run_once("scripts/backup-postgres.sh -q && scripts/copy-backups.sh -q --now", settings, 0.0)
    new = {**settings, "BACKUP_DIR": str(scene.folder("offsite-new"))}

    def lose() -> None:
        scene.folder("offsite-new")
        like = " OR ".join(f"datname LIKE '{name}%'" for name in (large, small))
        for (name,) in scene.server.sql(f"SELECT datname FROM pg_database WHERE {like}", "postgres"):
            scene.server.sql(f"DROP DATABASE {name} WITH (FORCE)", "postgres")
        for name in (large, small):
            scene.server.sql(f"CREATE DATABASE {name}", "postgres")

    back = "scripts/restore-postgres.sh {} --from s3 {} --key '{}' --yes --quiet"
    lines = [back.format(target, names.latest(name), key) for target, name in (("payment", large), ("auth", small))]
    ask = 'docker exec "$CONTAINER" psql -XAtq -U {} -d {} -c "SELECT count(*) FROM payments" >/dev/null'
    line = " && ".join([*lines, *(ask.format(USER, name) for name in (large, small))])
    bytes_there = scene.database_bytes(large) + scene.database_bytes(small)
    contender = Contender("ours", "restore-postgres.sh --from s3, both databases", OURS, line, new, prepare=lose)
    title = f"A lost host: {bytes_there / 1e9:.2f} GB in two databases come back from S3"
    table = contenders.compare("lost_host", title, [contender], min(rounds, 3), {})
    table.facts |= {"bytes": bytes_there}
    contenders.remove(scene.place / "offsite-new")
    return table
