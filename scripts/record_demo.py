"""Record ``bowout demo`` on a terminal, as the animated picture docs/pictures/demo.svg: ``scripts/record_demo.py``.

The demo runs on a real terminal (a pty) of fixed size, and its colours are those that a user sees. Its times differ
from run to run, so run this only after a change of the demo, and inspect the result.

The picture has all lines once, one below the other, in a window of the terminal's height. Two animations of CSS make a
terminal of it: a curtain uncovers line after line, and the lines scroll. The demo prints each act at one stroke and
ends within a second, so the pace is not the recorded one: it is fixed, a line at a time, with a rest after each act.
Without animations, or for a reader who wants reduced motion, the picture is its last frame.

No library draws it: the demo only appends lines and changes colours, and other output is an error here. An emulator of
a terminal (pyte) would have nothing more to do, and rich's picture of a console does not move.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

import pexpect

PICTURE: Final = Path(__file__).resolve().parents[1] / "docs" / "pictures" / "demo.svg"
COMMAND: Final = ("bowout", "demo")
#: The terminal, in characters. A picture of 64 columns can be read on a telephone, and an act of the demo has 34 lines.
COLUMNS: Final = 64
ROWS: Final = 34
PATIENCE: Final = 60  # seconds for the demo, which takes one

#: The demo's port is another one each time; a fixed one of the same length avoids a needless change of the picture.
_PORT: Final = re.compile(r"(?<=127\.0\.0\.1:)\d{5}\b")
_SGR: Final = re.compile(r"\x1b\[([0-9;]*)m")
#: The classes of the picture for the codes that a command of ours writes (SGR, ECMA-48).
_CLASSES: Final = {"1": "b", "2": "dim", "31": "red", "32": "green", "33": "yellow", "36": "cyan"}
#: The colour of each class in the light and in the dark look: those of the ladders.
_COLOURS: Final = {
    "ground": ("#ffffff", "#0d1117"),
    "edge": ("#d1d9e0", "#30363d"),
    "plain": ("#1f2328", "#e6edf3"),
    "dim": ("#59636e", "#9198a1"),
    "red": ("#cf222e", "#ff7b72"),
    "green": ("#1a7f37", "#3fb950"),
    "yellow": ("#9a6700", "#d29922"),
    "cyan": ("#0969da", "#58a6ff"),
}
_FONT: Final = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
#: A character and the distances around the terminal, in pixels.
_SIZE: Final = 16.5
_ADVANCE: Final = 10
_LEADING: Final = 19
_EDGE: Final = 16

#: Seconds before the first line of output and after each act, for a line, and for the last frame.
_START: Final = 1.2
_REST: Final = 3.0
_LINE: Final = 0.08
_END: Final = 6.0
#: The heading of an act that another one precedes.
_NEXT_ACT: Final = re.compile(r"── [2-9] · ")


@dataclass(frozen=True)
class Stretch:
    """Text of one look.

    Attributes:
        text: the characters.
        classes: its classes in the picture.
    """

    text: str
    classes: tuple[str, ...] = ()


Line = list[Stretch]


def record() -> str:
    """Run the demo on a terminal; return what it writes there."""
    unwanted = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PYTHONWARNINGS"}
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    with warnings.catch_warnings():
        # pexpect forks, which Python 3.12 warns of where there are threads; all it does then is to execute the command.
        warnings.simplefilter("ignore", DeprecationWarning)
        started = pexpect.spawn(
            sys.executable, ["-m", *COMMAND], dimensions=(ROWS, COLUMNS), encoding="utf-8", timeout=PATIENCE,
            env={**environment, "TERM": "xterm-256color", "PYTHONUTF8": "1"},
        )  # fmt: skip
    with started as terminal:
        terminal.expect(pexpect.EOF)
        output = terminal.before or ""
        terminal.wait()
    if terminal.exitstatus != 0:
        sys.exit(f"error: the demo ended with status {terminal.exitstatus}\n{output}")
    return output


def lines_of(output: str) -> list[Line]:
    """Split a terminal's output into lines and looks, and replace the port.

    Raises:
        ValueError: it does more than to append lines and to change colours.
    """
    lines = [_line(text) for text in output.replace("\r\n", "\n").removesuffix("\n").split("\n")]
    return [[Stretch(_PORT.sub("44330", stretch.text), stretch.classes) for stretch in line] for line in lines]


def _line(text: str) -> Line:
    stretches, classes = [], list[str]()
    for number, part in enumerate(_SGR.split(text)):
        if number % 2:
            classes = _look(classes, part)
        elif not part.isprintable():
            raise ValueError(f"the demo does more than to append lines: {part!r}")
        elif part:
            stretches.append(Stretch(part, tuple(classes)))
    return stretches


def _look(classes: list[str], codes: str) -> list[str]:
    for code in codes.split(";"):
        if code in ("", "0"):
            classes = []
        elif code in _CLASSES:
            classes = [*classes, _CLASSES[code]]
        else:
            raise ValueError(f"the picture has no look for the colour {code}")
    return classes


def words(line: Line) -> str:
    """Return a line without its looks."""
    return "".join(stretch.text for stretch in line)


def draw(lines: list[Line]) -> str:
    """Draw a terminal on which these lines appear.

    The document is self-contained: no script, font or link. The same lines always give the same text.

    Returns:
        An SVG document, which ends with a newline.
    """
    shown = [[Stretch("$ ", ("dim",)), Stretch(" ".join(COMMAND), ("b",))], *lines]
    high = ROWS * _LEADING
    width, height = COLUMNS * _ADVANCE + 2 * _EDGE, high + 2 * _EDGE
    view = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    # As wide as the frame: some fonts' lines reach a little beyond their columns.
    left, inside = 1 - _EDGE, width - 2
    below = len(shown) * _LEADING
    # What has no class of its own has the light look, for renderers that ignore styles.
    ground, edge, plain = (_COLOURS[name][0] for name in ("ground", "edge", "plain"))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {view} role="img" font-family="{_FONT}" font-size="{_SIZE}">',
        f"<title>A recording of {' '.join(COMMAND)}</title>",
        f"<desc>{escape(_story(lines))}. Slowed down: the demo takes a second.</desc>",
        f"<style>{_style(shown)}</style>",
        f'<g class="ground" fill="{ground}">',
        f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8" class="frame" stroke="{edge}"/>',
        f'<svg x="1" y="{_EDGE}" width="{inside}" height="{high}" viewBox="{left} 0 {inside} {high}">',
        f'<g class="scroll" transform="translate(0 {-_scrolled(len(shown))})">',
        f'<g fill="{plain}">',
        *(_drawn(line, number) for number, line in enumerate(shown)),
        "</g>",
        f'<rect class="curtain" x="{left}" width="{inside}" height="{below}" transform="translate(0 {below})"/>',
        "</g>",
        "</svg>",
        "</g>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _story(lines: list[Line]) -> str:
    """Tell the acts to a reader who does not see them: each heading, its verdict, and what it shows."""
    told: list[str] = []
    goes_on = False
    for text in map(words, lines):
        if goes_on and text.startswith("  ") and "·" not in text:
            told[-1] += f" {text.strip()}"
        goes_on = bool(re.match("── |[✓✗] ", text))
        if goes_on:
            told.append(text.strip("─ "))
    return "; ".join(told)


def _drawn(line: Line, number: int) -> str:
    """Draw each stretch at its place and stretched to its length, since the reader's font is unknown."""
    y = number * _LEADING + 0.75 * _LEADING
    column, texts = 0, []
    for stretch in line:
        bare = stretch.text.lstrip(" ")
        x = column + len(stretch.text) - len(bare)
        column += len(stretch.text)
        bare = bare.rstrip(" ")
        if bare:
            classes = f' class="{" ".join(stretch.classes)}"' if stretch.classes else ""
            texts.append(
                f'<text x="{x * _ADVANCE}" y="{y:g}" textLength="{len(bare) * _ADVANCE}"{classes}>{escape(bare)}</text>'
            )
    return "".join(texts)


def _style(lines: list[Line]) -> str:
    (light, dark) = (
        f"text{{fill:{_COLOURS['plain'][look]}}}.frame{{stroke:{_COLOURS['edge'][look]}}}"
        + "".join(f".{name}{{fill:{both[look]}}}" for name, both in _COLOURS.items() if name not in ("edge", "plain"))
        for look in (0, 1)
    )
    frames = _frames(lines)
    total = frames[-1][0] + _END
    return (
        f"text{{white-space:pre}}.b{{font-weight:600}}{light}"
        f"@media (prefers-color-scheme:dark){{{dark}}}"
        "@media (prefers-reduced-motion:no-preference){"
        f".scroll{{animation:scroll {total:.2f}s step-end infinite}}"
        f".curtain{{animation:curtain {total:.2f}s step-end infinite}}}}"
        f"@keyframes scroll{{{_moves([(at, -_scrolled(count)) for at, count in frames], total)}}}"
        f"@keyframes curtain{{{_moves([(at, _uncovered(count, len(lines))) for at, count in frames], total)}}}"
    )


def _frames(lines: list[Line]) -> list[tuple[float, int]]:
    """Return the seconds at which each number of lines is shown: one at once, then the output."""
    frames = [(0.0, 1), (_START, 2)]
    for number, line in enumerate(lines[2:], 3):
        at, _ = frames[-1]
        frames.append((at + (_REST if _NEXT_ACT.match(words(line)) else _LINE), number))
    return frames


def _moves(frames: list[tuple[float, float]], total: float) -> str:
    """Make the keyframes of a vertical move: only where the place changes."""
    places, last = [], None
    for at, place in frames:
        if place != last:
            places.append(f"{100 * at / total:.2f}%{{transform:translateY({place}px)}}")
            last = place
    return "".join(places) + f"to{{transform:translateY({last}px)}}"


def _uncovered(count: int, of: int) -> float:
    """Return where the curtain begins when so many lines are shown, in pixels.

    That is a little above the next line, since its edge may lie between two pixels of the reader's screen.
    """
    return of * _LEADING if count == of else count * _LEADING - 1.5


def _scrolled(count: int) -> int:
    """Return how far the first line is above the window when so many are shown, in pixels."""
    return max(0, count - ROWS) * _LEADING


def main() -> None:
    """Record and draw."""
    PICTURE.write_text(draw(lines_of(record())), encoding="utf-8")
    print(PICTURE.relative_to(PICTURE.parents[2]))


if __name__ == "__main__":
    main()
