"""How long an operation may go on without progress."""

from __future__ import annotations

import math
import time

from bowout.errors import TimedOut


class Limit:
    """The time that one operation has.

    Args:
        seconds: longest time without progress; None: no limit.

    Attributes:
        seconds: the same.
        ends: time at which it is over, on the clock of ``time.monotonic``.
    """

    __slots__ = ("ends", "seconds")

    def __init__(self, seconds: float | None) -> None:
        self.seconds: float | None = seconds
        self.ends: float = math.inf
        self.restart()

    def restart(self) -> None:
        """Count from now: there was progress."""
        if self.seconds is not None:
            self.ends = time.monotonic() + self.seconds

    def check(self, *, writing: bool) -> None:
        """Raise TimedOut if the time is over. To be called after an attempt, so that what had arrived counts."""
        if time.monotonic() >= self.ends:
            what = "the peer took no bytes" if writing else "nothing was received"
            raise TimedOut(f"{what} for {self.seconds:g} s", writing=writing)
