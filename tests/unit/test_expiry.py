"""Proof of backups that are to protect others: only what was read to its end counts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from pgbackup.store import catalog, expiry, folder

from tests.support import backup_files
from tests.support.backup_files import EARLY


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
        is_good = expiry.proof(place, known, told.__setitem__)
        paths["gone"].unlink()
        found = {kind: is_good(path.name) for kind, path in paths.items()}
    assert [kind for kind, good in found.items() if good] == ["good", "made by hand"]
    assert set(told) == {paths[kind].name for kind, good in found.items() if not good}
    assert all(told.values())


def test_what_this_run_has_read_itself_is_not_read_again(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = backup_files.place(tmp_path)
    with folder.opened(tmp_path, create=False) as place:
        known = catalog.listing(place, backup_files.DATABASE)
        path.write_bytes(b"")
        assert expiry.proof(place, known, lambda *_: None, proven=path.name)(path.name)
        assert not expiry.proof(place, known, lambda *_: None)(path.name)
