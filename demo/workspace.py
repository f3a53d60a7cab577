"""A temporary directory that does not outlive its process for long: removed at the end, or by the next run.

The process holds a lock on the directory as long as it lives. What lies there unlocked was left behind by a
run that was killed with SIGKILL, and is swept.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "pgbackup-demo-"
# A socket's path may have 107 bytes; ours end in '/pgbackup-demo-xxxxxxxx/payment/.s.PGSQL.5432'.
LONGEST_BASE = 107 - 48


class NoPlace(Exception):
    """There is no directory fit for temporary files, in one sentence that says what to do."""


@contextmanager
def workspace(shared: bool) -> Iterator[Path]:
    """Make the directory, yield it and remove it with everything in it.

    shared: another account must be able to reach what lies in it and to run programs from it.
    Raise NoPlace when no temporary directory allows that.
    """
    base = _base(shared)
    sweep(base)
    path, lock = _make(base)
    try:
        path.chmod(0o711 if shared else 0o700)
        yield path
    finally:
        _remove(path)
        os.close(lock)


def sweep(base: Path) -> list[Path]:
    """Remove what runs of this user that were killed left in `base`; return what was removed."""
    removed = []
    for path in sorted(base.glob(PREFIX + "*")):
        lock = _lock_of_leftover(path)
        if lock is not None:
            _remove(path)
            os.close(lock)
            removed.append(path)
    return removed


def _lock_of_leftover(path: Path) -> int | None:
    """The locked descriptor of a directory of ours that no process holds, else None."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if os.fstat(lock).st_uid == os.geteuid():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
    except BlockingIOError:
        pass
    os.close(lock)
    return None


def _make(base: Path) -> tuple[Path, int]:
    """Make a locked directory. It gets its name after its lock: under that name it is never seen unlocked."""
    nameless = Path(tempfile.mkdtemp(prefix=".new-" + PREFIX, dir=base))
    lock = os.open(nameless, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    path = base / (PREFIX + nameless.name.removeprefix(".new-" + PREFIX))
    nameless.rename(path)
    return path, lock


def _remove(path: Path) -> None:
    """Remove a tree, also one in which a program that is just dying still makes files."""
    for _ in range(5):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return


def _base(shared: bool) -> Path:
    places = (tempfile.gettempdir(), "/tmp", "/var/tmp")  # noqa: S108  mkdtemp makes them safe
    candidates = list(dict.fromkeys(Path(place).resolve() for place in places))
    for base in candidates:
        if os.access(base, os.W_OK) and len(os.fsencode(base)) <= LONGEST_BASE and (not shared or _open_to_all(base)):
            return base
    names = ", ".join(f"'{base}'" for base in candidates)
    wanted = (
        "every account can reach and run programs from" if shared else f"is writable and at most {LONGEST_BASE} long"
    )
    raise NoPlace(f"none of {names} is a directory that {wanted}; point TMPDIR to one")


def _open_to_all(base: Path) -> bool:
    """Whether any account may walk to `base` (no 0700 on the way) and run programs there (no noexec)."""
    reachable = all(place.stat().st_mode & stat.S_IXOTH for place in (base, *base.parents))
    return reachable and not os.statvfs(base).f_flag & os.ST_NOEXEC
