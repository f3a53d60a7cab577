"""What PostgreSQL and Docker say when they fail becomes one sentence, an exit status and a next step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pgbackup.database.clients import failures
from pgbackup.database.loading import psql
from pgbackup.errors import BackupBad, IoFailed, PermissionDenied, Unavailable
from pgbackup.settings import config

TARGET = config.load({}, Path("/nonexistent/.env"), {}).targets[0]  # the guide's auth
LOOPBACK = 'psql: error: connection to server at "127.0.0.1", port 5432 failed: '

# What was said (PostgreSQL 15 to 18, Docker 20 to 29), the exception, words of the message, words of the hint.
SAID = [
    (
        "Error response from daemon: No such container: postgres-a",
        Unavailable,
        "container 'postgres-a' is not there or not running",
        "docker ps -a",
    ),
    ('Error: no such container "postgres-a"', Unavailable, "'postgres-a' is not there", "docker ps -a"),
    ("Error: inspecting object: no such object: postgres-a", Unavailable, "'postgres-a' is not there", "docker ps -a"),
    (
        'Error: no container with name or ID "postgres-a" found: no such container',
        Unavailable,
        "'postgres-a' is not there",
        "docker ps -a",
    ),
    (
        "Error: can only create exec sessions on running containers: container state improper",
        Unavailable,
        "'postgres-a' is not there or not running",
        "docker ps -a",
    ),
    ("Error: No such container: postgres-a", Unavailable, "'postgres-a' is not there", "docker ps -a"),
    ("Error response from daemon: Container 0a1b is not running", Unavailable, "'postgres-a'", "docker ps -a"),
    (
        "Error response from daemon: Container 0a1b is paused, unpause the container before exec",
        Unavailable,
        "is paused",
        "docker ps -a",
    ),
    (
        "Got permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock:"
        ' Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.24/x": dial unix /var/run/docker.sock: connect: permission denied',
        PermissionDenied,
        "may not use Docker",
        "usermod -aG docker",
    ),
    (
        "permission denied while trying to connect to the docker API at unix:///var/run/docker.sock",
        PermissionDenied,
        "may not use Docker",
        "usermod -aG docker",
    ),
    (
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        Unavailable,
        "Docker cannot be reached",
        "systemctl status docker",
    ),
    (
        "failed to connect to the docker API at unix:///none; check if the path is correct and if the daemon is"
        " running: dial unix /none: connect: no such file or directory",
        Unavailable,
        "Docker cannot be reached",
        "systemctl status docker",
    ),
    (
        LOOPBACK + 'FATAL:  database "auth_db" does not exist',
        Unavailable,
        "there is no database 'auth_db'",
        "AUTH_DATABASE",
    ),
    (LOOPBACK + 'FATAL:  role "auth_user" does not exist', PermissionDenied, "role 'auth_user'", "AUTH_USER"),
    (
        LOOPBACK + 'FATAL:  password authentication failed for user "auth_user"',
        PermissionDenied,
        "does not let role 'auth_user' in",
        "AUTH_PASSFILE",
    ),
    (LOOPBACK + "fe_sendauth: no password supplied", PermissionDenied, "no password supplied", "AUTH_PASSFILE"),
    (
        LOOPBACK + "FATAL:  sorry, too many clients already",
        Unavailable,
        "the server of 'auth_db' is out of connections",
        "max_connections",
    ),
    (
        LOOPBACK + "FATAL:  the database system is starting up",
        Unavailable,
        "does not accept connections: .*starting up",
        "docker logs --tail 20 postgres-a",
    ),
    (
        "pg_dump: error: query failed: ERROR:  permission denied for table secrets\n"
        "pg_dump: detail: Query was: LOCK TABLE public.secrets IN ACCESS SHARE MODE",
        PermissionDenied,
        "role 'auth_user' may not read everything in 'auth_db': .*table secrets",
        'GRANT pg_read_all_data TO "auth_user"',
    ),
    (
        "pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout\n"
        "pg_dump: detail: Query was: LOCK TABLE public.users IN ACCESS SHARE MODE",
        Unavailable,
        "stayed locked by another session: .*LOCK TABLE public.users",
        "LOCK_WAIT_SECONDS",
    ),
    (
        "pg_dump: error: aborting because of server version mismatch\n"
        "pg_dump: detail: server version: 18.1; pg_dump version: 15.18",
        Unavailable,
        "older than the server of 'auth_db': server version: 18.1; pg_dump version: 15.18",
        "AUTH_CLIENT=auto",
    ),
    (
        'pg_dump: error: Dumping the contents of table "t" failed: PQgetResult() failed.\n'
        "pg_dump: detail: Error message from server: ERROR:  canceling statement due to conflict with recovery\n"
        "DETAIL:  User query might have needed to see row versions that must be removed.\n"
        "pg_dump: detail: Command was: COPY public.t (id) TO stdout;",
        Unavailable,
        "the standby of 'auth_db' has cancelled the dump.*: .*due to conflict with recovery",
        "hot_standby_feedback = on",
    ),
    (
        "pg_dump: error: query failed: FATAL:  terminating connection due to conflict with recovery\n"
        "DETAIL:  User was holding a relation lock for too long.",
        Unavailable,
        "the standby of 'auth_db' has cancelled the dump",
        "max_standby_streaming_delay",
    ),
    (
        'pg_dump: error: Dumping the contents of table "t" failed: PQgetResult() failed.\n'
        "pg_dump: detail: Error message from server: ERROR:  invalid page in block 0 of relation base/5/16384",
        Unavailable,
        "pg_dump on 'auth_db' ended with status 1: .*table \"t\" failed",
        "docker logs",
    ),
]


@pytest.mark.parametrize(("said", "kind", "message", "hint"), SAID, ids=range(len(SAID)))
def test_each_failure_has_its_own_sentence(said: str, kind: type, message: str, hint: str) -> None:
    error = failures.explained(said, 1, "pg_dump", TARGET)
    assert type(error) is kind
    assert re.search(message, error.message), error.message
    assert hint in (error.hint or ""), error.hint


@pytest.mark.parametrize(("said", "kind", "message", "hint"), SAID, ids=range(len(SAID)))
def test_a_sentence_is_one_line_without_prefixes_and_place_holders(
    said: str, kind: type, message: str, hint: str
) -> None:
    error = failures.explained(said, 1, "pg_dump", TARGET)
    for text in (error.message, error.hint or ""):
        assert text.isprintable()
        assert not re.search(r"\{\w+\}|psql: error|Error response from daemon|[:]\s*$|; $", text), text


def test_without_words_the_status_is_told() -> None:
    assert failures.explained("", 137, "pg_dump", TARGET).message == (
        "pg_dump on 'auth_db' ended with status 137 and said nothing"
    )
    assert "was killed by signal 9" in failures.explained("", -9, "pg_dump", TARGET).message


def test_hostile_words_stay_on_one_line_and_short() -> None:
    error = failures.explained("pg_dump: error: \x1b[2J\r\x07" + "x" * 5000, 1, "pg_dump", TARGET)
    assert error.message.isprintable()
    assert len(error.message) < 400


def test_names_in_words_are_not_templates() -> None:
    error = failures.explained('FATAL:  database "{KEY}{reason}" does not exist', 1, "psql", TARGET)
    assert "{KEY}{reason}" in error.message


@pytest.mark.parametrize(
    "said",
    [
        "FATAL:  the database system is starting up",
        "FATAL:  the database system is in recovery mode",
        "FATAL:  the database system is not yet accepting connections",
        "FATAL:  sorry, too many clients already",
        "FATAL:  remaining connection slots are reserved for non-replication superuser connections",
        'FATAL:  too many connections for role "auth_user"',
        "Error response from daemon: Container 0a1b is paused, unpause the container before exec",
        LOOPBACK + "Connection refused",
        LOOPBACK + "timeout expired",
        'connection to server on socket "/var/run/postgresql/.s.PGSQL.5432" failed: No such file or directory',
    ],
)
def test_what_passes_is_waited_for(said: str) -> None:
    assert failures.passing(said)
    assert failures.passing(failures.explained(said, 2, "psql", TARGET).message)


@pytest.mark.parametrize("said", [said for said, *_ in SAID if "database" in said and "system" not in said])
def test_what_does_not_pass_is_not_waited_for(said: str) -> None:
    assert not failures.passing(failures.explained(said, 2, "psql", TARGET).message)


@pytest.mark.parametrize(
    "said",
    [
        'psql:<stdin>:9: ERROR:  could not extend file "base/16424/16439": No space left on device',
        'psql:<stdin>:9: ERROR:  could not extend file "base/16424/16439": wrote only 4096 of 8192 bytes at block 42',
        'psql:<stdin>:9: ERROR:  could not write to file "base/pgsql_tmp/1": No space left on device',
    ],
)
def test_a_full_disk_is_not_the_dumps_fault(said: str) -> None:
    error = psql.explained(said, 3, TARGET)
    assert isinstance(error, IoFailed) and "disk of the server of 'auth_db' is full" in error.message


def test_a_statement_that_fails_is_the_dumps_fault() -> None:
    error = psql.explained("psql:<stdin>:9: ERROR:  division by zero", 3, TARGET)
    assert isinstance(error, BackupBad) and "division by zero" in error.message


@pytest.mark.parametrize(
    "said",
    [
        "psql:<stdin>:9: WARNING:  57P02: terminating connection because of crash of another server process\n"
        "psql:<stdin>:9: server closed the connection unexpectedly\n"
        "\tThis probably means the server terminated abnormally\n\tbefore or while processing the request.\n",
        "psql:<stdin>:9: FATAL:  57P01: terminating connection due to administrator command\n",
    ],
)
def test_a_server_that_goes_away_in_a_statement_is_no_fault_of_the_dump(said: str) -> None:
    error = psql.explained(said, 3, TARGET)
    assert type(error) is Unavailable
    assert "connection" in error.message
