"""Checks of the arguments of a script's verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from bowout._tls_numbers import ALERT_CODES, LEVEL_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable

Level = Literal["warning", "fatal"]

_LEVELS: Final = {name: level for level, name in LEVEL_NAMES.items()}


def octets(data: object, verb: str) -> bytes:
    """Return `data` as bytes; it may be bytes, a bytearray or a memoryview.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    hint = "encode it first, as with data.encode()" if isinstance(data, str) else "give it bytes"
    raise TypeError(f"{verb} takes bytes, not {type(data).__name__}: {hint}")


def one_byte(number: int, what: str) -> int:
    """Return `number`, which has one byte on the wire.

    Raises:
        ValueError: it needs more.
    """
    if not 0 <= number <= 0xFF:
        raise ValueError(f"{what} {number}: it has one byte on the wire, so it must be 0 to 255")
    return number


def alert_level(level: Level | int) -> int:
    """Return the number of an alert's level."""
    if isinstance(level, int):
        return one_byte(level, "alert level")
    if level not in _LEVELS:
        raise ValueError(f"level={level!r}: it must be one of {listed(_LEVELS)}, or a number")
    return _LEVELS[level]


def alert_code(name: str | int) -> int:
    """Return the number of the alert `name`."""
    if isinstance(name, int):
        return one_byte(name, "alert")
    if name not in ALERT_CODES:
        raise ValueError(f"there is no alert {name!r} in RFC 8446; use its number")
    return ALERT_CODES[name]


def listed(names: Iterable[str]) -> str:
    """Return `names` as a list for a message."""
    return ", ".join(names)
