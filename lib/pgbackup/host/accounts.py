"""The account that makes the backups, and the directories that it needs."""

from __future__ import annotations

import grp
import os
import pwd
import stat
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


def may_write(directory: Path, account: Account) -> bool:
    """Whether the account may make files in a directory, by its owner and group. Raise OSError."""
    found = directory.stat()
    if found.st_uid == account.uid or account.uid == 0:
        return account.uid == 0 or bool(found.st_mode & stat.S_IWUSR)
    in_group = found.st_gid in os.getgrouplist(account.name, account.gid)
    return in_group and bool(found.st_mode & stat.S_IWGRP)


def open_collector(directory: Path, account: Account) -> str:
    """Let the account write into the directory that node_exporter's collector reads; return what was done, or "".

    It is made where it is absent. Root's own one is opened to the account's group if nothing but metrics lies in it.
    Raise CannotCreate for every other one that the account may not write to, and as path_error() does.
    """
    try:
        if not directory.exists():
            directory.mkdir(parents=True, mode=0o755)
            directory.chmod(0o755)  # whatever the umask: the collector has to get through
            os.chown(directory, account.uid, account.gid)
            return f"made '{directory}'"
        if may_write(directory, account):
            return ""
        found = directory.stat()
        if (found.st_uid, found.st_gid) == (0, 0) and all(_is_metrics(path) for path in directory.iterdir()):
            os.chown(directory, -1, account.gid)
            directory.chmod(stat.S_IMODE(found.st_mode) | stat.S_IWGRP)
            return f"opened '{directory}' to the group '{account.group}', for METRICS_FILE"
    except OSError as error:
        raise path_error(error, directory) from None
    raise CannotCreate(
        f"'{account.name}' may not write in '{directory}', where METRICS_FILE is to lie",
        f"sudo setfacl -m u:{account.name}:rwx '{directory}', or name another directory",
    )


def _is_metrics(path: Path) -> bool:
    return path.suffix == ".prom" and not path.is_symlink()
