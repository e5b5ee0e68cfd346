"""The rows of a picture: what to draw, in any medium."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from bowout.ending import Side


class Tone(enum.Enum):
    """The look of an element, by its meaning."""

    PLAIN = "plain"
    DIM = "dim"
    DATA = "data"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


class Fate(enum.Enum):
    """The fate of what an arrow stands for."""

    ARRIVED = "arrived"
    #: A FIN without the close_notify that should have come before it.
    TORN = "torn"
    #: An RST.
    CRASHED = "crashed"
    #: Queued, but never taken by the kernel.
    NEVER_LEFT = "never left"
    #: Due, but never sent.
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Arrow:
    """An arrow from one side to the other; `when` is empty for what never happened."""

    when: str
    by: Side
    label: str
    detail: str = ""
    tone: Tone = Tone.PLAIN
    fate: Fate = Fate.ARRIVED


@dataclass(frozen=True, slots=True)
class Exchange:
    """A run of data in both directions."""

    when: str
    sent: str
    received: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Band:
    """An event of both sides; a `missing` one never happened."""

    when: str
    label: str
    detail: str = ""
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """An event at one side."""

    when: str
    side: Side
    label: str
    detail: str = ""
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Break:
    """Events that were left out, or time that passed."""

    label: str


Row = Arrow | Exchange | Band | Note | Break


@dataclass(frozen=True, slots=True)
class Party:
    """One of the two lifelines."""

    name: str
    role: str
    #: Whether this party ended the connection first.
    started: bool


@dataclass(frozen=True, slots=True)
class Ladder:
    """The whole picture."""

    we: Party
    peer: Party
    rows: tuple[Row, ...]
    #: `str(ending)`, in two parts.
    how: str
    story: str
    facts: tuple[str, ...]
    tone: Tone


def narrate(row: Row) -> str:
    """Describe a row in words, for readers who cannot see it."""
    match row:
        case Break():
            return row.label
        case Arrow():
            words = f"{row.by.value}: {row.label}"
        case Exchange():
            words = f"we sent {row.sent}, received {row.received}"
        case Note():
            words = f"{row.side.value}: {row.label}"
        case Band():
            words = row.label
        case _:
            assert_never(row)
    words += f" ({row.detail})" if row.detail else ""
    return f"{row.when} {words}".lstrip()
