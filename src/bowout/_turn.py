"""Turns: one task at a time, first come, first served."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bowout._backends import Backend, Event


class Turns:
    """A lock that costs nothing when nobody else wants it, on every event loop."""

    __slots__ = ("_backend", "_queue", "busy")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._queue: list[Event] = []  # An empty deque weighs ten times as much.
        self.busy = False

    def take_free(self) -> bool:
        """Take the turn if nobody has it; tell whether."""
        if self.busy:
            return False
        self.busy = True
        return True

    async def take(self) -> None:
        """Wait for the turn. Cancelled, the turn goes to the next."""
        if self.take_free():
            return
        granted = self._backend.event()
        self._queue.append(granted)
        try:
            await granted.wait()
        except BaseException:
            if granted.is_set():
                self.give()
            else:
                self._queue.remove(granted)
            raise

    def give(self) -> None:
        """Pass the turn on."""
        if self._queue:
            self._queue.pop(0).set()
        else:
            self.busy = False
