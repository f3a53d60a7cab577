"""A crontab: the suite's lines come, change and go; nobody else's changes by a byte."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbackup.host.scheduling import crontab

SCRIPT = Path("/opt/payment-system/deployment/scripts/backup-postgres.sh")
GUIDE = f"0 2 * * * BACKUP_DIR=/opt/backups RETENTION_DAYS=7 {SCRIPT}"
DRILL = SCRIPT.with_name("drill-backups.sh")
WEEKLY = f"0 5 * * 3 BACKUP_DIR=/opt/backups {DRILL} --rotate # goes with backup-postgres.sh"
FOREIGN = [
    "",
    "# comment\n",
    "MAILTO=ops@example.org\n5 4 * * * /usr/bin/date +\\%F\n",
    f"#{GUIDE}\n",
    f"0 2 * * * /srv{SCRIPT}\n",
    f"0 2 * * * {SCRIPT}.old\n",
    f"0 2 * * * {SCRIPT.parent}/backup-postgres.sh2 --quiet\n",
    f"SCRIPT={SCRIPT}\n",
    "@reboot /usr/bin/true\n\n\n",
    "0 2 * * * true\r\n",
    "0 2 * * * \udce4\n",
]


def test_the_line_is_the_guides() -> None:
    assert crontab.job("0 2 * * *", Path("/opt/backups"), 7, SCRIPT) == GUIDE


@pytest.mark.parametrize("foreign", FOREIGN)
def test_it_is_added_once_and_goes_without_a_trace(foreign: str) -> None:
    text = crontab.added(foreign, SCRIPT, GUIDE, None)
    assert text == foreign + GUIDE + "\n"
    assert crontab.added(text, SCRIPT, "another", None) == text
    assert crontab.removed(text, SCRIPT) == foreign


@pytest.mark.parametrize("foreign", ["5 4 * * * true", "# comment", " "])
def test_a_last_line_without_newline_gets_one(foreign: str) -> None:
    assert crontab.added(foreign, SCRIPT, GUIDE, None) == f"{foreign}\n{GUIDE}\n"
    assert crontab.removed(foreign, SCRIPT) == foreign


@pytest.mark.parametrize("foreign", [text for text in FOREIGN if SCRIPT.name not in text and "\udce4" not in text])
def test_the_guides_removal_leaves_what_ours_leaves(foreign: str) -> None:
    text = crontab.added(foreign, SCRIPT, GUIDE, None)
    done = subprocess.run(["grep", "-v", SCRIPT.name], input=text.encode(), capture_output=True, check=False)
    assert done.stdout.decode() == foreign == crontab.removed(text, SCRIPT)


EDITED = [
    GUIDE.replace("RETENTION_DAYS=7", "RETENTION_DAYS=14"),
    f"@daily {SCRIPT}",
    f"\t30 1 * * 1-5  cd / && {SCRIPT} --quiet payment >/dev/null 2>&1",
    f"0 2 * * * '{SCRIPT}'",
    f"0 2 * * * nice -n 5 {SCRIPT}; true",
]


@pytest.mark.parametrize("line", EDITED)
def test_an_edited_line_is_kept_and_only_its_schedule_changes_on_demand(line: str) -> None:
    text = f"# before\n{line}\n# after\n"
    assert crontab.jobs_of(text, SCRIPT) == [line]
    assert crontab.added(text, SCRIPT, GUIDE, None) == text
    command = re.sub(r"^\s*(@\S+|(\S+\s+){4}\S+)\s+", "", line)
    assert crontab.added(text, SCRIPT, GUIDE, "5 5 * * *") == f"# before\n5 5 * * * {command}\n# after\n"
    assert crontab.removed(text, SCRIPT) == "# before\n# after\n"


def test_with_a_schedule_one_of_several_lines_is_left() -> None:
    text = f"{GUIDE}\n# mine\n{EDITED[0]}\n"
    assert crontab.added(text, SCRIPT, GUIDE, None) == text
    assert crontab.added(text, SCRIPT, GUIDE, "0 2 * * *") == f"{GUIDE}\n# mine\n"


def test_the_same_script_of_another_place_is_told() -> None:
    other = f"0 2 * * * /srv{SCRIPT}"
    assert crontab.strangers(f"{other}\n{GUIDE}\n#{GUIDE}\n", SCRIPT) == [other]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_the_drills_line_comes_and_goes_beside_the_backups(foreign: str) -> None:
    assert crontab.weekly_drill("/opt/backups", DRILL) == WEEKLY
    verification = DRILL.with_name("verify-backups.sh")
    line = f"0 4 * * 0 BACKUP_DIR=/opt/backups {verification} -q # goes with backup-postgres.sh"
    assert crontab.weekly_verification("/opt/backups", verification) == line
    before = crontab.added(foreign, SCRIPT, GUIDE, None)
    text = crontab.added(before, DRILL, WEEKLY, None)
    assert text == before + WEEKLY + "\n"
    assert crontab.added(text, DRILL, "another", None) == text
    assert (crontab.jobs_of(text, SCRIPT), crontab.jobs_of(text, DRILL)) == ([GUIDE], [WEEKLY])
    assert crontab.strangers(text, SCRIPT) == crontab.strangers(before, SCRIPT)
    assert crontab.removed(text, DRILL) == before
    assert crontab.removed(crontab.removed(text, SCRIPT), DRILL) == foreign


def test_the_guides_removal_takes_the_drills_line_along() -> None:
    text = f"5 4 * * * true\n{GUIDE}\n{WEEKLY}\n"
    done = subprocess.run(["grep", "-v", SCRIPT.name], input=text.encode(), capture_output=True, check=False)
    assert done.stdout == b"5 4 * * * true\n"


@pytest.mark.parametrize("name", ["plain", "two  blanks", "100%", "%", "it $(touch x) `touch x`", "ü", "a;b&c|d"])
def test_whatever_is_in_a_path_reaches_the_script(tmp_path: Path, name: str) -> None:
    script = tmp_path / name / "scripts" / SCRIPT.name
    script.parent.mkdir(parents=True)
    script.write_text(f'#!/bin/sh\nprintf "%s|" "$BACKUP_DIR" "$RETENTION_DAYS" "$#" >"{tmp_path}/said"\n')
    script.chmod(0o755)
    drill = crontab.weekly_drill(str(tmp_path / name / "b"), script)
    for line, said in ((crontab.job("* * * * *", tmp_path / name / "b", 14, script), "14|0"), (drill, "|1")):
        assert crontab.jobs_of(line, script) == [line]
        assert "%" not in line.replace("\\%", "")
        subprocess.run(["sh", "-c", as_cron_reads_it(line)], cwd=tmp_path, env={"PATH": os.defpath}, check=True)
        assert (tmp_path / "said").read_text() == f"{tmp_path / name / 'b'}|{said}|"
    assert not (tmp_path / "x").exists()


def as_cron_reads_it(line: str) -> str:
    """crontab(5): the command ends at a bare '%'; a '\\%' is one."""
    command = line.split(None, 5)[5]
    return re.split(r"(?<!\\)%", command)[0].replace("\\%", "%")


LINE = st.sampled_from([*(text for text in FOREIGN if text), *(f"{line}\n" for line in EDITED), f"{GUIDE}\n"])
TEXT = st.one_of(st.text(max_size=60), st.lists(LINE, max_size=6).map("".join))


@given(text=TEXT, cron=st.sampled_from([None, "5 5 * * *"]))
def test_whatever_the_crontab_holds(text: str, cron: str | None) -> None:
    line = crontab.job(cron or "0 2 * * *", Path("/opt/backups"), 7, SCRIPT)
    once = crontab.added(text, SCRIPT, line, cron)
    assert crontab.added(once, SCRIPT, line, cron) == once
    assert len(crontab.jobs_of(once, SCRIPT)) >= 1
    assert crontab.removed(once, SCRIPT).rstrip("\n") == crontab.removed(text, SCRIPT).rstrip("\n")
    assert crontab.jobs_of(crontab.removed(text, SCRIPT), SCRIPT) == []


def test_comments_that_crontab_does_not_show_are_not_lost(tmp_path: Path) -> None:
    file = tmp_path / "deployer"
    assert crontab._not_shown(file, "0 2 * * * true\n") == ""
    file.write_text("# mine\n0 2 * * * true\n")
    assert crontab._not_shown(file, "0 2 * * * true\n") == "# mine\n"
    file.write_text("# DO NOT EDIT THIS FILE - edit the master and reinstall.\n# a\n# b\n# mine\n0 2 * * * true\n")
    assert crontab._not_shown(file, "# mine\n0 2 * * * true\n") == ""


RECEIVER = SCRIPT.with_name("receive-wal.sh")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"* * * * * BACKUP_DIR=/old {RECEIVER} -q --watchdog payment\n", "BACKUP_DIR=/new"),
        (f"* * * * * nice env BACKUP_DIR='/o l d' {RECEIVER} -q --watchdog payment\n", "nice env BACKUP_DIR=/new"),
        (f"* * * * * BACKUP_DIR=/a\\%b {RECEIVER} -q --watchdog payment\n", "BACKUP_DIR=/new"),
        (f"* * * * * {RECEIVER} -q --watchdog payment\n", ""),
    ],
)
def test_a_receivers_line_gets_another_directory_and_no_other_line_does(before: str, after: str) -> None:
    others = f"* * * * * BACKUP_DIR=/old {RECEIVER} -q --watchdog auth\n# BACKUP_DIR=/old {RECEIVER} payment\n"
    text = crontab.redirected(others + before, RECEIVER, Path("/new"), "payment")
    words = " ".join(["* * * * *", after, f"{RECEIVER} -q --watchdog payment\n"]).replace("  ", " ")
    assert text == others + words
    assert crontab.removed(text, RECEIVER, "payment") == others
