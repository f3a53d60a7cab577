"""What rclone is asked with a transfer: its two ends, and what is to hold of an upload. Pure but for the clock."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any


def here(directory: Path, name: str, end: str) -> dict[str, str]:
    """A file on this host, as one end ("src", "dst") of a transfer."""
    return {f"{end}Fs": str(directory), f"{end}Remote": name}


def into_bucket(root: str, name: str, lock_days: int, md5: str) -> dict[str, Any]:
    """An object of an object store as the end of an upload: never over another one, and kept for so long.

    md5: of the file, in hexadecimal; where it is known, rclone need not read the file for it.
    """
    options, headers = _lock(lock_days), {"If-None-Match": "*"}
    if md5:
        options["disable_checksum"] = "true"
        headers["X-Amz-Meta-Md5chksum"] = base64.b64encode(bytes.fromhex(md5)).decode()
    kept = [{"Key": key, "Value": value} for key, value in headers.items()]
    there = {"dstFs": with_options(root, options), "dstRemote": name}
    return {**there, "_config": {"UploadHeaders": kept, "IgnoreChecksum": bool(md5)}}


def with_options(root: str, options: Mapping[str, str]) -> str:
    """A remote with options of its kind that are for one question alone (rclone's "connection string")."""
    section, _, path = root.partition(":")
    return ",".join([section, *(f"{key}='{value}'" for key, value in options.items())]) + f":{path}"


def _lock(days: int) -> dict[str, str]:
    if not days:
        return {}
    until = datetime.now(timezone.utc) + timedelta(days=days)
    return {"object_lock_mode": "COMPLIANCE", "object_lock_retain_until_date": f"{until:%Y-%m-%dT%H:%M:%SZ}"}
