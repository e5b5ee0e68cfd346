"""Text for people: escaped text from a peer, formatted numbers, and wrapped lines.

A `measure` returns the width of a text in the medium's unit: the sum over its characters.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Letters and marks, by their category, that draw nothing: fillers, joiners and variation selectors.
_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)

#: First characters by which a spreadsheet takes a cell for a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001  (Excel takes both)

#: Number of bytes below which a size is shown exactly: it is short enough.
_EXACT_BELOW: Final = 100_000
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")
#: Limits of the formats of a time, in seconds: each format fits into eight columns below the next limit.
_MINUTES_FROM: Final = 100
_HOUR: Final = 3600
_DAY: Final = 24 * _HOUR
_DAYS_FROM: Final = 100 * _HOUR
_AGES: Final = 1000 * _DAY


# -- text from a peer: it must not move a terminal's cursor, nor turn a line around ------------------------------------


def escape(data: str | bytes, *, ascii_only: bool = False) -> str:
    r"""Make text from a peer safe to show on a terminal, in XML or in HTML (quoting markup is still the caller's task).

        >>> escape("220 \x1b[2Jready")
        '220 \\x1b[2Jready'
        >>> escape(b"caf\xc3\xa9\n")
        'caf\\xc3\\xa9\\n'

    Control and format characters (C0, C1, DEL, bidirectional overrides, zero-width ones), every space but U+0020, line
    separators, surrogates and unassigned code points become Python's own escapes. A backslash stays as it is, so that
    escaping twice does no harm; the result is for reading, not for decoding.

    Args:
        data: bytes are shown as ASCII, every other byte as ``\xNN``; of a str, printable Unicode is kept.
        ascii_only: escape all that is not ASCII, too.
    """
    if isinstance(data, bytes):
        return "".join(chr(byte) if 0x20 <= byte < 0x7F else _code(chr(byte)) for byte in data)
    if data.isascii() and data.isprintable():
        return data
    return "".join(char if _is_plain(char, ascii_only=ascii_only) else _code(char) for char in data)


def _is_plain(char: str, *, ascii_only: bool) -> bool:
    if char.isascii():
        return char.isprintable()
    return not ascii_only and char.isprintable() and not _INVISIBLE.match(char)


def _code(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def cell(value: object) -> str:
    """Return `value` as a cell of CSV that no spreadsheet takes for a formula, and that no byte of a peer leaves.

        >>> cell("=1+1"), cell(-1), cell(None)
        ("'=1+1", '-1', '')

    A number stays one, and None is an empty cell. The commas and quotation marks are the CSV writer's task.
    """
    if isinstance(value, int | float):
        return str(value)
    text = "" if value is None else str(value)
    return f"'{escape(text)}" if text.lstrip(" ").startswith(_FORMULA) else escape(text)


# -- sizes and times ---------------------------------------------------------------------------------------------------


def size(count: int) -> str:
    """Format a number of bytes: exact if that is short, such as ``16,384 B``, else ``1.5 MiB``."""
    if count < _EXACT_BELOW:
        return f"{count:,} B"
    power = min((count.bit_length() - 1) // 10, len(_UNITS))
    return f"{count / 1024**power:,.1f}".removesuffix(".0") + f" {_UNITS[power - 1]}"


def clock(seconds: float) -> str:
    """Format a time in at most eight columns: ``12.3 ms``, ``5.012 s``, ``1m 40s``, ``2:05:00``, ``12d 06h``."""
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
    """Format a time under a second since the line above, in at most eight columns: ``+1.5 ms``, ``+0.250 s``."""
    return f"+{seconds * 1000:.1f} ms" if round(seconds, 4) < 0.1 else f"+{seconds:.3f} s"


# -- widths and lines --------------------------------------------------------------------------------------------------


def columns(text: str) -> int:
    """Count the terminal columns that the text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1


def clip(text: str, room: float, mark: str = "…", measure: Callable[[str], float] = columns) -> str:
    """Remove the middle of a text that is too long: the ends of a name are the most informative."""
    if measure(text) <= room:
        return text
    tail = _fitting(text[::-1], (room - measure(mark)) / 2, measure)[::-1]
    return _fitting(text, room - measure(mark + tail), measure) + mark + tail


def wrap(text: str, room: float, measure: Callable[[str], float] = columns) -> list[str]:
    """Break a text into lines that fit, at its spaces if it has any; no character may be wider than `room`."""
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
