"""Writes `.env.example` and the tables of docs/ from the tables in the code: `generate.py [--check]`.

With --check nothing is written: a difference is shown and the exit status is 1. In a page of docs/ only what
stands between the two marks is written; the rest is kept as it is.
"""

from __future__ import annotations

import ast
import difflib
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "lib"))

from pgbackup.errors import EXIT_STATUSES  # noqa: E402  as above
from pgbackup.report.metrics.series import METRICS  # noqa: E402  as above
from pgbackup.settings.named_table import PLACE_SETTINGS, TARGET_SETTINGS  # noqa: E402  found by the line above
from pgbackup.settings.setting import Setting  # noqa: E402  found by the line above
from pgbackup.settings.table import GLOBAL_SETTINGS  # noqa: E402  found by the line above

BEGIN = "<!-- written by docs/generate.py: begin -->\n"
END = "<!-- written by docs/generate.py: end -->\n"
ANY_NAME = "<name>"
ANY_PLACE = "<place>"
EXAMPLE_PLACE = "s3"
_WIDTH = 110

_ENV_HEAD = """\
# Settings of the backup suite. Copy this file to .env in the same directory. Each line shows a default: to change one,
# remove its # and edit the value. The file is read as data; nothing in it is executed or expanded. Details:
# docs/configuration.md
"""
_ENV_THIRD = """\
#SHOP_CONTAINER=postgres-c
#SHOP_DATABASE=shop_db
#SHOP_USER=shop_user
"""


def env_example() -> str:
    """Return the text of `.env.example`: every setting at its default, not in force, with what may be written there."""
    names = next(row.default_for("") for row in GLOBAL_SETTINGS if row.key == "DATABASES").split()
    parts = [_ENV_HEAD, *(_env_setting(row, row.key, "") for row in GLOBAL_SETTINGS)]
    for name in names:
        parts.append(_env_heading(f"the database '{name}'"))
        parts += [_env_setting(row, f"{name.upper()}_{row.key}", name) for row in TARGET_SETTINGS]
    another = _env_heading("another database: add its name to DATABASES above, and these three lines")
    parts.append(another + _ENV_THIRD)
    parts.append(_env_heading("a place elsewhere for copies: its name in OFFSITE above, and these lines"))
    parts += [_env_setting(row, f"{EXAMPLE_PLACE.upper()}_{row.key}", EXAMPLE_PLACE) for row in PLACE_SETTINGS]
    return "\n".join(parts)


def _env_heading(title: str) -> str:
    return f"# --- {title} ".ljust(_WIDTH, "-") + "\n"


def _env_setting(row: Setting, key: str, name: str) -> str:
    default = row.default_for(name)
    written = f'"{default}"' if " " in default else default
    unit = f"Unit: {row.kind.unit}. " if row.kind.unit != "none" else ""
    about = (f"{_capital(row.meaning)}.", f"{unit}Allowed: {row.kind.allowed}.", f"Default: {default or 'empty'}")
    lines = [line for text in about for line in textwrap.wrap(text, _WIDTH - 2)]
    return "".join(f"# {line}\n" for line in lines) + f"#{key}={written}\n"


def settings_tables() -> str:
    """Return the tables of docs/configuration.md."""
    return (
        "### For all databases\n\n"
        + _settings_table((row.key, row, _code(row.default_for(""))) for row in GLOBAL_SETTINGS)
        + "\n### For each database\n\n"
        f"`{ANY_NAME.upper()}` stands for a name from `DATABASES`, in capitals.\n\n"
        + _settings_table((f"{ANY_NAME.upper()}_{row.key}", row, _target_default(row)) for row in TARGET_SETTINGS)
        + f"\n### For each place elsewhere\n\n`{ANY_PLACE.upper()}` stands for a name from `OFFSITE`, in capitals.\n\n"
        + _settings_table(
            (f"{ANY_PLACE.upper()}_{row.key}", row, _code(row.default_for(ANY_PLACE))) for row in PLACE_SETTINGS
        )
    )


def _target_default(row: Setting) -> str:
    """The default of any name, and where a name of the default DATABASES has another one, that too."""
    otherwise = row.default_for(ANY_NAME)
    special = [
        f"{name}: {_code(row.default_for(name))}"
        for name in ("auth", "payment")
        if row.default_for(name) != row.default_for(ANY_NAME).replace(ANY_NAME, name)
    ]
    return "; ".join([_code(otherwise), *special])


def _settings_table(rows: Iterable[tuple[str, Setting, str]]) -> str:
    cells = [(_code(key), row.meaning, row.kind.unit, row.kind.allowed, default) for key, row, default in rows]
    return _table(("Setting", "Meaning", "Unit", "Allowed", "Default"), cells)


def statuses_table() -> str:
    """Return the table of docs/exit-codes.md."""
    return _table(("Status", "Meaning"), [(_code(status), meaning) for status, meaning in EXIT_STATUSES])


def metrics_table() -> str:
    """Return the table of docs/monitoring.md."""
    cells = [(_code(one.name), ", ".join(map(_code, one.labels)), one.meaning) for one in METRICS]
    return _table(("Metric", "Labels", "What it says"), cells)


@cache
def rooms_table() -> str:
    """Return the table of docs/architecture.md: each package of the library, and what the packages are that it uses."""
    library = ROOT / "lib/pgbackup"
    rooms = {path.parent: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(library.rglob("__init__.py"))}
    cells = []
    for room, tree in rooms.items():
        modules = sorted(path.stem for path in room.glob("*.py") if not path.name.startswith("__"))
        name = room.relative_to(library).as_posix()
        used = sorted(
            {_seen_from(name, each) for module in modules for each in _rooms_used(room / f"{module}.py")} - {""}
        )
        told = (ast.get_docstring(tree) or "").replace("\n", " ")
        cells.append((f"`{name}/`" if name != "." else "the ground", told, ", ".join(modules), ", ".join(used)))
    return _table(("Room", "What it is for", "Modules", "Uses"), cells)


def _seen_from(name: str, other: str) -> str:
    """Another package as it is called from that one: a neighbour by its whole name, a room elsewhere by its first."""
    floor = other.split("/")[0]
    return "" if other == name else other if floor == name.split("/")[0] else floor


def _rooms_used(module: Path) -> set[str]:
    """The packages, as the table names them, that a module imports from; not the ground, which all stand on."""
    library = ROOT / "lib/pgbackup"
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pgbackup."):
            words = str(node.module).split(".")[1:]
            while words and not library.joinpath(*words, "__init__.py").exists():
                words.pop()
            found |= {"/".join(words)} if words else set()
    return found


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`" if text else "empty"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def with_table(page: str, table: str) -> str:
    """Return `page` with what stands between its marks replaced. Raise ValueError unless it has them once."""
    new, count = re.subn(
        re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: f"{BEGIN}\n{table}\n{END}", page, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"the page needs one pair of lines {BEGIN.strip()!r} and {END.strip()!r}")
    return new


def generated(root: Path) -> dict[Path, str]:
    """Return every file that is written, with the text that it should have."""
    pages = {
        root / "docs/configuration.md": settings_tables(),
        root / "docs/exit-codes.md": statuses_table(),
        root / "docs/architecture.md": rooms_table(),
        root / "docs/monitoring.md": metrics_table(),
    }
    return {
        root / ".env.example": env_example(),
        **{path: with_table(path.read_text(encoding="utf-8"), table) for path, table in pages.items()},
    }


def differences(root: Path) -> list[str]:
    """Return the lines of a diff from the files as they are to what they should be; none when all is well."""
    lines: list[str] = []
    for path, text in generated(root).items():
        name = str(path.relative_to(root))
        present = path.read_text(encoding="utf-8") if path.exists() else ""
        lines += difflib.unified_diff(
            present.splitlines(keepends=True), text.splitlines(keepends=True), name, f"{name} from the code"
        )
    return lines


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    if arguments == ["--check"]:
        lines = differences(root)
        sys.stdout.writelines(lines)
        if lines:
            sys.stderr.write("docs/generate.py: the pages differ from the code\nHint: make docs\n")
        return 1 if lines else 0
    if arguments:
        sys.stderr.write("usage: docs/generate.py [--check]\n")
        return 64
    for path, text in generated(root).items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
