"""What is wrong with a command as it was typed."""

from __future__ import annotations

import math


class UsageError(Exception):
    """The command cannot work as it was typed. Nothing was sent.

    Attributes:
        hint: what to do about it, if that is known.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def seconds(option: str, value: float) -> float:
    """Give back what an option says in seconds.

    Raises:
        UsageError: nothing can take so long.
    """
    if not (math.isfinite(value) and value >= 0):
        raise UsageError(f"{option} needs a number of seconds, 0 or more, not {value:g}")
    return value


def some_seconds(option: str, value: float) -> float:
    """Give back what an option says in seconds, for what takes some time.

    Raises:
        UsageError: nothing can be done in so little time, or nothing can take so long.
    """
    if value == 0:
        raise UsageError(f"{option} needs more than 0 seconds")
    return seconds(option, value)
