"""Deliberately broken copies of a module of the library: a test that does not notice them proves nothing."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType


def mutant(name: str, *changes: tuple[str, str]) -> ModuleType:
    """Return a copy of a library's module in which each old text, which must be there once, is the new one."""
    original = importlib.import_module(name)
    source = Path(str(original.__file__)).read_text()
    for old, new in changes:
        assert source.count(old) == 1, f"{name} has {old!r} {source.count(old)} times"
        source = source.replace(old, new)
    broken = ModuleType(f"{name}_mutant")
    broken.__file__ = original.__file__
    sys.modules[broken.__name__] = broken  # dataclasses look their module up
    exec(compile(source, f"<mutant of {name}>", "exec"), vars(broken))  # noqa: S102  our own source
    return broken
