"""backup-status.sh over a directory of backups as the commands leave it, and as trouble leaves it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pgbackup.commands import noting
from pgbackup.commands.job import Outcome
from pgbackup.commands.loading.record import Record
from pgbackup.commands.status import gathering, past, show
from pgbackup.errors import PermissionDenied
from pgbackup.formats import names
from pgbackup.report import history
from pgbackup.report.promises import evaluate, lines
from pgbackup.report.promises.limits import Limits
from pgbackup.report.promises.promise import Promise
from pgbackup.report.promises.status import Status
from pgbackup.settings.config import Settings
from pgbackup.store import folder
from pgbackup.store.state import ledger, verified
from pgbackup.store.state.ledger import Ledger, Made, Run

from tests.support import backup_files, examples, settings
from tests.support.effort import chosen, only_in_full

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = 'a"; rm -rf /\n\x1b[31m<script>'


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """BACKUP_DIR, with the directory of one database."""
    (tmp_path / "backups").mkdir(mode=0o700)
    (tmp_path / "backups" / "postgres-a").mkdir(mode=0o700)
    return tmp_path / "backups"


def loaded(top: Path, **more: str) -> Settings:
    return settings.load(top.parent, "", {"BACKUP_DIR": str(top), "DATABASES": "auth", **more})


def look(top: Path, **more: str) -> Status:
    return show.look(loaded(top, **more), ROOT)


def of(status: Status, kind: str) -> Promise:
    return next(promise for promise in status.promises if promise.kind == kind)


def put(top: Path, when: datetime) -> Path:
    """A backup as a run publishes it."""
    path = top / "postgres-a" / names.dated("auth_db", when)
    path.write_bytes(backup_files.contents(backup_files.dump(), when))
    path.chmod(0o600)
    return path


def ago(**span: float) -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0) - timedelta(**span)


def note(top: Path, path: Path | None, status: int = 0, error: str = "") -> str:
    """Note the end of a run, as backup-postgres.sh does."""
    outcome = Outcome("auth", "auth_db", file=path.name if path else "", status=status, rows=3, sql_bytes=700)
    with folder.opened(top / "postgres-a", create=False) as place:
        return noting.run_of(place, outcome, error)


def state(top: Path, what: str) -> Path:
    return top / "postgres-a" / f".auth_db.{what}.json"


def test_a_backup_that_was_noted_is_kept_and_one_that_is_removed_by_hand_is_not(top: Path) -> None:
    path = put(top, ago(hours=2))
    note(top, path)
    before = look(top)
    assert of(before, "backup").state == "kept"
    (made,) = before.facts.databases[0].backups
    assert (made.file, made.rows, made.sql_bytes) == (path.name, 3, 700)
    path.unlink()
    assert of(look(top), "backup").state == "broken"


def test_backups_of_a_time_before_the_ledger_are_seen_and_taken_into_it_by_the_next_run(top: Path) -> None:
    old = [put(top, ago(days=days)) for days in (3, 2, 1)]
    assert [each.file for each in look(top).facts.databases[0].backups] == [path.name for path in reversed(old)]
    new = put(top, ago(minutes=1))
    note(top, new)
    held = json.loads(state(top, "ledger").read_text())
    assert [each["file"] for each in held["backups"]] == [path.name for path in [new, *reversed(old)]]
    assert held["begun"].startswith(f"{ago(days=3):%Y-%m-%d}")


def test_a_run_that_failed_breaks_the_promise_since_the_first_failure_until_one_succeeds(top: Path) -> None:
    note(top, put(top, ago(hours=3)))
    note(top, None, 69, f"container is {HOSTILE}")
    first = of(look(top), "backup")
    assert first.state == "broken" and "69" in first.reason
    note(top, None, 74, "disk full")
    second = of(look(top), "backup")
    assert second.since == first.since and "74" in second.reason
    note(top, None, 143, "stopped")
    assert of(look(top), "backup").state == "broken", "being stopped mends nothing"
    note(top, put(top, ago(minutes=1)))
    assert of(look(top), "backup").state == "kept"


def test_a_run_that_was_stopped_by_a_signal_or_met_another_one_breaks_nothing(top: Path) -> None:
    note(top, put(top, ago(hours=3)))
    for status in (75, 130, 143):
        note(top, None, status, "stopped")
    assert of(look(top), "backup").state == "kept"


def test_no_row_that_a_server_has_quoted_gets_into_what_is_noted(top: Path) -> None:
    note(top, put(top, ago(hours=3)))
    said = 'psql: ERROR:  duplicate key value violates unique constraint "k" DETAIL:  Key (mail)=(sEcReT) exists.'
    note(top, None, 65, said)
    with folder.opened(top / "postgres-a", create=False) as place:
        noting.exercise(place, Record("auth", "auth_db", "drill", outcome=said), 1.0)
    state(top, "drills").write_text(json.dumps({"failed": {"f" * 64: f"{ledger.text(ago(hours=1))} {said}"}}))
    status = look(top)
    assert "sEcReT" not in state(top, "ledger").read_text() and "sEcReT" not in repr(status)
    assert "unique constraint" in of(status, "backup").reason


def test_what_a_verification_finds_bad_stays_so_until_the_file_is_gone(top: Path) -> None:
    good, bad = put(top, ago(hours=2)), put(top, ago(hours=5))
    note(top, bad)
    note(top, good)
    with folder.opened(top / "postgres-a", create=False) as place:
        known = verified.after(None, ledger.text(ago(hours=1)), 1, {bad.name: "its SHA-256 differs"})
        verified.write(place, "auth_db", known)
        again = verified.after(known, ledger.text(ago(minutes=1)), 1, {bad.name: "its SHA-256 differs"})
        verified.write(place, "auth_db", again)
    broken = of(look(top), "verify")
    assert broken.state == "broken" and bad.name in broken.reason
    assert broken.since == ago(hours=1) or abs((broken.since or ago()) - ago(hours=1)) < timedelta(seconds=5)
    bad.unlink()
    assert of(look(top), "verify").state == "kept"


# --- what cannot be read


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Something else under the file's name."""

    def done(path: Path) -> None:
        path.unlink()
        make(path)

    return done


def newer(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 9}))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "no JSON": lambda path: path.write_bytes(b"\x00\xff" * 99),
    "a list": lambda path: path.write_text("[]"),
    "a deep list": lambda path: path.write_text("[" * 100_000),
    "wrong types": lambda path: path.write_text('{"version": 1, "backups": [3], "passed": 1, "at": 5, "good": "x"}'),
    "no instants": lambda path: path.write_text('{"begun": "yesterday", "schema": "", "at": "now", "good": 1}'),
    "newer": newer,
    "a directory": instead(Path.mkdir),
    "a link": instead(lambda path: path.symlink_to("/etc/hostname")),
    "a FIFO": instead(os.mkfifo),
}


@pytest.mark.fault(210, "what a command has noted is cut, damaged, of a newer version, or not to be read")
@pytest.mark.parametrize("what", ["ledger", "drills", "verified"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_state_that_cannot_be_read_is_a_broken_promise_and_the_backups_still_count(
    top: Path, what: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    note(top, put(top, ago(hours=2)))
    with folder.opened(top / "postgres-a", create=False) as place:
        verified.write(place, "auth_db", verified.after(None, ledger.text(ago(hours=1)), 1, {}))
    state(top, "drills").write_text(json.dumps({"version": 1, "passed": {"a" * 64: ledger.text(ago(hours=1))}}))
    assert of(look(top), "state").state == "kept"
    DAMAGES[damage](state(top, what))
    if (what, damage) == ("drills", "no instants"):
        state(top, what).write_text('{"moment": "yesterday"}')
    status = look(top)
    assert of(status, "state").state == "broken"
    assert str(state(top, what)) in of(status, "state").reason
    assert of(status, "state").remedy
    assert of(status, "backup").state == "kept"
    if what == "verified":
        assert status.facts.databases[0].verified is None
    assert show.told(status).status == 66


@pytest.mark.fault(210, "what a command has noted is cut, damaged, of a newer version, or not to be read")
@pytest.mark.parametrize("damage", ["cut", "newer"])
def test_a_ledger_that_is_damaged_is_begun_anew_and_one_of_a_newer_version_is_left(top: Path, damage: str) -> None:
    first = put(top, ago(hours=3))
    note(top, first)
    DAMAGES[damage](state(top, "ledger"))
    before = state(top, "ledger").read_bytes()
    second = put(top, ago(minutes=1))
    if damage == "newer":
        with pytest.raises(Exception, match="newer version"):
            note(top, second)
        assert state(top, "ledger").read_bytes() == before
    else:
        assert "begun anew" in note(top, second)
        held = json.loads(state(top, "ledger").read_text())
        assert [each["file"] for each in held["backups"]] == [second.name, first.name]
        assert of(look(top), "state").state == "kept"


@pytest.mark.fault(210, "a file that a ledger tells of is gone, cut, or new to it")
def test_what_lies_there_counts_and_not_what_the_ledger_says(top: Path) -> None:
    old, cut, gone = put(top, ago(hours=9)), put(top, ago(hours=5)), put(top, ago(hours=4))
    for path in (old, cut, gone):
        note(top, path)
    unknown = put(top, ago(hours=3))
    (top / "postgres-a" / "auth_db_20260101_000000.sql.gz").write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[:-5])
    gone.unlink()
    found = {each.file: each.problem for each in look(top).facts.databases[0].backups}
    assert found[old.name] == found[unknown.name] == ""
    assert "not as long" in found[cut.name]
    assert gone.name not in found


def test_a_mount_that_is_missing_and_a_directory_that_is_not_there_are_broken_promises(top: Path) -> None:
    assert of(look(top, BACKUP_MOUNT=str(top)), "state").state == "broken"
    status = look(top / "absent")
    assert of(status, "state").state == "broken"
    assert of(status, "backup").state == "broken"


# --- who asks


def as_stranger(top: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The script as an account that owns nothing here, with the library loaded before it gives up its rights."""
    program = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pgbackup.cli import main, pinged, status\n"
        "from pgbackup.commands import lost_settings\n"
        "from pgbackup.commands.status import past, probing, show\n"
        "from pgbackup.settings import config\n"
        "import fnmatch, getpass, gettext, locale, sh, shutil\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "sys.exit(main.main(['status', *sys.argv[2:]]))"
    )
    environment = {"PATH": os.environ["PATH"], "BACKUP_DIR": str(top), "DATABASES": "auth", "DOCKER": "false"}
    words = (sys.executable, "-c", program, str(ROOT / "lib"), *words)
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.fault(213, "the status is asked by an account that may read nothing")
@pytest.mark.parametrize("words", [(), ("--json",), ("--history",), ("--probe",), ("--scheduled",)], ids=" ".join)
@pytest.mark.parametrize("closed", ["all", "the database's"])
def test_an_account_that_may_not_look_is_told_so_and_changes_nothing(
    top: Path, words: tuple[str, ...], closed: str
) -> None:
    note(top, put(top, ago(hours=2)))
    (top / "restore-history.jsonl").touch(0o600)
    for path in (top, *top.parents):
        if path.stat().st_uid == 0 and path != Path("/tmp"):
            path.chmod(path.stat().st_mode | 0o055)
    top.chmod(0o700 if closed == "all" else 0o755)
    before = sorted(str(path) for path in top.rglob("*"))
    done = as_stranger(top, *words)
    assert done.returncode == 77, done
    assert "Hint:" in done.stderr and "sudo" in done.stderr and "Traceback" not in done.stderr
    assert before == sorted(str(path) for path in top.rglob("*"))


def test_permission_is_the_one_thing_that_gathering_raises(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_words: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pgbackup.commands.status.databases.facts", denied)
    with pytest.raises(PermissionDenied):
        look(top)


# --- the history


@pytest.mark.fault(211, "a history of 100 MB, with lines that are no records")
def test_a_history_of_many_years_is_read_from_its_end(top: Path, tries: Callable[[int, int], int]) -> None:
    note(top, put(top, ago(hours=2)))
    record = {"target": "auth", "action": "backup", "started": "2026-01-01T00:00:00Z", "seconds": {"dump": 1.0}}
    text = "".join(json.dumps({**record, "rows": number}) + "\n" for number in range(1000)).encode()
    with (top / history.NAME).open("wb") as file:
        for _ in range(tries(300, 1100)):
            file.write(text)
        file.write(b"x" * 3_000_000 + b"\n[1]\n{\n\xff\n" + json.dumps({**record, "rows": -1}).encode() + b'\n{"cut')
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    events = past.run(loaded(top), ()).document["events"]
    drills = history_drills(top)
    assert of(look(top), "backup").state == "kept"
    assert time.process_time() and time.monotonic() - begun < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000, "kilobytes"
    assert len(events) == 100 and drills == []


def history_drills(top: Path) -> list[dict[str, Any]]:
    with folder.opened(top, create=False, top=True) as place:
        return history.newest(place, lambda record: record.get("action") == "drill", 50)


def test_the_history_is_read_backwards_whatever_its_lines_and_pieces(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    lengths = [0, 1, 10, 262_100, 262_130, 262_144, 300_000, 7, 524_288, 3]
    text = "\n".join(json.dumps({"n": number, "pad": "x" * size}) for number, size in enumerate(lengths)) + "\n"
    (tmp_path / history.NAME).write_text(text)
    with folder.opened(tmp_path, create=False, top=True) as place:
        assert [each["n"] for each in history.newest(place, bool, 99)] == list(reversed(range(len(lengths))))
        assert [each["n"] for each in history.newest(place, lambda record: record["n"] < 3, 2)] == [2, 1]
    (tmp_path / history.NAME).write_text("")
    with folder.opened(tmp_path, create=False, top=True) as place:
        assert history.newest(place, bool, 9) == []


# --- several at once


@pytest.mark.fault(214, "several ask and note at once, while backups end")
def test_each_sees_a_whole_state_and_no_run_is_lost(top: Path, tries: Callable[[int, int], int]) -> None:
    note(top, put(top, ago(hours=2)))
    count = tries(20, 200)
    with ThreadPoolExecutor(6) as pool:
        noted = [pool.submit(note, top, None, 69, f"failure {number}") for number in range(count)]
        exercised = [pool.submit(exercise, top, number) for number in range(10)]
        seen = [pool.submit(look, top) for _ in range(count)]
        scheduled = [pool.submit(gathering.note_awake, loaded(top), ago()) for _ in range(10)]
        assert not any(of(each.result(), "state").state == "broken" for each in seen)
        assert not any(each.result() for each in (*noted, *exercised))
        for each in scheduled:
            each.result()
    held = json.loads(state(top, "ledger").read_text())
    assert len(held["runs"]) == min(100, count + 1) and len(held["exercises"]) == 10
    assert look(top).facts.awake_since


def exercise(top: Path, number: int) -> str:
    with folder.opened(top / "postgres-a", create=False) as place:
        return noting.exercise(place, Record("auth", "auth_db", "drill", file=f"{number}"), 1.5)


# --- Docker


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Path]:
    """A Docker client that never answers, and says when it was started."""
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\ndate +%s.%N >>'{tmp_path}/calls'\nexec sleep 1000\n")
    program.chmod(0o755)
    yield program


@pytest.mark.fault(215, "Docker does not answer the look for databases")
def test_a_docker_that_hangs_holds_nothing_for_more_than_five_seconds(
    top: Path, hanging: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pgbackup.commands.status import probing
    from pgbackup.commands.status.publishing import Files

    note(top, put(top, ago(hours=2)))
    begun = time.monotonic()
    made = probing.run(loaded(top, DOCKER=str(hanging)), ROOT, Files(), scheduled=False, quiet=True)
    calls = len((hanging.parent / "calls").read_text().split())
    assert time.monotonic() - begun < 6 * calls + 5
    assert made.status == 66 and of(look(top), "coverage").state == "broken"
    assert "warning" in capsys.readouterr().err
    begun = time.monotonic()
    look(top, DOCKER=str(hanging))
    assert time.monotonic() - begun < 3 and len((hanging.parent / "calls").read_text().split()) == calls


def test_a_schedule_says_nothing_every_few_minutes_while_docker_is_away(
    top: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pgbackup.commands.status import probing
    from pgbackup.commands.status.publishing import Files

    note(top, put(top, ago(hours=2)))
    away = loaded(top, DOCKER="false", ALERTS_CONFIG=str(top / "nobody"))
    assert probing.run(away, ROOT, Files(), scheduled=True, quiet=True).status == 66
    assert capsys.readouterr().err == ""
    assert of(look(top, DOCKER="false"), "coverage").state == "broken"
    probing.run(away, ROOT, Files(), scheduled=False, quiet=True)
    assert "warning: " in capsys.readouterr().err


# --- speed


def many(top: Path, databases: int, each: int) -> Settings:
    """A place with so many databases and backups, as their runs left it; the files are empty but for their length."""
    called = [f"d{number}" for number in range(databases)]
    env = {"BACKUP_DIR": str(top), "DATABASES": " ".join(called)}
    for name in called:
        place = top / f"postgres-{name}"
        place.mkdir(mode=0o700)
        made = []
        for number in range(each):
            taken = ago(hours=number + 1)
            file = names.dated(f"{name}_db", taken)
            with (place / file).open("wb") as data:
                data.truncate(1000)
            made.append(Made(file, ledger.text(taken), 1000, 5000, 10, 1.5, f"{number:064x}"))
        runs = [Run(one.taken, 0, 1.5, one.file) for one in made[:100]]
        held = Ledger(made[-1].taken, made[: ledger.MOST_BACKUPS], runs)
        with folder.opened(place, create=False) as opened:
            ledger.write(opened, f"{name}_db", held)
    return settings.load(top.parent, "", env)


def test_ten_thousand_backups_of_thirty_databases_are_judged_within_a_second(top: Path) -> None:
    known = many(top, 30, chosen(334, 334))
    begun = time.process_time()
    status = show.look(known, ROOT)
    shown = show.told(status)
    spent = time.process_time() - begun
    assert sum(each.files for each in status.facts.databases) == 30 * 334
    assert [promise.state for promise in status.promises if promise.kind == "backup"] == ["kept"] * 30
    assert len(shown.lines) < 200
    assert spent < 1.0, f"{spent:.2f} s of the processor"


@only_in_full
def test_ten_thousand_backups_of_one_database_are_judged_within_a_second(top: Path) -> None:
    known = many(top, 1, 10_000)
    begun = time.process_time()
    status = show.look(known, ROOT)
    assert time.process_time() - begun < 1.0
    assert status.facts.databases[0].files == 10_000


# --- the screen


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
@pytest.mark.parametrize("example", examples.ALL, ids=lambda each: each.__name__)
def test_the_screen_fits_and_obeys_no_name(example: Callable[[], Status], columns: int) -> None:
    status = example()
    shown = lines.lines(status, columns)
    text = "\n".join(shown)
    assert "\x1b" not in text and "\r" not in text
    assert shown[0].startswith("BROKEN" if status.broken else "OK")
    told = [line for line in shown[1:] if len(line) > columns and not line.startswith("  database")]
    assert all(max(map(len, line.split())) > columns - 26 or "  " in line.strip() for line in told), told
    for promise in status.broken:
        assert promise.remedy, promise
        assert lines.plain(promise.remedy.split()[0]) in text


def test_wal_elsewhere_brings_a_later_moment_back_and_is_missed_when_it_stands_still() -> None:
    good = examples.facts()
    (place,) = good.copies
    until = examples.ago(seconds=20)
    facts = replace(good, copies=(replace(place, wal={"postgres-b": until}),))
    status = evaluate.status(facts, examples.NOW, Limits())
    auth, payment = status.rescues
    assert (payment.moment, payment.by_wal, auth.by_wal) == (until, True, False)
    assert auth.moment == place.newest["auth"] and not status.broken
    facts = replace(good, copies=(replace(place, wal={"postgres-b": examples.ago(hours=2)}),))
    (broken,) = evaluate.status(facts, examples.NOW, Limits()).broken
    assert broken.kind == "copy" and "the WAL of 'postgres-b' at 's3' is 2.0 h old" in broken.reason
    assert evaluate.status(facts, examples.NOW, Limits()).rescues[1].moment == examples.ago(hours=2)


def test_wal_elsewhere_of_an_archive_that_is_off_is_not_missed(top: Path) -> None:
    own = top / "offsite" / "nas"
    own.mkdir(parents=True)
    for path in (own.parent, own):
        path.chmod(0o700)
    (own / "state.json").write_text(
        json.dumps({"succeeded": "2026-03-01T00:00:00Z", "newest": {"auth": "2026-03-01T00:00:00Z"}})
    )
    for lane in ("wal", "base"):
        known = {"until": {"postgres-a": "2026-03-01T00:00:00Z"}, "newest": {"postgres-a": "x"}}
        (own / f"{lane}.json").write_text(json.dumps(known))
    (copies,) = look(top, OFFSITE="nas", NAS_ENCRYPTED="no").facts.copies
    assert copies.newest and not copies.wal


def test_the_first_line_alone_says_what_is_broken() -> None:
    assert lines.first(examples.all_kept()).startswith("OK: all 18 promises on db1 are kept; if it died now, all up to")
    broken = lines.first(examples.several_broken())
    assert broken.startswith("BROKEN: 10 of 18 promises on db1: backup made (auth), ")
    assert lines.first(examples.never_backed_up()).count("\n") == 0
