"""The systemd units: right for this host, tight, and what an operator wrote in them is kept."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from pgbackup.errors import ConfigurationError
from pgbackup.host.scheduling import installed, units
from pgbackup.host.scheduling.installed import Change

ROOT = Path(__file__).resolve().parents[2]
ALL = (*units.NAMES, units.WAL_SERVICE, *units.STATUS)
OTHERS = (units.WAL_SERVICE, units.STATUS_TIMER)
TEMPLATES = {name: (ROOT / "systemd" / name).read_text() for name in ALL}
GUIDE = units.Host(
    root=Path("/opt/payment-system/deployment"),
    backup_dir=Path("/opt/backups"),
    user="deployer",
    retention_days=7,
    over_network=False,
    used=(Path("/opt/payment-system/deployment"), Path("/opt/backups")),
    shown=(Path("/var/lib/prometheus/node-exporter"),),
)
needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze here")


@pytest.mark.parametrize("name", ALL)
def test_the_files_in_the_checkout_are_those_of_the_guides_host(name: str) -> None:
    assert units.rendered(TEMPLATES[name], GUIDE) == TEMPLATES[name]


def test_backup_and_drill_have_the_same_sandbox() -> None:
    backup, drill = (TEMPLATES[name].partition("UMask=")[2] for name in (units.SERVICE, "postgres-drill.service"))
    assert _settings(backup) == _settings(drill)


def _settings(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_the_guides_line_stands_by_itself() -> None:
    assert '\nEnvironment="RETENTION_DAYS=7"\n' in TEMPLATES[units.SERVICE]
    assert "\nOnCalendar=*-*-* 02:00:00\n" in TEMPLATES[units.TIMER]
    assert "\nPersistent=true\n" in TEMPLATES[units.TIMER]


def test_only_timers_and_receivers_are_installed_to_start_at_boot() -> None:
    assert {name for name, text in TEMPLATES.items() if "[Install]" in text} == {*units.TIMERS, *OTHERS}


def test_each_timer_has_an_hour_of_its_own() -> None:
    times = [re.findall(r"^OnCalendar=.* (\d\d):", TEMPLATES[name], re.MULTILINE) for name in units.TIMERS]
    assert times == [["02"], ["04"], ["05"]]


def test_every_failure_is_reported() -> None:
    for name in (units.SERVICE, "postgres-verify.service", "postgres-drill.service", units.WAL_SERVICE):
        assert "OnFailure=postgres-backup-failure@%n.service" in TEMPLATES[name]


@needs_systemd
@pytest.mark.parametrize("name", [name for name in ALL if name.endswith(".service")])
def test_the_exposure_is_small(name: str, tmp_path: Path) -> None:
    unit = tmp_path / name
    for over_network in (False, True):
        unit.write_text(units.rendered(TEMPLATES[name], replace(GUIDE, over_network=over_network)))
        argv = ["systemd-analyze", "--offline=true", "security", "--threshold=40", str(unit)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    assert subprocess.run(argv, capture_output=True, check=False).returncode != 0, "the checker is broken"


@needs_systemd
@pytest.mark.parametrize("name", ["plain", "two blanks", "100%", "ü"])
def test_systemd_finds_nothing_wrong_whatever_the_path(name: str, tmp_path: Path) -> None:
    root = tmp_path / name
    (root / "scripts").mkdir(parents=True)
    for script in ("backup-postgres.sh", "verify-backups.sh", "drill-backups.sh", "receive-wal.sh", "backup-status.sh"):
        (root / "scripts" / script).write_text("#!/bin/sh\n")
        (root / "scripts" / script).chmod(0o755)
    host = replace(GUIDE, root=root, backup_dir=root / "b k", used=(root, root / "b k"))
    paths = [tmp_path / unit for unit in ALL]
    for path in paths:
        path.write_text(units.rendered(TEMPLATES[path.name], host))
    argv = ["systemd-analyze", "verify", "--man=no", *map(str, paths)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert not [line for line in done.stderr.splitlines() if str(tmp_path) in line or "postgres-" in line]
    paths[0].write_text(paths[0].read_text().replace("Type=oneshot", "Typ=oneshot"))
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "Typ" in done.stderr, "the checker is broken"


@pytest.mark.parametrize("char", ['"', "'", "\\", "$", "`", "*", "?", "[", "{", "\n", "\t"])
def test_a_path_that_would_be_read_as_something_else_is_refused(char: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written into a schedule"):
        units.check_path(Path(f"/opt/a{char}b"))


def test_a_database_over_the_network_opens_the_network_and_only_that() -> None:
    text = units.rendered(TEMPLATES[units.SERVICE], replace(GUIDE, over_network=True))
    changed = set(text.splitlines()) - set(TEMPLATES[units.SERVICE].splitlines())
    # The last one for the drill's server, which is the host's own there and may compile queries.
    opened = {"PrivateNetwork=no", "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6", "MemoryDenyWriteExecute=no"}
    assert changed == opened


def test_the_status_can_tell_of_a_disk_that_is_gone_and_of_one_elsewhere() -> None:
    status = units.STATUS[0]
    host = replace(GUIDE, backup_dir=Path("/srv/the backups"), state=Path("/srv/told"), shown=())
    paths = [line for line in units.rendered(TEMPLATES[status], host).splitlines() if line.startswith("ReadWrite")]
    backups = 'ReadWritePaths="-/srv/the backups"'
    assert paths == [backups, "ReadWritePaths=/srv/told", backups]
    assert "OnFailure=" not in TEMPLATES[status].replace("# No OnFailure=", ""), "it would start itself again and again"
    assert f"Wants={status}" in TEMPLATES["postgres-backup-failure@.service"]


def test_pings_open_the_network_and_only_that() -> None:
    text = units.rendered(TEMPLATES[units.SERVICE], replace(GUIDE, pings=True))
    changed = set(text.splitlines()) - set(TEMPLATES[units.SERVICE].splitlines())
    assert changed == {"PrivateNetwork=no", "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"}


@pytest.mark.parametrize("path", ["/home/deployer/.pgpass", "/root/backups", "/run/user/999/x"])
def test_what_lies_in_a_home_is_not_hidden(path: str) -> None:
    assert "ProtectHome=tmpfs\n" in TEMPLATES[units.SERVICE]
    text = units.rendered(TEMPLATES[units.SERVICE], replace(GUIDE, used=(*GUIDE.used, Path(path))))
    assert "ProtectHome=no\n" in text
    text = units.rendered(TEMPLATES[units.SERVICE], replace(GUIDE, used=(*GUIDE.used, Path("/homes/x"))))
    assert "ProtectHome=tmpfs\n" in text


# --- what an operator wrote

FIRST = units.merged(TEMPLATES[units.SERVICE], None, None, None)
NEWER = TEMPLATES[units.SERVICE].replace("TimeoutStopSec=60", "TimeoutStopSec=61")


def test_a_new_version_takes_the_place_of_the_old_one() -> None:
    assert units.merged(TEMPLATES[units.SERVICE], FIRST, None, None) == FIRST
    assert units.merged(NEWER, FIRST, None, None) == units.merged(NEWER, None, None, None) != FIRST


@pytest.mark.parametrize(
    "lines",
    [
        'Environment="RETENTION_DAYS=14"',
        'Environment="RETENTION_DAYS=14"\nEnvironment="MIN_BACKUPS=3"',
        "Environment = RETENTION_DAYS=14 MIN_BACKUPS=3",
        "# none\n".rstrip(),
    ],
)
def test_the_guides_edit_is_kept_by_an_upgrade(lines: str) -> None:
    edited = FIRST.replace('Environment="RETENTION_DAYS=7"', lines)
    assert edited != FIRST
    after = units.merged(NEWER, edited, None, None)
    assert lines in after
    if lines.startswith("#"):
        assert after == edited, "a comment is an edit by hand"
    else:
        assert "TimeoutStopSec=61" in after
        assert units.merged(NEWER, after, None, None) == after


def test_a_line_that_was_taken_out_stays_out_and_one_that_was_added_stays_in() -> None:
    without = FIRST.replace('Environment="RETENTION_DAYS=7"\n', "")
    assert "RETENTION_DAYS" not in units.merged(NEWER, without, None, None)
    verify = units.merged(TEMPLATES["postgres-verify.service"], None, None, None)
    more = verify.replace("[Service]\n", "[Service]\nEnvironment=DATABASES=auth\n")
    newer = TEMPLATES["postgres-verify.service"].replace("12h", "11h")
    after = units.merged(newer, more, None, None)
    assert "[Service]\nEnvironment=DATABASES=auth\n" in after and "11h" in after


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("TimeoutStopSec=60", "TimeoutStopSec=90"),
        ("UMask=0077\n", ""),
        ("Type=oneshot", "Type=oneshot\nNice=5"),
        ("# Installed", "# installed"),
    ],
)
def test_a_unit_with_other_edits_is_kept_whole(old: str, new: str) -> None:
    edited = FIRST.replace(old, new)
    assert installed.edited(edited, units.is_free)
    assert units.merged(NEWER, edited, None, None) == edited


def test_a_unit_that_is_none_of_the_suites_is_kept_whole() -> None:
    foreign = "[Timer]\nOnCalendar=daily\n"
    assert units.merged(TEMPLATES[units.TIMER], foreign, None, None) == foreign
    assert units.merged(TEMPLATES[units.TIMER], foreign, ["a", "b"], None) == "[Timer]\nOnCalendar=a\nOnCalendar=b\n"


def test_a_schedule_replaces_the_old_one_and_stays() -> None:
    timer = units.merged(TEMPLATES[units.TIMER], None, ["*-*-* 01:00:00", "Mon *-*-* 03:00:00"], None)
    assert re.findall(r"^OnCalendar=(.*)", timer, re.MULTILINE) == ["*-*-* 01:00:00", "Mon *-*-* 03:00:00"]
    assert not installed.edited(timer, units.is_free)
    assert units.merged(TEMPLATES[units.TIMER], timer, None, None) == timer


def test_the_account_that_is_asked_for_goes_in_even_by_hand() -> None:
    assert units.user_of(FIRST) == "deployer"
    edited = FIRST.replace("TimeoutStopSec=60", "TimeoutStopSec=90")
    after = units.merged(NEWER, edited, None, "ops")
    assert units.user_of(after) == "ops" and after.replace("User=ops", "User=deployer") == edited
    failure = TEMPLATES["postgres-backup-failure@.service"]
    assert "User=" not in units.merged(failure, None, None, "ops").replace("DynamicUser=", "")


# --- files below /etc


def test_a_file_is_written_whole_and_readable(tmp_path: Path) -> None:
    path = tmp_path / "unit"
    for text in ("one\n", "two \udce4\n"):
        installed.apply(Change(path, installed.read(path), text))
        assert installed.read(path) == text
        assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in tmp_path.iterdir()] == ["unit"]
    installed.apply(Change(path, installed.read(path), None))
    assert installed.read(path) is None


def test_a_masked_unit_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / units.TIMER
    path.symlink_to("/dev/null")
    with pytest.raises(ConfigurationError) as caught:
        installed.read(path)
    assert f"systemctl unmask {units.TIMER}" in (caught.value.hint or "")


def test_a_diff_has_what_changes_and_nothing_else(tmp_path: Path) -> None:
    assert Change(tmp_path, "a\n", "a\n").diff() == []
    assert Change(Path("/x"), None, "a\n").diff() == ["--- /dev/null", "+++ /x", "@@ -0,0 +1 @@", "+a"]
    assert Change(Path("/x"), "a\nb\n", "a\n").diff()[-1] == "-b"


def test_the_status_may_write_where_page_and_metrics_lie_and_nowhere_else() -> None:
    template = (ROOT / "systemd" / units.STATUS[0]).read_text()

    def written(host: units.Host) -> list[str]:
        return re.findall(r"^ReadWritePaths=(.*)$", units.rendered(template, host), re.MULTILINE)

    assert written(replace(GUIDE, shown=())) == ["-/opt/backups", "/var/lib/pgbackup", "-/opt/backups"]
    shown = replace(GUIDE, shown=(Path("/var/www/a page"), Path("/var/lib/prometheus/node-exporter")))
    assert written(shown)[2] == '"-/var/www/a page" -/var/lib/prometheus/node-exporter'
