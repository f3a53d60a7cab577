"""A whole host in a container: systemd as PID 1, cron, sudo, ssh, and a Docker engine of its own.

The engine is the host's own on purpose: `postgres-a`, port 443 and `/opt/backups` are those of the guide, and nothing
of the machine that runs the tests can be meant by them.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from tests.host import image
from tests.host.shell import Shell
from tests.support import images, servers
from tests.support.servers import docker

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCE = "/usr/local/src/pgbackup"
SCRIPTS = "/opt/payment-system/deployment/scripts"
USERS = 200  # made up in the databases

# What systemd and an engine need inside; the temporary file system makes systemd mount its own view of the groups.
_RIGHTS = ["--cap-add=SYS_ADMIN", "--cap-add=NET_ADMIN", "--cap-add=SYS_PTRACE", "--security-opt=seccomp=unconfined"]
_RIGHTS += ["--security-opt=apparmor=unconfined", "--cgroupns=private"]
_MOUNTS = ["--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/sys/fs/cgroup", "--volume=/var/lib/docker"]


@dataclass(frozen=True)
class Host:
    """container: its name on the tests' engine. shell: what runs commands there."""

    container: str
    shell: Shell

    def run(self, command: str, user: str = "root", *, check: bool = True) -> str:
        """Run a shell command without a terminal and return what it wrote to stdout and stderr."""
        status, said = self.shell.run(command, user)
        assert not check or status == 0, f"`{command}` ended with {status}: {said}"
        return said.strip()

    def succeeds(self, command: str) -> bool:
        """Whether a shell command ends with 0."""
        return self.shell.run(command)[0] == 0

    def sql(self, target: str, text: str) -> str:
        """The answer of a query to "auth" or "payment", without decoration."""
        server = {"auth": "postgres-a", "payment": "postgres-b"}[target]
        return self.run(f'docker exec {server} psql -XAtq -U {target}_user -d {target}_db -c "{text}"')

    def files(self, target: str) -> set[str]:
        """The paths of a database's backups, without the link to the newest."""
        server = {"auth": "postgres-a", "payment": "postgres-b"}[target]
        return set(self.run(f"find /opt/backups/{server} -name '*.sql.gz' -type f").split())

    def newest(self, target: str) -> str:
        """The path of the newest backup that the suite made."""
        return max(path for path in self.files(target) if "_manual_" not in path)

    def exists(self) -> bool:
        """Whether nobody has taken it away."""
        return docker("container", "inspect", self.container, check=False).returncode == 0

    def destroy(self) -> None:
        """Take it away with everything on it."""
        self.shell.close()
        docker("rm", "-fv", self.container)

    def reboot(self) -> None:
        """Shut down, and start again."""
        self.shell.close()
        docker("stop", "--time", "30", self.container)
        docker("start", self.container)
        self.wait_until_running()

    def wait_until_running(self) -> None:
        """Wait until systemd has started everything, as it says itself."""
        wait_for(lambda: "running" in self.run("systemctl is-system-running --wait", check=False), 60)
        wait_for(lambda: self.succeeds("docker version"), 30)


def wait_for(happened: Callable[[], bool], seconds: float) -> float:
    """Ask until it has happened and return how long that took; fail after `seconds`."""
    start = time.monotonic()
    while not happened():
        assert time.monotonic() - start < seconds, f"it has not happened within {seconds} s"
        time.sleep(0.2)
    return time.monotonic() - start


@contextmanager
def network() -> Iterator[str]:
    """Yield the name of a network on which the hosts know each other by name."""
    name = f"pgbackup-test-{secrets.token_hex(4)}"
    docker("network", "create", name)
    try:
        yield name
    finally:
        docker("network", "rm", name, check=False)


@contextmanager
def backup_server(network: str) -> Iterator[Host]:
    """Yield the other place, which the hosts know as `backup-server`: ssh, and S3 with the guide's bucket."""
    with _container(network, "backup-server", ["sh", "/srv/payment/backup-server.sh"]) as host:
        bucket = "curl -sf -X PUT http://localhost:5000/my-backup-bucket"
        wait_for(lambda: host.succeeds(bucket), 30)
        yield host


@contextmanager
def booted(network: str, users: int = USERS) -> Iterator[Host]:
    """Yield a host on which the payment system runs and the suite's checkout lies; nothing is installed yet."""
    with _container(network, "payment-host", ["/sbin/init"]) as host:
        host.wait_until_running()
        _make_it_noon(host)
        _load(host, images.ensure(15))
        host.run(f"sh /srv/payment/deploy.sh {users}")
        bring(host, CHECKOUT, SOURCE)
        host.run(f"cp -R /srv/payment/wheelhouse {SOURCE}/")
        wait_for(lambda: healthy(host), 30)
        yield host


def healthy(host: Host) -> bool:
    """Whether both health URLs answer that all is well."""
    paths = ("auth/health", "payments/health/check")
    return all(host.succeeds(f"curl -skf https://localhost/{path}") for path in paths)


def bring(host: Host, checkout: Path, place: str) -> None:
    """Copy what belongs to a checkout to a place on the host, whoever owns it here."""
    listing = ["git", "-C", str(checkout), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, capture_output=True, check=True).stdout.split(b"\0")
    there = b"\0".join(name for name in listed if name and (checkout / name.decode()).exists())
    host.run(f"mkdir -p {place}")
    _copy(host, ["tar", "-C", str(checkout), "--null", "--files-from=-", "-c"], place, there)


def _make_it_noon(host: Host) -> None:
    """Choose a time zone in which it is about noon: no schedule of the guide fires by itself, no day ends."""
    behind = datetime.now(timezone.utc).hour - 12
    host.run(f"ln -sf /usr/share/zoneinfo/Etc/GMT{behind:+d} /etc/localtime; systemctl restart cron")


def _copy(host: Host, pack: list[str], place: str, given: bytes = b"") -> None:
    packed = subprocess.run([*pack, "--owner=0", "--group=0"], input=given, capture_output=True, check=True).stdout
    docker("exec", "-i", host.container, "tar", "-C", place, "-x", stdin=packed)


def _load(host: Host, name: str) -> None:
    """Bring an image of the tests' engine into the host's own, under the name that the stack knows."""
    save = subprocess.Popen(["docker", "save", name], stdout=subprocess.PIPE)
    load = ["docker", "exec", "-i", host.container, "docker", "load", "--quiet"]
    subprocess.run(load, stdin=save.stdout, check=True, capture_output=True)
    assert save.wait() == 0, f"`docker save {name}` failed"
    host.run(f"docker tag {name} pgbackup-test/postgres:15")


@contextmanager
def _container(network: str, name: str, command: list[str]) -> Iterator[Host]:
    container = f"pgbackup-test-{name}-{secrets.token_hex(4)}"
    owner = ["--label", f"{servers.OWNER}={servers._owner(os.getpid())}"]
    options = ["--hostname", name, "--network", network, "--network-alias", name, *owner, *_RIGHTS, *_MOUNTS]
    docker("run", "--detach", "--name", container, *options, image.ensure(), *command)
    shell = Shell(container)
    try:
        yield Host(container, shell)
    finally:
        shell.close()
        docker("rm", "-fv", container, check=False)
