"""Two installations on one host have units of the same names: each takes away only what starts itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pgbackup.host.scheduling import installed, unit_owner, units

from tests.unit.test_units import ALL, GUIDE, TEMPLATES

ROOTS = ["/opt/x", "/srv/opt/x", "/opt/x/x", "/srv/a  place 100%/x", "/srv/ü", "/opt/x-2"]
SERVICES = [name for name in ALL if name.endswith(".service") and "failure" not in name]


def rendered(name: str, root: str) -> str:
    return units.rendered(TEMPLATES[name], replace(GUIDE, root=Path(root)))


def install(place: Path, root: str, *names: str) -> None:
    for name in names:
        (place / name).write_text(rendered(name, root))


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("name", SERVICES)
def test_a_service_tells_which_installation_it_starts(name: str, root: str) -> None:
    assert unit_owner.installation_of(rendered(name, root)) == Path(root)


@pytest.mark.parametrize(
    ("line", "root"),
    [
        ("ExecStart=-/opt/x/scripts/backup-postgres.sh auth", "/opt/x"),
        ("ExecStart=/bin/sh -c 'nice /opt/x/scripts/backup-postgres.sh; true'", "/opt/x"),
        ('ExecStart="/opt/a b/scripts/backup-postgres.sh" -q', "/opt/a b"),
        ("ExecStart=/usr/bin/env A=b \\\n  /opt/x/scripts/verify-backups.sh", "/opt/x"),
        ("ExecStart=/usr/local/bin/my-backup.sh", None),
        ("ExecStart=/opt/x/scripts/backup-postgres.sh.old", None),
        ("#ExecStart=/opt/x/scripts/backup-postgres.sh\nExecStart=/bin/true", None),
        ("ExecStartPre=/opt/x/scripts/backup-postgres.sh", None),
        ("", None),
    ],
)
def test_so_does_one_that_somebody_has_edited(line: str, root: str | None) -> None:
    assert unit_owner.installation_of(f"[Service]\n{line}\n") == (Path(root) if root else None)


def removed(place: Path, root: str, monkeypatch: pytest.MonkeyPatch) -> tuple[set[str], list[str]]:
    monkeypatch.setattr(units, "DIRECTORY", place)
    changes, warnings = units.removals(units.NAMES, Path(root))
    return {change.path.name for change in changes if change.after is None}, warnings


def test_only_ones_own_are_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "/opt/x", *units.NAMES)
    assert removed(tmp_path, "/opt/x", monkeypatch)[0] == set(units.NAMES)
    for other in ROOTS[1:]:
        gone, warnings = removed(tmp_path, other, monkeypatch)
        assert gone == set()
        assert any("stays: it starts /opt/x/scripts/backup-postgres.sh" in warning for warning in warnings)
    assert removed(tmp_path / "absent", "/opt/x", monkeypatch) == (set(), [])


def test_where_each_has_one_service_each_takes_its_own_with_its_timer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "/opt/x", *units.NAMES)
    install(tmp_path, "/srv/y", "postgres-verify.service")
    assert removed(tmp_path, "/opt/x", monkeypatch)[0] == {
        units.SERVICE,
        units.TIMER,
        "postgres-drill.service",
        units.DRILL_TIMER,
    }
    assert removed(tmp_path, "/srv/y", monkeypatch)[0] == {"postgres-verify.service", "postgres-verify.timer"}


def test_what_a_removal_has_left_half_done_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = (*units.TIMERS, "postgres-backup-failure@.service")
    install(tmp_path, "/opt/x", *left)
    assert removed(tmp_path, "/opt/x", monkeypatch)[0] == set(left)


def test_a_set_up_that_takes_units_over_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "DIRECTORY", tmp_path)
    before, after = rendered(units.SERVICE, "/opt/x"), rendered(units.SERVICE, "/srv/y")
    change = installed.Change(tmp_path / units.SERVICE, before, after)
    (said,) = units.taken_over([change], Path("/srv/y"))
    assert "it starts /opt/x/scripts/backup-postgres.sh" in said
    assert units.taken_over([replace(change, after=before), replace(change, before=None)], Path("/srv/y")) == []
    assert units.taken_over([replace(change, before=after)], Path("/srv/y")) == []
