"""The dry run that ends a set-up: what it found is told with its status, and nothing of root's own is in it."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest
from pgbackup.host.accounts import Account
from pgbackup.host.scheduling import crontab, trial, units
from pgbackup.proc import Finished
from pgbackup.settings import config

ME = pwd.getpwuid(os.geteuid())
ACCOUNT = Account(ME.pw_name, ME.pw_uid, ME.pw_gid, "group")


def database(target: str, status: int, error: str) -> dict[str, object]:
    return {"target": target, "status": status, "error": error, "hint": "do that" if status else None}


def said(status: int, document: object, stderr: str = "") -> list[tuple[int, str]]:
    stdout = document if isinstance(document, bytes) else json.dumps(document).encode()
    return [(error.status, error.message) for error in trial.found(Finished(status, stdout, stderr))]


def test_each_database_that_cannot_be_backed_up_is_told() -> None:
    good, gone, busy = database("a", 0, ""), database("b", 69, "there is no database"), database("c", 75, "another run")
    assert said(0, {"status": 0, "databases": [good]}) == []
    assert said(1, {"status": 1, "databases": [good, gone, busy]}) == [(69, "b: there is no database")]
    assert said(75, {"status": 75, "databases": [busy]}) == [], "another run at work is no failure"
    refused = {"status": 78, "error": ".env:1: unknown setting 'X'", "hint": None}
    assert said(78, refused) == [(78, ".env:1: unknown setting 'X'")]


@pytest.mark.parametrize("stdout", [b"", b"[]", b"{}", b'{"databases": [1]}', b"\xff", b'"x"'])
def test_what_says_nothing_is_told_by_its_first_line(stdout: bytes) -> None:
    assert said(126, stdout, "sh: cannot execute: Permission denied\nmore\n") == [
        (126, "sh: cannot execute: Permission denied")
    ]
    assert said(-9, stdout) == [(-9, "it ended with -9")]


def test_the_account_runs_the_script_with_what_the_schedule_gives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "scripts" / "backup-postgres.sh"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\n{{ echo "$@"; env; }} >"{tmp_path}/asked"\nexit 126\n')
    script.chmod(0o755)
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:1")
    monkeypatch.setenv("RETENTION_DAYS", "99")
    settings = config.load({}, tmp_path / "absent", {})
    (error,) = trial.of(tmp_path, ACCOUNT, settings, {"BACKUP_DIR": "/srv/b"})
    assert error.status == 126
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0] == "--dry-run --json"
    assert {"BACKUP_DIR=/srv/b", f"HOME={ME.pw_dir}"} <= set(asked)
    assert not [line for line in asked if line.startswith(("DOCKER_HOST=", "RETENTION_DAYS="))]


def test_the_variables_of_a_cron_line_and_of_a_unit() -> None:
    line = crontab.job("0 2 * * *", Path("/srv/back ups/100%"), 14, Path("/opt/x/scripts/backup-postgres.sh"))
    given = trial.assigned(crontab.command_of(line))
    assert given == {"BACKUP_DIR": "/srv/back ups/100%", "RETENTION_DAYS": "14"}
    assert trial.assigned("'") == {} and trial.assigned("nice A=b x") == {}
    unit = 'Environment="A=b c" D=e\n#Environment=X=y\nEnvironment = F=g=h\nEnvironment="\nUser=x\n'
    assert units.environment_of(unit) == {"A": "b c", "D": "e", "F": "g=h"}
    assert units.environment_of(None) == {}
