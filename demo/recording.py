"""Records the demo as it really runs and writes it as an animated picture: recording.py FILE

A line appears when the demo printed it, but no pause is longer than a reader needs. The picture is SVG with CSS alone:
no script, no font of its own; who asks for less motion sees its end.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import gettempdir
from xml.sax.saxutils import escape

HERE = Path(__file__).resolve().parent
COLUMNS, ROWS = 112, 34
LONGEST_SECONDS, SHORTEST_SECONDS, LAST_SECONDS = 1.6, 0.06, 8.0
_WIDTH, _HEIGHT, _MARGIN = 8.4, 18, 14  # of a character, in pixels

_LOOK = """\
text { font: 14px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #d6deeb; white-space: pre; }
.typed { fill: #8fd18f; font-weight: bold; }
.step { fill: #ffffff; font-weight: bold; }
.broken { fill: #ff9389; font-weight: bold; }
"""
_MOTION = """\
#lines { transform: translateY(%(end)spx); animation: run %(seconds).2fs step-end infinite; }
@media (prefers-reduced-motion: reduce) { #lines { animation: none; } }
@keyframes run { %(frames)s }
"""


def recorded(command: Sequence[str]) -> list[tuple[float, str]]:
    """Run it and return each line with the second in which it came. Raise CalledProcessError if it fails."""
    lines = []
    begun = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        for line in running.stdout or ():
            lines.append((time.monotonic() - begun, line.rstrip("\n").expandtabs(4)))
    if running.returncode:
        raise subprocess.CalledProcessError(running.returncode, command)
    return lines


def wrapped(lines: Sequence[tuple[float, str]], columns: int) -> list[tuple[float, str]]:
    """Cut long lines as a terminal of so many columns does. Pure."""
    return [(at, part) for at, line in lines for part in textwrap.wrap(line, columns, drop_whitespace=False) or [""]]


def paced(lines: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return the lines with seconds at which a reader can follow. Pure."""
    shown, now, before = [], 0.0, 0.0
    for at, line in lines:
        now += min(max(at - before, SHORTEST_SECONDS), LONGEST_SECONDS)
        before = at
        shown.append((now, line))
    return shown


def drawn(lines: Sequence[tuple[float, str]], title: str) -> str:
    """Return the SVG: all lines one below the other, moved past a window of ROWS lines as they come. Pure."""
    width, height = COLUMNS * _WIDTH + 2 * _MARGIN, ROWS * _HEIGHT + 2 * _MARGIN
    seconds = lines[-1][0] + LAST_SECONDS
    moved = [_MARGIN + (ROWS - count) * _HEIGHT for count in range(len(lines) + 1)]
    frames = [f"0% {{ transform: translateY({moved[0]}px); }}"]
    frames += [
        f"{100 * at / seconds:.3f}% {{ transform: translateY({moved[number]}px); }}"
        for number, (at, _) in enumerate(lines, 1)
    ]
    style = _LOOK + _MOTION % {"end": moved[-1], "seconds": seconds, "frames": " ".join(frames)}
    texts = "\n".join(
        f'<text x="{_MARGIN}" y="{(number + 1) * _HEIGHT - 4}"{_kind(line)}>{escape(line)}</text>'
        for number, (_, line) in enumerate(lines)
        if line
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img" xml:space="preserve">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n"
        f'<rect width="100%" height="100%" rx="8" fill="#10151f"/>\n'
        f'<svg x="0" y="0" width="{width:.0f}" height="{height}"><g id="lines">\n{texts}\n</g></svg>\n</svg>\n'
    )


def still(lines: Sequence[str], title: str) -> str:
    """Return the SVG of a screen that shows all the lines at once. Pure."""
    width, height = COLUMNS * _WIDTH + 2 * _MARGIN, len(lines) * _HEIGHT + 2 * _MARGIN
    texts = "\n".join(
        f'<text x="{_MARGIN}" y="{_MARGIN + (number + 1) * _HEIGHT - 4}"{_kind(line)}>{escape(line)}</text>'
        for number, line in enumerate(lines)
        if line
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img" xml:space="preserve">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_LOOK}</style>\n"
        f'<rect width="100%" height="100%" rx="8" fill="#10151f"/>\n{texts}\n</svg>\n'
    )


def _kind(line: str) -> str:
    if line.startswith("$ "):
        return ' class="typed"'
    if line.startswith("BROKEN"):
        return ' class="broken"'
    return ' class="step"' if line[:1].isdigit() and line[1:3] == ". " else ""


def main(words: Sequence[str]) -> int:
    if len(words) != 1:
        sys.stderr.write("usage: demo/recording.py FILE\n")
        return 64
    said = recorded([sys.executable, "-u", str(HERE / "demo.py")])
    place = re.compile(re.escape(gettempdir()) + r"/pgbackup-demo-\w+")
    lines = [(at, place.sub("/srv", line)) for at, line in said]
    Path(words[0]).write_text(drawn(paced(wrapped(lines, COLUMNS)), "make demo"), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
