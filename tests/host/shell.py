"""Runs commands on a host by one process that stays there: an exec of the engine costs more than most of them."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress

_LIMIT_SECONDS = 300

# Runs on the host: a line with command and account comes in, a line with status and all that was said goes out.
_SERVING = f"""
import json, os, pwd, subprocess, sys
os.environ.pop("LC_CTYPE", None)  # Python's own, where nobody has said anything
for line in sys.stdin:
    command, user = json.loads(line)
    account = pwd.getpwnam(user)
    done = subprocess.run(
        ["bash", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True, cwd="/", env={{**os.environ, "HOME": account.pw_dir}}, timeout={_LIMIT_SECONDS},
        user=account.pw_uid, group=account.pw_gid, extra_groups=os.getgrouplist(user, account.pw_gid),
    )
    print(json.dumps([done.returncode, done.stdout.decode(errors="replace")]), flush=True)
"""


class Shell:
    """The process on one host. It is started when it is needed, and again after the host was down."""

    def __init__(self, container: str) -> None:
        self._container = container
        self._process: subprocess.Popen[str] | None = None

    def run(self, command: str, user: str = "root") -> tuple[int, str]:
        """Run a command of bash as an account, without a terminal; return its status and what it wrote anywhere."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        assert self._process and self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([command, user]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the host has ended in `{command}`"
        status, said = json.loads(answer)
        return int(status), str(said)

    def close(self) -> None:
        """End it: the host goes down."""
        if self._process:
            with suppress(BrokenPipeError):
                self._process.communicate(timeout=10)
        self._process = None

    def _start(self) -> None:
        command = ["docker", "exec", "-i", self._container, "python3", "-c", _SERVING]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
