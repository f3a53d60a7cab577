"""Files that others read, a page or metrics, are replaced whole or not at all, and nothing else ever is."""

from __future__ import annotations

import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pgbackup.errors import CannotCreate, IoFailed, PermissionDenied, SuiteError
from pgbackup.store import output

from tests.support.backups import needs_root

MARK = "# ours\n"
OLD, NEW = f"{MARK}old\n", f"{MARK}{'new ' * 50_000}\n"


def write(path: Path, content: str = NEW, mode: int = 0o644) -> None:
    output.replace(path, content, mark=MARK, mode=mode)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page"
    path.write_text(OLD)
    return path


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])  # `umask` is the fixture that puts it back
@pytest.mark.parametrize("mode", [0o640, 0o644])
def test_a_file_is_made_and_replaced_with_its_mode_whatever_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    path = tmp_path / "page"
    os.umask(mask)
    for content in (OLD, NEW):
        write(path, content, mode)
        assert path.read_text() == content
        assert stat.S_IMODE(path.stat().st_mode) == mode
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_belongs_to_the_owner_of_its_directory(tmp_path: Path) -> None:
    needs_root()
    os.chown(tmp_path, 12345, 12346)
    write(tmp_path / "page")
    found = (tmp_path / "page").stat()
    assert (found.st_uid, found.st_gid) == (12345, 12346)


def test_a_relative_path_is_one_of_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("page"))
    assert (tmp_path / "page").read_text() == NEW


def link(path: Path) -> None:
    victim = path.with_name("victim")
    victim.write_text(OLD)
    path.symlink_to(victim)


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def fifo(path: Path) -> None:
    os.mkfifo(path)


def strangers(path: Path) -> None:
    path.write_text("precious\n")


def shorter(path: Path) -> None:
    path.write_text(MARK[:3])


@pytest.mark.fault(220, "the page's or the metrics' place is a link, a directory, a pipe or somebody else's file")
@pytest.mark.parametrize("there", [link, dangling, Path.mkdir, fifo, strangers, shorter])
def test_what_is_not_ours_stays_as_it_is(tmp_path: Path, there: Callable[[Path], None]) -> None:
    path = tmp_path / "page"
    there(path)
    before = {one: (one.lstat().st_ino, one.lstat().st_mode, one.lstat().st_mtime_ns) for one in tmp_path.iterdir()}
    with pytest.raises(CannotCreate, match=f"'{path}'") as told:
        write(path)
    assert told.value.hint
    after = {one: (one.lstat().st_ino, one.lstat().st_mode, one.lstat().st_mtime_ns) for one in tmp_path.iterdir()}
    assert after == before


@pytest.mark.fault(220, "the page's or the metrics' directory is missing, no directory, or open to everybody")
@pytest.mark.parametrize(
    ("directory", "said"),
    [("missing", "is not there"), ("file", "not a directory"), ("open", "may be written by everybody")],
)
def test_where_it_cannot_be_written_safely_it_is_not(tmp_path: Path, directory: str, said: str) -> None:
    (tmp_path / "file").write_text("precious\n")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(SuiteError, match=said) as told:
        write(tmp_path / directory / "page")
    assert told.value.status == CannotCreate.status and told.value.hint
    assert not list((tmp_path / "open").iterdir()) and (tmp_path / "file").read_text() == "precious\n"


def test_a_directory_with_the_sticky_bit_and_one_of_a_group_will_do(tmp_path: Path) -> None:
    for mode in (0o1777, 0o775):
        tmp_path.chmod(mode)
        write(tmp_path / "page")


@pytest.mark.fault(220, "the page's or the metrics' directory may not be written to")
def test_who_may_not_write_there_is_told() -> None:
    """As another account, by a child that gives root away."""
    needs_root()
    with tempfile.TemporaryDirectory() as place:  # which another account gets to
        Path(place).chmod(0o755)
        page = Path(place) / "page"
        page.write_text(OLD)
        child = os.fork()
        if not child:
            os.setuid(65534)
            try:
                write(page)
            except PermissionDenied as told:
                os._exit(77 if str(page) in told.message and told.hint else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == PermissionDenied.status
        assert page.read_text() == OLD


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    needs_root()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.fault(217, "disk full while the page or the metrics are written")
def test_a_full_disk_leaves_the_old_file(small_disk: Path) -> None:
    page = small_disk / "page"
    write(page, OLD)
    with pytest.raises(IoFailed, match="No space left") as told:
        write(page)
    assert "df -h" in (told.value.hint or "")
    assert page.read_text() == OLD and list(small_disk.iterdir()) == [page]
    write(page, f"{MARK}and then there is room\n")


@pytest.mark.fault(219, "two writers of the page or the metrics at once")
def test_of_two_writers_each_reader_sees_one(page: Path) -> None:
    begin = multiprocessing.get_context("fork").Event()

    def writer(letter: str) -> None:
        begin.wait(10)
        for _ in range(40):
            write(page, f"{MARK}{letter * 100_000}")

    writers = [multiprocessing.get_context("fork").Process(target=writer, args=(letter,)) for letter in "abc"]
    for one in writers:
        one.start()
    whole = {OLD, *(f"{MARK}{letter * 100_000}" for letter in "abc")}
    begin.set()
    while any(one.is_alive() for one in writers):
        assert page.read_text() in whole
    for one in writers:
        one.join()
        assert one.exitcode == 0
    assert list(page.parent.iterdir()) == [page]


_KILLED = """
import sys
from pathlib import Path
from pgbackup.store import output
output.write_all = lambda descriptor, content: (print("writing", flush=True), sys.stdin.read())
output.replace(Path(sys.argv[1]), "# ours\\nnever", mark="# ours\\n", mode=0o644)
"""


@pytest.mark.fault(219, "a writer of the page or the metrics is killed with -9")
def test_what_a_killed_writer_left_goes_with_the_next_one(page: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(page)],
        env={**os.environ, "PYTHONPATH": str(root / "lib")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout and child.stdout.readline() == b"writing\n"
        write(page, f"{MARK}another one, meanwhile")
        assert len(list(page.parent.iterdir())) == 2, "a living writer's file is not swept"
        child.send_signal(signal.SIGKILL)
    assert page.read_text() == f"{MARK}another one, meanwhile"
    write(page)
    assert list(page.parent.iterdir()) == [page] and page.read_text() == NEW
