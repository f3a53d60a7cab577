"""Encryption in the stream: the age v1 format (age-encryption.org/v1), for X25519 keys. Stock `age -d` opens it.

An object is cut into chunks of 64 KiB, each with its own proof, and only the last one says that it is the last: what
comes out is right as far as it goes, and whether it is all of it is known at the end.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

import pyrage
from pyrage import x25519

from pgbackup import interrupt
from pgbackup.errors import BackupBad, ConfigurationError

SUFFIX = ".age"
_SECRET = "AGE-SECRET-KEY-"  # noqa: S105  what every private key begins with
_PIECE_BYTES = 1 << 20
_PIECES_AHEAD = 2


class WrongKey(ConfigurationError):
    """None of the keys opens the object. From its header it cannot be told whose key would."""


def new_key() -> tuple[str, str]:
    """Make a key; return its private half, AGE-SECRET-KEY-1…, and its public half, the recipient age1…"""
    made = x25519.Identity.generate()
    return str(made), str(made.to_public())


def recipient_of(identity: str) -> str:
    """Given a private key, return its public half. Raise ValueError where it is none, without repeating it."""
    return str(_identity(identity).to_public())


def check_recipient(recipient: str) -> None:
    """Raise ValueError, saying what is wrong, unless it is the public half of an X25519 key: age1…"""
    if recipient.upper().startswith(_SECRET):
        raise ValueError("it is a private key, which does not belong here")
    try:
        x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError:
        raise ValueError("it is not an age recipient, which begins with age1 and has 62 characters") from None


def keys_in(text: str) -> list[str]:
    """Given the text of a file of keys, private or public, return them as age reads it: one a line, '#' comments."""
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def seal(read: BinaryIO, write: BinaryIO, recipients: Sequence[str]) -> None:
    """Encrypt what `read` gives to its end, so that each of the recipients alone can open it.

    Each call gives other bytes. Memory does not depend on the size. Raise ValueError for a recipient that is none or
    for no recipients, Interrupted, and whatever reading and writing raise: what was written until then is no object.
    """
    if not recipients:
        raise ValueError("there is nobody to encrypt for")
    for recipient in recipients:
        check_recipient(recipient)
    blocks = Blocks(iter(lambda: read.read(_PIECE_BYTES), b""))
    source, target = _Watched(blocks.read), _Watched(lambda data: _write_all(write, data))
    try:
        pyrage.encrypt_io(source, target, [x25519.Recipient.from_str(one) for one in recipients])
    except Exception:
        if failed := source.failed or target.failed:
            raise failed from None
        raise


def opened(pieces: Iterable[bytes], identities: Sequence[str]) -> Iterator[bytes]:
    """Decrypt an object; yield what is in it in pieces of at most 1 MiB.

    pieces: the object's bytes, which another thread takes. identities: private keys; one that fits is enough.
    Nothing of it may be believed before the end: an object that is cut off is seen only there.
    Raise WrongKey, BackupBad for what is damaged, cut off, followed by something else or no such object, ValueError
    for a key that is none, Interrupted, and whatever `pieces` raises.
    """
    keys = [_identity(one) for one in identities]
    handed: queue.Queue[bytes | Exception | None] = queue.Queue(_PIECES_AHEAD)
    left = threading.Event()
    worker = threading.Thread(target=_decrypt, args=(pieces, keys, handed, left), daemon=True)
    worker.start()
    try:
        while (piece := handed.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            yield piece
    finally:
        left.set()
        while worker.is_alive():
            with suppress(queue.Empty):
                handed.get(timeout=0.05)


def _identity(text: str) -> x25519.Identity:
    try:
        return x25519.Identity.from_str(text)
    except pyrage.IdentityError:
        raise ValueError(f"it is not a private age key, which begins with {_SECRET}1 and has 74 characters") from None


class _Watched:
    """A file for the encrypting side, which makes words of its own of what is raised here: `failed` keeps it."""

    def __init__(self, call: Callable[[Any], Any]) -> None:
        self._call = call
        self.failed: Exception | None = None

    def __call__(self, what: Any) -> Any:
        try:
            interrupt.check()
            return self._call(what)
        except Exception as error:
            self.failed = error
            raise

    read = write = __call__

    def flush(self) -> None:
        """Nothing is held back here."""


def _write_all(file: BinaryIO, data: bytes) -> int:
    """Write every byte, to an unbuffered file as well, which may take only a part at a time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
    return len(data)


class _Left(Exception):
    """Nobody takes what is decrypted any more."""


def _decrypt(
    pieces: Iterable[bytes],
    keys: Sequence[x25519.Identity],
    handed: queue.Queue[bytes | Exception | None],
    left: threading.Event,
) -> None:
    """The thread: decrypt, and hand over pieces, then None, or what was raised."""
    gathered = bytearray()

    def take(data: bytes) -> int:
        gathered.extend(data)
        if len(gathered) >= _PIECE_BYTES:
            hand_over()
        return len(data)

    def hand_over() -> None:
        if left.is_set():
            raise _Left
        if gathered:
            handed.put(bytes(gathered))
            gathered.clear()

    source, target = _Watched(Blocks(pieces).read), _Watched(take)
    try:
        pyrage.decrypt_io(source, target, keys)
        hand_over()
    except Exception as error:  # noqa: BLE001  whatever it is, it is raised where the pieces are taken
        told = source.failed or target.failed or _told(error)
        if not isinstance(told, _Left):
            handed.put(told)
        return
    handed.put(None)


class Blocks:
    """Blocks of any size, read as a file. read() gives at most as many bytes as asked for, and b"" at the end."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self._held, self._position = iter(pieces), b"", 0

    def read(self, most: int) -> bytes:
        while self._position == len(self._held):
            block = next(self._pieces, None)
            if block is None:
                return b""
            self._held, self._position = block, 0
        data = self._held[self._position : self._position + most]
        self._position += len(data)
        return data


def _told(error: Exception) -> Exception:
    """What the library says, in words of ours; a failure that is not of the object stays what it is."""
    if isinstance(error, pyrage.DecryptError):
        if "No matching keys" in str(error):
            return WrongKey("none of the keys opens it: it was encrypted for others, or its header was changed")
        return BackupBad("it is not encrypted by age, or its header is damaged or cut off")
    if isinstance(error, OSError):
        if "last chunk" in str(error):
            return BackupBad("something else follows the end of what was encrypted")
        return BackupBad("what was encrypted is damaged or cut off")
    return error
