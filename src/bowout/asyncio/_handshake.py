"""The handshake of a TLS connection of asyncio: its steps, its deadline, and who waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bowout.asyncio._closer import QUIET_ROUNDS
from bowout.errors import HandshakeTimeout

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from bowout._core.engine import Engine
    from bowout.asyncio._sender import Sender

#: Default time for a handshake, in seconds: asyncio's own.
HANDSHAKE_TIMEOUT: Final = 60.0


class CallbackHandshake:
    """The handshake of one connection.

    Args:
        loop: the event loop.
        engine: the connection's TLS.
        sender: passes our messages on.
        waiter: future for the result; None: nobody waits for it.
        timeout: seconds from `begin` on.
        expired: called with the error when the time is over.
    """

    __slots__ = ("_engine", "_expired", "_loop", "_sender", "_timeout", "_timer", "_waiter")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        engine: Engine,
        sender: Sender,
        waiter: asyncio.Future[None] | None,
        *,
        timeout: float,
        expired: Callable[[HandshakeTimeout], None],
    ) -> None:
        self._loop = loop
        self._engine = engine
        self._sender = sender
        self._waiter = waiter
        self._timeout = timeout
        self._expired = expired
        self._timer: asyncio.Handle | None = None

    def begin(self) -> None:
        """Let the time begin."""
        self._timer = self._loop.call_later(self._timeout, self._look, QUIET_ROUNDS)

    def step(self) -> bool:
        """Do what is possible now; tell whether the handshake is done.

        Raises:
            BowoutError: it has failed.
        """
        done = self._engine.handshake()
        self._sender.flush()
        if done:
            self.stop_timer()
        return done

    def stop_timer(self) -> None:
        """Let the time be over without effect: the handshake is done, or the connection ends."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def wake(self, error: BaseException | None) -> None:
        """Give the waiter its result, None for success, unless it has one."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    def forget(self) -> None:
        """Break the reference cycles."""
        self._expired = _nothing

    def _look(self, rounds: int) -> None:
        """Give up, after a last look: the loop may have been blocked."""
        self._timer = None
        if rounds:
            self._timer = self._loop.call_soon(self._look, rounds - 1)
            return
        text = f"the peer did not finish the handshake within {self._timeout:g} s"
        self._engine.give_up(lambda: HandshakeTimeout(text))
        self._expired(HandshakeTimeout(text))


def _nothing(error: HandshakeTimeout) -> None:
    pass
