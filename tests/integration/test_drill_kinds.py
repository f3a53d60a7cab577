"""Every kind of dump that cannot be loaded: its first night says so, with the reason and the object."""

from __future__ import annotations

import json

import pytest

from demo import servers as demo_servers
from tests.integration import test_keep_going as kinds
from tests.support import backups, drills, restores
from tests.support.backups import Source
from tests.support.effort import chosen, wide
from tests.support.restores import Lab

NEXT = (
    "CREATE FUNCTION helper(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + 1';"
    " CREATE FUNCTION next(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN helper($1); END';"
)
# What makes it, and what has to be told: the object, and the server's reason.
KINDS = {
    **{name: (made, told[:2]) for name, (made, told, _) in kinds.BROKEN.items()},
    **{name: (made, told[:2]) for name, (made, told, _) in kinds.REPAIRED.items() if "EXTENSION" not in made},
    "a trigger's condition": (
        "CREATE FUNCTION same(json, json) RETURNS bool LANGUAGE sql AS 'SELECT $1::text = $2::text';"
        " CREATE OPERATOR = (LEFTARG = json, RIGHTARG = json, FUNCTION = same); CREATE TABLE n (id int, j json);"
        " CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        " CREATE TRIGGER g AFTER UPDATE ON n FOR EACH ROW WHEN (OLD.j IS DISTINCT FROM NEW.j) EXECUTE FUNCTION f()",
        ["TRIGGER n g in schema public", "operator does not exist"],
    ),
    "an index": (
        f"{NEXT} CREATE TABLE n (id int); INSERT INTO n VALUES (1); CREATE INDEX at ON n (next(id))",
        ["INDEX at in schema public", "function helper(integer) does not exist"],
    ),
    "a helper that a constraint's function finds by its search_path": (
        drills.CANNOT_BE_LOADED,
        ["TABLE DATA prices in schema public", "function helper(integer) does not exist"],
    ),
    "a generated column": (
        f"{NEXT} CREATE TABLE n (id int, after int GENERATED ALWAYS AS (next(id)) STORED); INSERT INTO n VALUES (1)",
        ["TABLE DATA n in schema public", "function helper(integer) does not exist"],
    ),
    "a domain": (
        "CREATE FUNCTION helper(int) RETURNS bool LANGUAGE sql AS 'SELECT $1 > 0';"
        " CREATE FUNCTION fits(int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN helper($1); END';"
        " CREATE DOMAIN cents AS int CHECK (fits(VALUE)); CREATE TABLE n (id cents); INSERT INTO n VALUES (1)",
        ["TABLE DATA n in schema public", "function helper(integer) does not exist"],
    ),
    "rows that overlap": (
        "CREATE TABLE r (span int4range, CONSTRAINT apart EXCLUDE USING gist (span WITH &&));"
        " INSERT INTO r VALUES ('[1,5)');"
        " UPDATE pg_index SET indisready = false, indisvalid = false WHERE indexrelid = 'apart'::regclass;"
        " INSERT INTO r VALUES ('[4,9)');"
        " UPDATE pg_index SET indisready = true, indisvalid = true WHERE indexrelid = 'apart'::regclass",
        ["CONSTRAINT r apart in schema public", 'could not create exclusion constraint "apart"'],
    ),
}
SHORT = [  # of the rest, the like
    "rows that are there twice",
    "rows that refer to nothing",
    "a materialized view",
    "a constraint that looks into another table",
    "an index",
    "a generated column",
    "a helper that a constraint's function finds by its search_path",
]
TRIED = chosen(SHORT, list(KINDS))
OWN_PATH = "a search_path of the database's own"
GOOD = "good"


@pytest.fixture(scope="module")
def names() -> dict[str, str]:
    """The name in DATABASES, and of the database, to the kind; one that is good is among them."""
    return {f"kind{number}": kind for number, kind in enumerate([GOOD, *TRIED])}


@pytest.fixture(scope="module")
def lab(embedded: demo_servers.Server, names: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A server with a database of each kind."""
    lab = restores.direct(embedded, tmp_path_factory.mktemp("kinds"))
    sources = []
    for name, kind in names.items():
        lab.sql(f"CREATE DATABASE {name}")
        if kind == OWN_PATH:
            lab.sql(f"ALTER DATABASE {name} SET search_path = b, public")
        lab.sql(KINDS[kind][0] if kind != GOOD else "CREATE TABLE n AS SELECT 1 AS id", name)
        values = {**lab.source.values, "DATABASE": name, "URL": lab.dsn(name)}
        sources.append(Source(name, name, b"", values, lab.source.sql, lab.source.said))
    without = {f"{name.upper()}_{key}": "" for name in names for key in ("SERVICES", "HEALTH_URL")}
    place = backups.place(lab.place.path, sources, **without, DRILL_AFTER_BACKUP="yes")
    return Lab(place, sources[0], lab.dsn)


@pytest.fixture(scope="module")
def night(lab: Lab) -> backups.Ended:
    """One run of all."""
    return lab.place.end(drills.start(lab, "scripts/backup-postgres.sh", "--json"), seconds=600)


def told(ended: backups.Ended, name: str) -> str:
    """What was said of one database."""
    said = ended.stderr.split("backup-postgres.sh: ")
    return "".join(part for part in said if part.startswith(f"{name}: "))


def test_a_good_one_among_them_passes_and_the_run_has_failed(
    night: backups.Ended, lab: Lab, names: dict[str, str]
) -> None:
    found = {one["target"]: one for one in json.loads(night.stdout)["databases"]}
    assert {names[name]: one["drill"] for name, one in found.items()} == {
        kind: "passed" if kind == GOOD else "failed" for kind in names.values()
    }
    assert {names[name]: one["status"] for name, one in found.items()} == {
        kind: 0 if kind == GOOD else 65 for kind in names.values()
    }
    assert night.status == 1, night.stderr  # some failed, and others did not
    assert len(lab.files()) == len(names), "what cannot be restored is published all the same"


@wide("kind", SHORT, KINDS)
@pytest.mark.fault(160, "each kind of dump that cannot be loaded")
def test_its_first_night_names_the_reason_and_the_object(
    night: backups.Ended, lab: Lab, names: dict[str, str], kind: str
) -> None:
    (name,) = [name for name, one in names.items() if one == kind]
    said = told(night, name)
    assert "the backup is published, but it cannot be restored: the dump could not be loaded: " in said
    for words in KINDS[kind][1]:
        assert words in said
    (line,) = [line for line in night.log if f" {name} event=drill.failed" in line]
    assert KINDS[kind][1][0] in line


def test_a_drill_by_hand_says_the_same(night: backups.Ended, lab: Lab, names: dict[str, str]) -> None:
    tried = list(names)[1 : chosen(3, len(names))]
    ended = drills.run(lab, "scripts/drill-backups.sh", *tried, "--json")
    made = {one["target"]: one for one in json.loads(ended.stdout)["drills"]}
    assert ended.status == 65, ended.stderr
    for name in tried:
        assert (made[name]["verdict"], made[name]["status"]) == ("failed", 65)
        for words in KINDS[names[name]][1]:
            assert words in ended.stderr
