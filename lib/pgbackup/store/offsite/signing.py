"""Signatures under the index of copies: an SSH key for each place, made on this host, and `ssh-keygen -Y`.

The private half lies beside the index, mode 0600. The public half is for paper: after a loss of this host it tells an
index that this host has written from one that somebody else has put there.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pgbackup import proc
from pgbackup.descriptor import write_all
from pgbackup.errors import Unavailable
from pgbackup.store import workfiles
from pgbackup.store.folder import Folder

KEY = "signing-key"
_NAMESPACE = "pgbackup-index"
_SIGNER = "pgbackup"
_SECONDS = 30
# The base64 of a public key of type ed25519: its name and length come first, and are the same in each.
_PUBLIC = re.compile(r"AAAAC3NzaC1lZDI1NTE5AAAAI[A-Za-z0-9+/]{43}(?![A-Za-z0-9+/=])")


def parsed(text: str) -> str:
    """Given a public key as it was printed, with or without its kind, return it whole. Raise ValueError. Pure."""
    found = _PUBLIC.findall(text)
    if len(found) != 1:
        raise ValueError("it is not the public half of an ed25519 key: ssh-ed25519 AAAAC3Nza…")
    return f"ssh-ed25519 {found[0]}"


def short(public: str) -> str:
    """What tells a public key from others in a name: 16 hexadecimal digits of its SHA-256. Pure."""
    return hashlib.sha256(base64.b64decode(public.split()[1])).hexdigest()[:16]


def public(own: Folder) -> str | None:
    """The public half of a place's key, None where there is no key yet. Raise Unavailable."""
    try:
        own.status(KEY)
    except FileNotFoundError:
        return None
    said = _run(["-y", "-f", str(own.path / KEY)]).decode(errors="replace")
    try:
        return parsed(said)
    except ValueError as wrong:
        raise Unavailable(f"'{own.path / KEY}' is no key to sign with: {wrong}") from None


def made(own: Folder) -> str:
    """Make a place's key where there is none, and return the public half. Raise Unavailable, OSError."""
    if (there := public(own)) is not None:
        return there
    with tempfile.TemporaryDirectory(prefix="pgbackup-") as directory:
        path = Path(directory, "key")
        _run(["-q", "-t", "ed25519", "-N", "", "-C", _SIGNER, "-f", str(path)])
        private = path.read_bytes()
    hidden = workfiles.replacing(KEY)
    with workfiles.replacement(own, hidden) as descriptor:
        own.close_to_others(descriptor)
        write_all(descriptor, private)
        os.fsync(descriptor)
        own.replace(hidden, KEY)
    own.sync()
    return made(own)


def signature(own: Folder, data: bytes) -> bytes:
    """Sign with the place's key; return the armoured signature. Raise Unavailable: it cannot be done here."""
    with proc.fed(data) as given:
        return _run(["-Y", "sign", "-q", "-n", _NAMESPACE, "-f", str(own.path / KEY)], given)


def is_by(public: str, data: bytes, signature: bytes) -> bool:
    """Whether the holder of that key has signed those bytes. Raise Unavailable: it cannot be told here."""
    with _files(f"{_SIGNER} {public}\n".encode(), signature) as (signers, signed), proc.fed(data) as given:
        words = ["-Y", "verify", "-q", "-n", _NAMESPACE, "-I", _SIGNER, "-f", str(signers), "-s", str(signed)]
        return proc.run(["ssh-keygen", *words], seconds=_SECONDS, stdin=given).status == 0


@contextmanager
def _files(*contents: bytes) -> Iterator[list[Path]]:
    with tempfile.TemporaryDirectory(prefix="pgbackup-") as directory:
        paths = [Path(directory, str(number)) for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        yield paths


def _run(words: list[str], stdin: int | None = None) -> bytes:
    ended = proc.run(["ssh-keygen", *words], seconds=_SECONDS, stdin=stdin)
    if ended.status:
        said = (ended.stderr.splitlines() or ["it says nothing"])[-1]
        raise Unavailable(f"ssh-keygen cannot sign: {said}", "OpenSSH 8.1 or newer is needed: ssh -V")
    return ended.stdout
