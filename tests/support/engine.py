"""The tests' own Docker engine, for machines where none is reachable.

    engine.py run -- PROGRAM [ARGUMENT ...]   run it with DOCKER_HOST set; an engine started for it is stopped
    engine.py start                           start one by hand, print its DOCKER_HOST; it runs until `stop`
    engine.py stop                            remove the containers of our engine and stop it

An engine that is reachable already is used as it is, and never stopped. Otherwise root on Debian or Ubuntu
gets one: Debian's docker.io, started here with a data directory, socket and pid file of its own. The data
directory, /var/lib/pgbackup-tests/docker, stays: it holds the images that the tests built.

Several runs may share that engine; the last one to end stops it. A run that was killed counts as ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

RUN = Path("/run/pgbackup-tests")  # short: the path of a Unix socket has 107 bytes at most
STATE = Path("/var/lib/pgbackup-tests")
START_SECONDS = 60
ANSWER_SECONDS = 30  # also on a machine that is busy with something else
STOP_SECONDS = 30

# Set by `run` for the tests: "yes", or the reason why there is no engine.
ANSWER = "PGBACKUP_TEST_ENGINE"


class NoEngine(Exception):
    """No Docker engine, in one sentence that says what to do."""


def socket() -> str:
    """The DOCKER_HOST of our own engine."""
    return f"unix://{RUN}/docker.sock"


def reachable(host: str | None) -> bool:
    """Whether a Docker engine answers at `host` (None: wherever the client looks by itself)."""
    if not shutil.which("docker"):
        return False
    environment = {**os.environ, **({"DOCKER_HOST": host} if host else {})}
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=ANSWER_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def install(needed: dict[str, str]) -> None:
    """Given Debian packages and a program of each, install those that are missing, one at a time. Raise NoEngine."""
    if all(_which(program) for program in needed.values()):
        return
    with _locked("packages", fcntl.LOCK_EX) if os.geteuid() == 0 else contextlib.nullcontext():
        _install(needed)


def _install(needed: dict[str, str]) -> None:
    missing = [package for package, program in needed.items() if not _which(program)]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NoEngine(
            "the tests need a Docker engine: start Docker so that `docker version` works for this user, "
            "or run them as root on Debian or Ubuntu, where they install and start one of their own "
            f"(missing here: {', '.join(missing)})"
        )
    print(f"installing {' '.join(missing)} …", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    wait = ["-o", "DPkg::Lock::Timeout=120"]  # for another process that installs
    install_them = ["apt-get", "install", "-y", "-qq", *wait, "--no-install-recommends", *missing]
    for command in (install_them, ["apt-get", "update", "-qq"], install_them):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if command is install_them and done.returncode == 0:
            return
    raise NoEngine(f"`{' '.join(install_them)}` failed: {done.stderr.strip()[-300:]}")


def _which(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def start() -> str | None:
    """Return the DOCKER_HOST of an engine, started if need be; None: the client finds it. Raise NoEngine."""
    if reachable(None):
        return None
    if _has_daemon() and reachable(socket()):
        return socket()
    if os.geteuid() != 0:
        raise NoEngine(
            "the tests need a Docker engine: start Docker so that `docker version` works for this user, "
            "or run them as root on Debian or Ubuntu, where they install and start one of their own"
        )
    install({"docker.io": "dockerd", "iptables": "iptables"})
    if _reachable_soon(None, lambda: True, 5 if Path("/run/systemd/system").exists() else 0):
        return None  # the package's own service
    with _locked("starting", fcntl.LOCK_EX):
        if not (_has_daemon() and reachable(socket())):
            _stop()
            _launch()
    return socket()


def _launch() -> None:
    """Start dockerd and wait until it answers."""
    RUN.mkdir(mode=0o711, parents=True, exist_ok=True)
    (STATE / "docker").mkdir(mode=0o710, parents=True, exist_ok=True)
    (RUN / "docker.pid").unlink(missing_ok=True)
    program = _which("dockerd")
    assert program is not None
    arguments = [program, "--host", socket(), "--data-root", str(STATE / "docker")]
    arguments += ["--exec-root", str(RUN / "exec"), "--pidfile", str(RUN / "docker.pid")]
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    with (STATE / "dockerd.log").open("wb") as log:
        daemon = subprocess.Popen(
            arguments,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    if not _reachable_soon(socket(), lambda: daemon.poll() is None, START_SECONDS):
        said = (STATE / "dockerd.log").read_text(errors="replace").strip().splitlines() or [""]
        _stop()
        raise NoEngine(f"dockerd did not start; its log is '{STATE / 'dockerd.log'}' and ends: {said[-1]}")


def _reachable_soon(host: str | None, while_true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while while_true() and time.monotonic() < deadline:
        if reachable(host):
            return True
        time.sleep(0.1)
    return False


def _ours() -> dict[int, str]:
    """Our dockerd, containerd and shims, name by pid: those with our directories in their arguments."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
            name = Path(words[0]).name
            mark = f"{RUN}/docker.pid" if name == "dockerd" else f"{RUN}/exec/containerd/"
            if name.startswith(("dockerd", "containerd")) and any(mark in word for word in words):
                found[int(entry.name)] = name
    return found


def _children(pid: int) -> set[int]:
    try:
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    except OSError:
        return set()


def _has_daemon() -> bool:
    return "dockerd" in _ours().values()


def stop() -> None:
    """Stop our engine, its containers and all that it left; nothing happens where there is none of ours."""
    if os.geteuid() == 0:
        with _locked("starting", fcntl.LOCK_EX):
            _stop()


def _stop() -> None:
    if _has_daemon() and reachable(socket()):
        _remove_containers()
    _end({pid for pid, name in _ours().items() if name == "dockerd"})
    # dockerd takes everything along. What is left now was orphaned by a dockerd that was killed.
    orphans = set(_ours())
    for pid in orphans:
        for container in _children(pid) - orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(container, signal.SIGKILL)
    _end(orphans)
    _unmount()
    shutil.rmtree(RUN, ignore_errors=True)


def _remove_containers() -> None:
    docker = ["docker", "--host", socket()]
    listed = subprocess.run([*docker, "ps", "-aq"], capture_output=True, text=True, check=False).stdout.split()
    commands = [["rm", "-fv", *listed]] if listed else []
    commands += [["volume", "prune", "-f"], ["network", "prune", "-f"], ["image", "prune", "-f"]]
    for command in commands:
        subprocess.run([*docker, *command], capture_output=True, timeout=120, check=False)


def _end(pids: set[int]) -> None:
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, 5)):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while (pids := {pid for pid in pids if _alive(pid)}) and time.monotonic() < deadline:
            time.sleep(0.05)


def _alive(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # it may be our own child
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def _unmount() -> None:
    """Unmount what a killed engine left mounted, innermost first."""
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        where = line.split()[1]
        if f"{where}/".startswith((f"{RUN}/", f"{STATE}/docker/")):
            subprocess.run(["umount", "-l", where], capture_output=True, check=False)


@contextmanager
def _locked(name: str, how: int) -> Iterator[TextIO]:
    """Hold a lock, which the end of this process releases at the latest."""
    STATE.mkdir(mode=0o711, parents=True, exist_ok=True)
    with (STATE / f"{name}.lock").open("a") as lock:
        fcntl.flock(lock, how)
        yield lock


def keep() -> None:
    """Let our engine, if it runs, live until `stop` is asked for by hand."""
    if RUN.exists():
        (RUN / "keep").touch()


@contextmanager
def used() -> Iterator[str | None]:
    """Yield the DOCKER_HOST of an engine (None: as it is); the last user stops one started for users."""
    if reachable(None) and os.environ.get("DOCKER_HOST") != socket():
        yield None
        return
    if os.geteuid() != 0:
        yield start()  # which raises NoEngine, or finds one in the meantime
        return
    with _locked("users", fcntl.LOCK_SH) as lock:
        try:
            yield start()
        finally:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not (RUN / "keep").exists():
                    stop()


def run(arguments: list[str]) -> int:
    """Run a program with an engine. Without one say why, and fail if CI=true, else let the tests skip."""
    environment = dict(os.environ)
    with contextlib.ExitStack() as stack:
        try:
            host = stack.enter_context(used())
            environment.update({"DOCKER_HOST": host} if host else {})
            environment[ANSWER] = "yes"
        except NoEngine as reason:
            print(f"no Docker engine: {reason}", file=sys.stderr)
            if os.environ.get("CI") == "true":
                return 69
            environment[ANSWER] = str(reason)
        child = subprocess.Popen(arguments, env=environment)
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda got, _frame: child.send_signal(got))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the child as well
        status = child.wait()
        return status if status >= 0 else 128 - status


def main() -> int:
    words = sys.argv[1:]
    if words[:2] == ["run", "--"] and len(words) > 2:
        return run(words[2:])
    if words == ["start"]:
        host = start()
        if host == socket() or os.environ.get("DOCKER_HOST") == socket():
            keep()
        print(host or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock")
        return 0
    if words == ["stop"]:
        stop()
        return 0
    print(__doc__, file=sys.stderr)
    return 64


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NoEngine as reason:
        sys.exit(f"no Docker engine: {reason}")
