"""docs/json.md and the documents of --json have the same fields of the same types, in both directions."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pgbackup import wal
from pgbackup.commands.sabotage import run as sabotage
from pgbackup.commands.setup import alerts, encryption
from pgbackup.commands.setup import frame as setup
from pgbackup.commands.setup import wal as setup_wal
from pgbackup.commands.setup.options import Options
from pgbackup.commands.status import show
from pgbackup.errors import SuiteError
from pgbackup.formats import sealed
from pgbackup.host import channels
from pgbackup.host.scheduling.installed import Change
from pgbackup.settings import config
from pgbackup.store import lock
from pgbackup.store.state import statefile
from pgbackup.store.wal import archive as walarchive
from pgbackup.store.wal.archive import Receiver, State
from pgbackup.store.wal.base_backups import BaseBackupRecord

from tests.support import copies, documents, elsewhere, examples, restores, wal_there
from tests.support.restores import Lab

ROOT = Path(__file__).resolve().parents[2]
PAGE = documents.PAGE.read_text(encoding="utf-8")
SECTIONS = documents.sections(PAGE)
FAILURE, BACKUP, DRY = "Failure before there is a result", "backup-postgres.sh", "backup-postgres.sh --dry-run"
DRILL = "drill-backups.sh"
VERIFY, RESTORE, LIST = "verify-backups.sh", "restore-postgres.sh", "restore-postgres.sh --list"
AWAY = "restore-postgres.sh --list --from"
AWAY_WINDOW = "restore-postgres.sh --window --from"
COPY, COPY_DRY, EXPIRE = "copy-backups.sh", "copy-backups.sh --dry-run", "copy-backups.sh --expire"
THERE = "verify-backups.sh --at"
STATUS, EVENTS = "backup-status.sh", "backup-status.sh --history"
HISTORY, WINDOW = "restore-postgres.sh --history", "restore-postgres.sh --window"
SET_UP, WAL, KEYS, RECEIVE = (
    "setup-backup-cron.sh, setup-backup-systemd.sh, setup-offsite.sh and setup-alerts.sh",
    "setup-wal-archiving.sh",
    "setup-encryption.sh",
    "receive-wal.sh",
)
TEST, SABOTAGE = "setup-alerts.sh --test", "test-alarms.sh"
Told = dict[str, list[dict[str, Any]]]


def fields(section: str, page: str = PAGE) -> documents.Fields:
    """What a document of that section may have: its own fields, and those of the ones that it is added to."""
    found = documents.sections(page)
    more = found[SET_UP] if section == WAL else {}
    return {**found[documents.EVERY], **more, **found[section]}


def said(script: str, *words: str, **environment: str) -> dict[str, Any]:
    """The document of one script without a server."""
    done = subprocess.run(
        [ROOT / "scripts" / script, *words, "--json"],
        env={"PATH": os.defpath, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["status"] == done.returncode, done.stderr
    return found


@pytest.fixture(scope="module")
def top() -> Iterator[Path]:
    """A directory that the server's account can reach."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def told(top: Path) -> Told:
    """Documents of each kind, by the page's headings."""
    with restores.embedded_server() as server:
        lab = restores.direct(server, top)
        found = of_the_server(lab)
    found |= without_a_server(top)
    found |= of_set_ups(top)
    found |= of_copies(top)
    return found


def of_the_server(lab: Lab) -> Told:
    def backup(*words: str, **environment: str) -> dict[str, Any]:
        return dict(json.loads(lab.place.run(*words, "--json", **environment).stdout))

    def restore(*words: str) -> dict[str, Any]:
        return dict(json.loads(lab.restore(*words, "--json").stdout))

    file, _, _ = lab.reset(20)
    lab.place.plant(lab.source, ages=[40.0, 39.0, 38.0, 37.0])
    away = {"AUTH_URL": "postgresql://127.0.0.1:1/auth_db", "WAIT_SECONDS": "0"}
    dry = [backup("--dry-run"), backup("--dry-run", **away)]
    backups = [backup(), backup(**away)]
    shutil.copy(file, lab.directory / "other_db_20240115_020000.sql.gz")
    (lab.directory / f"{lab.database}_20240101_000000.sql.gz").write_bytes(b"bad")
    lists = [restore("--list")]
    verified = [dict(json.loads(_script(lab, VERIFY, 65)))]
    drilled = [dict(json.loads(_script(lab, DRILL, 0))), dict(json.loads(_script(lab, DRILL, 66, AUTH_DIR="none")))]
    restores_made = [
        restore("--dry-run", file.name),
        restore("--yes", file.name),
        restore("--rollback", "--yes"),
        restore("--drop-old", "--yes"),
        restore("--in-place", "--yes", file.name),
        restore("--yes", "--into", "beside", file.name),
        restore("--yes", "no_such_file"),
    ]
    assert [one["status"] for one in [*dry, *backups, *restores_made]] == [0, 69, 0, 69, 0, 0, 0, 0, 0, 0, 66]
    found = {BACKUP: backups, DRY: dry, LIST: lists, VERIFY: verified, DRILL: drilled, RESTORE: restores_made}
    there = {**lab.place.environment, "DOCKER": "false"}
    stands = [dict(json.loads(_script(lab, STATUS, 66, **there)))]
    stands += [dict(json.loads(json.dumps(show.told(one()).document))) for one in examples.ALL]
    real = stands[0]["databases"][0]
    assert real["backups"] and real["attempts"] and real["exercises"] and real["verified"] and real["drilled"]
    events = said("backup-status.sh", "--history", **lab.place.environment)
    assert {one["action"] for one in events["events"]} == {
        "backup",
        "verify",
        "drill",
        "restore",
        "rollback",
        "drop-old",
    }
    assert {one["who"] for one in events["events"]} != {""} and all(one["started"] for one in events["events"])
    return {**found, HISTORY: [restore("--history")], STATUS: stands, EVENTS: [events]}


def _script(lab: Lab, script: str, status: int, **environment: str) -> str:
    words, variables = [str(ROOT / "scripts" / script), "--json"], {**lab.place.environment, **environment}
    done = subprocess.run(words, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout


def without_a_server(top: Path) -> Told:
    """A WAL archive, as far as it takes to look at it; and what each script says of a wrong option."""
    there = {"BACKUP_DIR": str(top / "archived"), "DATABASES": "payment", "PAYMENT_DIR": "payment"}
    there |= {"DOCKER": "/nonexistent"}
    (top / "archived").mkdir(mode=0o700)
    now = datetime.now(timezone.utc)
    with walarchive.opened(top / "archived", "payment", create=True) as places:
        walarchive.write_state(places, State("payment", 7, "sha256:1", 15, 16 << 20, keep_was_set=False, active=True))
        walarchive.write_receiver(places, Receiver(now, now, "0/1000110"))
        ended = now - timedelta(hours=1)
        record = BaseBackupRecord(
            7, 1, "0/1000028", "0/1000100", ended, "", "sha256:1", 15, {"base": "ab"}, 5, proven=True
        )
        (places.base.path / "20260131T020000Z").mkdir(mode=0o700)
        (places.base.path / "20260131T020000Z" / "base.json").write_text(json.dumps(statefile.written(record)))
        (places.wal.path / (wal.segment_name(wal.Segment(1, 1)) + ".gz")).touch()
        with lock.held(places.top, "receiver"):
            received = said("receive-wal.sh", "payment", "--watchdog", **there)
    scripts = sorted(path.name for path in (ROOT / "scripts").glob("*.sh"))
    return {
        AWAY: [away(top, there)],
        WINDOW: [said("restore-postgres.sh", "payment", "--window", **there)],
        "archives": [said("verify-backups.sh", **there)],
        RECEIVE: [received],
        FAILURE: [said(script, "--no-such-option") for script in scripts],
    }


def away(top: Path, there: dict[str, str]) -> dict[str, Any]:
    """The list of copies at a place, which is a directory here."""
    (top / "away/host/dumps/payment").mkdir(parents=True)
    (top / "away/host/dumps/payment/payment_db_20240115_020000.sql.gz.age").write_bytes(b"age")
    (top / "rclone.conf").touch(0o600)
    (top / "rclone.conf").write_text("[away]\ntype = local\n")
    there |= {"OFFSITE": "away", "AWAY_REMOTE": f"away:{top}/away", "OFFSITE_HOST": "host"}
    return said(
        "restore-postgres.sh", "payment", "--from", "away", "--list", RCLONE_CONFIG=f"{top}/rclone.conf", **there
    )


def of_copies(top: Path) -> Told:
    """To a directory that rclone takes for a place."""
    (top / "copied").mkdir(mode=0o700)
    host = copies.copier(top / "copied", elsewhere.on_disk(top / "copied"))
    host.plant(1, 0)
    planted = wal_there.Planted(host).begin()
    planted.base()
    planted.grow(wal_there.SIZE)
    planted.grow(500_000)
    dry = host.run("--dry-run", "--json").document
    host.plant(2, database="of another")
    other = {"DATABASES": "auth other", "OTHER_DIR": "nothing"}
    made, failed = host.run("--json", **other).document, host.run("--json", "--now", DISK_REMOTE="x:").document
    assert [one["status"] for one in (dry, made, failed)] == [0, 66, 78]
    (gone, *_) = (path for path in (top / "copied/disk").glob("*/dumps/**/*.age"))
    gone.unlink()
    there = host.run("--at", "disk", "--json", script="verify-backups.sh").document
    window = host.run("auth", "--window", "--from", "disk", "--json", script="restore-postgres.sh").document
    (record,) = (top / "copied/disk").rglob("*-full.json.age")
    record.unlink()
    broken = host.run("auth", "--window", "--from", "disk", "--json", script="restore-postgres.sh").document
    assert (window["status"], broken["status"]) == (0, 65)
    other_dry = host.run("--dry-run", "--json", **other).document
    (top / "media").mkdir(mode=0o700)
    credential = elsewhere.configured(top / "media", host.elsewhere.config.read_text())
    expiring = ["--expire", "--to", "disk", "--credential", str(credential), "--json"]
    expired = [host.run(*expiring, *more).document for more in (["--dry-run"], ["--yes"])]
    copying = {COPY: [made, failed], COPY_DRY: [dry, other_dry], EXPIRE: expired}
    return {**copying, THERE: [there], AWAY_WINDOW: [window, broken]}


def of_set_ups(top: Path) -> Told:
    """They change the host, so only their last step is taken here."""
    asked = Options(user=None, schedule=None, dry_run=True)
    change = Change(top / "file", None, "text\n")
    failure = SuiteError("cannot", "do")
    settings = config.load({"BACKUP_DIR": str(top / "archived")}, top / "absent", {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "_DIRECTORY", top / "archived")
        archiving = setup_wal.set_up(settings, [], top, asked, quiet=True)
        (one, two), there = (sealed.new_key()[1] for _ in range(2)), {"ENCRYPTION_RECIPIENTS": str(top / "recipients")}
        settings = config.load(there, top / "absent", {})
        encrypting = [encryption.add(settings, each, dry_run=False) for each in (one, two)]
        encrypting.append(encryption.retire(settings, one, dry_run=False))
        alarms = {"ALERTS_STATE": str(top / "archived"), "ALERTS_CONFIG": "/nonexistent", "ALERT_COMMAND": "false"}
        tested = alerts.test(config.load(alarms, top / "absent", {}))
    scripts = ("setup-backup-cron.sh", "setup-backup-systemd.sh", "setup-offsite.sh", "setup-alerts.sh")
    made = [setup.told(script, asked, [change], [], ["warning"], [failure]) for script in scripts]
    return {
        SET_UP: [one.document for one in made],
        WAL: [archiving.document],
        KEYS: [one.document for one in encrypting],
        TEST: [tested.document],
        SABOTAGE: [sabotage.told([sabotage.Seen("one", "", "no answer")], channels.parsed("json://x", "x")).document],
    }


@pytest.mark.parametrize("section", [name for name in SECTIONS if name != documents.EVERY])
def test_the_page_has_each_field_of_each_document_and_no_other(told: Told, section: str) -> None:
    found = told[section] + (told["archives"] if section == VERIFY else [])
    if section == WAL:  # of a set-up that has nothing to do; what it shares with the others has more in it
        found = [*found, {**told[SET_UP][0], "steps": ["would"]}]
    assert documents.differences(fields(section), found) == []


@pytest.mark.parametrize("section", [name for name in SECTIONS if name not in (documents.EVERY, FAILURE)])
def test_the_page_names_the_command_of_each_document(told: Told, section: str) -> None:
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    sentence = re.search(r"`command` is (.+?)\.\s", text, re.DOTALL)
    assert sentence
    assert {one["command"] for one in told[section]} == set(re.findall(r"`([^`]+)`", sentence[1]))


def test_the_page_names_the_command_of_each_failure(told: Told) -> None:
    text = PAGE.partition(f"\n## {FAILURE}\n")[2].partition("Where a document")[0]
    named = re.findall(r"`([^`]+)`", text)
    assert {one["command"] for one in told[FAILURE]} == set(named) - {"command"}


def test_a_failure_has_a_command_that_results_have(told: Told) -> None:
    results = {one["command"].split()[0] for section, found in told.items() if section != FAILURE for one in found}
    assert {one["command"] for one in told[FAILURE]} <= results


def test_the_page_names_every_phase_that_a_run_tells(told: Told) -> None:
    for section, field in ((BACKUP, "databases[].seconds"), (RESTORE, "seconds")):
        named = set(re.findall(r"`([^`]+)`", fields(section)[field].meaning))
        runs = [one for document in told[section] for one in document.get("databases", [document])]
        assert {phase for run in runs for phase in run["seconds"]} <= named


def test_a_line_of_the_history_is_a_restores_document_without_what_the_page_says(told: Told) -> None:
    known = {name: field for name, field in fields(RESTORE).items() if not name.startswith("compared")}
    known = {name: field for name, field in known.items() if name not in ("command", "version")}
    of_a_drill = {name: fields(DRILL)[f"drills[].{name}"] for name in ("verdict", "restore_seconds")}
    (document,) = told[HISTORY]
    drilled = [line for line in document["restores"] if line["action"] == "drill"]
    others = [line for line in document["restores"] if line["action"] != "drill"]
    assert (len(drilled), len(others)) == (1, 5)
    assert documents.differences(known, others) == []
    assert documents.differences(known | of_a_drill, drilled) == []


@pytest.mark.parametrize(
    ("section", "before", "after", "seen"),
    [
        (BACKUP, "| `databases[].client` | string |", "| `databases[].cl` | string |", "client: the page lacks it"),
        (BACKUP, "| `databases[].client` | string |", "| `databases[].cl` | string |", "cl: it is absent"),
        (DRY, "| `databases[].base` | string, opt", "| `databases[].pace` | string, opt", "pace: no document has it"),
        (BACKUP, "| `databases[].hint` | string or null |", "| `databases[].hint` | string |", "None is no string"),
        (DRY, "tables` | integer, optional |", "tables` | integer |", "absent, and the page does not say optional"),
        (VERIFY, "rows` | map of integer or null |", "rows` | map of string or null |", "is no map of string or null"),
        (RESTORE, "| `swapped` | boolean |", "| `swapped` | integer |", "swapped: True is no integer"),
        (WINDOW, "| `windows[].bases` | array of string |", "| `windows[].bases` | array of integer |", "is no array"),
    ],
)
def test_a_difference_is_seen(told: Told, section: str, before: str, after: str, seen: str) -> None:
    assert before in PAGE
    found = documents.differences(fields(section, PAGE.replace(before, after)), told[section])
    assert any(seen in one for one in found), found
