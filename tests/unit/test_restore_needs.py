"""What a restore needs and does not find, in sentences that say what to do."""

from __future__ import annotations

from typing import Any

import pytest
from pgbackup.database.questions import needs

FOUND: dict[str, Any] = {
    "begun": True, "user": "keeper", "superuser": False, "may_create": True, "exists": 1, "elsewhere": 1, "major": 15,
    "roles": ["keeper", "other"], "may_be": ["keeper"], "no_create": [], "untrusted": ["pg_stat_statements"],
    "extensions": {"hstore": "1.8", "shop": "1.1", "pg_stat_statements": "1.10"}, "tablespaces": ["pg_default"],
}  # fmt: skip


def test_a_role_that_may_do_everything_hears_nothing() -> None:
    assert needs.lasting(FOUND, {"owner": "keeper", "owners": [], "extensions": {"hstore": "1.8"}}) == []
    assert needs.lasting({**FOUND, "superuser": True}, {"owner": "other", "privileged": ["event triggers"]}) == []


@pytest.mark.parametrize(
    ("found", "server", "said"),
    [
        ({"begun": False}, {}, "the server's own port"),
        ({"may_create": False}, {}, "ALTER ROLE keeper CREATEDB"),
        ({"elsewhere": 0}, {}, "GRANT CONNECT ON DATABASE postgres TO keeper"),
        ({}, {"owner": "other"}, "GRANT other TO keeper"),
        ({}, {"owners": [{"owner": "other", "schema": "s", "schema_owner": "other"}]}, "GRANT other TO keeper"),
        ({"no_create": ["other in s"], "may_be": ["keeper", "other"]}, {}, "other in s"),
        ({}, {"extensions": {"pg_stat_statements": "1.10"}}, "only a superuser can make the extensions"),
        ({}, {"privileged": ["operator classes"]}, "only a superuser can make operator classes"),
        ({"user": 'Kee"per', "may_create": False}, {"owner": "keeper"}, 'ALTER ROLE "Kee""per" CREATEDB'),
    ],
)
def test_what_stands_in_the_way_is_named_with_what_to_do(
    found: dict[str, Any], server: dict[str, Any], said: str
) -> None:
    assert said in "; ".join(needs.lasting({**FOUND, **found}, {"owner": "keeper", **server}))


@pytest.mark.fault(129, "an extension in another version, for one database only, or not there")
def test_extensions_are_told_with_their_versions_and_where_they_can_be_made() -> None:
    (said,) = needs.other_versions(FOUND, {"extensions": {"shop": "1.0", "hstore": "1.8", "gone": "2"}})
    assert "shop was 1.0 and will be 1.1" in said
    assert "missing on the server: gone" in "; ".join(needs.of_this_backup(FOUND, {"extensions": {"gone": "2"}}, 15))
    (said,) = needs.of_this_backup({**FOUND, "extensions": {"pg_cron": "1.4"}}, {"extensions": {"pg_cron": "1.4"}}, 15)
    assert "rename it first" in said
    gone = {**FOUND, "exists": 0, "extensions": {"pg_cron": "1.4"}}
    assert needs.of_this_backup(gone, {"extensions": {"pg_cron": "1.4"}}, 15) == []
    assert needs.of_this_backup(FOUND, {}, 18) == ["the dump is from PostgreSQL 18, but the server is 15"]
