"""Runs a program on a terminal of its own: `on_terminal.py COLUMNS PROGRAM [ARGUMENT ...]`.

What the program wrote to the terminal is on stdout in the end, and its exit status is ours.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios


def main(columns: int, command: list[str]) -> int:
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        os.execvp(command[0], command)
    while shown := _read(terminal):
        sys.stdout.buffer.write(shown)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _read(terminal: int) -> bytes:
    """What was written; nothing when the last program on the terminal has ended, which Linux tells as EIO."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
