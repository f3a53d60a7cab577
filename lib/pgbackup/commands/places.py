"""The places elsewhere as the settings have them. Nothing is asked of one here."""

from __future__ import annotations

import os
import re

from pgbackup.errors import ConfigurationError
from pgbackup.remotes.place import Place
from pgbackup.remotes.rclone import Rclone
from pgbackup.settings.config import Offsite, Settings


def connected(settings: Settings, offsite: Offsite) -> Place:
    """A place of OFFSITE."""
    return Rclone(offsite.remote, settings.rclone_config, offsite.bandwidth, settings.offsite_stall_seconds)


def host(settings: Settings) -> str:
    """The name that this host's copies lie below: OFFSITE_HOST, else the host's own. Raise ConfigurationError."""
    name = settings.offsite_host or os.uname().nodename
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", name):
        raise ConfigurationError(f"this host's name {name!r} cannot be that of a directory", "set OFFSITE_HOST in .env")
    return name
