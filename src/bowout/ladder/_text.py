"""The picture for a terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

from bowout._text import clip, columns, escape, flow, wrap
from bowout.ending import Side
from bowout.ladder._layout import lay_out
from bowout.ladder._rows import Arrow, Band, Break, Exchange, Fate, Ladder, Note, Tone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bowout.ending import Ending
    from bowout.ladder._rows import Row

_NARROWEST: Final = 40
#: Maximum width, in columns: longer arrows are harder to read.
_WIDEST: Final = 100
#: Width of the times in the margin, and of the space after it, in columns.
_MARGIN: Final = 9
#: Minimum length of line at each end of an arrow's label, in columns.
_STUB: Final = 2
#: Maximum length of the same for an arrow that does not arrive, in columns.
_STUCK: Final = 6

_SGR: Final = {Tone.DIM: "2", Tone.DATA: "36", Tone.GOOD: "32", Tone.WARN: "33", Tone.BAD: "31"}
_MARKS: Final = {Tone.GOOD: "✓", Tone.WARN: "!", Tone.BAD: "✗"}
#: The character of a line, and its heads at the left and at the right end.
_STROKES: Final = {
    Fate.ARRIVED: ("─", "◄", "►"),
    Fate.TORN: ("╍", "◄", "►"),
    Fate.CRASHED: ("━", "✗", "✗"),
    Fate.NEVER_LEFT: ("─", "✗", "✗"),
    Fate.MISSING: ("· ", "◁", "▷"),
}
_TO_ASCII: Final = str.maketrans(
    {
        "\N{MULTIPLICATION SIGN}": "x",
        "·": ".",
        "…": "...",
        "│": "|",
        "┊": ":",
        "├": "|",
        "┤": "|",
        "─": "-",
        "━": "=",
        "╍": "~",
    }
    | {"◄": "<", "►": ">", "◁": "<", "▷": ">", "→": "->", "←": "<-", "✗": "x", "✓": "+", "•": "*"}
)


@dataclass(frozen=True, slots=True)
class _Span:
    """A piece of a line in one style."""

    text: str
    tone: Tone = Tone.PLAIN
    bold: bool = False


_Line = list[_Span]


@dataclass(frozen=True, slots=True)
class _Shaft:
    """A line from lifeline to lifeline; `tips` tells which ends have an arrow's head."""

    when: str
    label: str
    detail: str
    tone: Tone
    fate: Fate
    tips: tuple[bool, bool]


def render_text(ending: Ending, *, width: int = 80, color: bool = False, unicode: bool = True) -> str:
    """Draw an ending as a two-party sequence diagram in text.

        >>> print(render_text(stream.ending, width=60))

    We are on the left, the peer on the right, time runs down. What was due and never came is drawn as a dotted line.
    Text from the peer is escaped: nothing in the result moves a cursor or reverses a line.

    Args:
        ending: the ending to draw.
        width: maximum line length, in columns; less than 40 counts as 40.
        color: whether to add ANSI SGR codes.
        unicode: whether to draw with Unicode characters; if not, the whole result is ASCII.

    Returns:
        Lines that each end with a newline.
    """
    width = max(width, _NARROWEST)
    page = _Page(min(width, _WIDEST), ascii_only=not unicode)
    lines = page.lines(lay_out(ending))
    return "".join("".join(_styled(span, color=color) for span in line).rstrip() + "\n" for line in lines)


def _styled(span: _Span, *, color: bool) -> str:
    codes = [code for code in ("1" if span.bold else "", _SGR.get(span.tone, "")) if code]
    return f"\x1b[{';'.join(codes)}m{span.text}\x1b[0m" if color and codes and span.text.strip() else span.text


class _Page:
    """Formats rows as lines of a given width."""

    def __init__(self, width: int, *, ascii_only: bool) -> None:
        self._width = width
        self._inner = width - _MARGIN - 2
        self._ascii = ascii_only

    def lines(self, ladder: Ladder) -> Iterator[_Line]:
        """Yield the whole picture, line by line."""
        yield from self._header(ladder)
        yield self._between([])
        for row in ladder.rows:
            yield from self._row(row)
        yield self._between([])
        yield []
        yield from self._footer(ladder)

    # Header and footer

    def _header(self, ladder: Ladder) -> Iterator[_Line]:
        room = self._width - _MARGIN
        name = clip(self._fold(ladder.peer.name), room - columns(ladder.we.name) - 2, self._fold("…"))
        yield self._apart(_Span(ladder.we.name, bold=True), _Span(name, bold=True))
        left, right = (
            self._fold(f"{party.role} · ended it first" if party.started else party.role)
            for party in (ladder.we, ladder.peer)
        )
        yield self._apart(_Span(left, Tone.DIM), _Span(right, Tone.DIM))

    def _apart(self, left: _Span, right: _Span) -> _Line:
        gap = self._width - _MARGIN - columns(left.text) - columns(right.text)
        return [_Span(" " * _MARGIN), left, _Span(" " * gap), right]

    def _footer(self, ladder: Ladder) -> Iterator[_Line]:
        mark = self._fold(_MARKS[ladder.tone])
        how = f"{ladder.how}:"
        lines = wrap(self._fold(f"{how} {ladder.story}"), self._width - 2)
        for number, line in enumerate(lines):
            if number:
                yield [_Span("  "), _Span(line, ladder.tone)]
            else:
                cut = len(how) if line.startswith(how) else 0
                yield [
                    _Span(f"{mark} {line[:cut]}", ladder.tone, bold=True),
                    _Span(line[cut:], ladder.tone),
                ]
        for line in flow(tuple(map(self._fold, ladder.facts)), self._width - 2, self._fold(" · ")):
            yield [_Span("  "), _Span(line, Tone.DIM)]

    # Rows

    def _row(self, row: Row) -> Iterator[_Line]:
        match row:
            case Arrow(fate=Fate.NEVER_LEFT):
                yield from self._stuck(row)
            case Arrow():
                tips = (row.by is Side.PEER, row.by is Side.WE)
                yield from self._across(_Shaft(row.when, row.label, row.detail, row.tone, row.fate, tips))
            case Exchange():
                label = f"→ {row.sent}  ← {row.received}"
                yield from self._across(_Shaft(row.when, label, row.detail, Tone.DATA, Fate.ARRIVED, (True, True)))
            case Band():
                tone, fate = (Tone.BAD, Fate.MISSING) if row.missing else (Tone.DIM, Fate.ARRIVED)
                yield from self._across(_Shaft(row.when, row.label, row.detail, tone, fate, (False, False)))
            case Note():
                yield from self._note(row)
            case Break():
                for line in wrap(self._fold(row.label), self._inner - 2):
                    yield self._between([_Span(line, Tone.DIM)], ends="┊┊", align="^")
            case _:
                assert_never(row)

    def _across(self, shaft: _Shaft) -> Iterator[_Line]:
        """Draw a line across, with its label in the middle; a label that does not fit goes above, the detail below."""
        label, detail, bold = self._fold(shaft.label), self._fold(shaft.detail), shaft.tone is not Tone.DIM
        room = self._inner - sum(shaft.tips)
        most = room - 2 * (_STUB + 1)
        beside = self._fold(f" · {detail}") if detail else ""
        if columns(label) > most:
            for line in wrap(label, self._inner - 2):
                yield self._between([_Span(line, shaft.tone, bold)], align="^")
            middle = []
        elif columns(label + beside) <= most:
            middle = [_Span(f" {label}", shaft.tone, bold), _Span(f"{beside} ", Tone.DIM)]
            detail = ""
        else:
            middle = [_Span(f" {label} ", shaft.tone, bold)]
        yield self._drawn(shaft, middle, room - sum(columns(span.text) for span in middle))
        for line in wrap(detail, self._inner - 2):
            yield self._between([_Span(line, Tone.DIM)], align="^")

    def _drawn(self, shaft: _Shaft, middle: _Line, rest: int) -> _Line:
        stroke, head_left, head_right = map(self._fold, _STROKES[shaft.fate])
        left = (stroke * rest)[: rest // 2][::-1]
        right = (stroke * rest)[: rest - rest // 2]
        tip_left, tip_right = shaft.tips
        line = [
            _Span((head_left if tip_left else "") + left, shaft.tone),
            *middle,
            _Span(right + (head_right if tip_right else ""), shaft.tone),
        ]
        return self._between(line, when=shaft.when, ends=("│" if tip_left else "├") + ("│" if tip_right else "┤"))

    def _stuck(self, row: Arrow) -> Iterator[_Line]:
        """Draw our arrow that does not arrive."""
        label, detail = self._fold(row.label), self._fold(row.detail)
        dashes = self._fold("─") * max(1, min(_STUCK, (self._inner - columns(label) - 16) // 2))
        line = [
            _Span(f"{dashes} ", row.tone),
            _Span(label, row.tone, bold=True),
            _Span(f" {dashes}{self._fold('✗')} ", row.tone),
        ]
        if columns(detail) <= self._inner - sum(columns(span.text) for span in line):
            line.append(_Span(detail, row.tone))
            detail = ""
        yield self._between(line, when=row.when, ends="├│")
        for text in wrap(detail, self._inner - 2):
            yield self._between([_Span(f" {text}", row.tone)])

    def _note(self, row: Note) -> Iterator[_Line]:
        label = self._fold(f"{row.label}: {row.detail}" if row.detail else row.label)
        for number, line in enumerate(wrap(label, self._inner - 6)):
            mark = " " if number else self._fold("•")
            we = row.side is Side.WE
            text = f" {mark} {line}" if we else f"{line} {mark} "
            when = "" if number else row.when
            yield self._between([_Span(text, row.tone)], when=when, align="<" if we else ">")

    def _between(self, spans: _Line, *, when: str = "", ends: str = "││", align: str = "<") -> _Line:
        """Make one line: the time, the left lifeline, the spans between, the right lifeline."""
        gap = self._inner - sum(columns(span.text) for span in spans)
        before = {"<": 0, "^": gap // 2, ">": gap}[align]
        return [
            _Span(when.rjust(_MARGIN - 1) + " ", Tone.DIM),
            _Span(self._fold(ends[0]), Tone.DIM),
            _Span(" " * before),
            *spans,
            _Span(" " * (gap - before)),
            _Span(self._fold(ends[1]), Tone.DIM),
        ]

    def _fold(self, text: str) -> str:
        return escape(text.replace(" · ", " - ").translate(_TO_ASCII), ascii_only=True) if self._ascii else text
