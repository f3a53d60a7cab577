"""setup-offsite.sh: what a place refuses is tried out and told, and what is here is copied at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pgbackup.commands.setup import frame, offsite
from pgbackup.commands.setup.options import Options
from pgbackup.errors import ConfigurationError, NoBackup, PermissionDenied, Unavailable
from pgbackup.host.scheduling import crontab, systemctl
from pgbackup.remotes import probe
from pgbackup.remotes.probe import Finding, Probe
from pgbackup.settings import config

from tests.support import copies, elsewhere
from tests.support.copies import ROOT, Copier
from tests.support.elsewhere import Elsewhere
from tests.support.s3_server import S3Server
from tests.support.wal_there import SIZE, Planted

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root sets up copies")


def test_a_credential_that_may_only_add_is_told_as_one(s3: S3Server, tmp_path: Path) -> None:
    """With the very policy that the set-up prints: it is enough for copies, and what is there cannot be deleted."""
    where = elsewhere.on_s3(s3, tmp_path, "add-only", s3.adder)
    findings = found(where, lock_days=1)
    assert {question for question, finding in findings.items() if not finding.holds} <= {"refuses to overwrite"}
    assert findings["refuses to delete"].answer == "yes" and findings["locks objects"].holds
    host = copies.copier(tmp_path, where)
    (backup,) = host.plant(0)
    assert host.run().status == 0
    assert host.decrypted(backup) == backup.read_bytes()


def found(where: Elsewhere, lock_days: int = 0) -> dict[str, Finding]:
    place = Probe(where.remote, where.config)
    return {finding.question: finding for finding in probe.of(place, "host-a", lock_days)}


def test_a_bucket_with_versions_and_locks_is_told_from_a_nas(place: Elsewhere) -> None:
    findings = found(place, lock_days=1)
    assert findings["can write, and read it back"].holds
    assert findings["its clock"].holds
    on_s3 = place.kind == "s3"
    # This host's credential may do both there: a lock, or versions, have to keep what is deleted.
    assert not findings["refuses to overwrite"].holds
    assert not findings["refuses to delete"].holds
    assert ("keeps what was deleted (versioning)" in findings) == on_s3
    assert findings["locks objects" if on_s3 else "can lock objects"].holds == on_s3
    for finding in findings.values():
        assert finding.holds or finding.advice


def test_a_lock_that_is_there_and_not_used_is_told(s3: S3Server, tmp_path: Path) -> None:
    finding = found(elsewhere.on_s3(s3, tmp_path, "not-locked"))["locks objects"]
    assert (finding.answer, finding.holds) == ("yes", False)
    assert "LOCK_DAYS" in finding.advice


def test_a_place_that_refuses_is_told_as_one(tmp_path: Path) -> None:
    """A directory whose files cannot be changed or removed, as far as root can be kept from that."""
    where = elsewhere.on_disk(tmp_path)

    class Refusing(Probe):
        def overwrite(self, name: str, path: Path) -> None:
            raise PermissionDenied(f"'{name}' may not be changed")

        def remove(self, name: str) -> None:
            raise PermissionDenied(f"'{name}' may not be deleted")

    findings = {one.question: one for one in probe.of(Refusing(where.remote, where.config), "host-a", 0)}
    assert findings["refuses to overwrite"].holds and findings["refuses to delete"].holds


def test_a_place_that_is_away_is_no_finding(tmp_path: Path) -> None:
    where = elsewhere.on_disk(tmp_path)
    where.break_off()
    with pytest.raises(Unavailable):
        found(where)


def test_the_policy_allows_no_deletion() -> None:
    text = "\n".join(probe.policy("s3:bucket/some/path"))
    assert '"arn:aws:s3:::bucket/some/path/*"' in text and "Delete" not in text
    assert '"s3:PutObject"' in text and '"Prefix": "some/path/"' in text


@pytest.fixture
def with_cron(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """A host without systemd, whose crontabs are this; and a directory for the set-ups' lock."""
    crontabs: dict[str, str] = {}
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setattr(frame, "_DIRECTORY", tmp_path / "run")
    monkeypatch.setattr(systemctl, "running", lambda: False)
    monkeypatch.setattr(crontab, "installed", lambda: True)
    monkeypatch.setattr(crontab, "read", lambda user: crontabs.get(user, ""))
    monkeypatch.setattr(crontab, "write", crontabs.__setitem__)
    return crontabs


def set_up(
    host: Copier, *, dry_run: bool = False, unencrypted: bool = False, changed: dict[str, str] | None = None
) -> int:
    known = config.load({**host.environment, **(changed or {})}, host.path / "absent", {})
    wanted = offsite.Wanted(known.place(host.elsewhere.kind), unencrypted)
    return offsite.set_up(known, ROOT, Options("root", None, dry_run), wanted).status


@ROOT_ONLY
def test_it_tries_out_copies_and_goes_on_by_cron(
    disk_host: Copier, with_cron: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (backup,) = disk_host.plant(0)
    _given(disk_host, monkeypatch)
    assert set_up(disk_host) == 0
    assert disk_host.decrypted(backup) == backup.read_bytes()
    (line,) = with_cron["root"].splitlines()
    assert line.startswith("*/5 * * * * ") and line.endswith("scripts/copy-backups.sh -q")
    assert set_up(disk_host) == 0
    assert with_cron["root"].splitlines() == [line], "once"
    assert offsite.take_down(ROOT, Options("root", None, dry_run=False)).status == 0
    assert with_cron["root"] == ""
    assert disk_host.decrypted(backup) == backup.read_bytes()


@ROOT_ONLY
def test_where_wal_is_archived_a_follower_is_kept_alive_by_cron(
    disk_host: Copier, with_cron: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_host.plant(0)
    planted = Planted(disk_host).begin()
    planted.base()
    planted.grow(SIZE)
    _given(disk_host, monkeypatch)
    assert set_up(disk_host) == 0
    assert planted.problems() == []
    lines = with_cron["root"].splitlines()
    assert [line.rpartition("copy-backups.sh ")[2] for line in lines] == ["-q", "-q --watchdog --follow"]
    assert set_up(disk_host) == 0
    assert with_cron["root"].splitlines() == lines, "once"
    assert offsite.take_down(ROOT, Options("root", None, dry_run=False)).status == 0
    assert with_cron["root"] == ""


@ROOT_ONLY
def test_what_cannot_be_copied_is_told_though_the_set_up_is_done(
    disk_host: Copier, with_cron: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _given(disk_host, monkeypatch)
    assert set_up(disk_host) == NoBackup.status
    assert "there is no proven backup of 'auth_db'" in capsys.readouterr().err
    assert "copy-backups.sh" in with_cron["root"]


@ROOT_ONLY
def test_a_dry_run_changes_nothing_here_or_there(disk_host: Copier, with_cron: dict[str, str]) -> None:
    disk_host.plant(0)
    assert set_up(disk_host, dry_run=True) == 0
    assert with_cron == {} and list(disk_host.elsewhere.directory.iterdir()) == []


@ROOT_ONLY
@pytest.mark.parametrize(
    ("changed", "unencrypted", "said"),
    [
        ({"ENCRYPTION_RECIPIENTS": "/nowhere/recipients"}, False, "there is nobody to encrypt the copies"),
        ({"DISK_ENCRYPTED": "no"}, False, "would read every row"),
        ({}, True, "--unencrypted needs DISK_ENCRYPTED=no"),
    ],
)
def test_it_is_encrypted_unless_that_is_said_in_full(
    disk_host: Copier, with_cron: dict[str, str], changed: dict[str, str], unencrypted: bool, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        set_up(disk_host, unencrypted=unencrypted, changed=changed)
    assert with_cron == {} and list(disk_host.elsewhere.directory.iterdir()) == []


def _given(host: Copier, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings for the first copy, too, which starts with a clean environment: as if they stood in `.env`."""
    from pgbackup import proc

    clean: Callable[..., dict[str, str]] = proc.environment
    monkeypatch.setattr(proc, "environment", lambda *given, **more: {**clean(*given, **more), **host.environment})
