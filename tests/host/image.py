"""The image of the whole-host test: Debian with systemd, cron, sudo, ssh, nginx and a Docker engine of its own.

    python -m tests.host.image     prints its name, having built it if need be

Built like the other images of the tests (tests/support/images.py) and anew when its recipe has changed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support import engine, images

_FILES = Path(__file__).with_name("files")
_CHECKOUT = Path(__file__).resolve().parents[2]
_BASE = "pgbackup-test/host-base:bookworm"
_IMAGE = "pgbackup-test/host:bookworm"
_SUITE = "bookworm"
_PACKAGES = (
    "systemd,systemd-sysv,dbus,cron,sudo,docker.io,iptables,openssh-server,openssh-client,rsync,curl,gzip,make,nano,"
    "python3-venv,python3-psycopg2,logrotate,nginx-light,ca-certificates,procps,iproute2,openssl,tzdata"
)
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*")
# The `aws` of the guide and a server for it, from wheels: Debian's is too old to be told of another endpoint.
_AWS = ("awscli==1.46.2", "moto[s3]==5.2.5", "flask==3.1.3", "flask-cors==6.0.5")
_PYTHON = "3.11"  # of this Debian
_RECIPE = "pgbackup-test.recipe"


def ensure() -> str:
    """Return the name of the image, built if need be; raise images.NoImage."""
    with images._alone("host"):
        if images._recipe(_IMAGE) != _recipe():
            print(f"building {_IMAGE} …", file=sys.stderr)
            _ensure_base()
            _build()
    return _IMAGE


def _base_recipe() -> str:
    return images._digest(_SUITE, _PACKAGES, *_LEFT_OUT)


def _ingredients() -> list[Path]:
    named = [Path(__file__), _CHECKOUT / "pyproject.toml", _CHECKOUT / "constraints.txt"]
    return [*named, *sorted(_FILES.iterdir()), *sorted(_CHECKOUT.glob("demo/*.sql"))]


def _recipe() -> str:
    sources = [path.read_text() for path in _ingredients()]
    return images._digest(_base_recipe(), *_AWS, *sources)


def _ensure_base() -> None:
    """Make the image of packages alone, the part that takes long."""
    if images._recipe(_BASE) == _base_recipe():
        return
    engine.install({"mmdebstrap": "mmdebstrap"})
    command = ["mmdebstrap", "--variant=essential", "--format=tar", f"--include={_PACKAGES}"]
    command += [f'--dpkgopt=path-exclude="{pattern}"' for pattern in _LEFT_OUT]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "root.tar"
        sources = images._debian_sources()
        _run([*command, _SUITE, str(root), *(["-"] if sources else [])], sources)
        _run(["docker", "import", "--change", f"LABEL {_RECIPE}={_base_recipe()}", str(root), _BASE])


def _build() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        context = Path(scratch)
        shutil.copytree(_FILES, context / "files")
        for schema in _CHECKOUT.glob("demo/*.sql"):
            shutil.copy(schema, context / "files")
        _pip("install", "--target", str(context / "aws"), *_AWS)
        # What `make wheelhouse` collects, for the Python of the host and not for that of this machine.
        runtime = ["--constraint", "constraints.txt", "--group", "runtime"]
        _pip("download", "--dest", str(context / "files/wheelhouse"), "pip", *runtime)
        shutil.rmtree(context / "aws/awscli/examples")
        for service in (context / "aws/botocore/data").iterdir():
            if service.is_dir() and service.name not in ("s3", "sts", "sso", "sso-oidc", "signin"):
                shutil.rmtree(service)
        (context / "Dockerfile").write_text(
            f"FROM {_BASE}\n"
            "COPY aws /opt/aws\n"
            "COPY files /srv/payment\n"
            "RUN sh /srv/payment/prepare.sh\n"
            # As systemd wants to be told to shut down.
            "STOPSIGNAL SIGRTMIN+3\n"
            'CMD ["/sbin/init"]\n'
            f"LABEL {_RECIPE}={_recipe()}\n"
        )
        for path in context.rglob("*"):  # whatever the umask and pip made of them
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        _run(["docker", "build", "--quiet", "--tag", _IMAGE, str(context)])


def _pip(verb: str, *arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", verb, "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--python-version", _PYTHON, "--only-binary", ":all:", *arguments])


def _run(command: list[str], given: str = "") -> None:
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=600, check=False, cwd=_CHECKOUT)
    if done.returncode != 0:
        raise images.NoImage(f"`{' '.join(command[:3])} …` failed: {done.stderr.strip()[-2000:]}")


if __name__ == "__main__":
    try:
        print(ensure())
    except images.NoImage as reason:
        sys.exit(f"no image: {reason}")
