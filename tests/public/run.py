"""Real schemas through backup, verify and restore: what of them comes back equal.

    python -m tests.public.run DIRECTORY [NAME ...] [--table FILE] [--into-major MAJOR]

DIRECTORY holds the files that tests/public/schemas.toml lists, none of which is part of this project:
github/OWNER/NAME/PATH at the commit given there, debian/PACKAGE/PATH (the package's files, `dpkg -x`) and
pypi/PROJECT/PATH (the unpacked wheel). Each schema is loaded with plain psql into a database of its own, gets a few
rows where it has none, is backed up, verified and restored beside itself by the scripts, and the two are compared
(tests/support/equality.py). FILE gets the table of what happened, in Markdown (docs/public-schemas.md); what it says of
other schemas stays. With --into-major the restore goes to another server, of that major version. Needs Python 3.11.
"""

from __future__ import annotations

import argparse
import gzip
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import psycopg
import tomllib

from tests.public import rows
from tests.public.outcomes import SAID, Outcome, Schema, line, written
from tests.support import engine, equality, round_trip, servers
from tests.support.equality import Place
from tests.support.servers import Server

LIST = Path(__file__).with_name("schemas.toml")
INSIDE = "/public"  # where a server sees DIRECTORY
PREPARED = "/prepared"
LOAD_SECONDS = 900


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
            newer = arguments.into_major
            into = stack.enter_context(_server(newer, directory, prepared)) if newer else server
            of_major = [schema for schema in schemas if schema.major == major]
            for each in {server.id: server, into.id: into}.values():
                prepare(of_major, each, directory)
            with ThreadPoolExecutor(arguments.jobs) as pool:
                places = {"server": server, "into": into, "directory": directory, "prepared": prepared}
                work = partial(tried, **places, client=arguments.client)
                for done in as_completed(pool.submit(work, schema) for schema in of_major):
                    outcome = done.result()
                    outcomes.append(outcome)
                    if arguments.table:
                        written(arguments.table, outcomes, {schema.name: schema.major for schema in listed()})
                    print(line(outcome), *outcome.wrong, sep="\n    ", flush=True)
    return 0 if all(outcome.loaded and not outcome.wrong for outcome in outcomes) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", type=Path, metavar="DIRECTORY")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--client", choices=("sidecar", "exec", "direct"), default="sidecar", help="default: sidecar")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (default 2)")
    parser.add_argument("--table", type=Path, metavar="FILE")
    parser.add_argument("--into-major", type=int, default=0, metavar="MAJOR", help="restore into a server of this one")
    return parser.parse_args()


def _server(major: int, directory: Path, prepared: Path) -> AbstractContextManager[Server]:
    return servers.running(
        major,
        name=f"pgbackup-test-public{major}-",
        user="keeper",
        settings={"wal_level": "logical", "max_locks_per_transaction": 256, "max_wal_size": "4GB"},
        mounts={directory: INSIDE, prepared: PREPARED},
    )


def tried(
    schema: Schema, server: Server, into: Server, directory: Path, prepared: Path, client: str = "sidecar"
) -> Outcome:
    """Put one schema through; nothing of it is left on the servers but its roles."""
    outcome = Outcome(schema, into=into.major if into != server else 0)
    database = schema.name.lower()
    try:
        load(schema, server, database, directory, prepared)
        outcome.loaded = True
        with server.connect(database) as session:
            rows.added(session)
        _describe(outcome, server, database)
        _round_trip(outcome, (server, database), (into, f"{database}_copy"), client)
    except (NotDone, servers.ServerFailed, subprocess.TimeoutExpired, psycopg.Error) as error:
        outcome.wrong.append(_last_words(str(error)))
    finally:
        for place, name in ((server, database), (into, f"{database}_copy"), (into, f"{database}_plain")):
            place.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)', "postgres")
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


def _round_trip(outcome: Outcome, source: Place, copy: Place, client: str) -> None:
    server, database = source
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        _run(outcome, place, source, client, "backup-postgres.sh")
        _run(outcome, place, source, client, "verify-backups.sh")
        file = place / server.name / f"{database}_LATEST.sql.gz"
        words = ["public", str(file), "--into", copy[1], "--yes"]
        try:
            _run(outcome, place, (copy[0], database), client, "restore-postgres.sh", *words)
        except NotDone as failed:
            outcome.refused = _refusal_by_psql(source, copy[0])
            if not outcome.refused or "--keep-going" not in str(failed):
                raise
            try:
                _run(outcome, place, (copy[0], database), client, "restore-postgres.sh", *words, "--keep-going")
                outcome.wrong = equality.differences(source, copy)
            except NotDone as left:
                lost = re.findall(r"not as it was:\s+(.*)", str(left))
                if not lost:
                    raise
                outcome.wrong = [*equality.other_rows(source, copy), f"all rows by --keep-going, but no {lost[0]}"]
            return
    found = [] if outcome.into else equality.differences(source, copy)
    found = [text for text in found if not any(re.search(of, text) for of in outcome.schema.no_fault)]
    if found or outcome.into:
        outcome.wrong = equality.differences(_plain(source, copy[0]), copy) + equality.other_rows(source, copy)
        outcome.spelled = [] if outcome.wrong else found
        outcome.wrong = found if found and outcome.wrong else outcome.wrong


def _run(outcome: Outcome, place: Path, of: Place, client: str, name: str, *arguments: str) -> None:
    begun = time.monotonic()
    with round_trip.reached(*of, client) as (settings, path):
        done = round_trip.script(place, {"public": settings}, name, *arguments, path=path)
    outcome.seconds[name] = time.monotonic() - begun
    if done.returncode != 0:
        raise NotDone(f"{name} ended with {done.returncode}: {done.stderr.strip()}")


def _refusal_by_psql(source: Place, into: Server) -> str:
    """Why psql alone cannot load what pg_dump writes of it, "" if it can."""
    try:
        _plain(source, into)
    except servers.ServerFailed as error:
        return next((said.partition("ERROR:")[2].strip() for said in str(error).splitlines() if "ERROR:" in said), "")
    return ""


def _plain(source: Place, into: Server) -> Place:
    """What pg_dump and psql alone make of a database, beside its copy."""
    server, database = source
    dump = servers.docker("exec", server.id, "pg_dump", "-U", server.user, "-d", database).stdout
    into.sql(f'CREATE DATABASE "{database}_plain" TEMPLATE template0', "postgres")
    command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", into.user, "-d", f"{database}_plain"]
    into.exec(command, stdin=dump)
    return into, f"{database}_plain"


def _last_words(text: str) -> str:
    return " ".join(text.split())[:1500]


if __name__ == "__main__":
    sys.exit(main())
