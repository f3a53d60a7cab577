"""Programs of the distribution that open our copies without us. Root on Debian or Ubuntu gets what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest


def need(*programs: str) -> None:
    """Have these programs, each of the Debian package of its name; skip the test where they cannot be installed."""
    missing = [program for program in programs if not shutil.which(program)]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip(f"not installed: {', '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # Several processes of a test run may come here at once.
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", *missing]
    for command in (install, ["apt-get", "update", "-qq"], install):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if command is install and done.returncode == 0:
            return
    pytest.skip(f"`{' '.join(install)}` failed: {done.stderr.strip()[-300:]}")
