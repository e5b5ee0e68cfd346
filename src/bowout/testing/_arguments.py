"""What a script's author may say to a verb, looked at before it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from bowout.ending import ALERT_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable

Level = Literal["warning", "fatal"]

CLOSE_NOTIFY: Final = 0

_LEVELS: Final = {"warning": 1, "fatal": 2}
_CODES: Final = {name: code for code, name in ALERT_NAMES.items()}


def octets(data: object, verb: str) -> bytes:
    """What is to be sent or read, as bytes; a bytearray and a memoryview will do.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    hint = "encode it first, as with data.encode()" if isinstance(data, str) else "give it bytes"
    raise TypeError(f"{verb} is for bytes, and not for {type(data).__name__}: {hint}")


def one_byte(number: int, what: str) -> int:
    """A number that has one byte on the wire.

    Raises:
        ValueError: it needs more.
    """
    if not 0 <= number <= 0xFF:
        raise ValueError(f"{what} {number}: it has one byte on the wire, so 0 to 255")
    return number


def alert_level(level: Level | int) -> int:
    """The number of an alert's level."""
    if isinstance(level, int):
        return one_byte(level, "alert level")
    if level not in _LEVELS:
        raise ValueError(f"there is no level {level!r}: known are {listed(_LEVELS)}, and numbers")
    return _LEVELS[level]


def alert_code(name: str | int) -> int:
    """The number of an alert."""
    if isinstance(name, int):
        return one_byte(name, "alert")
    if name not in _CODES:
        raise ValueError(f"there is no alert {name!r} in RFC 8446; use its number")
    return _CODES[name]


def listed(names: Iterable[str]) -> str:
    """What there is to choose from, for a message."""
    return ", ".join(names)
