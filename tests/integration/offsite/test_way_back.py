"""A copy elsewhere becomes a database again with a key: whole and the right one, or nothing is touched."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pgbackup.formats import manifest, sealed
from pgbackup.store.state import keys

from demo import servers as demo_servers
from tests.support import backup_files, drills, elsewhere, restores
from tests.support.backups import Ended
from tests.support.effort import wide
from tests.support.elsewhere import Elsewhere
from tests.support.restores import Lab
from tests.support.s3_server import S3Server

HOST = "payment-host"
NOW = datetime.now().astimezone()


@pytest.fixture(scope="module")
def embedded() -> Iterator[demo_servers.Server]:
    with restores.embedded_server() as server:
        yield server


@dataclass
class Away:
    """A lab whose backups lie at a place too. private, public: the halves of the key of the copies."""

    lab: Lab
    where: Elsewhere
    private: str
    public: str
    key: Path

    def put(self, file: Path, name: str = "", recipients: tuple[str, ...] = (), data: bytes | None = None) -> str:
        """Lay a copy of a backup there, under its own name or another one; return the object's name."""
        text = file.read_bytes() if data is None else data
        return self.lay(f"{HOST}/dumps/auth/{name or file.name}.age", self.sealed(text, *recipients))

    def lay(self, name: str, data: bytes) -> str:
        spool = self.key.with_name(f"spool-{secrets.token_hex(4)}")
        spool.write_bytes(data)
        self.where.place().put(name, spool, lock_days=0)
        spool.unlink()
        return name

    def sealed(self, data: bytes, *recipients: str) -> bytes:
        written = io.BytesIO()
        sealed.seal(io.BytesIO(data), written, recipients or (self.public,))
        return written.getvalue()

    def restore(self, *words: str, key: Path | None = None, **environment: str) -> Ended:
        given = ["--key", str(key or self.key)] if words and "--list" not in words else []
        return self.lab.restore("--from", "away", *words, *given, **environment)


@pytest.fixture
def away(embedded: demo_servers.Server, place: Elsewhere, tmp_path: Path) -> Away:
    private, public = sealed.new_key()
    key = tmp_path / "key"
    keys.write_identity(key, private, NOW)
    settings = {"OFFSITE": "away", "AWAY_REMOTE": place.remote, "OFFSITE_HOST": HOST}
    lab = restores.direct(embedded, tmp_path, **settings, RCLONE_CONFIG=str(place.config))
    return Away(lab, place, private, public, key)


@pytest.fixture
def on_s3(embedded: demo_servers.Server, s3: S3Server, tmp_path: Path) -> Away:
    """The same at one kind of place: what does not depend on it."""
    there = elsewhere.on_s3(s3, tmp_path, secrets.token_hex(8))
    private, public = sealed.new_key()
    key = tmp_path / "key"
    keys.write_identity(key, private, NOW)
    settings = {"OFFSITE": "away", "AWAY_REMOTE": there.remote, "OFFSITE_HOST": HOST}
    lab = restores.direct(embedded, tmp_path, **settings, RCLONE_CONFIG=str(there.config))
    return Away(lab, there, private, public, key)


def nothing_happened(away: Away, ended: Ended, status: int, old: dict[str, str], *said: str) -> None:
    assert ended.status == status, ended.stderr
    for words in said:
        assert words in ended.stderr, ended.stderr
    assert restores.failed(away.lab, ended, status, old) == []
    assert away.private not in ended.stderr + ended.stdout
    assert "AGE-SECRET-KEY" not in ended.stderr


def test_a_database_comes_back_from_there_alone(away: Away) -> None:
    file, new, old = away.lab.reset()
    away.put(file, recipients=(sealed.new_key()[1], away.public))
    file.unlink()
    shown = away.restore("--list")
    assert shown.status == 0 and file.name in shown.stdout and "encrypted" in shown.stdout
    dry = away.restore("--dry-run", file.name)
    assert dry.status == 0 and away.lab.content() == old
    ended = away.restore("--yes", file.name)
    assert ended.status == 0, ended.stderr
    assert away.lab.content() == new
    assert restores.after(away.lab, old, new) == []
    assert not list(away.lab.directory.glob(".pgbackup-*.partial"))
    history = (away.lab.place.path / "restore-history.jsonl").read_text().splitlines()
    (line,) = (line for line in history if json.loads(line)["action"] == "restore")
    assert json.loads(line)["place"] == "away"
    assert f"away:{HOST}/dumps/auth/{file.name}.age" in line and "AGE-SECRET" not in line


def test_what_lies_there_is_drilled_with_a_key_and_not_without(on_s3: Away) -> None:
    file, _, old = on_s3.lab.reset()
    on_s3.put(file)
    ended = drills.run(on_s3.lab, "scripts/drill-backups.sh", "--from", "away", "--key", str(on_s3.key), "--json")
    (made,) = json.loads(ended.stdout)["drills"]
    assert (ended.status, made["verdict"]) == (0, "passed"), ended.stderr
    assert "fetch" in made["seconds"]
    assert drills.listed(on_s3.lab)[0]["drilled"]  # the file here holds the same
    without = drills.run(on_s3.lab, "scripts/drill-backups.sh", "--from", "away")
    assert without.status == 78 and "a key is needed" in without.stderr
    assert restores.problems(on_s3.lab, old, old) == []
    assert not list(on_s3.lab.directory.glob(".pgbackup-*"))


def test_the_newest_is_found_by_the_name_of_the_link_and_with_either_name(on_s3: Away) -> None:
    file, new, _ = on_s3.lab.reset()
    on_s3.put(file)
    latest = on_s3.restore("--yes", "auth_db_LATEST.sql.gz")
    assert latest.status == 0, latest.stderr
    assert on_s3.lab.content() == new
    again = on_s3.restore("--yes", "--into", "beside", f"{file.name}.age")
    assert again.status == 0 and on_s3.lab.content("beside") == new


def test_a_key_can_come_by_a_pipe(on_s3: Away) -> None:
    file, new, _ = on_s3.lab.reset()
    on_s3.put(file)
    reading, writing = os.pipe()
    os.write(writing, on_s3.private.lower().encode())
    os.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123  a descriptor
        ended = on_s3.lab.place.end(
            subprocess.Popen(
                on_s3.lab.command("--from", "away", "--yes", file.name, "--key", "-"),
                env=on_s3.lab.place.environment,
                stdin=pipe,
                stdout=-1,
                stderr=-1,
                start_new_session=True,
            )
        )
    assert ended.status == 0, ended.stderr
    assert on_s3.lab.content() == new
    assert "leaves no terminal" in on_s3.lab.restore("--from", "away", file.name, "--key", "-").stderr


def test_a_place_that_is_not_encrypted_needs_no_key(on_s3: Away) -> None:
    file, new, _ = on_s3.lab.reset()
    on_s3.lay(f"{HOST}/dumps/auth/{file.name}", file.read_bytes())
    ended = on_s3.lab.restore("--from", "away", "--yes", file.name, AWAY_ENCRYPTED="no")
    assert ended.status == 0, ended.stderr
    assert on_s3.lab.content() == new


@pytest.mark.fault(148, "wrong key, one of two keys lost, key file with wrong mode, no key, key of another place")
def test_a_key_that_opens_nothing_is_told_before_anything_is_touched(on_s3: Away, tmp_path: Path) -> None:
    file, new, old = on_s3.lab.reset()
    stranger = tmp_path / "stranger"
    keys.write_identity(stranger, sealed.new_key()[0], NOW)
    on_s3.put(file, recipients=(on_s3.public, sealed.new_key()[1]))
    ended = on_s3.restore("--yes", file.name, key=stranger)
    nothing_happened(on_s3, ended, 78, old, "the key does not open 'away:", file.name, "Hint: ")
    ended = on_s3.lab.restore("--from", "away", "--yes", file.name)
    nothing_happened(on_s3, ended, 78, old, "a key is needed", "--key FILE")
    on_s3.key.chmod(0o644)
    nothing_happened(on_s3, on_s3.restore("--yes", file.name), 77, old, "may be read by others", "chmod 0600")
    on_s3.key.chmod(0o600)
    nothing_happened(on_s3, on_s3.restore("--yes", file.name, key=tmp_path / "none"), 66, old, "there is no key file")
    assert on_s3.restore("--yes", file.name).status == 0
    assert on_s3.lab.content() == new


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "changed": lambda data: data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:],
    "cut": lambda data: data[: len(data) // 2],
    "cut in its header": lambda data: data[:100],
    "without its last byte": lambda data: data[:-1],
    "empty": lambda data: b"",
    "followed": lambda data: data + b"x",
    "foreign": lambda data: b"hello, this is no copy of anything " * 100,
}


@pytest.mark.fault(149, "changed, cut, swapped, foreign objects: named and refused, an older one offered")
@wide("damage", ["changed", "cut", "followed", "foreign"], DAMAGE)
def test_what_was_damaged_there_is_refused_and_an_older_one_offered(on_s3: Away, damage: str) -> None:
    lab = on_s3.lab
    file, new, old = lab.reset()
    older = lab.directory / "auth_db_20200101_020000.sql.gz"
    os.link(file, older)
    data = DAMAGE[damage](on_s3.sealed(file.read_bytes()))
    on_s3.lay(f"{HOST}/dumps/auth/{file.name}.age", data)
    on_s3.put(older, data=made_then(lab, "2020-01-01T02:00:00Z", file))
    ended = on_s3.restore("--yes", file.name)
    nothing_happened(
        on_s3, ended, 65, old, f"{file.name}.age' is bad", "Hint: an older one: ", "restore-postgres.sh auth --from"
    )
    assert older.name in ended.stderr
    assert on_s3.restore("--yes", older.name).status == 0
    assert lab.content() == new


def made_then(lab: Lab, started: str, file: Path) -> bytes:
    """The same backup with another beginning in its manifest: as if it had been made then."""
    with file.open("rb") as opened:
        held = manifest.read(opened.fileno(), file.stat().st_size)
    assert held
    facts = {**held[0].raw, "started": started, "time_zone": "UTC +0000"}
    return file.read_bytes()[: -held[1]] + manifest.encoded(facts)


@pytest.mark.fault(149, "an older backup, another database's, a forged newer one under a name")
def test_what_lies_under_anothers_name_is_refused(on_s3: Away) -> None:
    lab = on_s3.lab
    file, _, old = lab.reset()
    on_s3.put(file, data=made_then(lab, "2020-01-01T02:00:00Z", file))
    ended = on_s3.restore("--yes", file.name)
    nothing_happened(on_s3, ended, 65, old, "not what its name says", "2020-01-01 02:00:00", "there is no older one")
    theirs = backup_files.contents(backup_files.dump(), database="other", target="auth", container="x")
    on_s3.put(file, name="auth_db_20240102_020000.sql.gz", data=theirs)
    ended = on_s3.restore("--yes", "auth_db_20240102_020000.sql.gz")
    nothing_happened(on_s3, ended, 65, old, "it is a backup of 'other'")


@pytest.mark.fault(149, "a name from the future, for the newest")
def test_a_name_from_the_future_is_passed_over(on_s3: Away) -> None:
    lab = on_s3.lab
    file, new, old = lab.reset()
    on_s3.put(file)
    on_s3.put(file, name="auth_db_20990101_020000.sql.gz")
    shown = on_s3.restore("--list")
    assert shown.status == 0 and "DOUBTFUL: its name is of 2099" in shown.stdout
    nothing_happened(on_s3, on_s3.restore("--yes", "auth_db_20990101_020000.sql.gz"), 65, old, "not to be believed")
    ended = on_s3.restore("--yes", "auth_db_LATEST.sql.gz")
    assert ended.status == 0 and lab.content() == new
    assert file.name in ended.stderr


@pytest.mark.fault(151, "an attacker with this host's credentials deletes and overwrites: locked versions restore")
def test_what_was_deleted_and_written_over_comes_back_as_it_was_then(on_s3: Away, s3: S3Server, tmp_path: Path) -> None:
    file, new, old = on_s3.lab.reset()
    spool = tmp_path / "spool"
    spool.write_bytes(on_s3.sealed(file.read_bytes()))
    names = [f"{HOST}/dumps/auth/{name}.age" for name in (file.name, "auth_db_20240102_020000.sql.gz")]
    for name in names:
        on_s3.where.place().put(name, spool, lock_days=3)
    before = datetime.now(timezone.utc) + timedelta(seconds=1)
    time.sleep(2)  # versions are told apart by whole seconds
    spool.write_bytes(b"forged")
    rclone = [str(elsewhere.own_rclone()), "--config", str(on_s3.where.config), "--s3-no-check-bucket"]
    subprocess.run([*rclone, "deletefile", f"{on_s3.where.remote}/{names[0]}"], check=True)
    subprocess.run([*rclone, "copyto", "--ignore-times", str(spool), f"{on_s3.where.remote}/{names[1]}"], check=True)
    assert b"".join(on_s3.where.place().get(names[1])) == b"forged"
    nothing_happened(on_s3, on_s3.restore("--yes", file.name), 66, old, "there is no copy of a file")
    config = tmp_path / "then.conf"
    config.touch(0o600)
    section = s3.section("s3", s3.admin)
    config.write_text(f"{section}version_at = {before:%Y-%m-%dT%H:%M:%SZ}\n")
    assert "auth_db_20240102" in on_s3.restore("--list", RCLONE_CONFIG=str(config)).stdout
    ended = on_s3.restore("--yes", file.name, RCLONE_CONFIG=str(config))
    assert ended.status == 0, ended.stderr
    assert on_s3.lab.content() == new


def test_what_is_not_there_is_told_with_what_is(on_s3: Away) -> None:
    file, _, old = on_s3.lab.reset()
    nothing_happened(on_s3, on_s3.restore("--yes", file.name), 66, old, "no copies of a host 'payment-host'", "none")
    on_s3.put(file)
    said = on_s3.restore("--yes", "auth_db_20200101_020000.sql.gz")
    nothing_happened(on_s3, said, 66, old, "there is no copy of a file", "--from away --list")
    said = on_s3.restore("--yes", file.name, OFFSITE_HOST="new-host")
    nothing_happened(on_s3, said, 66, old, "no copies of a host 'new-host'", HOST, f"OFFSITE_HOST={HOST}")
    nothing_happened(on_s3, on_s3.restore("--yes", f"x/{file.name}"), 64, old, "is a name and not a path")
    assert on_s3.lab.restore("--from", "mars", "--list").status == 64
    document = json.loads(on_s3.restore("--list", "--json").stdout)
    assert [one["file"] for one in document["files"]] == [file.name]


def test_the_options_go_with_a_file_from_a_place(on_s3: Away) -> None:
    for words in (
        ["--from", "away", "--history"],
        ["--key", "x", "file"],
        ["--with-roles", "file"],
        ["--from", "away", "--list", "--with-roles"],
    ):
        assert on_s3.lab.restore(*words).status == 64


@pytest.mark.fault(150, "a restore from elsewhere is killed while it fetches")
def test_killed_while_it_fetches_nothing_is_left(on_s3: Away, tries: Callable[[int, int], int]) -> None:
    lab = on_s3.lab
    file, new, old = lab.reset()
    on_s3.put(file)
    chances = random.Random(5)
    for _ in range(tries(3, 30)):
        process = lab.start("--from", "away", "--yes", file.name, "--key", str(on_s3.key))
        try:
            process.wait(chances.uniform(0.2, 1.2))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        assert lab.content() in (old, new)
        if lab.content() == new:
            lab.restore("--rollback", "--yes")
            lab.restore("--drop-old", "--yes")
    ended = on_s3.restore("--yes", file.name)
    assert ended.status == 0, ended.stderr
    assert restores.after(lab, old, new) == []


@pytest.mark.fault(150, "a restore from elsewhere is interrupted while it fetches")
def test_interrupted_while_it_fetches_it_ends_clean(on_s3: Away, tries: Callable[[int, int], int]) -> None:
    lab = on_s3.lab
    file, new, old = lab.reset()
    on_s3.put(file)
    chances = random.Random(6)
    for _ in range(tries(3, 30)):
        process = lab.start("--from", "away", "--yes", file.name, "--key", str(on_s3.key))
        time.sleep(chances.uniform(0.5, 1.5))
        process.terminate()
        process.communicate(timeout=15)
        assert process.returncode in (143, -15, 0)
        assert lab.content() in (old, new)
        assert not list(lab.directory.glob(".pgbackup-*.partial")), "the backup lies there in the clear"
        if lab.content() == new:
            lab.restore("--rollback", "--yes")
            lab.restore("--drop-old", "--yes")


@pytest.mark.fault(152, "somebody watches processes and files for a private key")
def test_no_key_is_seen_while_it_works(on_s3: Away) -> None:
    file, new, _ = on_s3.lab.reset()
    on_s3.put(file)
    private = on_s3.private.encode()
    process = on_s3.lab.start("--from", "away", "--yes", file.name, "--key", str(on_s3.key))
    looks = 0
    while process.poll() is None:
        for entry in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                with contextlib.suppress(OSError):
                    assert private not in (entry / name).read_bytes()
        looks += 1
    _, said = process.communicate()
    assert process.returncode == 0 and looks > 3
    assert on_s3.lab.content() == new
    assert private not in said
    for path in on_s3.lab.place.path.rglob("*"):
        assert not path.is_file() or private not in path.read_bytes()


def test_roles_come_back_with_their_passwords(on_s3: Away) -> None:
    lab = on_s3.lab
    file, new, _ = lab.reset()
    lab.sql("DROP ROLE IF EXISTS app; CREATE ROLE app LOGIN SUPERUSER PASSWORD 'geheim'")
    lab.sql("GRANT SELECT ON users TO app; ALTER TABLE orders OWNER TO app", lab.database)
    file = lab.backup()
    new = lab.content()
    password = lab.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'")
    programs = Path(lab.source.values["PROGRAMS"])
    dumped = subprocess.run(
        [programs / "pg_dumpall", "--globals-only", "-d", lab.dsn("postgres")], capture_output=True, check=True
    ).stdout
    try:
        lab.sql("ALTER TABLE orders OWNER TO auth_user; DROP OWNED BY app", lab.database)
        lab.sql("DROP ROLE app")
        on_s3.put(file)
        ended = on_s3.restore("--yes", "--with-roles", file.name)
        assert ended.status == 66 and "there are no roles at 'away'" in ended.stderr
        on_s3.lay(f"{HOST}/globals/auth/20240101_000000.sql.age", on_s3.sealed(dumped))
        dry = on_s3.restore("--dry-run", "--with-roles", file.name)
        assert dry.status == 0 and "'app' is made, with its password; it is SUPERUSER" in dry.stderr
        assert lab.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'app'") == [(0,)]
        ended = on_s3.restore("--yes", "--with-roles", file.name)
        assert ended.status == 0, ended.stderr
        assert lab.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'") == password
        assert lab.sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'app'") == [(True,)]
        assert lab.content() == new
        assert "without a password" not in ended.stderr
        everything = "".join(path.read_text() for path in lab.place.path.glob("*.*") if path.is_file())
        assert "SCRAM" not in everything + ended.stderr + ended.stdout
    finally:
        restores.remade(lab)
        lab.restore("--drop-old", "--yes")
        lab.sql("DROP ROLE IF EXISTS app")
