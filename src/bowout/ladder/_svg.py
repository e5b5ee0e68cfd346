"""The picture as SVG."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, assert_never
from xml.sax.saxutils import escape as quoted

from bowout._text import clip, flow, wrap
from bowout.ending import Side
from bowout.ladder import _paint as paint
from bowout.ladder._layout import lay_out
from bowout.ladder._rows import Arrow, Band, Break, Exchange, Fate, Note, narrate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bowout.ending import Ending
    from bowout.ladder._rows import Ladder, Party, Row

_WIDTH: Final = 720
_EDGE: Final = 20
#: Right end of the times, and positions of the two lifelines, in pixels.
_TIME: Final = 86
_WE: Final = 110
_PEER: Final = 684
_MIDDLE: Final = (_WE + _PEER) / 2
#: Horizontal distance from a party's lifeline to the edge of its box, in pixels.
_OVER: Final = 16
_BOX: Final = 272
_BOX_HEIGHT: Final = 50
_NAME: Final = 14
_TEXT: Final = 13
_SMALL: Final = 11.5
_LEADING: Final = 17
#: Room for a label between the lifelines, in pixels.
_ROOM: Final = _PEER - _WE - 48
#: Distances from the top of a row to the baseline of its first text, and from its last to the line beneath, in pixels.
_RISE: Final = 20
_DROP: Final = 8


def render_svg(ending: Ending) -> str:
    """Draw an ending as a two-party sequence diagram in SVG.

        >>> Path("ending.svg").write_text(render_svg(stream.ending), encoding="utf-8")

    The document is self-contained: no scripts, fonts or links. It follows the reader's light or dark scheme, and is
    light if a renderer supports no schemes. The same ending always gives the same text. Text from the peer is escaped.

    Args:
        ending: the ending to draw.

    Returns:
        An SVG document, which ends with a newline.
    """
    ladder = lay_out(ending)
    y = _EDGE + _BOX_HEIGHT + 10.0
    rows: list[str] = []
    for row in ladder.rows:
        bottom, shapes = _row(row, y)
        rows += shapes
        y = bottom
    foot = y + 14
    bottom, verdict = _verdict(ladder, foot + 6)
    height = bottom + _EDGE
    title = f"How the TLS connection with {ladder.peer.name} ended"
    story = "; ".join([f"{ladder.how}: {ladder.story}", *map(narrate, ladder.rows)])
    lines = [
        paint.opening(_WIDTH, height),
        f"<title>{quoted(title)}</title>",
        f"<desc>{quoted(story)}</desc>",
        paint.style(),
        paint.box(0.5, 0.5, _WIDTH - 1, height - 1, radius=8, fill="ground", stroke="edge"),
        *(paint.line(f"M{x} {_EDGE + _BOX_HEIGHT}V{foot:g}", "life") for x in (_WE, _PEER)),
        *_party(ladder.we, _WE - _OVER, "start"),
        *_party(ladder.peer, _PEER + _OVER - _BOX, "end"),
        *rows,
        *verdict,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _party(party: Party, x: float, anchor: str) -> Iterator[str]:
    yield paint.box(x, _EDGE, _BOX, _BOX_HEIGHT, radius=6, fill="panel", stroke="edge")
    at = x + _OVER if anchor == "start" else x + _BOX - _OVER
    name = clip(party.name, _BOX - 2 * _OVER, measure=partial(paint.width, size=_NAME, bold=True))
    yield paint.text(at, _EDGE + 22, name, "plain", size=_NAME, anchor=anchor, bold=True)
    role = f"{party.role} · ended it first" if party.started else party.role
    yield paint.text(at, _EDGE + 39, role, "dim", size=_SMALL, anchor=anchor)


def _verdict(ladder: Ladder, y: float) -> tuple[float, list[str]]:
    tone, x = ladder.tone.value, _EDGE + 18
    room = _WIDTH - 2 * x
    story = wrap(ladder.story, room, partial(paint.width, size=_TEXT))
    facts = flow(ladder.facts, room, measure=partial(paint.width, size=_SMALL))
    shapes = [paint.text(x, y + 25, ladder.how, tone, size=15, bold=True)]
    at = y + 46.0
    for line in story:
        shapes.append(paint.text(x, at, line, "plain", size=_TEXT))
        at += _LEADING
    at += 3
    for line in facts:
        shapes.append(paint.text(x, at, line, "dim", size=_SMALL))
        at += _LEADING
    panel = paint.box(_EDGE, y, _WIDTH - 2 * _EDGE, at - y, radius=6, fill=f"{tone}-ground", stroke=f"{tone}-edge")
    return at, [panel, *shapes]


# Rows: each method gets the top of a row, and returns its bottom and its shapes.


def _row(row: Row, y: float) -> tuple[float, list[str]]:
    match row:
        case Arrow(fate=Fate.NEVER_LEFT):
            return _stuck(row, y)
        case Arrow():
            return _arrow(row, y)
        case Exchange():
            return _exchange(row, y)
        case Band():
            return _band(row, y)
        case Note():
            return _note(row, y)
        case Break():
            return _break(row, y)
        case _:
            assert_never(row)


def _arrow(row: Arrow, y: float) -> tuple[float, list[str]]:
    start, end = (_WE, _PEER) if row.by is Side.WE else (_PEER, _WE)
    at, label = _label(row.label, row.detail, row.tone.value, y)
    shaft = paint.shaft(start, end, at, row.tone.value, row.fate)
    return at + 7, [*_time(row.when, at), *label, *shaft]


def _stuck(row: Arrow, y: float) -> tuple[float, list[str]]:
    """Draw our arrow that does not arrive, with its obstacle at its end."""
    color = row.tone.value
    at = y + _RISE + _DROP
    end = _WE + 32 + paint.width(row.label, _TEXT, bold=True)
    shapes = [
        *_time(row.when, at),
        paint.text(_WE + 16, at - _DROP, row.label, color, size=_TEXT, bold=True),
        *paint.shaft(_WE, end, at, color, row.fate),
    ]
    for number, line in enumerate(wrap(row.detail, _PEER - end - 32, partial(paint.width, size=_TEXT))):
        shapes.append(paint.text(end + 16, at + 4 + number * _LEADING, line, color, size=_TEXT))
        y = at + number * _LEADING
    return y + 10, shapes


def _exchange(row: Exchange, y: float) -> tuple[float, list[str]]:
    at, sent = _label(f"data, {row.sent} sent", "", "data", y)
    bottom, received = _label(f"{row.received} received", row.detail, "data", at + 4)
    return bottom, [
        *_time(row.when, at + 3),
        *sent,
        *paint.shaft(_WE, _PEER, at, "data", Fate.ARRIVED),
        *paint.shaft(_PEER, _WE, at + 7, "data", Fate.ARRIVED),
        *received,
    ]


def _label(label: str, detail: str, color: str, y: float) -> tuple[float, list[str]]:
    """Draw text over a line, the detail beside the label if it fits; return the position of the line, too."""
    at = y + _RISE
    wide, beside = paint.width(label, _TEXT, bold=True), paint.width(detail, _TEXT)
    if detail and wide + beside + 8 <= _ROOM:
        # Both begin at one seam, so that a wrong estimate of a width moves them, but never makes them overlap.
        seam = round(_MIDDLE + (wide - beside) / 2, 1)
        shapes = [
            paint.text(seam - 4, at, label, color, size=_TEXT, anchor="end", bold=True),
            paint.text(seam + 4, at, detail, "dim", size=_TEXT),
        ]
        return at + _DROP, shapes
    shapes = []
    for line in wrap(label, _ROOM, partial(paint.width, size=_TEXT, bold=True)):
        shapes.append(paint.text(_MIDDLE, at, line, color, size=_TEXT, anchor="middle", bold=True))
        at += _LEADING
    for line in wrap(detail, _ROOM, partial(paint.width, size=_SMALL)):
        shapes.append(paint.text(_MIDDLE, at, line, "dim", size=_SMALL, anchor="middle"))
        at += _LEADING
    return at - _LEADING + _DROP, shapes


def _band(row: Band, y: float) -> tuple[float, list[str]]:
    color = "bad" if row.missing else "plain"
    bottom, label = _label(row.label, row.detail, color, y + 3)
    frame = paint.box(
        _WE - 7,
        y + 5,
        _PEER - _WE + 14,
        bottom - y - 4,
        radius=5,
        fill="ground" if row.missing else "panel",
        stroke="bad" if row.missing else "edge",
        dashed=row.missing,
    )
    return bottom + 4, [*_time(row.when, (y + bottom) / 2 + 3), frame, *label]


def _note(row: Note, y: float) -> tuple[float, list[str]]:
    color = row.tone.value
    words = f"{row.label}: {row.detail}" if row.detail else row.label
    x, anchor = (_WE + 15, "start") if row.side is Side.WE else (_PEER - 15, "end")
    at = y + 20
    shapes = [*_time(row.when, at - 4), paint.dot(_WE if row.side is Side.WE else _PEER, at - 4, color)]
    for line in wrap(words, _ROOM, partial(paint.width, size=_TEXT)):
        shapes.append(paint.text(x, at, line, color, size=_TEXT, anchor=anchor))
        at += _LEADING
    return at - _LEADING + 6, shapes


def _break(row: Break, y: float) -> tuple[float, list[str]]:
    at, shapes = y + 22, []
    for x in (_WE, _PEER):
        shapes.append(paint.line(f"M{x} {y + 6:g}V{y + 30:g}", "ground", wide=4))
        shapes.append(paint.line(f"M{x} {y + 8:g}V{y + 30:g}", "life", wide=2, dashes="0.1 5"))
    shapes.append(paint.text(_MIDDLE, at, row.label, "dim", size=_SMALL, anchor="middle"))
    return y + 34, shapes


def _time(when: str, at: float) -> list[str]:
    return [paint.text(_TIME, at + 4, when, "dim", size=_SMALL, anchor="end")] if when else []
