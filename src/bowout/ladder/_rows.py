"""The rows of a picture: what there is to draw, whatever the medium."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from bowout.ending import Side


class Tone(enum.Enum):
    """How a thing looks, by what it means."""

    PLAIN = "plain"
    DIM = "dim"
    DATA = "data"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


class Fate(enum.Enum):
    """What became of the thing that an arrow stands for."""

    ARRIVED = "arrived"
    #: A FIN without the close_notify that should have come before it.
    TORN = "torn"
    #: An RST.
    CRASHED = "crashed"
    #: Queued, and never taken by the kernel.
    NEVER_LEFT = "never left"
    #: Owed, and never sent.
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Arrow:
    """From one side to the other; `when` is empty for what never was."""

    when: str
    by: Side
    label: str
    detail: str = ""
    tone: Tone = Tone.PLAIN
    fate: Fate = Fate.ARRIVED


@dataclass(frozen=True, slots=True)
class Exchange:
    """A run of data both ways."""

    when: str
    sent: str
    received: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Band:
    """What both sides take part in; a `missing` one never came about."""

    when: str
    label: str
    detail: str = ""
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """What happened at one side."""

    when: str
    side: Side
    label: str
    detail: str = ""
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Break:
    """Events that were left out, or time that went by."""

    label: str


Row = Arrow | Exchange | Band | Note | Break


@dataclass(frozen=True, slots=True)
class Party:
    """One of the two lifelines."""

    name: str
    role: str
    #: It ended the connection first.
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
    """Say a row in words, for who cannot see it."""
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
