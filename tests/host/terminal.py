"""Somebody at a terminal of the host: types commands into a login shell and answers what is asked.

with Terminal(host, "deployer") as person:
    status, said = person.type("crontab -l")
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

from tests.host.host import Host

_ROWS, _COLUMNS = 400, 220  # no pager has anything to do
_READY = re.compile("\x1e(\\d+)\x1f")
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\]8;;.*?\x1b\\")
_SECONDS = 120

# What is asked, and what is typed then. "\1" is what the question itself names.
_ANSWERS = (
    (re.compile(r"Type the database's name, (\S+), to go on: $"), r"\1" + "\n"),
    (re.compile(r"Are you sure you want to continue connecting \(yes/no/\[fingerprint\]\)\? $"), "yes\n"),
    (re.compile(r"AWS Access Key ID \[\S+\]: $"), "AKIAEXAMPLE\n"),
    (re.compile(r"AWS Secret Access Key \[\S+\]: $"), "secret\n"),
    (re.compile(r"Default region name \[\S+\]: $"), "eu-west-1\n"),
    (re.compile(r"Default output format \[\S+\]: $"), "json\n"),
)


class Terminal:
    """One login shell on a terminal of its own, for as long as it is held."""

    def __init__(self, host: Host, user: str) -> None:
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            su = ["su", "-", user, "-s", "/bin/bash"]
            os.execvp("docker", ["docker", "exec", "-it", "-e", "TERM=xterm", host.container, *su])
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
        self._read_until(re.compile(r"[#$] $"))
        # The prompt tells the last status; nothing that is typed is shown, so that all that is shown was said.
        self._send("exec bash --noprofile --norc --noediting -i\n")
        self._read_until(re.compile(r"bash-[\d.]+[#$] $"))
        self._send(f"umask 077; stty -echo rows {_ROWS} columns {_COLUMNS}; PS2=; PS1=$'\\036'\\$?$'\\037'\n")
        self._read_until(_READY)

    def type(self, command: str, *, stop_at: str = "") -> tuple[int, str]:
        """Type one command, answer its questions, and return its exit status and what it said.

        stop_at: a pattern; when it has been said, Ctrl-C is pressed.
        """
        self._send(command + "\n")
        said = self._read_until(_READY, interrupt=re.compile(stop_at) if stop_at else None)
        found = _READY.search(said)
        assert found
        return int(found[1]), _COLOURS.sub("", said[: found.start()]).replace("\r\n", "\n")

    def edit(self, command: str, find: str, line: str) -> tuple[int, str]:
        """Start nano by `command`, put `line` in place of the first with `find` ("": just look), and leave."""
        self._send(command + "\n")
        said = self._read_until(re.compile(r"GNU nano"))
        # crontab looks at the whole seconds of the file: what is saved within that of its opening is lost.
        opened = int(time.time())
        while line and int(time.time()) == opened:
            said += self._read(0.05)
        for key in [f"\x17{find}\r", "\x0b", f"{line}\r", "\x0f", "\r"] if line else []:
            self._send(key)
            self._read_quiet()
        self._send("\x18")
        said += self._read_until(_READY)
        found = _READY.search(said)
        assert found
        return int(found[1]), said[: found.start()]

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *raised: object) -> None:
        os.close(self._fd)
        os.kill(self._pid, signal.SIGTERM)
        os.waitpid(self._pid, 0)

    def _send(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def _read_until(self, end: re.Pattern[str], interrupt: re.Pattern[str] | None = None) -> str:
        said, answered = "", 0
        deadline = time.monotonic() + _SECONDS
        while not end.search(said):
            assert time.monotonic() < deadline, f"no end after {_SECONDS} s; said so far: {said!r}"
            said += self._read(1)
            for question, answer in _ANSWERS:
                if asked := question.search(said, answered):
                    self._send(asked.expand(answer))
                    answered = len(said)
            if interrupt and interrupt.search(said):
                self._send("\x03")
                interrupt = None
        return said

    def _read_quiet(self) -> None:
        """Read until nothing more comes: the editor has drawn what the key did."""
        while self._read(0.2):
            pass

    def _read(self, seconds: float) -> str:
        if not select.select([self._fd], [], [], seconds)[0]:
            return ""
        try:
            return os.read(self._fd, 65536).decode(errors="replace")
        except OSError as error:  # EIO: the shell has ended
            raise AssertionError("the shell has ended") from error
