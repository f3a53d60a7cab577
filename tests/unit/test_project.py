"""What is written in two places of the checkout is the same in both: version, supported Pythons, linters."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pgbackup
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT, MAKEFILE = ((ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "Makefile"))
HOOKS = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")


def value(text: str, pattern: str) -> str:
    found = re.findall(pattern, text, re.MULTILINE)
    assert len(found) == 1, f"{pattern} is there {len(found)} times"
    return str(found[0])


def test_the_version_is_that_of_the_project() -> None:
    assert value(PROJECT, r'^version = "(.+?)"') == pgbackup.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", pgbackup.__version__)


def test_all_speak_of_the_same_oldest_python() -> None:
    oldest = value(PROJECT, r'^requires-python = ">=3\.(\d+)"$')
    assert value(PROJECT, r'^target-version = "py3(\d+)"$') == oldest
    assert value(PROJECT, r'^python_version = "3\.(\d+)"$') == oldest
    assert value(MAKEFILE, r"sys\.version_info < \(3, (\d+)\)") == oldest
    tried = value((ROOT / "tests/pythons").read_text(encoding="utf-8"), r"\|\| set -- (3\..+)$").split()
    assert tried == [f"3.{number}" for number in range(int(oldest), int(oldest) + len(tried))]


def linters(makefile: str) -> list[str]:
    """The commands of `make lint`, with their programs where they lie."""
    recipe = makefile.partition("\nlint:")[2].partition("\n\n")[0]
    commands = re.findall(r"^\t(\w+=\S+ )?\$\(BIN\)/(.+)$", recipe, re.MULTILINE)
    assert len(commands) == recipe.count("\n\t"), "a line that is no program of .venv"
    return [
        f"{'env ' + given if given else ''}.venv/bin/{rest.removesuffix(' $(SHELL_SCRIPTS)')}"
        for given, rest in commands
    ]


def entries(hooks: str) -> list[str]:
    """The same of the hooks."""
    return re.findall(r"^ +entry: (.+)$", hooks, re.MULTILINE)


def shell_scripts(makefile: str) -> set[str]:
    """The files that SHELL_SCRIPTS in the Makefile names."""
    words = re.sub(r"\\\n", " ", makefile).partition("\nSHELL_SCRIPTS := ")[2].partition("\n")[0]
    names = [word for word in shlex.split(re.sub(r"\$\(wildcard|\)", " ", words)) if word]
    return {str(path.relative_to(ROOT)) for name in names for path in ROOT.glob(name)}


def hooked(hooks: str) -> set[str]:
    """The files that the hooks for shell scripts look at."""
    pattern = re.compile(value(hooks, r"files: &shell (.+)$"))
    places = [path for top in ("lib", "scripts", ".ci", "tests") for path in (ROOT / top).rglob("*")]
    return {name for path in places if path.is_file() and pattern.search(name := str(path.relative_to(ROOT)))}


def test_the_hooks_before_a_commit_are_the_linters() -> None:
    assert entries(HOOKS) == linters(MAKEFILE)
    assert hooked(HOOKS) == shell_scripts(MAKEFILE)
    assert all((ROOT / name).read_bytes().startswith(b"#!") or "." in name for name in shell_scripts(MAKEFILE))
    assert len(shell_scripts(MAKEFILE)) > 15


def test_every_shell_script_is_linted() -> None:
    found = {str(path.relative_to(ROOT)) for top in ("lib", "scripts", ".ci", "tests") for path in shells(ROOT / top)}
    assert found == shell_scripts(MAKEFILE)


def shells(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and is_shell(path)]


def is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        return bool(re.match(rb"#!.*\b(ba|da|)sh$|#!.*\bbats$", file.readline())) or path.suffix in (
            ".bash",
            ".bats",
            ".sh",
        )


def test_what_contributors_are_told_to_type_is_there() -> None:
    """Targets of the Makefile, programs of .venv, files of the checkout."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = value(MAKEFILE, r"^\.PHONY: (.+)$").split()
    asked = set(re.findall(r"\bmake ([a-z]+)\b", page))
    assert asked <= set(targets) and len(asked) > 8
    words = set(re.findall(r"(?<![\w/])(?:\.venv/bin|tests|lib|scripts|docs|bench)/[\w./-]*\w", page))
    assert len(words) > 8
    assert [word for word in words if not (ROOT / word).exists()] == []


@pytest.mark.parametrize(
    ("before", "after"),
    [("ruff format --check", "ruff format"), ("        entry: .venv/bin/mypy\n", ""), ("tests/(all|", "tests/(")],
)
def test_a_hook_that_differs_is_seen(before: str, after: str) -> None:
    assert before in HOOKS
    changed = HOOKS.replace(before, after)
    assert entries(changed) != linters(MAKEFILE) or hooked(changed) != shell_scripts(MAKEFILE)
