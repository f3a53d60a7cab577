"""Loads settings from a `.env` that a test has written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from pgbackup.errors import ConfigurationError
from pgbackup.settings import config


def load(
    place: Path, env: str | bytes | None = None, environment: Mapping[str, str] | None = None, **overrides: str
) -> config.Settings:
    """The settings with `env` as the text of `.env` in `place` (None: leave it as it is) and an environment."""
    file = place / ".env"
    if env is not None:
        file.write_bytes(env.encode() if isinstance(env, str) else env)
    return config.load(environment or {}, file, overrides)


def refusal(place: Path, env: str | bytes | None = None, environment: Mapping[str, str] | None = None) -> str:
    """The message and hint of the refusal, with status 78, that load() has to end in."""
    with pytest.raises(ConfigurationError) as caught:
        load(place, env, environment)
    assert caught.value.status == 78
    return f"{caught.value.message}\n{caught.value.hint}"
