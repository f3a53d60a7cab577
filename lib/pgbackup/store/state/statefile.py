"""State files: small JSON documents in which the suite leaves notes for its next run. One writer, one reader.

Whatever lies there is read as if a stranger had written it: a file that was cut by a full disk, edited by hand, or
written by a newer version is told apart and named, and nothing else comes out.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import typing
from collections.abc import Hashable, Mapping
from datetime import datetime, timezone
from functools import cache
from typing import Any, TypeVar

from pgbackup.errors import CannotCreate, path_error
from pgbackup.store import workfiles
from pgbackup.store.folder import Folder

VERSION = 1
_LARGEST_BYTES = 4 << 20  # ten thousand backups' proofs have half of it
_Held = TypeVar("_Held")
# Half a character, which cannot be written anywhere; the second halves are bytes of file names that are not UTF-8.
_HALF = re.compile("[\ud800-\udc7f\udd00-\udfff]")
_INSTANTS = (datetime, datetime | None)


class Unreadable(CannotCreate):
    """A state file that cannot be understood: which one, and why. What it would have said is not known."""


class Newer(Unreadable):
    """A state file of a later version of this suite: whole, and not ours to replace."""


def write(place: Folder, name: str, held: Any, *, mode: int = 0o600, lasting: bool = True) -> None:
    """Replace a state file in one step and sync it. held: a dataclass as read() takes it. Raise OSError.

    mode, lasting: as in workfiles.write().
    """
    data = json.dumps(written(held), indent=1).encode() + b"\n"
    workfiles.write(place, name, data, mode=mode, lasting=lasting)


def written(held: Any) -> dict[str, Any]:
    """The JSON values of a state file that holds this: an instant in ISO 8601, "" for none. Pure."""
    values: dict[str, Any] = _json(dataclasses.asdict(held))
    return {"version": VERSION, **values}


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_json(one) for one in value]
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime) else value


def now() -> datetime:
    """This instant as state files keep most: UTC, to the second."""
    return to_the_second(datetime.now(timezone.utc))


def to_the_second(moment: datetime) -> datetime:
    """An instant as state files keep most. Pure."""
    return moment.astimezone(timezone.utc).replace(microsecond=0)


def read(place: Folder, name: str, kind: type[_Held], remedy: str = "") -> _Held | None:
    """Return what a state file holds, None where there is none. remedy: what to do about one that is damaged.

    kind: a dataclass whose fields are texts, numbers, truths, instants (or None), mappings of text to one of these,
    lists of them, or lists of such dataclasses; it raises ValueError for values that make no sense together. A file
    without a version has the first one.
    Raise Unreadable, Newer, or PermissionDenied as path_error() tells it.
    """
    path = place.path / name
    try:
        descriptor = place.open(name)
        with open(descriptor, "rb") as file:  # noqa: PTH123  a descriptor, not a path
            text = file.read(_LARGEST_BYTES + 1)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise path_error(error, path) from None
    except OSError as error:
        look = remedy or f"look at it: ls -l '{path}'"
        raise Unreadable(f"'{path}' cannot be read: {error.strerror}", look) from None
    try:
        return parsed(text, kind)
    except _NewerVersion as error:
        raise Newer(
            f"'{path}' cannot be understood: {error}", "install that version again: sudo make install"
        ) from None
    except ValueError as error:
        look = remedy or f"look at it: cat '{path}'"
        raise Unreadable(f"'{path}' cannot be understood: {error}", look) from None


class _NewerVersion(ValueError):
    pass


def parsed(text: bytes, kind: type[_Held]) -> _Held:
    """Given a state file's bytes, return what it holds. Raise ValueError that says what is wrong. Pure."""
    if not text.strip():
        raise ValueError("it is empty")
    if len(text) > _LARGEST_BYTES:
        raise ValueError("it is larger than any that this suite writes")
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(raw, dict):
        raise ValueError("it is not a JSON object")
    version = raw.pop("version", 1)
    if type(version) is not int or version < 1:
        raise ValueError("its version is not a number")
    if version > VERSION:
        raise _NewerVersion(f"a newer version of this suite wrote it (version {version}, this one knows {VERSION})")
    return kind(**_checked(raw, kind))


def instant(text: str) -> datetime:
    """Given an instant in ISO 8601, return it. Raise ValueError where it has no zone, or the calendar ends near it."""
    found = datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith("Z") else text)  # Python 3.10 knows no Z
    if found.utcoffset() is None:
        raise ValueError("its time has no zone")
    if not 1 < found.year < 9999:
        raise ValueError("its time is out of the range of the calendar")
    return found


@cache
def _fields(kind: Any) -> dict[str, tuple[Any, bool]]:
    """The fields of a dataclass: what each holds, and whether it may be left out."""
    hints = typing.get_type_hints(kind)
    missing = dataclasses.MISSING
    return {
        field.name: (hints[field.name], field.default is not missing or field.default_factory is not missing)
        for field in dataclasses.fields(kind)
    }


def _checked(raw: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    fields = _fields(typing.cast("Hashable", kind))
    if unknown := sorted(set(raw) - set(fields)):
        raise ValueError(f"it has the unknown field {unknown[0]!r}")
    values = {}
    for name, (hint, optional) in fields.items():
        if name in raw:
            values[name] = _value(name, raw[name], hint)
        elif not optional:
            raise ValueError(f"it lacks the field {name!r}")
    return values


def _value(name: str, value: Any, hint: Any) -> Any:
    """What the field is to hold: the value itself, or dataclasses made of it. Raise ValueError."""
    inner = typing.get_args(hint)
    if inner and dataclasses.is_dataclass(inner[0]) and isinstance(value, list):
        if not all(isinstance(one, dict) for one in value):
            raise ValueError(f"its field {name!r} has a value of the wrong type")
        made = typing.cast("type[Any]", inner[0])
        return [made(**_checked(one, made)) for one in value]
    if not _fits(value, hint):
        raise ValueError(f"its field {name!r} has a value of the wrong type")
    if hint in _INSTANTS:
        return _instant(value, hint)
    if typing.get_origin(hint) is dict and inner[1] in _INSTANTS:
        return {key: _instant(one, inner[1]) for key, one in value.items()}
    return value


def _instant(text: str, hint: Any) -> datetime | None:
    return None if hint != datetime and not text else instant(text)


def _fits(value: Any, hint: Any) -> bool:
    if hint is str or hint in _INSTANTS:
        return isinstance(value, str) and not _HALF.search(value)
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        return isinstance(value, list) and all(_fits(one, inner[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(one, inner[1]) for one in value.values())
    return type(value) is hint  # a truth is no number here
