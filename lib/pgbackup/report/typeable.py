"""The suite's own commands in texts for people, so that they can be typed as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

_SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"
# A script's name in a sentence; neither a part of a path nor the head of a message.
_NAMED = re.compile(r"(?<![\w./-])(?:backup|copy|drill|receive|restore|setup|test|verify)-[a-z-]+\.sh(?![\w:.])")


def typeable(text: str) -> str:
    """Return the text, each script in it with the path by which a shell finds it from here."""
    try:
        current = str(Path.cwd())
    except OSError:  # it was removed
        current = ""
    return with_paths(text, _SCRIPTS, current)


def absolute(text: str) -> str:
    """Return the text with whole paths: it is read elsewhere, in a message or on a page."""
    return with_paths(text, _SCRIPTS, "")


def with_paths(text: str, scripts: Path, current: str) -> str:
    """The same for given directories; short where a person stands beside the scripts. Pure."""
    directory = scripts.name if current == str(scripts.parent) else str(scripts)
    return _NAMED.sub(lambda found: shlex.quote(f"{directory}/{found[0]}"), text)
