"""Files of other origin than backup-postgres.sh: restored where that is right, else refused by what they are."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo import servers as demo_servers
from tests.support import restores
from tests.support.effort import wide
from tests.support.restores import Content, Lab


@dataclass(frozen=True)
class Dumped:
    """A lab, what pg_dump writes of its database with given options, and what is in it then and now."""

    lab: Lab
    dump: Callable[..., bytes]
    new: Content
    old: Content


@pytest.fixture(scope="module")
def dumped(embedded: demo_servers.Server, tmp_path_factory: pytest.TempPathFactory) -> Dumped:
    lab = restores.direct(embedded, tmp_path_factory.mktemp("files"))
    restores.remade(lab, rows=50)
    new = lab.content()
    lab.backup()
    texts: dict[tuple[str, ...], bytes] = {}

    def dump(*options: str) -> bytes:
        return texts[options]

    for options in ((), ("--inserts",), ("--column-inserts", "--rows-per-insert=7"), ("-Fc",), ("-Ft",), ("-C",)):
        program = [embedded.installation.programs / "pg_dump", *options, embedded.url("auth_db")]
        texts[options] = subprocess.run(program, capture_output=True, check=True).stdout
    program = [embedded.installation.programs / "pg_dumpall", "-d", embedded.url("postgres")]
    texts[("all",)] = subprocess.run(program, capture_output=True, check=True).stdout
    texts[("roles",)] = subprocess.run([*program, "--globals-only"], capture_output=True, check=True).stdout
    return Dumped(lab, dump, new, lab.lose())


def tarred(name: str) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo(name))
    return archive.getvalue()


GOOD: dict[str, Callable[[Dumped], bytes]] = {
    "as pg_dump writes it": lambda of: gzip.compress(of.dump()),
    "without restrict": lambda of: gzip.compress(restores.plain(of.dump())),
    "with --inserts": lambda of: gzip.compress(of.dump("--inserts")),
    "with --column-inserts": lambda of: gzip.compress(of.dump("--column-inserts", "--rows-per-insert=7")),
    "with a byte order mark": lambda of: gzip.compress(b"\xef\xbb\xbf" + of.dump()),
    "in two gzip members": lambda of: gzip.compress(of.dump()[:5000]) + gzip.compress(of.dump()[5000:]),
    "compressed by gzip -9": lambda of: (
        subprocess.run(["gzip", "-9"], input=of.dump(), capture_output=True, check=True).stdout
    ),
    "with --create": lambda of: gzip.compress(of.dump("-C")),
    "with an empty line more": lambda of: gzip.compress(of.dump() + b"\n"),
}


@pytest.mark.parametrize("how", GOOD)
def test_a_plain_dump_made_by_hand_is_restored(dumped: Dumped, how: str) -> None:
    lab = dumped.lab
    file = lab.directory / "auth_db_manual_20240101_000000.sql.gz"
    file.write_bytes(GOOD[how](dumped))
    ended = lab.restore("--yes", "--into", "looked_at", file.name)
    assert ended.status == 0, ended.stderr
    assert lab.content("looked_at") == dumped.new
    lab.sql("DROP DATABASE looked_at")
    assert restores.settled(lab, dumped.old, dumped.old) == []


def test_lines_that_end_as_on_windows_are_restored_or_refused_but_never_half(dumped: Dumped) -> None:
    lab = dumped.lab
    file = lab.directory / "auth_db_manual_20240101_000000.sql.gz"
    file.write_bytes(gzip.compress(dumped.dump().replace(b"\n", b"\r\n")))
    ended = lab.restore("--yes", "--into", "looked_at", file.name)
    if ended.status == 0:
        plain_tables = [name for name in dumped.new if "odd" not in name]
        found = lab.content("looked_at")
        assert [found[name] for name in plain_tables] == [dumped.new[name] for name in plain_tables]
        lab.sql("DROP DATABASE looked_at")
    else:
        assert not restores.failed(lab, ended, 65, dumped.old)


BAD: dict[str, tuple[Callable[[Dumped], bytes], str]] = {
    "custom format": (lambda of: of.dump("-Fc"), "a dump in pg_dump's custom format"),
    "custom format, compressed": (lambda of: gzip.compress(of.dump("-Fc")), "custom format"),
    "tar format": (lambda of: of.dump("-Ft"), "tar format"),
    "tar format, compressed": (lambda of: gzip.compress(of.dump("-Ft")), "tar format"),
    "a cluster": (lambda of: gzip.compress(of.dump("all")), "a dump of a whole cluster"),
    "a cluster, not compressed": (lambda of: of.dump("all"), "a dump of a whole cluster"),
    "roles of a cluster": (lambda of: gzip.compress(of.dump("roles")), "--globals-only"),
    "base backup": (lambda _: gzip.compress(tarred("backup_label")), "the files of a whole cluster"),
    "another archive": (lambda _: gzip.compress(tarred("letter.txt")), "a tar archive"),
    "MySQL": (lambda _: gzip.compress(b"-- MySQL dump 10.13  Distrib 8.0\n"), "MySQL or MariaDB"),
    "MariaDB": (
        lambda _: gzip.compress(b"/*M!999999\\- enable the sandbox mode */\n-- MariaDB dump\n"),
        "MySQL or MariaDB",
    ),
    "SQLite": (lambda _: gzip.compress(b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n"), "SQLite"),
    "compressed twice": (lambda of: gzip.compress(gzip.compress(of.dump())), "compressed twice"),
    "encrypted": (lambda _: b"age-encryption.org/v1\n-> X25519 abc\n", "encrypted with age"),
    "UTF-16": (lambda of: gzip.compress(of.dump().decode().encode("utf-16")), "UTF-16"),
    "UTF-16, big end": (lambda of: gzip.compress(b"\xfe\xff" + of.dump().decode().encode("utf-16-be")), "UTF-16"),
    "UTF-16 without a mark": (lambda of: gzip.compress(of.dump().decode().encode("utf-16-le")), "is bad"),
    "empty": (lambda _: b"", "is empty"),
    "nothing, compressed": (lambda _: gzip.compress(b""), "is bad"),
    "not compressed": (lambda of: of.dump(), "not compressed with gzip"),
    "xz": (lambda of: lzma.compress(of.dump()), "is compressed with xz"),
    "cut off": (lambda of: gzip.compress(of.dump())[:-200], "cut off"),
    "cut off before it was compressed": (lambda of: gzip.compress(of.dump()[:-500]), "incomplete"),
    "something else": (lambda _: gzip.compress(os.urandom(5000)), "is bad"),
    "another program's SQL": (lambda _: gzip.compress(b"CREATE TABLE a (id int);\n"), "incomplete"),
    "garbage behind it": (lambda of: gzip.compress(of.dump()) + b"garbage", "is bad"),
}


@wide("how", list(BAD)[::2], BAD)
def test_what_is_no_plain_compressed_dump_is_refused_in_a_sentence_that_says_what_it_is(
    dumped: Dumped, how: str
) -> None:
    lab = dumped.lab
    file = lab.directory / "auth_db_manual_20240101_000000.sql.gz"
    content, says = BAD[how]
    file.write_bytes(content(dumped))
    ended = lab.restore("--yes", file.name)
    assert not restores.failed(lab, ended, 65, dumped.old)
    assert says in ended.stderr, ended.stderr
    assert str(file) in ended.stderr
    file.unlink()


UNLOADABLE = {
    "a value of another type": "CREATE TABLE public.z (n integer);\nCOPY public.z (n) FROM stdin;\nsEcReT\n\\.\n",
    "the same key twice": (
        "CREATE TABLE public.z (n text);\nCOPY public.z (n) FROM stdin;\nsEcReT\nsEcReT\n\\.\n\n"
        "ALTER TABLE ONLY public.z ADD CONSTRAINT z_key PRIMARY KEY (n);\n"
    ),
    "a row that breaks a rule": (
        "CREATE TABLE public.z (n text, CONSTRAINT z_rule CHECK (n <> 'sEcReT'));\n"
        "COPY public.z (n) FROM stdin;\nsEcReT\n\\.\n"
    ),
}


@pytest.mark.parametrize("how", UNLOADABLE)
def test_a_row_that_cannot_be_loaded_is_in_no_log_history_or_document(dumped: Dumped, how: str) -> None:
    lab = dumped.lab
    file = lab.directory / "auth_db_manual_20240101_000000.sql.gz"
    mark = b"\n--\n-- PostgreSQL database dump complete\n"
    file.write_bytes(gzip.compress(dumped.dump().replace(mark, b"\n" + UNLOADABLE[how].encode() + mark)))
    ended = lab.restore("--yes", "--json", file.name)
    assert not restores.failed(lab, ended, 65, dumped.old)
    assert "could not be loaded" in ended.stderr
    log, history = (lab.place.path / name for name in ("backup.log", "restore-history.jsonl"))
    for written in (ended.stdout, log.read_text(), history.read_text()):
        assert "could not be loaded: " in written and "sEcReT" not in written
    file.unlink()


REMEDIES: dict[str, Callable[[Dumped], bytes]] = {
    "a cluster": lambda of: gzip.compress(of.dump("all")),
    "custom format": lambda of: of.dump("-Fc"),
    "custom format, compressed": lambda of: gzip.compress(of.dump("-Fc")),
    "tar format": lambda of: of.dump("-Ft"),
    "xz": lambda of: lzma.compress(of.dump()),
    "not compressed": lambda of: of.dump(),
    "UTF-16": lambda of: gzip.compress(of.dump().decode().encode("utf-16")),
}  # fmt: skip


@pytest.mark.parametrize("how", REMEDIES)
def test_the_command_in_the_hint_makes_a_file_of_it_that_is_restored(dumped: Dumped, how: str, tmp_path: Path) -> None:
    lab, file = dumped.lab, tmp_path / "it's.sql.gz"
    file.write_bytes(REMEDIES[how](dumped))
    hint = lab.restore("--yes", str(file)).stderr.split("Hint: ")[1].strip().split(" (in Docker")[0]
    command = re.sub(r"^.*?: (?=\w)", "", hint)
    path = f"{lab.source.values['PROGRAMS']}:{os.environ['PATH']}"
    subprocess.run(["sh", "-ec", command], cwd=tmp_path, env={"PATH": path, "LC_ALL": "C"}, check=True)
    (made,) = set(tmp_path.iterdir()) - {file}
    ended = lab.restore("--yes", "--into", "looked_at", str(made))
    assert ended.status == 0, ended.stderr
    assert lab.content("looked_at") == dumped.new
    lab.sql("DROP DATABASE looked_at")


def test_directories_links_fifos_and_names_that_lead_nowhere_are_told(dumped: Dumped, tmp_path: Path) -> None:
    lab = dumped.lab
    good = max(lab.files())
    directory, link, fifo = (lab.directory / f"{kind}.sql.gz" for kind in ("directory", "link", "fifo"))
    directory.mkdir()
    shutil.copy(good, directory / "toc.dat")
    link.symlink_to(good)
    os.mkfifo(fifo)
    for path, status, says in (
        (directory, 65, "is a directory"),
        (link, 65, "is a symbolic link"),
        (fifo, 65, "not a regular file"),
        (tmp_path / "nowhere.sql.gz", 66, "there is no file"),
    ):
        ended = lab.restore("--yes", str(path))
        assert not restores.failed(lab, ended, status, dumped.old)
        assert says in ended.stderr
        assert "Hint" in ended.stderr or path is fifo
    directory.joinpath("toc.dat").unlink()
    directory.rmdir()
    link.unlink()
    fifo.unlink()
