"""The layout of the demo: headings, prose, code, ladders and facts, in the available columns."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from bowout._text import columns, escape, wrap
from bowout.cli.console import output
from bowout.cli.demo.acts import Fact
from bowout.ladder import render_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bowout.cli.demo.acts import DemoAct, Played
    from bowout.ending import Ending

_NARROWEST: Final = 40
#: Largest width in columns: longer lines are harder to read.
_WIDEST: Final = 100
_INDENT: Final = 4
_BOLD, _DIM, _GOOD, _BAD = "1", "2", "32", "31"
_TO_ASCII: Final = str.maketrans({"─": "-", "✓": "+", "✗": "x", "“": '"', "”": '"', "·": "-"})


class DemoPage:
    """Writes to stdout: in colour and in Unicode if it can show them."""

    def __init__(self) -> None:
        self._width = max(_NARROWEST, min(_columns(), _WIDEST))
        self._colours = output.colours(sys.stdout)
        self._unicode = output.draws(sys.stdout)

    def preface(self, text: str) -> None:
        """Print the introduction."""
        self._paragraph(text)

    def announce(self, act: DemoAct) -> None:
        """Print an act's heading, its story and its code."""
        self._line()
        heading = f"── {act.number} · {act.title} "
        self._line(self._styled(heading + "─" * (self._width - columns(heading)), _BOLD))
        self._paragraph(act.story)
        self._line()
        for line in act.code.splitlines():
            self._line(" " * _INDENT + line)

    def tell(self, act: DemoAct, played: Played) -> None:
        """Print the result of an act."""
        self._line()
        self._ladder(played.ending)
        self._line()
        self._facts(played.facts)
        self._line()
        if played.as_promised:
            self._verdict(act.moral, good=True)
        else:
            self._verdict("This did not end as promised.", good=False)

    def interrupted(self, why: str) -> None:
        """Print why an act failed."""
        self._line()
        self._verdict(why, good=False)

    def written(self, paths: Sequence[Path]) -> None:
        """Print the names of the written pictures."""
        self._line()
        self._facts([Fact("written", tuple(map(str, paths)))])

    def finish(self, text: str) -> None:
        """Print the last paragraph."""
        self._line()
        self._paragraph(text)

    def _ladder(self, ending: Ending) -> None:
        _write(render_text(ending, width=self._width, color=self._colours, unicode=self._unicode))

    def _facts(self, facts: Sequence[Fact]) -> None:
        room = max(columns(fact.label) for fact in facts) + 2
        for fact in facts:
            label = fact.label
            for told in fact.lines or ("nothing",):
                for line in wrap(escape(told), self._width - room):
                    self._line(self._styled(label, _DIM) + " " * (room - columns(label)) + line)
                    label = ""

    def _verdict(self, text: str, *, good: bool) -> None:
        mark, code = ("✓", _GOOD) if good else ("✗", _BAD)
        for number, line in enumerate(wrap(escape(text), self._width - 2)):
            self._line(self._styled(f"{' ' if number else mark} {line}", code))

    def _paragraph(self, text: str) -> None:
        for line in wrap(text, self._width):
            self._line(line)

    def _line(self, text: str = "") -> None:
        _write((text if self._unicode else text.translate(_TO_ASCII)) + "\n")

    def _styled(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colours and text else text


def _columns() -> int:
    """Return the number in ``COLUMNS``, or else the terminal's width, or the default for a file."""
    asked = os.environ.get("COLUMNS", "")
    return int(asked) if asked.isdecimal() and int(asked) else output.width(sys.stdout)


def _write(text: str) -> None:
    """Write and flush, so that a user can follow; discard later output if the reader has closed stdout."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except OSError:
        output.silence(sys.stdout)
