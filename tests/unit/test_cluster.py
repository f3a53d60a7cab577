"""What pg_dumpall writes of roles is read into facts, and nothing of its text is run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgbackup.errors import BackupBad
from pgbackup.sql import cluster
from pgbackup.sql.cluster import Globals, Grant, Role

END = f"\n--\n{cluster.COMPLETE}\n--\n\n"
TEXT = """\
--
-- PostgreSQL database cluster dump
--

\\restrict aB3

SET default_transaction_read_only = off;
SET standard_conforming_strings = on;

--
-- Roles
--

CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 5 \
PASSWORD 'SCRAM-SHA-256$4096:salt==$a=:b=' VALID UNTIL '2030-01-01 00:00:00+00';
COMMENT ON ROLE app IS 'it''s; -- \\x
two lines';
CREATE ROLE "Odd ""one"";";
ALTER ROLE "Odd ""one"";" WITH SUPERUSER NOLOGIN;
CREATE ROLE readers;
ALTER ROLE readers WITH NOLOGIN;

--
-- User Config "app"
--

ALTER ROLE app SET search_path TO 'shop', 'public';
ALTER ROLE app SET app.mode TO 'x';

GRANT readers TO app WITH ADMIN OPTION GRANTED BY postgres;
GRANT readers TO "Odd ""one"";" WITH INHERIT TRUE, SET FALSE GRANTED BY postgres;
GRANT SET ON PARAMETER work_mem TO app;
CREATE TABLESPACE fast OWNER app LOCATION '/srv/fast';

\\unrestrict aB3
"""
ODD = 'Odd "one";'


def test_roles_are_read_as_they_were() -> None:
    found = cluster.read(TEXT + END)
    attributes = ("NOSUPERUSER", "INHERIT", "NOCREATEROLE", "NOCREATEDB", "LOGIN", "NOREPLICATION", "NOBYPASSRLS")
    assert found.roles == {
        "app": Role(
            attributes, 5, "SCRAM-SHA-256$4096:salt==$a=:b=", "2030-01-01 00:00:00+00", "it's; -- \\x\ntwo lines"
        ),
        ODD: Role(("SUPERUSER", "NOLOGIN")),
        "readers": Role(("NOLOGIN",)),
    }
    assert found.grants == [
        Grant("readers", "app", {"ADMIN": True}),
        Grant("readers", ODD, {"INHERIT": True, "SET": False}),
    ]
    assert found.settings == [("app", "search_path", ("shop", "public")), ("app", "app.mode", ("x",))]
    assert found.left_out == ["GRANT SET ON PARAMETER work_mem TO", "CREATE TABLESPACE fast OWNER app LOCATION"]


def test_only_what_is_new_is_made() -> None:
    found = cluster.read(TEXT + END)
    made = cluster.role_statements(found, ["app"], 16)
    assert made[0].startswith('CREATE ROLE "app" WITH NOSUPERUSER') and "CONNECTION LIMIT 5" in made[0]
    assert made[1:] == [
        "COMMENT ON ROLE \"app\" IS E'it''s; -- \\\\x\ntwo lines'",
        'GRANT "readers" TO "app" WITH ADMIN TRUE',
        "ALTER ROLE \"app\" SET \"search_path\" TO 'shop', 'public'",
        'ALTER ROLE "app" SET "app"."mode" TO \'x\'',
    ]
    assert cluster.role_statements(found, ["app"], 15)[2] == 'GRANT "readers" TO "app" WITH ADMIN OPTION'
    assert cluster.role_statements(found, [], 16) == []


@pytest.mark.parametrize("cut", range(0, len(TEXT), 97))
def test_cut_anywhere_it_is_refused(cut: int) -> None:
    with pytest.raises(BackupBad):
        cluster.read(TEXT[:cut])


@pytest.mark.fault(147, "globals that somebody else has written")
@pytest.mark.parametrize(
    "line",
    [
        "\\! id",
        "\\connect postgres",
        "CREATE ROLE x; \\! id",
        "ALTER ROLE x WITH LOGIN ADMIN y;",
        "ALTER ROLE x WITH PASSWORD;",
        "ALTER ROLE x WITH PASSWORD secret;",
        "ALTER ROLE x SET a;",
        "ALTER ROLE x SET \"a b\" TO 'c';",
        "ALTER ROLE x SET a TO (SELECT 1);",
        "CREATE ROLE x IN ROLE y;",
        "GRANT a TO b WITH EVERYTHING;",
        "COMMENT ON ROLE x IS 'a' 'b';",
        "SELECT $$x$$;",
        "ALTER ROLE 'x' WITH LOGIN;",
        "SELECT 1",
        "`id`",
    ],
)
def test_what_pg_dumpall_does_not_write_is_refused(line: str) -> None:
    with pytest.raises(BackupBad, match="the globals"):
        cluster.read(TEXT + line + END)


@pytest.mark.fault(147, "globals that somebody else has written")
@pytest.mark.parametrize("line", ["DROP DATABASE auth_db;", "SELECT pg_read_file('/etc/passwd');", "DO 'x';"])
def test_other_statements_are_named_and_left_out(line: str) -> None:
    found = cluster.read(TEXT + line + END)
    assert len(found.left_out) == 3
    assert "/etc" not in found.left_out[2], "a text may be a secret"
    assert not any("DROP" in one or "pg_read" in one for one in cluster.role_statements(found, found.roles, 17))


@given(
    st.text(min_size=1).filter(lambda one: "\0" not in one),
    st.text().filter(lambda one: "\0" not in one),
    st.dictionaries(st.sampled_from(["ADMIN", "INHERIT", "SET"]), st.booleans()),
)
def test_any_name_and_text_comes_back(name: str, text: str, options: dict[str, bool]) -> None:
    role = Role(("LOGIN",), 3, text, text, text)
    said = Globals(
        {name: role, "other": Role(("LOGIN",))}, [Grant(name, "other", options)], [(name, "a.b", (text, ""))]
    )
    again = cluster.read(";\n".join([*cluster.role_statements(said, said.roles, 16), ""]) + END)
    assert again.roles.keys() == said.roles.keys() and again.roles[name].comment == text
    assert again.grants == said.grants and again.settings == said.settings
    assert again.left_out == []
