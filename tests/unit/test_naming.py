"""The names of the databases that a restore makes: each one says whose it is."""

from __future__ import annotations

from datetime import datetime, timezone
from itertools import product

import pytest
from pgbackup.sql import naming

WHEN = datetime(2024, 1, 15, 13, 37, tzinfo=timezone.utc)
LONG = "orders_of_the_whole_company_production"
ALIKE = [
    *(f"{LONG}_eu", f"{LONG}_us", LONG, LONG[:32], LONG[:24]),
    *("shop", "shop_before", "shop_before_before", "shop_restore", "shop_before_restore"),
    *("д" * 30, "д" * 31, "д" * 16, "x" * 63),
]


@pytest.mark.parametrize("database", ALIKE)
@pytest.mark.parametrize("infix", [naming.SCRATCH, naming.BEFORE])
def test_no_two_databases_have_derived_names_in_common(database: str, infix: str) -> None:
    name = naming.derived(database, infix, WHEN)
    assert len(name.encode()) <= naming.LONGEST_BYTES
    assert name.startswith(naming.derived_prefix(database, infix))
    for other, kind in product(ALIKE, (naming.SCRATCH, naming.BEFORE)):
        if (other, kind) != (database, infix):
            prefix = naming.derived_prefix(other, kind)
            assert not (name.startswith(prefix) and len(name) == len(prefix) + 15), (other, kind)


def test_names_that_fit_are_as_they_always_were() -> None:
    stamp = f"{WHEN.astimezone():{naming.STAMP}}"
    assert naming.derived("shop", naming.BEFORE, WHEN) == f"shop_before_restore_{stamp}"
    assert naming.derived("x" * 32, naming.BEFORE, WHEN) == "x" * 32 + f"_before_restore_{stamp}"
    assert naming.derived("shop_before", naming.BEFORE, WHEN) == f"shop_before_before_restore_{stamp}"
