"""Proof of backups that are to protect others: only what was read to its end counts, and only while it is unchanged."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pgbackup.store import catalog, expiry, folder
from pgbackup.store.expiry import Proofs
from pgbackup.store.state import verified
from pgbackup.store.state.verified import Proven, Verified

from tests.support import backup_files
from tests.support.backup_files import EARLY

DAY = timedelta(days=1)


def test_only_what_is_read_and_good_counts_and_the_rest_is_told_with_its_reason(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    good = backup_files.contents(backup_files.dump())
    kinds = {
        "good": good,
        "a bit flipped": good[:100] + bytes([good[100] ^ 1]) + good[101:],
        "cut off": good[:-20],
        "empty": b"",
        "made by hand": backup_files.by_hand(backup_files.dump()),
        "gone": good,
    }
    paths = {
        kind: backup_files.place(
            tmp_path, EARLY + timedelta(hours=hour), data=data, name=f"auth_db_20240115_0{hour}0000.sql.gz"
        )
        for hour, (kind, data) in enumerate(kinds.items())
    }
    told: dict[str, str] = {}
    with folder.opened(tmp_path, create=False) as place:
        known = catalog.listing(place, backup_files.DATABASE)
        is_good = expiry.Proofs(place, known, {}, EARLY, told.__setitem__).is_good
        paths["gone"].unlink()
        found = {kind: is_good(path.name) for kind, path in paths.items()}
    assert [kind for kind, good in found.items() if good] == ["good", "made by hand"]
    assert set(told) == {paths[kind].name for kind, good in found.items() if not good}
    assert all(told.values())


def proofs(directory: Path, noted: dict[str, Proven], told: dict[str, str] | None = None) -> Proofs:
    """Look into the directory as a run with REPROVE_DAYS=7 does. The descriptor stays open until the tests end."""
    place = folder.Folder(directory, os.open(directory, os.O_RDONLY | os.O_DIRECTORY))
    known = catalog.listing(place, backup_files.DATABASE)
    since = datetime.now(timezone.utc) - 7 * DAY
    return Proofs(place, known, noted, since, ({} if told is None else told).__setitem__)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return backup_files.place(tmp_path)


def proven(path: Path) -> dict[str, Proven]:
    first = proofs(path.parent, {})
    assert first.is_good(path.name) and set(first.read) == {path.name}
    return first.read


def test_what_was_proven_and_has_not_changed_is_not_read_again(path: Path) -> None:
    second = proofs(path.parent, proven(path))
    assert second.is_good(path.name) and not second.read


def damaged(path: Path) -> bytes:
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    return bytes(data)


def overwritten(path: Path) -> None:
    """In place, the time of modification forged."""
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.write(damaged(path))
    os.utime(path, ns=times)


def replaced(path: Path) -> None:
    """As rsync and cp do: another file of the same name, size and time."""
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    other = path.with_name("other")
    other.write_bytes(damaged(path))
    os.utime(other, ns=times)
    other.rename(path)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("change", [overwritten, replaced, cut])
@pytest.mark.fault(260, "a proven backup is overwritten, replaced or cut, its time of modification forged")
def test_a_proven_file_that_was_changed_is_read_again(path: Path, change: Callable[[Path], None]) -> None:
    known, told = proven(path), dict[str, str]()
    change(path)
    second = proofs(path.parent, known, told)
    assert not second.is_good(path.name)
    assert set(told) == {path.name} and not second.read


@pytest.mark.fault(260, "a proven backup is brought back by rsync or cp")
def test_a_good_copy_in_the_place_of_a_proven_file_is_read_and_proven_anew(path: Path) -> None:
    known = proven(path)
    data = path.read_bytes()
    path.unlink()
    path.touch(0o600)
    path.write_bytes(data)
    second = proofs(path.parent, known)
    assert second.is_good(path.name)
    assert second.read[path.name] != known[path.name]


def test_where_inodes_are_not_kept_a_file_is_read_before_it_counts_and_else_when_it_is_due(path: Path) -> None:
    known = {name: replace(proof, inode=proof.inode + 1) for name, proof in proven(path).items()}
    now = datetime.now(timezone.utc)
    second = proofs(path.parent, known)
    second.read_anew([path.name], now, 7, 36500)
    assert not second.read
    later = proofs(path.parent, {name: replace(proof, at=now - 6.6 * DAY) for name, proof in known.items()})
    later.read_anew([path.name], now, 7, 36500)
    assert set(later.read) == {path.name}
    assert second.is_good(path.name) and set(second.read) == {path.name}


@pytest.mark.fault(261, "bits rot beneath a proven backup, or a forged state calls a bad one proven")
def test_what_nobody_can_see_to_have_changed_is_found_when_its_proof_is_too_old(path: Path) -> None:
    """The proof says just what the damaged file looks like: so do bits that rot, and so does a forged state."""
    path.write_bytes(damaged(path))
    now = datetime.now(timezone.utc)
    with folder.opened(path.parent, create=False) as place:
        sha256 = catalog.listing(place, backup_files.DATABASE)[0].manifest
    assert sha256 is not None
    for age, counts in ((6.9, True), (7.0, False), (7.1, False), (-0.1, False), (400, False)):
        forged = verified.proven(now - age * DAY, sha256.sha256, path.stat())
        state = Verified(proven={path.name: str(forged)})
        assert proofs(path.parent, state.believable(now)).is_good(path.name) is counts, age
    told: dict[str, str] = {}
    anew = proofs(
        path.parent,
        Verified(proven={path.name: str(verified.proven(now - 6.6 * DAY, sha256.sha256, path.stat()))}).believable(now),
        told,
    )
    anew.read_anew([path.name], now, 7, 36500)
    assert set(told) == {path.name} and not anew.is_good(path.name)


def test_what_is_read_anew_is_damaged_in_any_part_and_that_is_found(path: Path) -> None:
    """Its bytes are read, whatever is noted: of the dump, and of the manifest."""
    good, now = path.read_bytes(), datetime.now(timezone.utc)
    for position in (20, len(good) // 2, len(good) - 5):
        known = {name: replace(proof, at=now - 6.6 * DAY) for name, proof in proven(path).items()}
        with path.open("r+b") as file:
            file.seek(position)
            file.write(bytes([good[position] ^ 1]))
        known = {name: replace(proof, changed=path.stat().st_ctime_ns) for name, proof in known.items()}
        told: dict[str, str] = {}
        anew = proofs(path.parent, known, told)
        anew.read_anew([path.name], now, 7, 36500)
        assert set(told) == {path.name} and not anew.is_good(path.name)
        path.write_bytes(good)


@pytest.mark.fault(261, "the clock is set back after backups were proven")
def test_no_proof_counts_where_one_is_of_the_future() -> None:
    now = datetime.now(timezone.utc)
    texts = {str(age): str(Proven(now - age * DAY, "a", 1, 2, 3)) for age in (1, 2)}
    assert len(Verified(proven=texts).believable(now)) == 2
    assert not Verified(proven=texts | {"-1": str(Proven(now + DAY, "a", 1, 2, 3))}).believable(now)


def test_what_was_found_to_be_bad_is_known_until_it_is_read_as_good() -> None:
    at, one = datetime.now(timezone.utc), datetime(2024, 1, 1, tzinfo=timezone.utc)
    good = Proven(at, "a", 1, 2, 3)
    night = verified.after_night(Verified(), {"a", "b"}, {"a": good}, {"b": "it is cut off"}, (), one)
    assert set(night.proven) == {"a"} and night.bad == {"b": f"{one.isoformat()} it is cut off"}
    assert verified.after_night(night, {"a", "b"}, {}, {"b": "still"}, {"a"}, at).bad == {
        "b": f"{one.isoformat()} still"
    }
    assert verified.after_night(night, {"a", "b"}, {}, {"a": "rot"}, {"a"}, one).proven == {}
    assert verified.after_night(night, {"a", "b"}, {"b": good}, {}, {"a"}, one).bad == {}
    assert verified.after_night(night, {"a"}, {}, {}, {"a"}, one) == verified.after_night(
        night, {"a"}, {}, {}, {"a"}, one
    )
    assert verified.after_night(night, {"b"}, {}, {}, {"a"}, one).proven == {}, "it is gone"
    by_hand = verified.after(night, at, 1, {"a": "rot"}, {"b": good})
    assert set(by_hand.proven) == {"b"} and set(by_hand.bad) == {"a"} and by_hand.at == at


@pytest.mark.fault(263, "backups and verifications note what is proven at once")
def test_of_two_who_note_at_once_both_are_noted(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    count, at = 30, datetime.now(timezone.utc)

    def note(letter: str) -> None:
        with folder.opened(tmp_path, create=False, writing=True) as place:
            for number in range(count):
                with verified.held(place, "auth_db"):
                    known = verified.read(place, "auth_db") or Verified()
                    found = {f"{letter}{number}": Proven(at, "a", 1, 2, 3)}
                    verified.write(place, "auth_db", verified.after(known, at, 1, {}, found))

    writers = [multiprocessing.get_context("fork").Process(target=note, args=(letter,)) for letter in "ab"]
    for one in writers:
        one.start()
    for one in writers:
        one.join()
        assert one.exitcode == 0
    with folder.opened(tmp_path, create=False) as place:
        known = verified.read(place, "auth_db")
    assert known and len(known.proven) == 2 * count
