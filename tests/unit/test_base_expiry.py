"""What of a WAL archive cannot be read protects all that it may need; it never condemns it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from pgbackup import wal
from pgbackup.commands import archiving, base_backup
from pgbackup.commands.job import Job
from pgbackup.commands.verify import wal as verify_wal
from pgbackup.settings import config
from pgbackup.store import folder
from pgbackup.store.state import statefile
from pgbackup.store.wal import archive as walarchive
from pgbackup.store.wal import recoverable
from pgbackup.store.wal.archive import Places, State
from pgbackup.store.wal.base_backups import BaseBackupRecord
from pgbackup.wal import Segment

from tests.support.archives import SILENT

NOW = datetime(2026, 1, 31, 2, tzinfo=timezone.utc)
SIZE = 16 << 20
DAMAGES = ["a newer version", "a field more", "empty", "no JSON", "gone", "a naive time", "a file", "not to be opened"]


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    settings = config.load({"BACKUP_DIR": str(tmp_path)}, Path("/nonexistent/.env"), {})
    with folder.opened(tmp_path, create=True, top=True) as top:
        yield archiving.job_at(settings, settings.targets[0], top, SILENT)


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    """Thirty days, with a base backup and two segments each."""
    with walarchive.opened(tmp_path, "payment", create=True) as opened:
        state = State("payment", 7, "sha256:1", 15, SIZE, keep_was_set=False, active=True)
        walarchive.write_state(opened, state)
        for day in range(1, 31):
            ended = NOW - timedelta(days=31 - day)
            start, stop = (wal.format_lsn(2 * day * SIZE + at) for at in (40, 300))
            record = BaseBackupRecord(7, 1, start, stop, ended, "", "sha256:1", 15, {"base": "ab"}, 5, proven=True)
            path = opened.base.path / f"{ended:%Y%m%dT%H%M%SZ}"
            path.mkdir(mode=0o700)
            (path / "base.json").write_text(json.dumps(statefile.written(record)))
            for number in (2 * day, 2 * day + 1):
                (opened.wal.path / (wal.segment_name(Segment(1, number), SIZE) + ".gz")).touch()
        yield opened


def left(places: Places) -> tuple[int, int]:
    return len(list(places.base.path.iterdir())), len(list(places.wal.path.iterdir()))


def test_what_no_moment_of_the_last_days_needs_expires(job: Job, places: Places) -> None:
    base_backup._expire(job, recoverable.look(places), NOW)
    assert left(places) == (7, 14)


@pytest.mark.fault(87, "a base backup that cannot be read, where old ones expire")
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("day", [0, 15, 29])
def test_nothing_expires_where_anything_cannot_be_read(job: Job, places: Places, damage: str, day: int) -> None:
    path = sorted(places.base.path.iterdir())[day] / "base.json"
    record = json.loads(path.read_text())
    changed = {
        "a newer version": {**record, "version": 9},
        "a field more": {**record, "compressed_by": "zstd"},
        "a naive time": {**record, "ended": "2026-01-15T02:00:00"},
    }
    path.write_text(json.dumps(changed[damage]) if damage in changed else "" if damage == "empty" else "{")
    if damage == "gone":
        path.unlink()
    if damage == "not to be opened":
        path.write_text(json.dumps(record))
        path.parent.chmod(0o777)  # as root may open everything else
    if damage == "a file":
        path.unlink()
        path.parent.rmdir()
        path.parent.write_text("x")
    archive = recoverable.look(places)
    assert len(archive.wrong) == 1
    base_backup._expire(job, archive, NOW)
    assert left(places) == (30, 60)
    assert "nothing expires" in (job.settings.backup_dir / "backup.log").read_text()
    found = verify_wal.check(job, "payment", NOW)
    assert found is not None
    assert found.status == 65
    assert any(path.parent.name in line for line in found.damage)


@pytest.mark.fault(88, "verify of an archive whose own state cannot be read")
def test_an_archive_whose_state_cannot_be_read_is_one_row_of_what_verify_finds(job: Job, places: Places) -> None:
    (places.top.path / "archive.json").write_text("{")
    found = verify_wal.check(job, "payment", NOW)
    assert found is not None
    assert found.status == 65
    assert "archive.json" in found.damage[0]
