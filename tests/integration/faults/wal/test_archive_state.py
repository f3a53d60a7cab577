"""State of a WAL archive that was lost, cut or made anew behind its back; the server speaks German: rows 87 to 92.

One server, which the tests leave as they found it: WAL arrives behind a base backup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support import archives, languages
from tests.support.archives import Lab

Note = Callable[..., None]
SLOT = "pgbackup_payment"


@pytest.fixture(scope="module")
def lab(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    where = tmp_path_factory.mktemp("pitr")
    options = {"started": False, "durable": False, "settings": {"max_wal_size": "64MB"}}
    with archives.archived(15, where, **options) as made:
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
@pytest.mark.parametrize("user", ["payment_user", "clerk"])
def test_wal_that_is_gone_is_known_whatever_language_the_server_speaks(lab: Lab, user: str) -> None:
    """Also to a role that may not see the server's files."""
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
    for _ in range(3):
        before = gaps(lab)
        lab.stop()
        lab.server.sql(f"SELECT pg_drop_replication_slot('{SLOT}')")
        lab.server.sql("INSERT INTO payments DEFAULT VALUES")
        lab.start()
        lab.until(lambda: gaps(lab) > before)  # noqa: B023
        lab.await_well()
        lab.await_confirmed()
    assert "None" not in lab.log() + lab.said()
