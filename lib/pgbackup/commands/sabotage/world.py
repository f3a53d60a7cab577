"""The throwaway set-up: a BACKUP_DIR, a place elsewhere, a schedule and a memory of alarms, all in one directory."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pgbackup import proc, wal
from pgbackup.commands.sabotage.server import NAME, Server
from pgbackup.errors import SuiteError
from pgbackup.host.channels import Alerts
from pgbackup.report.alarms import notify, remembered
from pgbackup.settings.config import Settings
from pgbackup.store import folder
from pgbackup.store.offsite import progress
from pgbackup.store.state import alarms, ledger, statefile, watch
from pgbackup.store.state.watch import Awake, Probe
from pgbackup.store.wal import archive
from pgbackup.store.wal.archive import Receiver, State
from pgbackup.store.wal.base_backups import RECORD, BaseBackupRecord

PLACE = "throwaway"
_PREFIX = "TEST of alarms, nothing is wrong:"
_SECONDS = 900
_AGO = timedelta(days=3)
_IMAGE = "sha256:0"
_JOBS = {
    "backup-postgres.sh": "0 2 * * *",
    "verify-backups.sh": "0 4 * * 0",
    "drill-backups.sh": "0 5 * * 3",
    "backup-status.sh": "*/4 * * * *",
}
# A schedule of its own: the host's is neither asked nor touched.
_CRONTAB = '#!/bin/sh\nexec cat "{path}"\n'
_NOBODY = "#!/bin/sh\nexit 1\n"


@dataclass
class World:
    """top: the directory of all of it. root: of the installation whose scripts are run."""

    top: Path
    root: Path
    server: Server
    environment: dict[str, str]

    @property
    def backups(self) -> Path:
        return self.top / "backups"

    @property
    def directory(self) -> Path:
        """Where the backups of the database lie."""
        return self.backups / NAME

    def run(self, script: str, *words: str) -> proc.Finished:
        """Run a script of the suite here, to its end, whatever comes of it."""
        own = {f"{NAME.upper()}_{key}": value for key, value in self.server.settings().items()}
        argv = [str(self.root / "scripts" / script), *words]
        return proc.run(argv, seconds=_SECONDS, variables={**self.environment, **own})

    def must(self, script: str, *words: str) -> None:
        """Run a script that has to succeed. Raise SuiteError."""
        ended = self.run(script, *words)
        if ended.status:
            said = (ended.stderr.splitlines() or [f"it ended with {ended.status}"])[0]
            raise SuiteError(f"the throwaway set-up does not work: {script}: {said}", "backup-status.sh; df -h /tmp")

    def back_up(self) -> None:
        """Make a good backup, which is then the only one: what was broken goes."""
        for old in self.directory.glob("*.sql.gz"):
            old.unlink()
        self.must("backup-postgres.sh", "-q")

    def newest(self) -> Path:
        """The newest backup's file."""
        return max(path for path in self.directory.glob("*.sql.gz") if not path.is_symlink())

    def age_backup(self) -> None:
        """Let the newest backup have been made three days ago, and all that was said of it since."""
        with folder.opened(self.directory, create=False) as place:
            if known := ledger.read(place, NAME):
                then = statefile.now() - _AGO
                made = [replace(one, taken=then) for one in known.backups]
                ledger.write(place, NAME, replace(known, backups=made, begun=then))

    def age_copy(self) -> None:
        """Let the newest copy elsewhere be of a backup that was made three days ago."""
        with folder.opened(progress.path_of(self.backups, PLACE), create=False) as own:
            progress.write(own, replace(progress.read(own), newest={NAME: statefile.now() - _AGO}))

    def archived(self, ago: timedelta = timedelta(0), base_bytes: int = 1 << 20) -> None:
        """Let there be a WAL archive whose receiver was last well that long ago, and a base backup of that size."""
        now = statefile.now()
        told, ended = now - ago, now - timedelta(hours=3)
        archive.path_of(self.backups, NAME).parent.mkdir(mode=0o700, exist_ok=True)
        with archive.opened(self.backups, NAME, create=True) as places:
            archive.write_state(places, State(NAME, 1, _IMAGE, 15, 16 << 20, keep_was_set=False, active=True))
            archive.write_receiver(places, Receiver(told, told, "0/1000110"))
            base = places.base.path / f"{ended:%Y%m%dT%H%M%SZ}"
            for old in places.base.path.glob("*/*"):
                old.unlink()
                old.parent.rmdir()
            base.mkdir(mode=0o700)
            record = BaseBackupRecord(
                1, 1, "0/1000028", "0/1000100", ended, "", _IMAGE, 15, {"base": "0"}, base_bytes, proven=True
            )
            with folder.opened(base, create=False) as place:
                statefile.write(place, RECORD, record)
            (places.wal.path / f"{wal.segment_name(wal.Segment(1, 1))}.gz").touch(0o600)

    def place_answers(self, yes: bool) -> None:
        """Let the place elsewhere be there, or away."""
        away = "type = sftp\nhost = 127.0.0.1\nport = 1\nuser = nobody\n"
        _write(self.top / "rclone.conf", f"[{PLACE}]\n{'type = local' if yes else away}\n")

    def schedule(self, *without: str) -> None:
        """Let the schedule have its jobs, but for those that start one of the scripts."""
        jobs = [f"{when} {self.root / 'scripts' / name}\n" for name, when in _JOBS.items() if name not in without]
        jobs.append(f"*/5 * * * * {self.root / 'scripts' / 'copy-backups.sh'}\n")
        _write(self.top / "crontab", "".join(jobs))

    def told(self) -> tuple[dict[str, Any], alarms.Alarms]:
        """Judge the promises and tell what has changed, as the schedule does; return the status, and what is known."""
        ended = self.run("backup-status.sh", "--scheduled", "--json")
        try:
            said = json.loads(ended.stdout)
            said["promises"]
        except (ValueError, KeyError, TypeError):
            reason = (ended.stderr.splitlines() or [f"it ended with {ended.status}"])[0]
            raise SuiteError(f"the throwaway set-up cannot be judged: {reason}") from None
        return said, remembered.look(self.top / "state", self.backups)


def made(top: Path, root: Path, settings: Settings, alerts: Alerts, server: Server) -> World:
    """Make the set-up in an empty directory, with a good backup that was verified, drilled and copied."""
    world = World(top, root, server, _environment(top, settings, alerts))
    for name in ("backups", "state", "place", "programs"):
        (top / name).mkdir(mode=0o700)
    _write(top / "channels", "".join(f"{one.url}\n" for one in alerts.channels if one.url))
    for program, text in (("crontab", _CRONTAB.format(path=top / "crontab")), ("systemctl", _NOBODY)):
        _write(top / "programs" / program, text)
        (top / "programs" / program).chmod(0o700)
    world.place_answers(True)
    world.schedule()
    now = statefile.now()
    _remember(world, alerts, now)
    server.sql("CREATE TABLE rows AS SELECT generate_series(1, 1000) AS id")
    for script in ("backup-postgres.sh", "verify-backups.sh", "drill-backups.sh", "copy-backups.sh"):
        world.must(script, "-q")
    return world


def _remember(world: World, alerts: Alerts, now: datetime) -> None:
    """As if the host were awake for long, nobody else had a database, and the alarms were tested."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with watch.opened(world.backups, create=True) as place:
        if place:
            watch.write_awake(place, Awake(now, boot, now - timedelta(days=7)))
            watch.write_probe(place, Probe(now, 1, 1))
    with notify.memory(world.top / "state", world.backups) as memory:
        held = alarms.with_test(alarms.Alarms(), now)
        for channel in alerts.channels:
            held = alarms.arrived(held, channel.key, now)
        alarms.write(memory, held)


def _environment(top: Path, settings: Settings, alerts: Alerts) -> dict[str, str]:
    """All that the scripts are to have otherwise than this host's settings say. Pings are none of it."""
    proxies = {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")}
    base = proc.environment(extra=proxies)
    upper = NAME.upper()
    return {
        **base,
        "PATH": f"{top / 'programs'}:{base['PATH']}",
        "BACKUP_DIR": str(top / "backups"),
        "BACKUP_MOUNT": "",
        "DATABASES": NAME,
        f"{upper}_DATABASE": NAME,
        f"{upper}_USER": NAME,
        f"{upper}_DIR": NAME,
        f"{upper}_SERVICES": "",
        f"{upper}_HEALTH_URL": "",
        "WAIT_SECONDS": "0",
        "RETENTION_DAYS": "7",
        "RECOVERY_MEGABYTES": "512",
        "DRILL_AFTER_BACKUP": "no",
        "DRILL_WEEKLY": "yes",
        "BACKUP_MAX_AGE_HOURS": "26",
        "OFFSITE_MAX_AGE_HOURS": "30",
        "WAL_MAX_AGE_MINUTES": "15",
        "OFFSITE": PLACE,
        "OFFSITE_HOST": "throwaway",
        f"{PLACE.upper()}_REMOTE": f"{PLACE}:{top / 'place'}",
        f"{PLACE.upper()}_ENCRYPTED": "no",
        f"{PLACE.upper()}_LOCK_DAYS": "0",
        "RCLONE_CONFIG": str(top / "rclone.conf"),
        "METRICS_FILE": "",
        "PAGE_FILE": "",
        "ALERTS_CONFIG": str(top / "channels"),
        "ALERTS_STATE": str(top / "state"),
        "ALERT_COMMAND": shlex.join(settings.alert_command),
        "ALERT_PREFIX": _PREFIX,
    }


def _write(path: Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text, encoding="utf-8")
