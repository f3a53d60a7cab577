"""State of a WAL archive that was lost, cut or made anew behind its back; the server speaks German: rows 87 to 92.

One server, which the tests leave as they found it: WAL arrives behind a base backup.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from pgbackup.store.state.statefile import Newer

from tests.support import archives, languages
from tests.support.archives import Lab
from tests.support.effort import chosen, wide

SLOT = "pgbackup_payment"
CONTENTS = ("", '{"version": 1', '{"version": 1, "owner": 7}')


@pytest.fixture(scope="module")
def lab(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    where = tmp_path_factory.mktemp("pitr")
    settings = {"max_wal_size": "64MB"}
    with archives.archived(15, where, started=False, durable=False, settings=settings) as made:
        languages.speak(made.server)
        with pytest.raises(Exception, match="existiert nicht"):
            made.server.sql("SELECT pg_drop_replication_slot('none')")
        made.server.sql("CREATE TABLE payments (id serial PRIMARY KEY)")
        made.server.sql("CREATE ROLE clerk LOGIN REPLICATION; GRANT pg_read_all_stats TO clerk")
        made.agree()
        made.start()
        made.await_well()
        yield made


def lose_wal(lab: Lab) -> None:
    for _ in range(6):
        lab.server.sql("INSERT INTO payments DEFAULT VALUES")
        lab.server.sql("SELECT pg_switch_wal()")
    lab.server.sql("CHECKPOINT")


def gaps(lab: Lab) -> int:
    return lab.log().count("event=wal.gap")


@pytest.mark.fault(91, "WAL is gone behind a slot that somebody has made anew; the server speaks German")
@wide("user", ["clerk"], ["payment_user", "clerk"])
def test_wal_that_is_gone_is_known_whatever_language_the_server_speaks(lab: Lab, user: str) -> None:
    """Also to a role that may not see the server's files, and so not whether WAL is still there."""
    before, bases = gaps(lab), len(lab.look().bases)
    lab.stop()
    lab.settings["PAYMENT_USER"] = user
    lab.server.sql(f"SELECT pg_drop_replication_slot('{SLOT}')")
    lose_wal(lab)
    lab.server.sql(f"SELECT pg_create_physical_replication_slot('{SLOT}', true)")
    lab.start()
    lab.until(lambda: gaps(lab) > before)
    lab.until(lambda: len(lab.look().bases) > bases)
    lab.await_well()
    assert gaps(lab) == before + 1
    lab.settings.clear()


@pytest.mark.fault(89, "a slot dropped twice within one segment")
def test_a_slot_that_is_dropped_again_and_again_is_made_anew_each_time(lab: Lab) -> None:
    for _ in range(chosen(2, 3)):
        before = gaps(lab)
        lab.stop()
        lab.server.sql(f"SELECT pg_drop_replication_slot('{SLOT}')")
        lab.server.sql("INSERT INTO payments DEFAULT VALUES")
        lab.start()
        lab.until(lambda: gaps(lab) > before)  # noqa: B023
        lab.await_well()
        lab.await_confirmed()
    assert "None" not in lab.log() + lab.said()


@pytest.mark.fault(90, "state files that are damaged while the receiver runs")
@wide(
    "damage",
    [{"archive.json": "", "receiver.json": '{"version": 1, "owner": 7}'}],
    [{file: content} for file in ("archive.json", "receiver.json") for content in CONTENTS],
)
def test_the_receiver_writes_its_damaged_state_anew(lab: Lab, damage: dict[str, str]) -> None:
    before = {file: json.loads((lab.archive_path / file).read_text()) for file in damage}
    for file, content in damage.items():
        (lab.archive_path / file).write_text(content)
    for file, content in damage.items():
        path = lab.archive_path / file
        lab.until(lambda: path.read_text() != content)  # noqa: B023
        now = json.loads(path.read_text())
        assert now.keys() == before[file].keys()
        assert file == "receiver.json" or now == before[file]
    lab.await_confirmed()
    lab.await_well()


@pytest.mark.fault(90, "state files that are damaged while no receiver runs")
def test_damaged_state_is_a_row_beside_a_bad_dump_and_the_set_up_mends_it(lab: Lab) -> None:
    assert lab.run("backup-postgres.sh", "-q").returncode == 0
    dump = next(path for path in (lab.place / "payment").glob("payment_db_2*.sql.gz") if not path.is_symlink())
    whole, state = dump.read_bytes(), (lab.archive_path / "archive.json").read_text()
    slot = "SELECT slot_name, restart_lsn FROM pg_replication_slots"
    lab.stop()
    kept = lab.server.sql(slot)
    try:
        dump.write_bytes(whole[:-100])
        for content in ("", '{"version": 9}'):
            (lab.archive_path / "archive.json").write_text(content)
            done = lab.run("verify-backups.sh")
            assert done.returncode == 65
            assert "archive.json" in done.stderr
            assert f"'{dump}' is bad" in done.stderr
            assert "BAD" in done.stdout
            assert "NOT all good" in done.stdout
    finally:
        dump.write_bytes(whole)
    with pytest.raises(Newer, match="newer version"):
        lab.agree()
    (lab.archive_path / "archive.json").write_text("{")
    refused = lab.run("receive-wal.sh", "payment")
    assert refused.returncode == 73
    assert "setup-wal-archiving.sh" in refused.stderr
    lab.agree()
    assert lab.server.sql(slot) == kept, "the slot is kept, for WAL would be lost with it"
    mended = json.loads((lab.archive_path / "archive.json").read_text())
    assert mended == {**json.loads(state), "keep_was_set": False}
    (lab.archive_path / "archive.json").write_text(state)
    lab.start()
    lab.await_well()
