"""A dump that PostgreSQL itself cannot replay: what stands in the way is told, and there is a way to all rows."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import backups, restores, servers
from tests.support.effort import wide
from tests.support.restores import Lab

ROWS = "CREATE TABLE n (id int, path ltree); INSERT INTO n SELECT i, i::text::ltree FROM generate_series(1, 70) AS i;"
# What makes it; what must stand in the message; a query whose answer must be the same. A dump cannot be replayed of any
# of these, for names that only the database's own search_path finds, or an order that is not the dump's.
REPAIRED = {
    "a trigger's condition": (
        f"CREATE EXTENSION ltree; {ROWS} CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN RETURN NULL; END$$; CREATE TRIGGER g AFTER UPDATE ON n FOR EACH ROW"
        " WHEN (OLD.path IS DISTINCT FROM NEW.path) EXECUTE FUNCTION f()",
        ["TRIGGER n g in schema public", "operator does not exist", "search_path"],
        "SELECT tgname FROM pg_trigger",
    ),
    "an index": (
        "CREATE EXTENSION cube; CREATE EXTENSION earthdistance; CREATE TABLE s (lat float8, lon float8);"
        " INSERT INTO s SELECT n, n FROM generate_series(1, 70) AS n;"
        " CREATE INDEX at ON s USING gist (ll_to_earth(lat, lon))",
        ["INDEX at in schema public", 'type "earth" does not exist', "search_path"],
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
    ),
    "a materialized view": (
        "CREATE TABLE n AS SELECT generate_series(1, 70) AS id;"
        " CREATE FUNCTION c() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM n';"
        " CREATE MATERIALIZED VIEW v AS SELECT c(); CREATE UNIQUE INDEX ON v (c)",
        ["MATERIALIZED VIEW DATA v in schema public", 'relation "n" does not exist', "search_path"],
        "SELECT * FROM v",
    ),
    "a materialized view behind a statement with a warning": (
        "CREATE DOMAIN kind AS text; CREATE FUNCTION told(kind) RETURNS json LANGUAGE sql AS 'SELECT to_json(1)';"
        " CREATE CAST (kind AS json) WITH FUNCTION told(kind); CREATE TABLE n AS SELECT generate_series(1, 70) AS id;"
        " CREATE FUNCTION c() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM n';"
        " CREATE MATERIALIZED VIEW v AS SELECT c()",
        ["MATERIALIZED VIEW DATA v in schema public", 'relation "n" does not exist'],
        "SELECT * FROM v",
    ),
    "a search_path of the database's own": (
        "CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.n AS SELECT 1 AS id; CREATE TABLE b.n AS SELECT 2 AS id;"
        " CREATE FUNCTION public.c() RETURNS int LANGUAGE sql STABLE AS 'SELECT id FROM n';"
        " SET search_path = b, public; CREATE MATERIALIZED VIEW public.v AS SELECT public.c()",
        ["MATERIALIZED VIEW DATA v in schema public"],
        "SELECT * FROM public.v",
    ),
    "a constraint that looks into another table": (
        "CREATE TABLE zz_kinds (k text PRIMARY KEY); CREATE FUNCTION known(text) RETURNS boolean LANGUAGE sql STABLE AS"
        " 'SELECT EXISTS (SELECT FROM public.zz_kinds WHERE k = $1)';"
        " CREATE TABLE aa_items (k text CHECK (public.known(k)));"
        " CREATE TABLE log (k text); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN INSERT INTO public.log VALUES (NEW.k); RETURN NEW; END$$;"
        " INSERT INTO zz_kinds VALUES ('a'), ('b'); INSERT INTO aa_items VALUES ('a'), ('b');"
        " CREATE TRIGGER note AFTER INSERT ON aa_items FOR EACH ROW EXECUTE FUNCTION note()",
        ["TABLE DATA aa_items in schema public", "aa_items_k_check"],
        "SELECT k, (SELECT count(*) FROM log) FROM aa_items ORDER BY 1",
    ),
}
# As the trigger; as the view behind a warning, both.
LIKE_ANOTHER = ("an index", "a materialized view", "a search_path of the database's own")
BROKEN = {
    "rows that are there twice": (
        "CREATE TABLE u (email text CONSTRAINT u_email UNIQUE); INSERT INTO u VALUES ('a@example.org');"
        " UPDATE pg_index SET indisready = false, indisvalid = false WHERE indexrelid = 'u_email'::regclass;"
        " INSERT INTO u VALUES ('a@example.org');"
        " UPDATE pg_index SET indisready = true, indisvalid = true WHERE indexrelid = 'u_email'::regclass",
        ["CONSTRAINT u u_email in schema public", "Key (email)=(a@example.org) is duplicated"],
        "SELECT * FROM u",
    ),
    "rows that refer to nothing": (
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (p int REFERENCES parent);"
        " SET session_replication_role = replica; INSERT INTO child VALUES (999)",
        ["FK CONSTRAINT child child_p_fkey in schema public", 'Key (p)=(999) is not present in table "parent"'],
        "SELECT * FROM child",
    ),
    "rows that break a rule which was changed": (
        "CREATE FUNCTION good(int) RETURNS boolean LANGUAGE sql AS 'SELECT true';"
        " CREATE TABLE c (v int CHECK (good(v)));"
        " INSERT INTO c VALUES (1), (2);"
        " CREATE OR REPLACE FUNCTION good(int) RETURNS boolean LANGUAGE sql AS 'SELECT $1 > 1'",
        ["TABLE DATA c in schema public", "c_v_check"],
        "SELECT * FROM c ORDER BY 1",
    ),
}


@pytest.fixture(scope="module")
def shop(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with servers.running(15, name="pgbackup-test-going-", database="shop", user="shop") as server:
        yield restores.in_container(server, tmp_path_factory.mktemp("going"))


@pytest.fixture
def lab(shop: Lab) -> Lab:
    for name in shop.databases():
        shop.sql(f"DROP DATABASE {restores.quoted(name)} WITH (FORCE)")
    shop.sql("CREATE DATABASE shop")
    return shop


def value_is_told_and_not_written(lab: Lab, ended: backups.Ended, value: str) -> None:
    assert value in ended.stderr
    assert not any(value in line for line in lab.place.log())


@wide("case", [case for case in REPAIRED if case not in LIKE_ANOTHER], REPAIRED)
@pytest.mark.fault(113, "statements that cannot be replayed in the dump's order or search_path")
def test_what_only_needs_another_order_or_search_path_is_repaired_and_swapped(lab: Lab, case: str) -> None:
    made, told, query = REPAIRED[case]
    if "own" in case:
        lab.sql("ALTER DATABASE shop SET search_path = b, public", "shop")
    lab.sql(made, "shop")
    before = lab.sql(query, "shop")
    file = lab.backup()
    refused = lab.restore("--yes", file.name)
    assert refused.status == 65, refused.stderr
    for words in [*told, "--keep-going"]:
        assert words in refused.stderr
    for words in ("is bad", "take an older"):
        assert words not in refused.stderr
    ended = lab.restore("--yes", "--keep-going", file.name)
    assert ended.status == 0, ended.stderr
    assert lab.sql(query, "shop") == before


@wide("case", ["rows that are there twice", "rows that break a rule which was changed"], BROKEN)
@pytest.mark.fault(114, "rows that break their own rules")
def test_rows_that_break_their_own_rules_are_all_restored_but_never_swapped_in_unasked(lab: Lab, case: str) -> None:
    made, told, query = BROKEN[case]
    lab.sql(made, "shop")
    before = lab.sql(query, "shop")
    file = lab.backup()
    refused = lab.restore("--yes", file.name)
    assert refused.status == 65, refused.stderr
    for words in [*told, "--keep-going"]:
        assert words in refused.stderr
    beside = lab.restore("--yes", "--keep-going", "--into", "copy", file.name)
    assert beside.status == 65, beside.stderr
    assert "not as it was" in beside.stderr
    assert sorted(map(str, lab.sql(query, "copy"))) == sorted(map(str, before))
    kept = lab.restore("--yes", "--keep-going", "--keep-failed", file.name)
    assert kept.status == 65, kept.stderr
    assert "nothing was swapped" in kept.stderr
    assert lab.kept() == []
    (scratch,) = lab.scratch()
    assert sorted(map(str, lab.sql(query, scratch))) == sorted(map(str, before))
    if "Key" in told[1]:
        value_is_told_and_not_written(lab, refused, told[1].partition("=")[2].partition(")")[0])


@wide("typed", ["shop"], ["shop", "yes"])
@pytest.mark.fault(114, "what is not as it was, and a person who sees the list")
def test_a_person_who_has_seen_the_list_may_have_it_swapped_in(lab: Lab, typed: str) -> None:
    lab.sql(BROKEN["rows that refer to nothing"][0], "shop")
    file = lab.backup()
    lab.sql("DELETE FROM child", "shop")
    ended = restores.on_terminal(
        lab.command("--yes", "--keep-going", file.name), lab.place.environment, f"{typed}\n".encode()
    )
    assert ended.status == 65, ended.screen
    assert lab.sql("SELECT * FROM child", "shop") == ([(999,)] if typed == "shop" else [])
    assert "FK CONSTRAINT child child_p_fkey" in ended.screen


@pytest.mark.fault(114, "many failures in one dump")
def test_all_that_fails_in_one_dump_is_passed_over_and_the_rest_is_there(lab: Lab, tmp_path: Path) -> None:
    """Many at once, rows of a table that cannot be made among them: they are no statements."""
    assert lab.server
    lab.sql("CREATE TABLE fine AS SELECT generate_series(1, 1000) AS n", "shop")
    for made in (REPAIRED["a trigger's condition"][0], REPAIRED["a constraint that looks into another table"][0]):
        lab.sql(made, "shop")
    lab.sql(BROKEN["rows that refer to nothing"][0], "shop")
    text = lab.server.exec(["pg_dump", "-U", "shop", "shop"]).stdout
    lost = "CREATE TABLE public.gone (a public.no_such_type);\n\nCOPY public.gone (a) FROM stdin;\n"
    lost += "'; DROP TABLE fine; --\nDELETE FROM public.fine;\n\\.\n\n"
    lost += "CREATE EVENT TRIGGER e ON sql_drop EXECUTE FUNCTION gone();\n"
    at = text.index("--\n-- Data for Name: fine;")
    file = lab.directory / "shop_manual_20240115_143000.sql"
    head = "SET xmloption = content;"
    assert head in text
    file.write_text((text[:at] + lost + text[at:]).replace(head, f"SET no_such_setting = 1;\n{head}"))
    subprocess.run(["gzip", "-f", file], check=True)
    ended = lab.restore("--yes", "--keep-going", "--into", "copy", f"{file.name}.gz")
    assert ended.status == 65, ended.stderr
    for words in (
        "no_such_setting",
        "no_such_type",
        'relation "public.gone" does not exist',
        "child_p_fkey",
        "an event trigger",
    ):
        assert words in ended.stderr
    for query in (
        "SELECT count(*) FROM fine",
        "SELECT count(*) FROM aa_items",
        "SELECT tgname FROM pg_trigger WHERE tgname = 'g'",
    ):
        assert lab.sql(query, "copy") == lab.sql(query, "shop")
