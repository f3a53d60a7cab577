"""One rclone for many questions: `rclone rcd`, asked over HTTP on the loopback, gone with the process that began it.

A start costs 50 ms and more, a connection by SSH half a second: here both are paid once. Only who knows a password made
for this one process may ask it; rclone gets it in its environment, which nobody else can read.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import secrets
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pgbackup import interrupt, proc
from pgbackup.errors import SuiteError, Unavailable

_START_SECONDS = 60
_ANSWER_SECONDS = 60  # between the first byte of an answer and its last one
_LONGEST_LINE = 1 << 20
_LARGEST_ANSWER = 16 << 20
_TICK_MS = 200
_USER = "pgbackup"
_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)/")


class Silent(Unavailable):
    """No answer came within the limit. What was asked of this rclone ended with it."""


@dataclass(frozen=True)
class Serving:
    """A running rclone that answers. explained: given what it has said of a failure, returns the error to raise."""

    program: str
    explained: Callable[[str], SuiteError]
    _running: proc.Program = field(repr=False)
    _port: int
    _password: str = field(repr=False)

    def ask(self, word: str, seconds: float, **given: Any) -> dict[str, Any]:
        """Ask `word` (as in `rclone rc`) and return the answer. Raise what `explained` returns, Silent, Interrupted."""
        text = b"".join(self.lines(word, seconds, **given))
        if len(text) > _LARGEST_ANSWER:
            raise Unavailable(f"rclone's answer to '{word}' is larger than any")
        said = json.loads(text)
        return said if isinstance(said, dict) else {}

    def lines(self, word: str, seconds: float, **given: Any) -> Iterator[bytes]:
        """The same, with the lines of the answer as they come."""
        before, deadline = self._running.stderr, time.monotonic() + seconds
        asked = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_ANSWER_SECONDS)
        login = base64.b64encode(f"{_USER}:{self._password}".encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {login}"}
        try:
            asked.request("POST", f"/{word}", json.dumps(given).encode(), headers)
            self._await(asked.sock, deadline, seconds)
            answer = asked.getresponse()
            if answer.status != http.client.OK:
                raise self._failure(before, answer.read(_LARGEST_ANSWER))
            while line := answer.readline(_LONGEST_LINE):
                yield line
        except (OSError, http.client.HTTPException):
            raise self.explained(self._since(before)) from None  # it has ended
        finally:
            asked.close()

    def _await(self, answering: socket.socket, deadline: float, seconds: float) -> None:
        poll = select.poll()
        poll.register(answering, select.POLLIN)
        while not poll.poll(_TICK_MS):
            interrupt.check()
            if time.monotonic() > deadline:
                self._running.stop()
                raise Silent(f"no answer within {seconds:g} s")

    def _failure(self, before: str, answer: bytes) -> SuiteError:
        try:
            reason = str(json.loads(answer)["error"])
        except (ValueError, KeyError, TypeError):
            reason = answer[:400].decode(errors="replace")
        return self.explained(f"{self._since(before)}\n{reason}")

    def _since(self, before: str) -> str:
        """What it has said to nobody in particular since then: a failure may have its reason only there."""
        return self._running.stderr.removeprefix(before)


@contextmanager
def started(program: str, flags: Sequence[str], explained: Callable[[str], SuiteError]) -> Iterator[Serving]:
    """Start `program` with these flags of rclone's; it is gone when the block is left. Raise Unavailable.

    To be used by the thread that started it: the kernel ends it with that thread, however that ends.
    """
    password = secrets.token_urlsafe(32)
    variables = proc.environment(extra={"RCLONE_RC_USER": _USER, "RCLONE_RC_PASS": password})
    long = [f"--rc-server-{what}-timeout=1000h" for what in ("read", "write")]
    argv = [program, "rcd", "--rc-addr=127.0.0.1:0", *long, *flags]
    with proc.Program(argv, variables=variables, ends_with_us=True) as running:
        yield Serving(program, explained, running, _port(running, explained), password)


def _port(running: proc.Program, explained: Callable[[str], SuiteError]) -> int:
    deadline = time.monotonic() + _START_SECONDS
    while not (found := _ADDRESS.search(running.stderr)):
        interrupt.check()
        if running.status is not None:
            raise explained(running.stderr)
        if time.monotonic() > deadline:
            raise Silent(f"'{running.argv[0]}' does not begin to listen")
        running.pause(0.005)
    return int(found[1])
