"""The account that makes the backups, and the directories that it needs."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pgbackup.errors import CannotCreate, ConfigurationError, PermissionDenied, path_error
from pgbackup.settings.config import Settings

DEFAULT = "deployer"


@dataclass(frozen=True)
class Account:
    """An account of this host. group: its own one."""

    name: str
    uid: int
    gid: int
    group: str


def require_root(script: str, what: str = "set up the schedule of another account") -> None:
    """Raise PermissionDenied unless this process is root's. what: the script is to do."""
    if os.geteuid() != 0:
        raise PermissionDenied(f"only root may {what}", f"sudo {script}")


def exists(name: str) -> bool:
    """Whether there is an account called `name`."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def find(name: str) -> Account:
    """Return the account called `name`. Raise ConfigurationError where there is none."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise ConfigurationError(
            f"there is no account '{name}' on this host",
            "make it with: sudo make install; or name another: --user NAME",
        ) from None
    try:
        group = grp.getgrgid(found.pw_gid).gr_name
    except KeyError:
        group = str(found.pw_gid)
    return Account(found.pw_name, found.pw_uid, found.pw_gid, group)


def may_use_docker(account: Account) -> bool:
    """Whether the account is in the group 'docker', or is root."""
    try:
        docker = grp.getgrnam("docker")
    except KeyError:
        return account.uid == 0
    return account.uid == 0 or docker.gr_gid in os.getgrouplist(account.name, account.gid)


def docker_warnings(account: Account) -> list[str]:
    """What to tell of an account that may not use Docker; nothing for one that may."""
    if may_use_docker(account):
        return []
    return [
        f"'{account.name}' is not in the group 'docker', so its backups cannot reach a container;"
        f" to change that: sudo usermod -aG docker {account.name}"
    ]


def directories(settings: Settings) -> list[Path]:
    """The directories that hold backups, outermost first."""
    top = settings.backup_dir
    return [top, *dict.fromkeys(top / target.directory for target in settings.targets)]


def check_directories(paths: Sequence[Path], account: Account) -> None:
    """Raise CannotCreate where one that exists belongs to somebody else: every run would refuse it."""
    for path in paths:
        if path.exists() and account.uid not in (0, path.stat().st_uid):
            owner = path.stat().st_uid
            raise CannotCreate(
                f"'{path}' belongs to uid {owner}, but the backups are to be made by '{account.name}'",
                f"sudo chown -R {account.name}: '{path}', or name its owner: --user NAME, BACKUP_USER=NAME",
            )


def make_directories(paths: Sequence[Path], account: Account | None) -> list[Path]:
    """Make those that are absent, 0700 and the account's, and return them. Raise CannotCreate or IoFailed."""
    made = []
    for path in paths:
        if path.is_dir():
            continue
        try:
            for above in reversed(path.parents):
                if not above.exists():
                    above.mkdir()
                    above.chmod(0o755)  # whatever the umask: the account has to get through
            path.mkdir(mode=0o700)
            if account is not None:
                os.chown(path, account.uid, account.gid)
        except OSError as error:
            raise path_error(error, path) from None
        made.append(path)
    return made
