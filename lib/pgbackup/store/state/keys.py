"""Files of age keys: whom copies are encrypted for (public halves), and what opens them again (private halves).

The recipients lie in a plain file as `age -R` takes it, beside it what is known of proofs that their keys still exist.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path

from pgbackup.descriptor import write_all
from pgbackup.errors import ConfigurationError, NoBackup, PermissionDenied, path_error
from pgbackup.formats import sealed
from pgbackup.store import folder, workfiles
from pgbackup.store.folder import Folder
from pgbackup.store.state import statefile

_LARGEST_BYTES = 64 << 10
_READABLE = 0o644  # public halves: the backup account reads them, and whoever else may
_RETIRED = re.compile(r"^# retired [-0-9]+: (age1\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Recipients:
    """Whom new copies are encrypted for, in the order of the file, and who was taken out of it."""

    current: tuple[str, ...]
    retired: tuple[str, ...] = ()


@dataclass(frozen=True)
class Proofs:
    """Beside the recipients. token: an object in base64 that each of their keys opens; digest: SHA-256 of what is in
    it. proven: recipient -> when somebody last showed that the key of it opens the token.
    """

    token: str
    digest: str
    proven: dict[str, datetime]


def recipients(path: Path) -> Recipients:
    """Read the file of recipients; nobody where there is none. Raise ConfigurationError or PermissionDenied.

    Whoever can write there can read all later copies: a file that others than root (or this user) can change is
    refused.
    """
    if not path.parent.is_dir():
        return Recipients(())
    try:
        with folder.opened(path.parent, create=False, top=True) as place:
            text = _text(place, path)
    except FileNotFoundError:
        return Recipients(())
    for number, line in enumerate(text.splitlines(), 1):
        for one in sealed.keys_in(line):
            try:
                sealed.check_recipient(one)
            except ValueError as error:
                raise ConfigurationError(
                    f"{path}:{number}: {error}", "one recipient a line: age1…; # begins a comment"
                ) from None
    current = tuple(dict.fromkeys(sealed.keys_in(text)))
    return Recipients(current, tuple(one for one in _RETIRED.findall(text) if one not in current))


def _text(place: Folder, path: Path) -> str:
    """What is in the file of recipients. Raise FileNotFoundError where there is none."""
    try:
        descriptor = place.open(path.name)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigurationError(f"'{path}' cannot be read: {error.strerror}", f"ls -l '{path}'") from None
    with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor, not a path
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"'{path}' is not a regular file", f"ls -l '{path}'")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or status.st_uid not in (0, os.geteuid()):
            raise ConfigurationError(
                f"'{path}' may be changed by others: who adds a recipient can read all later copies",
                f"look through it, then: sudo chown root: '{path}'; sudo chmod 0644 '{path}'",
            )
        return _decoded(file.read(_LARGEST_BYTES + 1), path)


def _decoded(data: bytes, path: Path) -> str:
    if len(data) > _LARGEST_BYTES:
        raise ConfigurationError(f"'{path}' is too large for a file of keys", f"ls -l '{path}'")
    return data.decode("utf-8", "replace")


def change(path: Path, now: datetime, *, add: Sequence[str] = (), retire: Sequence[str] = ()) -> None:
    """Write the file of recipients anew, and a token for all who are then in it. Raise SuiteError or OSError.

    Both have mode 0644. Comments stay; who is retired is kept as one. The directory is made, with mode 0755, where it
    is missing.
    """
    before = recipients(path)
    if not path.parent.exists():
        path.parent.mkdir(mode=0o755)
        path.parent.chmod(0o755)  # whatever the umask
    with folder.opened(path.parent, create=False, top=True, writing=True) as place:
        text = "# Whom copies elsewhere are encrypted for: each alone can open them.\n"
        with suppress(FileNotFoundError):
            text = _text(place, path)
        day = now.strftime("%Y-%m-%d")
        lines = [f"# retired {day}: {line.strip()}" if line.strip() in retire else line for line in text.splitlines()]
        for one in add:
            lines = [line for line in lines if not (found := _RETIRED.match(line)) or found[1] != one]
            lines += [f"# added {day}", one]
        workfiles.write(place, path.name, "".join(f"{line}\n" for line in lines).encode(), mode=_READABLE)
        current = [*(one for one in before.current if one not in retire), *add]
        known = proofs(path)
        proven = {one: when for one, when in known.proven.items() if one in current} if known else {}
        _write_proofs(place, path, current, proven)


def _proofs_name(path: Path) -> str:
    return f"{path.name}.proofs"


def proofs(path: Path) -> Proofs | None:
    """What is known of proofs, None where nothing is. Raise statefile.Unreadable, PermissionDenied, CannotCreate."""
    if not path.parent.is_dir():
        return None
    with folder.opened(path.parent, create=False, top=True) as place:
        remedy = f"make it anew: sudo rm '{path.parent / _proofs_name(path)}', then setup-encryption.sh --prove"
        return statefile.read(place, _proofs_name(path), Proofs, remedy)


def _write_proofs(place: Folder, path: Path, current: Sequence[str], proven: dict[str, datetime]) -> Proofs:
    said, written = os.urandom(32), BytesIO()
    sealed.seal(BytesIO(said), written, current)
    token = base64.b64encode(written.getvalue()).decode()
    made = Proofs(token, hashlib.sha256(said).hexdigest(), proven)
    _keep(place, path, made)
    return made


def _keep(place: Folder, path: Path, held: Proofs) -> None:
    statefile.write(place, _proofs_name(path), held, mode=_READABLE)


def prove(path: Path, identity: str, now: datetime) -> bool:
    """Return whether a private key opens the token of its recipient; if so, keep that moment.

    Where there is no token, one is made first. Raise ValueError for a key that is none, SuiteError or OSError.
    """
    recipient, current = sealed.recipient_of(identity), recipients(path).current
    with folder.opened(path.parent, create=False, top=True, writing=True) as place:
        held = proofs(path) or _write_proofs(place, path, current, {})
        try:
            said = b"".join(sealed.opened([base64.b64decode(held.token)], [identity]))
        except sealed.WrongKey:
            return False
        if hashlib.sha256(said).hexdigest() != held.digest:
            return False
        proven = {**held.proven, recipient: statefile.to_the_second(now)}
        _keep(place, path, Proofs(held.token, held.digest, proven))
    return True


def write_identity(path: Path, identity: str, now: datetime) -> None:
    """Write a private key into a file that was not there, mode 0600, as `age -d -i` takes it. Raise SuiteError."""
    text = f"# made by pgbackup, {now:%Y-%m-%d}\n# public key: {sealed.recipient_of(identity)}\n{identity}\n"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
            write_all(descriptor, text.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except FileExistsError:
        raise ConfigurationError(f"'{path}' is there already: no key was written", "name another file") from None
    except OSError as error:
        raise path_error(error, path.parent) from None


def identities(path: Path) -> list[str]:
    """Read a file of private keys, from a pipe too. Raise NoBackup, PermissionDenied or ConfigurationError.

    Others may not be able to read it: what they have read is no secret any more. No message repeats a line of it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise NoBackup(f"there is no key file '{path}'", "name the file, or - to type the key: --key -") from None
    except OSError as error:
        raise PermissionDenied(f"may not read the key file '{path}': {error.strerror}", "run it with sudo") from None
    with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor, not a path
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
            raise PermissionDenied(
                f"the key file '{path}' may be read by others (mode {stat.S_IMODE(status.st_mode):04o})",
                f"chmod 0600 '{path}'; if others use this host, make a new key: setup-encryption.sh --new-key",
            )
        if stat.S_ISDIR(status.st_mode):
            raise ConfigurationError(f"'{path}' is a directory, not a key file")
        text = _decoded(file.read(_LARGEST_BYTES + 1), path)
    return identities_in(text, f"the key file '{path}'")


def identities_in(text: str, whose: str) -> list[str]:
    """Given a file's text or what was typed, return the private keys in it. Raise ConfigurationError. Pure."""
    found = [re.sub(r"\s", "", line).upper() for line in sealed.keys_in(text)]
    for one in found:
        try:
            sealed.recipient_of(one)
        except ValueError as error:
            what = "it is a public key" if one.startswith("AGE1") else str(error)
            raise ConfigurationError(f"{whose} holds no private key: {what}", "AGE-SECRET-KEY-1…, on a line") from None
    if not found:
        raise ConfigurationError(f"{whose} is empty", "AGE-SECRET-KEY-1…, on a line")
    return found
