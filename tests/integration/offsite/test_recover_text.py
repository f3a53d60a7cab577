"""RECOVER.txt is enough: its lines, typed with programs of the distribution, give a database back."""

from __future__ import annotations

import io
import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pgbackup.commands.offsite import recover_text
from pgbackup.formats import sealed

from demo import servers as demo_servers
from tests.support import elsewhere, restores, stock
from tests.support.effort import each_value
from tests.support.elsewhere import Elsewhere
from tests.support.s3_server import S3Server

HOST = "payment host"


@pytest.fixture(scope="module")
def embedded() -> Iterator[demo_servers.Server]:
    with restores.embedded_server() as server:
        yield server


def lines(text: str) -> str:
    """What is for a shell."""
    return "".join(f"{line[4:]}\n" for line in text.splitlines() if line.startswith("    "))


def typed(script: str, place: Elsewhere, lab: restores.Lab, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run the lines where nothing of the suite is on the PATH."""
    user = psycopg.conninfo.conninfo_to_dict(lab.dsn("postgres"))
    where = {"PGHOST": str(user["host"]), "PGPORT": str(user.get("port", 5432)), "PGUSER": str(user["user"])}
    path = f"{lab.source.values['PROGRAMS']}:/usr/bin:/bin"
    return subprocess.run(
        ["sh"],
        input=script,
        cwd=directory,
        env={"PATH": path, "HOME": str(directory), "RCLONE_CONFIG": str(place.config), **where},
        capture_output=True,
        text=True,
        check=False,
    )


@each_value(["place"], place=["s3", "sftp"], encrypted=[True, False])
def test_its_lines_bring_a_database_back(
    place: Elsewhere, embedded: demo_servers.Server, tmp_path: Path, encrypted: bool
) -> None:
    stock.need("age", "rclone")
    lab = restores.direct(embedded, tmp_path)
    file, new, _ = lab.reset()
    private, public = sealed.new_key()
    roles = b"CREATE ROLE app_of_it;\nALTER ROLE app_of_it WITH LOGIN PASSWORD 'md5" + b"0" * 32 + b"';\n"

    def lay(name: str, data: bytes) -> None:
        spool, written = tmp_path / secrets.token_hex(4), io.BytesIO()
        sealed.seal(io.BytesIO(data), written, [sealed.new_key()[1], public])
        spool.write_bytes(written.getvalue() if encrypted else data)
        place.place().put(f"{HOST}/{name}{'.age' if encrypted else ''}", spool, lock_days=0)

    lay("dumps/auth/auth_db_20200101_020000.sql.gz", b"an older one")
    lay("dumps/auth/auth_db_2_20990101_020000.sql.gz", b"another database's")
    lay(f"dumps/auth/{file.name}", file.read_bytes())
    lay("globals/auth/20240101_000000.sql", roles)
    text = recover_text.text(place.remote, HOST, [("auth_db", "auth")], encrypted=encrypted)
    assert private not in text and len(max(text.splitlines(), key=len)) <= 130
    directory = tmp_path / "empty"
    directory.mkdir()
    if encrypted:
        (directory / "key").touch(0o600)
        (directory / "key").write_text(f"{private}\n")
    lab.sql('DROP DATABASE "auth_db"')
    try:
        done = typed(lines(text), place, lab, directory)
        assert done.returncode == 0, done.stderr
        assert lab.content() == new
        assert lab.sql("SELECT count(*) FROM pg_authid WHERE rolname = 'app_of_it'") == [(int(encrypted),)]
        left = {path.name for path in directory.iterdir() if path.suffix != ".age" and not path.name.startswith(".")}
        assert left <= {"key", "dump.sql.gz"}
    finally:
        lab.sql("DROP ROLE IF EXISTS app_of_it")


def test_a_copy_that_is_cut_off_is_seen_before_anything_is_made(
    s3: S3Server, embedded: demo_servers.Server, tmp_path: Path
) -> None:
    """A test of the one above: the lines stop at what is wrong."""
    stock.need("age", "rclone")
    place, lab = elsewhere.on_s3(s3, tmp_path, secrets.token_hex(8)), restores.direct(embedded, tmp_path)
    file, _, _ = lab.reset()
    private, public = sealed.new_key()
    written = io.BytesIO()
    sealed.seal(io.BytesIO(file.read_bytes()), written, [public])
    (tmp_path / "spool").write_bytes(written.getvalue()[:-200])
    place.place().put(f"{HOST}/dumps/auth/{file.name}.age", tmp_path / "spool", lock_days=0)
    directory = tmp_path / "empty"
    directory.mkdir()
    (directory / "key").write_text(f"{private}\n")
    (directory / "key").chmod(0o600)
    lab.sql('DROP DATABASE "auth_db"')
    script = lines(recover_text.text(place.remote, HOST, [("auth_db", "auth")], encrypted=True))
    begin, _, rest = script.partition("DIR=")
    done = typed(begin + "DIR=" + rest.partition("DIR=")[2], place, lab, directory)
    assert done.returncode != 0 and "age: error" in done.stderr
    assert lab.databases() == []


def test_it_is_the_same_each_time_and_any_name_is_only_a_name() -> None:
    odd = [("a'b$(id).c", "di r"), ("x", "y")]
    text = recover_text.text("s3:b", "ho'st", odd, encrypted=True)
    assert text == recover_text.text("s3:b", "ho'st", odd, encrypted=True)
    script = lines(text).replace("rclone", "echo", 1)
    shown = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assigned = "".join(line + "\n" for line in script.splitlines() if line.startswith(("PLACE=", "DIR=", "DATABASE=")))
    said = subprocess.run(
        ["sh"],
        input=assigned + 'echo "$PLACE|$DIR|$DATABASE"',
        capture_output=True,
        text=True,
        env=dict(os.environ),
        check=True,
    )
    assert said.stdout == "s3:b/ho'st|y|x\n"
    assert "nas:payment" in recover_text.text("nas:", "payment", odd, encrypted=False)
