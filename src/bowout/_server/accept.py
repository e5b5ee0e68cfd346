"""Accepting connections from one listening socket, and continuing after any error there."""

from __future__ import annotations

import contextlib
import errno
import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from bowout._backends import Backend
    from bowout._server.listen import Listener

_log = logging.getLogger("bowout.server")

#: Errors of accept(2) that concern only the connection to be accepted, which is gone. (Not every system has them all.)
_ONE_IS_GONE: Final = frozenset(
    getattr(errno, name, None)
    for name in (
        *("ECONNABORTED", "ENETDOWN", "EPROTO", "ENOPROTOOPT", "EHOSTDOWN"),
        *("ENONET", "EHOSTUNREACH", "EOPNOTSUPP", "ENETUNREACH", "EPERM"),
    )
)
BACKOFF_FIRST: Final = 0.05
_BACKOFF_MOST: Final = 1.0
#: Time without an error, in seconds, after which trouble counts as over: at the limit of descriptors each freed one
#: lets one connection in, and that must not be logged each time.
CALM: Final = 5.0
#: Maximum number of connections accepted in a row before other tasks run.
_FAIR: Final = 16
#: Maximum number of connections accepted from a backlog at the end: about a full backlog. New clients must not keep us
#: from ending.
_BACKLOG_MOST: Final = 1024


class Acceptor:
    """Accepts from one listener until it is cancelled; then it accepts what the backlog holds, and closes the listener.

    Args:
        admit: called with each accepted socket.
        room: waits until another connection may be accepted.
        serve_backlog: tells at the end whether the connections in the backlog are still to be served.
        done: called when the listener is closed.
    """

    def __init__(
        self,
        backend: Backend,
        listener: Listener,
        *,
        admit: Callable[[socket.socket], None],
        room: Callable[[], Awaitable[None]],
        serve_backlog: Callable[[], bool],
        done: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._listener = listener
        self._admit = admit
        self._room = room
        self._serve_backlog = serve_backlog
        self._done = done
        self._backoff = 0.0
        self._failed_at: float | None = None
        self.closed = False

    async def run(self) -> None:
        """Accept until cancelled."""
        try:
            in_a_row = 0
            while True:
                await self._room()
                if (sock := await self._accept()) is not None:
                    self._admit(sock)
                in_a_row += 1
                if in_a_row % _FAIR == 0:
                    await self._backend.checkpoint()
        finally:
            # Closed here and not by the canceller: until now the loop may still be watching the descriptor.
            self._listener.remove_path()
            if self._serve_backlog():
                self._take_backlog()
            self._listener.close()
            self.closed = True
            self._done()

    async def _accept(self) -> socket.socket | None:
        try:
            sock = await self._backend.accept(self._listener.socket)
        except OSError as error:
            if error.errno not in _ONE_IS_GONE:
                await self._back_off(error)
            return None
        self._backoff = 0.0
        if self._failed_at is not None and self._backend.time() - self._failed_at >= CALM:
            self._failed_at = None
            _log.warning("accepting connections again")
        return sock

    async def _back_off(self, error: OSError) -> None:
        now = self._backend.time()
        if self._failed_at is None:
            _log.warning("cannot accept connections: %s; retrying", error.strerror)
        self._failed_at = now
        self._backoff = min(_BACKOFF_MOST, self._backoff * 2 or BACKOFF_FIRST)
        await self._backend.sleep_until(now + self._backoff)

    def _take_backlog(self) -> None:
        """Accept the connections in the backlog: with SO_REUSEPORT no other process can."""
        with contextlib.suppress(OSError):
            for _ in range(_BACKLOG_MOST):
                self._admit(self._listener.socket.accept()[0])
