"""Progress: bars on a terminal, lines elsewhere, nothing when quiet."""

from __future__ import annotations

import pytest
from pgbackup.report.progress import reporting


def test_without_a_terminal_there_are_lines_and_no_bars(capsys: pytest.CaptureFixture[str]) -> None:
    with reporting(quiet=False) as reporter, reporter.bar("dump", 100) as advance:
        advance(50)
        reporter.tell("auth: dumping")
    assert capsys.readouterr() == ("", "auth: dumping\n")


def test_quiet_is_silence(capsys: pytest.CaptureFixture[str]) -> None:
    with reporting(quiet=True) as reporter, reporter.bar("dump", None) as advance:
        advance(50)
        reporter.tell("auth: dumping")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("total", [None, 10, 1000])
def test_on_a_terminal_there_is_a_bar_and_markup_in_names_is_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, total: int | None
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with reporting(quiet=False) as reporter, reporter.bar("auth: dump", total) as advance:
        for _ in range(5):
            advance(20)
        reporter.tell("auth: [red]dumping[/red] " + "x" * 200)
    said = capsys.readouterr()
    assert said.out == ""
    assert "[red]dumping[/red] " + "x" * 200 in said.err
