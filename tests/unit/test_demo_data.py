"""The demo's data and servers: any size, always the same rows, nothing left behind. Needs no Docker."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo import servers, workspace
from tests.support import embedded
from tests.support.effort import wide

ROOT = Path(__file__).resolve().parents[2]
SIZES = (1, 7, 150)


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Server]:
    with embedded.running(["auth_user"]) as (started,):
        yield started


@pytest.fixture(scope="module")
def newer() -> Iterator[servers.Server]:
    with embedded.running(["auth_user"], major=18) as (started,):
        yield started


@pytest.mark.parametrize("rows", SIZES)
def test_auth_db_takes_any_size(server: servers.Server, rows: int) -> None:
    server.load(f"auth_{rows}", embedded.AUTH_SQL, rows)
    assert server.row_counts(f"auth_{rows}") == {
        "users": rows,
        "sessions": rows * 3 // 2,
        "login_attempts": rows * 3 // 2,
    }


@pytest.mark.parametrize("rows", SIZES)
def test_payment_db_takes_any_size(server: servers.Server, rows: int) -> None:
    server.load(f"payment_{rows}", embedded.PAYMENT_SQL, rows)
    assert server.row_counts(f"payment_{rows}") == {
        "merchants": max(10, rows // 100),
        "payments": rows,
        "webhooks": rows + rows // 3,
    }


@pytest.mark.parametrize("file", [embedded.AUTH_SQL, embedded.PAYMENT_SQL], ids=lambda file: file.stem)
def test_two_loads_hold_the_same_rows_on_every_version(
    server: servers.Server, newer: servers.Server, file: Path
) -> None:
    dumps = [_dump(one, f"{file.stem}_{turn}", file) for turn, one in enumerate((server, server, newer))]
    assert dumps[0].count("\n") > 300
    assert dumps[0] == dumps[1]
    assert dumps[0] == dumps[2]


def _dump(server: servers.Server, database: str, file: Path) -> str:
    server.load(database, file, 150)
    program = server.installation.programs / "pg_dump"
    command = [str(program), "--data-only", "--dbname", server.url(database)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return "".join(re.findall(r"^COPY .*?^\\\.\n", text, re.DOTALL | re.MULTILINE))


def test_the_data_exercises_the_copy_format(server: servers.Server) -> None:
    """Tabs, newlines, backslashes, NULLs, quotes and letters beyond ASCII are in every decent payment."""
    text = _dump(server, "copy_format", embedded.PAYMENT_SQL)
    for part in (r"\n\t2 × maize", r"C:\\invoices", r"\N", "Bishop's School", "Équateur"):
        assert part in text


def test_no_helper_function_gets_into_a_dump(server: servers.Server) -> None:
    server.load("helpers", embedded.PAYMENT_SQL, 7)
    names = server.psql("helpers", "-c", "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
    assert names.split() == ["note_settlement"]


def test_a_failing_statement_is_an_error(server: servers.Server) -> None:
    with pytest.raises(servers.ServerFailed, match="no_such_table"):
        server.psql("postgres", "-c", "SELECT * FROM no_such_table")


def test_a_killed_process_takes_its_server_along_and_the_next_run_sweeps() -> None:
    code = (
        "import time; from tests.support import embedded\n"
        "with embedded.running(['auth_user']) as (server,):\n"
        "    print(server.pid, server.directory.parent, flush=True); time.sleep(60)\n"
    )
    with tempfile.TemporaryDirectory() as apart:  # other tests sweep what lies in the usual place
        Path(apart).chmod(0o755)
        variables = {**os.environ, "TMPDIR": apart}
        process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        pid, place = process.stdout.readline().split()
        process.kill()
        process.communicate()
        _until(lambda: not Path("/proc", pid).exists())
        assert Path(place).exists()
        assert Path(place) in workspace.sweep(Path(apart))
        assert not Path(place).exists()


def test_a_directory_in_use_is_not_swept() -> None:
    with workspace.workspace(shared=False) as place:
        assert place not in workspace.sweep(place.parent)
        assert place.exists()
    assert not place.exists()


@wide("number", [signal.SIGINT], [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_stopped_demo_leaves_nothing(number: signal.Signals) -> None:
    demo = subprocess.Popen(
        [sys.executable, ROOT / "demo" / "demo.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None
    said = ""
    while "BACKUP_DIR=" not in said:
        line = demo.stdout.readline()
        assert line, f"the demo ended by itself: {demo.communicate()[1]}"
        said += line
    place = Path(said.partition("BACKUP_DIR=")[2].strip()).parent
    assert place.exists()
    demo.send_signal(number)
    demo.communicate(timeout=120)
    assert demo.returncode == -number
    assert not place.exists()
    assert not _processes_naming(place)


def _processes_naming(place: Path) -> list[str]:
    """The command lines, of any process, in which the directory occurs."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(place) in command:
            found.append(os.fsdecode(command))
    return found


def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
