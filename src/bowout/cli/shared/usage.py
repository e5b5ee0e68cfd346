"""Errors in a command as it was typed."""

from __future__ import annotations

import math


class UsageError(Exception):
    """The command cannot work as it was typed. Nothing was sent.

    Attributes:
        hint: the remedy, if one is known.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def seconds(option: str, value: float) -> float:
    """Return `value`, the seconds of an option.

    Raises:
        UsageError: it is negative, infinite or not a number.
    """
    if not (math.isfinite(value) and value >= 0):
        raise UsageError(f"{option} needs a number of seconds, 0 or more, not {value:g}")
    return value


def some_seconds(option: str, value: float) -> float:
    """Return `value`, the seconds of an option that must not be 0.

    Raises:
        UsageError: it is 0, negative, infinite or not a number.
    """
    if value == 0:
        raise UsageError(f"{option} needs more than 0 seconds")
    return seconds(option, value)
