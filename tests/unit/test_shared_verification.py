"""Several pg_verifybackup share the large files of a base backup, and none is left out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pgbackup.database.cluster.throwaway import shared

_SIZES = st.dictionaries(st.text("ab/ö 1", min_size=1, max_size=6), st.integers(0, 1 << 32), max_size=40)


@given(_SIZES, st.integers(0, 5))
def test_each_file_is_read_by_one_of_them_and_a_large_one_by_no_other(sizes: dict[str, int], count: int) -> None:
    ignored = [set(each) for each in shared(sizes, count)]
    assert 1 <= len(ignored) <= max(1, count)
    for path, size in sizes.items():
        readers = sum(path not in each for each in ignored)
        assert readers >= 1
        assert readers == 1 or size < 1 << 20 or "ö" in path or " " in path


def test_the_work_is_dealt_out_evenly() -> None:
    sizes = {f"base/5/{number}": (number + 1) << 20 for number in range(20)}
    first, second = (sum(sizes[path] for path in each) for each in shared(sizes, 2))
    assert abs(first - second) <= 2 << 20
