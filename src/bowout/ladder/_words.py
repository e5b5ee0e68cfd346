"""Numbers put into words, and words into lines.

A `measure` says how wide a text is in the medium's unit: the sum over its characters.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_EXACT_BELOW: Final = 100_000
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")
_MINUTES_FROM: Final = 100
_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR
_DAYS_FROM: Final = 100 * _HOUR
_AGES: Final = 1000 * _DAY


def size(count: int) -> str:
    """A number of bytes: exact while that is short, such as ``16,384 B``, then ``1.5 MiB``."""
    if count < _EXACT_BELOW:
        return f"{count:,} B"
    power = min((count.bit_length() - 1) // 10, len(_UNITS))
    return f"{count / 1024**power:,.1f}".removesuffix(".0") + f" {_UNITS[power - 1]}"


def clock(seconds: float) -> str:
    """A time in at most eight columns: ``12.3 ms``, ``5.012 s``, ``1m 40s``, ``2:05:00``, ``12d 06h``."""
    if not 0 <= seconds < _AGES:
        return "?"
    if round(seconds, 4) < 1:
        return f"{seconds * 1000:.1f} ms"
    if round(seconds, 3) < _MINUTES_FROM:
        return f"{seconds:.3f} s"
    whole = int(seconds)
    if whole < _HOUR:
        return f"{whole // 60}m {whole % 60:02}s"
    if whole < _DAYS_FROM:
        return f"{whole // _HOUR}:{whole % _HOUR // 60:02}:{whole % 60:02}"
    return f"{whole // _DAY}d {whole % _DAY // _HOUR:02}h"


def step(seconds: float) -> str:
    """A time under a second since the line above, in at most eight columns: ``+1.5 ms``, ``+0.250 s``."""
    return f"+{seconds * 1000:.1f} ms" if round(seconds, 4) < 0.1 else f"+{seconds:.3f} s"


def columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1


def clip(text: str, room: float, mark: str = "…", measure: Callable[[str], float] = columns) -> str:
    """Take the middle out of a text that is too long, for the ends of a name say most."""
    if measure(text) <= room:
        return text
    tail = _fitting(text[::-1], (room - measure(mark)) / 2, measure)[::-1]
    return _fitting(text, room - measure(mark + tail), measure) + mark + tail


def wrap(text: str, room: float, measure: Callable[[str], float] = columns) -> list[str]:
    """Break a text into lines that fit, at its spaces where it has them; no character may be wider than `room`."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        together = f"{line} {word}" if line else word
        if measure(together) <= room:
            line = together
            continue
        # A word that must be cut anyway begins where there is room for it.
        if line and measure(word) <= room:
            lines.append(line)
            together = word
        line = together
        while measure(line) > room:
            head = _fitting(line, room, measure)
            lines.append(head.rstrip())
            line = line[len(head) :]
    return [*lines, line] if line else lines


def flow(
    parts: tuple[str, ...], room: float, joint: str = " · ", measure: Callable[[str], float] = columns
) -> list[str]:
    """Set parts side by side, with a joint between them, in lines that fit."""
    lines: list[str] = []
    for part in parts:
        if lines and measure(lines[-1] + joint + part) <= room:
            lines[-1] += joint + part
        else:
            lines += wrap(part, room, measure)
    return lines


def _fitting(text: str, room: float, measure: Callable[[str], float]) -> str:
    return text[: bisect_right(list(accumulate(map(measure, text))), room)]
