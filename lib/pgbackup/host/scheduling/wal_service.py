"""What keeps a receiver alive: postgres-wal@NAME.service, or a line in a crontab where there is no systemd."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pgbackup.host.accounts import Account
from pgbackup.host.scheduling import crontab, installed, systemctl, unit_owner, units
from pgbackup.host.scheduling.installed import Change
from pgbackup.settings.config import Settings

_WANTS = units.DIRECTORY / "multi-user.target.wants"


def user(root: Path, name: str) -> str | None:
    """The account that the receiver runs as: the installed unit's, else whose crontab starts it; None for nobody."""
    if of_unit := units.user_of(installed.read(units.DIRECTORY / units.WAL_SERVICE)):
        return of_unit
    return next(iter(_holders(root, name)), None)


def _holders(root: Path, name: str) -> dict[str, str]:
    return crontab.holders(_script(root), name) if crontab.installed() else {}


def _script(root: Path) -> Path:
    return root / "scripts" / "receive-wal.sh"


def instance(name: str) -> str:
    """The unit of one receiver. name: the database's in DATABASES."""
    return units.WAL_SERVICE.replace("@", f"@{name}")


def setting_up(
    settings: Settings,
    root: Path,
    account: Account,
    name: str,
    asked_user: str | None,
) -> list[Change]:
    """What is to be changed on this host. Raise SuiteError where that cannot be: no cron, a unit that is masked.

    A job of cron that is there gets the present BACKUP_DIR. In the crontab of another account it goes, and where
    systemd does it now.
    """
    script, by_systemd = _script(root), systemctl.running()
    holders = _holders(root, name)
    gone = [
        crontab.change(user, text, crontab.removed(text, script, name))
        for user, text in holders.items()
        if by_systemd or user != account.name
    ]
    if by_systemd:
        host = units.host_of(settings, root, account.name)
        return [units.change_of(units.WAL_SERVICE, host, None, asked_user), *gone]
    for path in (script, settings.backup_dir):
        units.check_path(path)
    before = crontab.read(account.name)
    line = crontab.watchdog(settings.backup_dir, script, name)
    after = crontab.redirected(before, script, settings.backup_dir, name)
    return [crontab.change(account.name, before, crontab.added(after, script, line, None, name)), *gone]


def start(changes: Sequence[Change], name: str) -> None:
    """Make the changes and let the receiver run. Raise IoFailed or Unavailable."""
    crontab.apply(changes)
    if systemctl.running():
        units.apply([change for change in changes if change.path.is_absolute()])
        systemctl.call("enable", instance(name))
        systemctl.call("restart", instance(name))


def stop(name: str) -> None:
    """Stop the unit, where there is one."""
    if systemctl.running() and (units.DIRECTORY / units.WAL_SERVICE).exists():
        systemctl.call("stop", instance(name))


def taking_down(root: Path, name: str) -> list[Change]:
    """What is to be removed of this host: the unit only with its last receiver, jobs of cron whoever has them."""
    changes: list[Change]
    changes, _ = units.removals([] if _others(name) else [units.WAL_SERVICE], root)
    for user, before in _holders(root, name).items():
        changes.append(crontab.change(user, before, crontab.removed(before, _script(root), name)))
    return [change for change in changes if change.before != change.after]


def elsewhere(root: Path, name: str) -> Path | None:
    """The other installation whose receiver the unit of that name is, None where it is nobody's or this one's."""
    if not (_WANTS / instance(name)).is_symlink():
        return None
    found = unit_owner.installation_of(installed.read(units.DIRECTORY / units.WAL_SERVICE) or "")
    return None if found == root.resolve() else found


def _others(name: str) -> list[str]:
    pattern = instance("*")
    return [path.name for path in _WANTS.glob(pattern) if path.name != instance(name)] if _WANTS.is_dir() else []


def remove(changes: Sequence[Change], name: str) -> None:
    """Switch the receiver off for good, and make the changes. Raise IoFailed or Unavailable."""
    if systemctl.running() and (_WANTS / instance(name)).is_symlink():
        systemctl.call("disable", "--now", instance(name))
    units.apply([change for change in changes if change.path.is_absolute()])
    crontab.apply(changes)


def warnings(changes: Sequence[Change], root: Path) -> list[str]:
    """What to tell of a unit that somebody has changed by hand."""
    return units.kept_warnings([change for change in changes if change.path.is_absolute()], root)


def told(name: str, account: Account) -> str:
    """Who receives, in words."""
    return f"{instance(name)} as '{account.name}'" if systemctl.running() else f"cron as '{account.name}'"


def why(name: str) -> str:
    """The command that tells why a receiver is not well."""
    return f"journalctl -u {instance(name)} -n 20" if systemctl.running() else "tail backup.log"
