"""Real schemas through backup, verify and restore: what of them comes back equal.

    python -m tests.public.run DIRECTORY [NAME ...] [--table FILE]

DIRECTORY holds the files that tests/public/schemas.toml lists, none of which is part of this project:
github/OWNER/NAME/PATH at the commit given there, debian/PACKAGE/PATH (the package's files, `dpkg -x`) and
pypi/PROJECT/PATH (the unpacked wheel). Each schema is loaded with plain psql into a database of its own, gets a few
rows where it has none, is backed up, verified and restored beside itself by the scripts, and the two are compared
(tests/support/equality.py). FILE gets the table of what happened, in Markdown (docs/public-schemas.md).
Needs Python 3.11.
"""

from __future__ import annotations

import argparse
import gzip
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg
import tomllib

from tests.public import rows
from tests.support import engine, equality, round_trip, servers
from tests.support.servers import Server

LIST = Path(__file__).with_name("schemas.toml")
INSIDE = "/public"  # where a server sees DIRECTORY
PREPARED = "/prepared"
LOAD_SECONDS = 900
SAID = 300  # characters of a message


@dataclass(frozen=True)
class Schema:
    """One entry of schemas.toml; its head says what each field means."""

    name: str
    source: str
    version: str
    files: Sequence[str]
    licence: str = ""
    major: int = 15
    packages: Sequence[str] = ()
    roles: Sequence[str] = ()
    before: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    replace: Sequence[Sequence[str]] = ()
    natural: bool = False
    transactions: bool = False
    no_fault: Sequence[str] = ()

    @property
    def home(self) -> Path:
        """Where its files are in DIRECTORY."""
        kind, _, name = self.source.partition(" ")
        return Path(kind.lower(), name)


@dataclass
class Outcome:
    """What happened to one schema; wrong: why it is not equal, or why there was nothing to compare."""

    schema: Schema
    loaded: bool = False
    tables: int = 0
    rows: int = 0
    size: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


class NotDone(Exception):
    """A step failed, with what was said."""


def listed(names: Sequence[str] = ()) -> list[Schema]:
    """The schemas of the list, or those of these names."""
    entries = [Schema(**entry) for entry in tomllib.loads(LIST.read_text())["schema"]]
    return [entry for entry in entries if not names or entry.name in names]


def main() -> int:
    arguments = _arguments()
    schemas, directory = listed(arguments.names), arguments.directory.resolve()
    outcomes = []
    with ExitStack() as stack:
        prepared = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prepared.chmod(0o755)
        stack.enter_context(engine.used())
        for major in sorted({schema.major for schema in schemas}):
            server = stack.enter_context(_server(major, directory, prepared))
            of_major = [schema for schema in schemas if schema.major == major]
            prepare(of_major, server, directory)
            with ThreadPoolExecutor(arguments.jobs) as pool:
                work = partial(tried, server=server, directory=directory, prepared=prepared, client=arguments.client)
                for done in as_completed(pool.submit(work, schema) for schema in of_major):
                    outcome = done.result()
                    outcomes.append(outcome)
                    if arguments.table:
                        arguments.table.write_text(table(outcomes))
                    print(_line(outcome), *outcome.wrong, sep="\n    ", flush=True)
    return 0 if all(outcome.loaded and not outcome.wrong for outcome in outcomes) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path, metavar="DIRECTORY")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--client", choices=("sidecar", "exec", "direct"), default="sidecar", help="default: sidecar")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (default 2)")
    parser.add_argument("--table", type=Path, metavar="FILE")
    return parser.parse_args()


def _server(major: int, directory: Path, prepared: Path) -> AbstractContextManager[Server]:
    return servers.running(
        major,
        name=f"pgbackup-test-public{major}-",
        user="keeper",
        settings={"wal_level": "logical", "max_locks_per_transaction": 256, "max_wal_size": "4GB"},
        mounts={directory: INSIDE, prepared: PREPARED},
    )


def tried(schema: Schema, server: Server, directory: Path, prepared: Path, client: str = "sidecar") -> Outcome:
    """Put one schema through; nothing of it is left on the server but its roles."""
    outcome = Outcome(schema)
    database = schema.name.lower()
    try:
        load(schema, server, database, directory, prepared)
        outcome.loaded = True
        with server.connect(database) as session:
            rows.added(session)
        _describe(outcome, server, database)
        _round_trip(outcome, server, database, client)
    except (NotDone, servers.ServerFailed, subprocess.TimeoutExpired, psycopg.Error) as error:
        outcome.wrong.append(_last_words(str(error)))
    finally:
        for name in (database, f"{database}_copy"):
            server.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', "postgres")
    return outcome


def prepare(schemas: Sequence[Schema], server: Server, directory: Path) -> None:
    """Give the server what these schemas need: roles, and the files of unpacked Debian packages."""
    for role in sorted({role for schema in schemas for role in schema.roles}):
        server.sql(f'CREATE ROLE "{role}"', "postgres")
    for package in sorted({package for schema in schemas for package in schema.packages}):
        for part in ("usr/lib", "usr/share/postgresql"):
            if (directory / "debian" / package / part).is_dir():
                servers.docker("cp", f"{directory / 'debian' / package / part}/.", f"{server.id}:/{part}/")
    server.exec(["ldconfig"])


def load(schema: Schema, server: Server, database: str, directory: Path, prepared: Path) -> None:
    """Load its files with one psql, as its makers mean it; raise NotDone with the first error."""
    server.sql(f'CREATE DATABASE "{database}"', "postgres")
    files = list(_prepared(schema, directory, prepared))
    command = ["psql", "-X", "-q", "-U", server.user, "-d", database, "-v", "ON_ERROR_STOP=1"]
    command += [word for name, value in schema.variables.items() for word in ("-v", f"{name}={value}")]
    if schema.before:
        command += ["-c", schema.before]
    command += [word for file in files for word in ("-f", file)]
    done = servers.docker("exec", server.id, *command, check=False, seconds=LOAD_SECONDS)
    if done.returncode != 0:
        errors = [line.partition("ERROR:")[2] for line in done.stderr.splitlines() if "ERROR:" in line]
        raise NotDone(errors[0].strip() if errors else f"psql ended with {done.returncode}: {done.stderr[-SAID:]}")


def _prepared(schema: Schema, directory: Path, prepared: Path) -> Iterator[str]:
    """Its files as the server sees them: rewritten where the list says so, else where they are."""
    home = directory / schema.home
    for pattern in schema.files:
        found = sorted(home.glob(pattern), key=lambda path: _order(str(path), schema.natural))
        if not found:
            raise NotDone(f"'{home / pattern}' is not there")
        for number, file in enumerate(found):
            if not (schema.replace or schema.transactions or file.suffix == ".gz"):
                yield f"{INSIDE}/{file.relative_to(directory)}"
                continue
            data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            text = data.decode("utf-8", "surrogateescape")
            for old, new in schema.replace:
                text = re.sub(old, new, text)
            if schema.transactions and "NO TRANSACTION" not in text.upper():
                text = f"BEGIN;\n{text}\n;\nCOMMIT;\n"
            written = prepared / f"{schema.name}-{len(list(prepared.iterdir()))}-{number}.sql"
            written.write_bytes(text.encode("utf-8", "surrogateescape"))
            yield f"{PREPARED}/{written.name}"


def _order(path: str, natural: bool) -> list[tuple[int, str]]:
    """A key to sort migrations by: their versions may be dates with or without hyphens, or numbers (9 before 10)."""
    if not natural:
        return [(0, path.replace("-", ""))]
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path)]


def _describe(outcome: Outcome, server: Server, database: str) -> None:
    counted = round_trip.counted(server, database)
    outcome.tables, outcome.rows = len(counted), sum(counted.values())
    ((outcome.size,),) = server.sql("SELECT pg_size_pretty(pg_database_size(current_database()))", database)


def _round_trip(outcome: Outcome, server: Server, database: str, client: str) -> None:
    copy = f"{database}_copy"
    with (
        tempfile.TemporaryDirectory() as directory,
        round_trip.reached(server, database, client) as (settings, path),
    ):
        place = Path(directory)
        file = place / server.name / f"{database}_LATEST.sql.gz"
        restore = ["public", str(file), "--into", copy, "--yes"]
        for script, arguments in (
            ("backup-postgres.sh", []),
            ("verify-backups.sh", []),
            ("restore-postgres.sh", restore),
        ):
            begun = time.monotonic()
            done = round_trip.script(place, {"public": settings}, script, *arguments, path=path)
            outcome.seconds[script] = time.monotonic() - begun
            if done.returncode != 0:
                raise NotDone(f"{script} ended with {done.returncode}: {done.stderr.strip()}")
        found = equality.differences((server, database), (server, copy))
        outcome.wrong += [text for text in found if not any(re.search(of, text) for of in outcome.schema.no_fault)]


def _last_words(text: str) -> str:
    return " ".join(text.split())[:1500]


def _line(outcome: Outcome) -> str:
    verdict = "not loaded" if not outcome.loaded else "NOT EQUAL" if outcome.wrong else "equal"
    steps = " ".join(f"{seconds:.1f}" for seconds in outcome.seconds.values())
    return f"{outcome.schema.name}: {outcome.tables} tables, {outcome.rows} rows, {outcome.size}, {steps} s: {verdict}"


def table(outcomes: Sequence[Outcome]) -> str:
    """The Markdown page."""
    outcomes = sorted(outcomes, key=lambda outcome: outcome.schema.name.lower())
    equal = sum(outcome.loaded and not outcome.wrong for outcome in outcomes)
    loaded = sum(outcome.loaded for outcome in outcomes)
    head = (
        "# Public schemas\n\n"
        f"{loaded} schemas of public projects were loaded with psql, backed up, verified, restored and compared"
        f" (`tests/public/run.py`); {equal} came back equal.\n\n"
        "| name | source | PostgreSQL | tables | rows | size | backup s | restore s | result |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n"
    )
    return head + "".join(f"| {' | '.join(_cells(outcome))} |\n" for outcome in outcomes)


def _cells(outcome: Outcome) -> Iterator[str]:
    schema = outcome.schema
    yield schema.name
    at = f"@{schema.version[:10]}" if schema.source.startswith("GitHub") else schema.version
    yield f"{schema.source} {at}"
    yield str(schema.major)
    if not outcome.loaded:
        yield from ["", "", "", "", ""]
        yield f"cannot be loaded: {outcome.wrong[0][:SAID]}".replace("|", "\\|")
        return
    yield f"{outcome.tables:,}"
    yield f"{outcome.rows:,}"
    yield outcome.size
    for script in ("backup-postgres.sh", "restore-postgres.sh"):
        yield f"{outcome.seconds[script]:.1f}" if script in outcome.seconds else ""
    yield outcome.wrong[0][:SAID].replace("|", "\\|") if outcome.wrong else "equal"


if __name__ == "__main__":
    sys.exit(main())
