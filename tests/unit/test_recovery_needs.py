"""What a recovering server is given, from the beginning and when its log tells that something is missing."""

from __future__ import annotations

import pytest
from pgbackup.database.cluster import recovery_needs
from pgbackup.database.cluster.recovery_needs import Needs
from pgbackup.errors import BackupBad

_CONTROL = """
max_connections setting:              {connections}
max_worker_processes setting:         8
max_prepared_xacts setting:           {prepared}
max_locks_per_xact setting:           {locks}
"""


def _control(connections: int = 100, prepared: int = 0, locks: int = 64) -> str:
    return _CONTROL.format(connections=connections, prepared=prepared, locks=locks)


def _settings(found: Needs, megabytes: int = 2048, **target: str) -> dict[str, str]:
    lines = recovery_needs.configuration(target, found, megabytes).splitlines()
    return {name: value.strip("'") for name, value in (line.split(" = ", 1) for line in lines)}


@pytest.mark.parametrize(
    ("connections", "prepared", "locks"), [(100, 0, 64), (100, 0, 1024), (20, 300, 512), (5, 0, 9)]
)
def test_as_many_objects_can_be_locked_as_in_the_cluster(connections: int, prepared: int, locks: int) -> None:
    told = _settings(recovery_needs.known(_control(connections, prepared, locks), {}))
    backends = int(told["max_connections"]) + int(told["max_prepared_transactions"])
    assert backends * int(told["max_locks_per_transaction"]) >= 0.99 * locks * (connections + prepared)
    assert int(told["max_prepared_transactions"]) == prepared


def test_locks_take_at_most_a_quarter_of_the_memory() -> None:
    told = _settings(recovery_needs.known(_control(10_000, 0, 10_000), {}), 1024)
    assert int(told["max_locks_per_transaction"]) * int(told["max_connections"]) * 400 <= 256 << 20


def test_what_wal_has_raised_meanwhile_is_taken_over_and_nothing_is_lowered() -> None:
    first = recovery_needs.known(_control(prepared=10), {})
    assert (
        recovery_needs.further(first, _control(prepared=10), "LOG:  redo starts at 0/2\nFATAL:  something else")
        == first
    )
    raised = recovery_needs.further(
        first, _control(prepared=250), "FATAL:  maximum number of prepared transactions reached"
    )
    assert raised.prepared == 250
    assert recovery_needs.further(raised, _control(prepared=0), "") == raised


@pytest.mark.parametrize("path", ["/srv/late", '/srv/a "b" c', "/srv/ä does not exist", "/srv/two\nlines"])
def test_the_directory_of_a_later_tablespace_is_known_from_the_log(path: str) -> None:
    said = (
        f'2024-01-15 10:00:00 UTC [7] FATAL:  directory "{path}" does not exist\n'
        "2024-01-15 10:00:00 UTC [7] HINT:  Create this directory for the tablespace before restarting the server.\n"
        f'2024-01-15 10:00:00 UTC [7] CONTEXT:  WAL redo at 0/3000000 for Tablespace/CREATE: 16384 "{path}"'
    )
    first = recovery_needs.known(_control(), {})
    found = recovery_needs.further(first, _control(), said)
    assert found.directories == (path,)
    assert recovery_needs.further(found, _control(), said) == found


def test_a_directory_of_somebody_else_is_opened() -> None:
    said = 'FATAL:  could not set permissions on directory "/mnt/x": Operation not permitted'
    first = recovery_needs.known(_control(), {})
    found = recovery_needs.further(first, _control(), said)
    assert (found.directories, found.opened) == ((), ("/mnt/x",))
    assert recovery_needs.further(found, _control(), said) == found


def test_libraries_are_loaded_but_for_those_that_the_image_lacks() -> None:
    listed = 'pg_stat_statements, "My ""own""",auto_explain'
    first = recovery_needs.known(_control(), {"shared_preload_libraries": listed, "lc_monetary": "es_AR.utf8"})
    assert first.libraries == ("pg_stat_statements", 'My "own"', "auto_explain")
    found = recovery_needs.further(
        first, _control(), 'FATAL:  could not access file "auto_explain": No such file or directory'
    )
    assert (found.libraries, found.missing) == (first.libraries[:2], ("auto_explain",))
    assert (
        recovery_needs.further(
            found, _control(), 'LOG:  redo starts at 0/2\nFATAL:  could not access file "auto_explain"'
        )
        == found
    )
    told = _settings(found, recovery_target="immediate")
    assert told["shared_preload_libraries"] == '"pg_stat_statements", "My ""own"""'
    assert told["lc_monetary"] == "es_AR.utf8"
    assert told["recovery_target"] == "immediate"


def test_what_this_image_cannot_have_is_left_out_before_the_recovery_begins() -> None:
    origin = {"lc_monetary": "es_AR.utf8", "TimeZone": "Africa/Kampala", "shared_preload_libraries": "odd, house"}
    first = recovery_needs.known(_control(), origin)
    found = recovery_needs.further(first, _control(), 'LOG:  invalid value for parameter "lc_monetary": "es_AR.utf8"')
    assert found.origin == {name: value for name, value in origin.items() if name != "lc_monetary"}
    found = recovery_needs.further(found, _control(), "FATAL:  odd needs a licence")
    assert (found.libraries, found.missing) == ((), ("odd", "house"))
    assert recovery_needs.further(found, _control(), "FATAL:  it is something else") == found


def test_what_the_cluster_has_set_never_replaces_what_the_recovery_needs() -> None:
    told = _settings(
        recovery_needs.known(_control(), {"hot_standby": "on", "listen_addresses": "*", "lc_messages": "de_DE"})
    )
    assert (told["hot_standby"], told["listen_addresses"], told["lc_messages"]) == ("off", "", "C")


def test_a_value_that_would_be_a_line_of_its_own_is_refused() -> None:
    with pytest.raises(BackupBad):
        recovery_needs.configuration({"recovery_target_name": "x'\nshell = 'y"}, Needs(0, 0), 256)
    assert "'it''s'" in recovery_needs.configuration({"recovery_target_name": "it's"}, Needs(0, 0), 256)
