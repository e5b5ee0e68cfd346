"""A lock for tasks, acquired in the order of the calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bowout._backends import Backend, LoopEvent


class FifoLock:
    """A FIFO lock that costs nothing without contention, for every event loop."""

    __slots__ = ("_backend", "_queue", "locked")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._queue: list[LoopEvent] | None = None  # Few locks are ever waited for.
        self.locked: bool = False

    def acquire_nowait(self) -> bool:
        """Acquire the lock if it is free; tell whether."""
        if self.locked:
            return False
        self.locked = True
        return True

    async def acquire(self) -> None:
        """Wait for the lock and acquire it. If this is cancelled, the lock goes to the next waiter."""
        if self.acquire_nowait():
            return
        granted = self._backend.event()
        queue = self._queue = self._queue or []
        queue.append(granted)
        try:
            await granted.wait()
        except BaseException:
            if granted.is_set():
                self.release()
            else:
                queue.remove(granted)
            raise

    def release(self) -> None:
        """Pass the lock to the next waiter, or free it."""
        if self._queue:
            self._queue.pop(0).set()
        else:
            self.locked = False
