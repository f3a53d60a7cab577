"""Restores that load in four sessions, when one of them fails, or its rows are not what they seem to be."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
import pytest

from demo import servers as demo_servers
from tests.support import backup_files, killing, restores
from tests.support.effort import only_in_full, wide
from tests.support.restores import Lab
from tests.support.runs import soon

ROWS = 20_000  # so that a load in pieces of a few rows takes seconds
_LOADING = "SELECT pid FROM pg_stat_activity WHERE datname LIKE 'auth_db_restore_%' ORDER BY backend_start"


@pytest.fixture
def lab(embedded: demo_servers.Server, tmp_path: Path, side_by_side_root: Path) -> Iterator[Lab]:
    lab = restores.direct(embedded, tmp_path)
    assert soon(lambda: restores.answers(lab), 30)
    lab.place.root = side_by_side_root
    yield lab
    assert soon(lambda: restores.answers(lab), 30), "the server did not come back"


def loading(lab: Lab, process: subprocess.Popen[bytes]) -> list[int]:
    """The backends that load, when there are four."""
    found: list[int] = []

    def there() -> bool:
        found[:] = [int(str(pid)) for (pid,) in lab.sql(_LOADING)]
        return len(found) > 3 or process.poll() is not None

    assert soon(there, 60)
    assert process.poll() is None, "it was over before anything was done to it"
    return found


def ended_backend(lab: Lab, process: subprocess.Popen[bytes]) -> None:
    lab.sql(f"SELECT pg_terminate_backend({loading(lab, process)[-1]})")


def crashed_backend(lab: Lab, process: subprocess.Popen[bytes]) -> None:
    os.kill(loading(lab, process)[-1], signal.SIGKILL)


def killed_psql(lab: Lab, process: subprocess.Popen[bytes]) -> None:
    loading(lab, process)
    os.kill(killing.programs_of(process, "--file=-")[-1], signal.SIGKILL)


def interrupted(lab: Lab, process: subprocess.Popen[bytes]) -> None:
    loading(lab, process)
    os.killpg(process.pid, signal.SIGINT)


HOW: dict[str, tuple[Callable[[Lab, subprocess.Popen[bytes]], None], int]] = {
    "its backend is ended": (ended_backend, 69),
    "its backend is killed": (crashed_backend, 69),
    "its psql is killed": (killed_psql, 69),
    "it is interrupted": (interrupted, 130),
}


@wide("how", ["its backend is killed", "its psql is killed"], HOW)
@pytest.mark.fault(241, "restore in four sessions: one of them is lost")
def test_the_loss_of_one_session_ends_all_and_changes_nothing(lab: Lab, how: str) -> None:
    does, status = HOW[how]
    file, new, old = lab.reset(ROWS)
    process = lab.start("--yes", file.name)
    does(lab, process)
    begun = time.monotonic()
    ended = lab.place.end(process)
    assert ended.status == status, ended.stderr
    assert time.monotonic() - begun < 60
    assert soon(lambda: restores.answers(lab), 30)
    assert not restores.settled(lab, old, old)
    assert not restores.after(lab, old, new)


@pytest.mark.fault(242, "an error in the last row of a table that four sessions load")
def test_an_error_in_the_last_piece_names_table_and_row(lab: Lab) -> None:
    """A rule about the present holds when the row is written, and not when it is loaded."""
    restores.remade(lab)
    lab.sql(
        "CREATE TABLE late (id int, until timestamptz CHECK (until > now() - interval '1 second'));"
        " INSERT INTO late SELECT n, 'infinity' FROM generate_series(1, 20000) n;"
        " INSERT INTO late VALUES (20001, now())",
        lab.database,
    )
    old = lab.content()
    file = lab.backup()
    time.sleep(1)
    ended = lab.restore("--yes", file.name)
    assert not restores.failed(lab, ended, 65, old)
    assert "TABLE DATA late in schema public" in ended.stderr
    assert 'violates check constraint "late_until_check"' in ended.stderr
    assert "COPY late, line 20001" in ended.stderr


@pytest.mark.fault(250, "an index that cannot be made, begun before the rows of other tables have come")
def test_an_early_index_that_fails_is_named_and_ends_all(lab: Lab) -> None:
    restores.remade(lab)
    old = lab.content()
    lab.directory.mkdir(mode=0o700)
    rows = "".join(f"{number}\tsome text\n" for number in range(3000))
    body = "".join(f"CREATE TABLE public.{name} (id int, line text);\n\n" for name in ("first", "last"))
    body += f"COPY public.first (id, line) FROM stdin;\n7\tn\n{rows}\\.\n\n"
    body += f"COPY public.last (id, line) FROM stdin;\n{rows * 10}\\.\n\n"
    for name in ("first", "last"):
        heading = f"--\n-- Name: {name}_key; Type: INDEX; Schema: public; Owner: auth_user\n--\n\n"
        body += (
            f"{heading}CREATE {'UNIQUE ' * (name == 'first')}INDEX {name}_key ON public.{name} USING btree (id);\n\n"
        )
    data = backup_files.contents(backup_files.dump(body), database=lab.database)
    file = backup_files.place(lab.directory, data=data, database=lab.database)
    ended = lab.restore("--yes", file.name)
    assert not restores.failed(lab, ended, 65, old)
    assert "INDEX first_key in schema public" in ended.stderr
    assert "Key (id)=(7) is duplicated" in ended.stderr


def test_an_index_begins_while_rows_of_other_tables_come(lab: Lab) -> None:
    restores.remade(lab)
    lab.sql(
        "CREATE TABLE first (id int, words text[]); CREATE TABLE last (id int, line text);"
        " INSERT INTO first SELECT n, string_to_array(repeat(md5(n::text) || ' ', 20), ' ')"
        " FROM generate_series(1, 20000) n;"
        " INSERT INTO last SELECT n, repeat('x', 500) FROM generate_series(1, 20000) n;"
        " CREATE INDEX early ON first USING gin (words); CREATE INDEX late ON last ((lower(line)))",
        lab.database,
    )
    new = lab.content()
    file = lab.backup()
    both = (
        "SELECT count(DISTINCT left(query, 9)) FROM pg_stat_activity WHERE state = 'active'"
        " AND datname LIKE 'auth_db_restore_%' AND query ~ '^(CREATE INDEX early|.*COPY public.last)'"
    )
    process = lab.start("--yes", file.name)
    seen = soon(lambda: lab.sql(both) == [(2,)] or process.poll() is not None, 60) and process.poll() is None
    ended = lab.place.end(process)
    assert ended.status == 0, ended.stderr
    assert seen, "no index was at work beside rows"
    assert lab.content() == new
    indexes = "SELECT indexname::text FROM pg_indexes WHERE tablename IN ('first', 'last') ORDER BY 1"
    assert lab.sql(indexes, lab.database) == [("early",), ("late",)]


@only_in_full
@pytest.mark.fault(251, "restore in four sessions: one row of 300 MB")
def test_a_row_of_300_MB_is_loaded_in_flat_memory(lab: Lab) -> None:
    restores.remade(lab)
    lab.sql(
        "CREATE TABLE huge (id int, text text);"
        " INSERT INTO huge SELECT 1, string_agg(md5(n::text), '') FROM generate_series(1, 9400000) n;"
        " INSERT INTO huge SELECT n, 'small' FROM generate_series(2, 9) n",
        lab.database,
    )
    digest = "SELECT count(*), sum(length(text)), md5(string_agg(md5(text), '' ORDER BY id)) FROM huge"
    held = lab.sql(digest, lab.database)
    file = lab.backup()
    lab.sql("TRUNCATE huge", lab.database)
    process = lab.start("--yes", file.name)
    peak = 0
    while process.poll() is None:
        with suppress(OSError):
            found = re.search(r"VmHWM:\s*(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            peak = max(peak, int(found[1]) if found else 0)
        time.sleep(0.05)
    ended = lab.place.end(process)
    assert ended.status == 0, ended.stderr
    assert lab.sql(digest, lab.database) == held
    assert 0 < peak < 150_000, f"{peak} kB"


@pytest.mark.fault(243, "rows that look like the end of rows, or like commands, where a table is cut")
def test_hostile_lines_in_the_middle_of_a_piece_are_only_rows(lab: Lab, tmp_path: Path) -> None:
    """COPY takes all these for text, but for those that the guard stops."""
    restores.remade(lab)
    lab.directory.mkdir(mode=0o700)
    marker = tmp_path / "marker"
    lines = [f"\\! touch {marker}", "\\\\.", "\\\\copy t from program 'id'", "COMMIT;", "--", "/*", "$$", "'", ""]
    rows = "".join(f"{number}\t{line}\n" for number in range(300) for line in lines)
    body = f"CREATE TABLE public.t (id int, line text);\n\nCOPY public.t (id, line) FROM stdin;\n{rows}\\.\n\n"
    data = backup_files.contents(backup_files.dump(body), database=lab.database)
    file = backup_files.place(lab.directory, data=data, database=lab.database)
    ended = lab.restore("--yes", file.name)
    assert ended.status == 0, ended.stderr
    assert lab.sql("SELECT count(*), count(DISTINCT line) FROM t", lab.database) == [(2700, 9)]
    assert not marker.exists()
    old = lab.content()
    for end in ("\\.\n\\! touch {}\n", "\\.\n\\.\n", "\\. \\! touch {}\n\\.\n\\! touch {}\n"):
        bad = body.replace("299\t$$\n", f"299\t$$\n{end.replace('{}', str(marker))}")
        data = backup_files.contents(backup_files.dump(bad), database=lab.database)
        ended = lab.restore("--yes", backup_files.place(lab.directory, data=data, database=lab.database).name)
        assert not restores.failed(lab, ended, 65, old)
        assert not marker.exists()


@pytest.mark.fault(244, "a server that has three connections left")
def test_where_there_are_few_connections_fewer_sessions_load(lab: Lab) -> None:
    file, new, _ = lab.reset()
    with ExitStack() as stack:
        ((most,),) = lab.sql("SHOW max_connections")
        ((used,),) = lab.sql("SELECT count(*) - 1 FROM pg_stat_activity WHERE backend_type = 'client backend'")
        for _ in range(int(str(most)) - int(str(used)) - 3):
            stack.enter_context(psycopg.connect(lab.dsn("postgres"), autocommit=True))
        ended = lab.restore("--yes", file.name)
    assert ended.status == 0, ended.stderr
    assert lab.content() == new
    without = (
        "SELECT relname FROM pg_class c WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        " AND reltuples <> 0 AND NOT EXISTS (SELECT FROM pg_statistic WHERE starelid = c.oid)"
    )
    assert lab.sql(without, lab.database) == [], ("no statistics for the planner", ended.stderr)
