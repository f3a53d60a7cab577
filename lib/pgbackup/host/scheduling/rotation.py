"""The rotation of backup.log, for logrotate."""

from __future__ import annotations

from pathlib import Path

from pgbackup.host.accounts import Account
from pgbackup.host.scheduling import installed
from pgbackup.host.scheduling.installed import Change

PATH = Path("/etc/logrotate.d/pgbackup")
_TEMPLATE = "systemd/pgbackup.logrotate"


def setting_up(root: Path, backup_dir: Path, account: Account) -> Change:
    """Return what becomes of the snippet; one that was edited by hand is kept."""
    before = installed.read(PATH)
    if before is not None and installed.edited(before):
        return Change(PATH, before, before)
    text = (root / _TEMPLATE).read_text(encoding="utf-8")
    text = text.replace("/opt/backups/", f"{backup_dir}/").replace(
        "deployer deployer", f"{account.name} {account.group}"
    )
    return Change(PATH, before, installed.sealed(text))


def warnings(change: Change) -> list[str]:
    """What to tell of a set-up's change: backup.log would grow, or is rotated in another way than one may think."""
    if change.before is not None and installed.edited(change.before):
        return [f"'{PATH}' was changed by hand and is kept; to get the suite's: move yours away and run this again"]
    if not any((Path(place) / "logrotate").exists() for place in ("/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin")):
        return ["there is no logrotate on this host, so backup.log grows: sudo apt-get install logrotate"]
    return []


def taking_down() -> Change:
    """Return the snippet's removal."""
    return Change(PATH, installed.read(PATH), None)
