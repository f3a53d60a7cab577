"""backup-status.sh with a long history, many backups, several at once, a Docker that hangs, on any screen."""

from __future__ import annotations

import json
import re
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pgbackup.commands import noting
from pgbackup.commands.loading.record import Record
from pgbackup.commands.status import gathering, past, show
from pgbackup.formats import names
from pgbackup.report import history
from pgbackup.report.promises import evaluate, lines
from pgbackup.report.promises.facts import Database
from pgbackup.report.promises.limits import Limits
from pgbackup.report.promises.status import Status
from pgbackup.settings.config import Settings
from pgbackup.store import folder
from pgbackup.store.state import ledger
from pgbackup.store.state.ledger import Ledger, Made, Run

from tests.support import examples, noted, settings, speed
from tests.support.effort import only_in_full
from tests.support.noted import ROOT, ago, loaded, look, note, of, put, state


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return noted.directory(tmp_path)


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
    assert time.monotonic() - begun < 60
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
    made = probing.run(loaded(top, DOCKER=str(hanging)), ROOT, Files(), scheduled=False, quiet=True)
    calls = (hanging.parent / "calls").read_text()
    assert made.status == 66 and of(look(top), "coverage").state == "broken"
    said = capsys.readouterr().err
    assert "warning" in said and len(re.findall("gave no answer within 5 s", said)) == len(calls.split()), said
    look(top, DOCKER=str(hanging))
    assert (hanging.parent / "calls").read_text() == calls, "who only looks asks no Docker"


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

LIMIT = 10  # times what listing takes: a second, where it is 0.36 on an idle machine


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
            made.append(Made(file, taken, 1000, 5000, 10, 1.5, f"{number:064x}"))
        runs = [Run(one.taken, 0, 1.5, one.file) for one in made[:100]]
        held = Ledger(made[-1].taken, made[: ledger.MOST_BACKUPS], runs)
        with folder.opened(place, create=False) as opened:
            ledger.write(opened, f"{name}_db", held)
    return settings.load(top.parent, "", env)


def listed_and_read(top: Path) -> None:
    """The least that there is to do: look at each file, and read what the runs noted."""
    for file in top.glob("*/*"):
        file.stat()
        if file.suffix == ".json":
            json.loads(file.read_text())


def test_ten_thousand_backups_of_thirty_databases_are_judged_in_some_times_the_time_of_listing_them(top: Path) -> None:
    known = many(top, 30, 334)
    status = show.look(known, ROOT)
    shown = show.told(status)
    assert sum(each.files for each in status.facts.databases) == 30 * 334
    assert [promise.state for promise in status.promises if promise.kind == "backup"] == ["kept"] * 30
    assert len(shown.lines) < 200
    assert speed.times(lambda: show.told(show.look(known, ROOT)), lambda: listed_and_read(top), rounds=3) < LIMIT


@only_in_full
def test_ten_thousand_backups_of_one_database_are_judged_in_some_times_the_time_of_listing_them(top: Path) -> None:
    known = many(top, 1, 10_000)
    assert show.look(known, ROOT).facts.databases[0].files == 10_000
    assert speed.times(lambda: show.look(known, ROOT), lambda: listed_and_read(top)) < LIMIT


# --- the screen


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
@pytest.mark.parametrize("example", examples.ALL, ids=lambda each: each.__name__)
def test_the_screen_fits_and_obeys_no_name(example: Callable[[], Status], columns: int) -> None:
    status = example()
    shown = lines.lines(status, columns)
    text = "\n".join(shown)
    assert "\x1b" not in text and "\r" not in text
    assert shown[0].startswith("BROKEN" if status.broken else "OK")
    copied = {line for promise in status.broken for line in lines.commands(promise.remedy)}
    told = [line for line in shown[1:] if len(line) > columns and line not in copied and not line.startswith("  data")]
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


def test_what_is_kept_only_because_it_is_not_due_yet_is_said() -> None:
    good = examples.facts()
    auth, payment = good.databases
    young = replace(auth, drilled=None, begun=examples.ago(hours=2))

    def told(*databases: Database) -> str:
        status = evaluate.status(replace(good, databases=databases), examples.NOW, Limits())
        return next(line for line in lines.lines(status, 120) if line.startswith("  backup drilled"))

    assert told(young, payment).endswith("auth, payment: oldest 60 min, limit 8 d; none is due yet of auth")
    assert told(young, replace(young, name="other")).endswith("none is due yet of auth, other")
