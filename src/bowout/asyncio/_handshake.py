"""The wait for a handshake: its time, and the future of whoever asked for the connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bowout.asyncio._closer import QUIET_ROUNDS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class HandshakeWait:
    """One wait for a handshake.

    Args:
        loop: the event loop.
        waiter: gets the result; None: nobody waits.
        seconds: the time for the handshake.
        give_up: called when that has passed, and after a last look: the loop may have been blocked.
    """

    __slots__ = ("_give_up", "_loop", "_seconds", "_timer", "_waiter")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        waiter: asyncio.Future[None] | None,
        seconds: float,
        give_up: Callable[[float], object],
    ) -> None:
        self._loop = loop
        self._waiter = waiter
        self._seconds = seconds
        self._give_up: Callable[[float], object] | None = give_up
        self._timer: asyncio.Handle | None = None

    def begin(self) -> None:
        """Let the time run."""
        self._timer = self._loop.call_later(self._seconds, self._look, QUIET_ROUNDS)

    def stop(self) -> None:
        """Stop the time: the handshake is done, or the connection ends."""
        self._give_up = None  # A reference cycle.
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def wake(self, error: BaseException | None) -> None:
        """Give the result to whoever waits: `error`, or None for a handshake that is done."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    def _look(self, rounds: int) -> None:
        self._timer = None
        if rounds:
            self._timer = self._loop.call_soon(self._look, rounds - 1)
        elif self._give_up is not None:
            self._give_up(self._seconds)
