"""``--naccept N``: serve the first N connections, and stop when they have ended."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from bowout.ending import How

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from bowout._stream import Stream
    from bowout.ending import Ending


class Counts:
    """Counts connections.

    Args:
        most: the number of connections to serve; None: unlimited.
        over: the event to set when they have ended.
    """

    def __init__(self, most: int | None, over: asyncio.Event) -> None:
        self._most = most
        self._over = over
        self._taken = self._active = 0

    @contextmanager
    def one(self, stream: Stream) -> Iterator[bool]:
        """Count a connection while the block runs; yield whether to serve it. Reset the connections over the limit."""
        if self._full:
            stream.abort()
            yield False
            return
        self._taken += 1
        self._active += 1
        try:
            yield True
        finally:
            self._active -= 1
            self._look()

    def ended(self, ending: Ending) -> None:
        """Count a connection that failed before its handler ran."""
        if ending.how is How.FAILED_HANDSHAKE and not self._full:
            self._taken += 1
            self._look()

    @property
    def _full(self) -> bool:
        return self._most is not None and self._taken >= self._most

    def _look(self) -> None:
        if self._full and not self._active:
            self._over.set()
