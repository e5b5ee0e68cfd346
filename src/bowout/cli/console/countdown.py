"""A countdown that can be held, and that lets pending events be processed before it ends."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Loop iterations before the countdown ends: one to learn of arrived bytes, one to decrypt them, and some in reserve.
_LAST_LOOK: Final = 8


class Countdown:
    """The time that the peer still has. It must be made inside the loop, and one task waits for its end.

    It does not run before `start`, nor while it is held: the peer is not the cause of the wait then.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._left: float | None = None
        self._since = 0.0
        self._held = False
        self._changed = asyncio.Event()

    @property
    def left(self) -> float | None:
        """The seconds that are left, 0 or less at the end; None while it does not run."""
        if self._left is None or self._held:
            return None
        return self._left - (self._loop.time() - self._since)

    def start(self, seconds: float | None) -> None:
        """Count down from `seconds`, from now on; None never ends."""
        self._left, self._since = seconds, self._loop.time()
        self._changed.set()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Stop the countdown for the time of the block."""
        self._left, self._held = self.left, True
        self._changed.set()
        try:
            yield
        finally:
            self._since, self._held = self._loop.time(), False
            self._changed.set()

    async def over(self) -> None:
        """Wait for its end.

        If this process was stopped meanwhile, or the loop was blocked, data that has arrived is processed first.
        """
        while True:
            self._changed.clear()
            left = self.left
            if left is None:
                await self._changed.wait()
            elif left > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), left)
            elif await self._still_over():
                return

    async def _still_over(self) -> bool:
        for _ in range(_LAST_LOOK):
            await asyncio.sleep(0)
        left = self.left
        return left is not None and left <= 0
