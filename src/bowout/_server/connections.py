"""The connections of a server, by stage."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bowout._backends import Backend, Task
    from bowout._server.served_stream import ServedStream


class ServedConnection:
    """One connection and its tasks.

    Attributes:
        job: the task of its handler.
        closing: whether the server has begun to close it, while its handler may still run.
        closer: the task that does so, if it is not the handler's.
        since: time at which its handshake was done or, if it has a handler, at which that was called; on the loop's
            clock.
        slow: whether it was still open at the deadline of the drain.
        noted: whether its ending was reported.
        failed: whether the failure of its handler was reported.
    """

    __slots__ = ("closer", "closing", "failed", "job", "noted", "since", "slow", "stream")

    def __init__(self, stream: ServedStream) -> None:
        self.stream = stream
        self.job: Task | None = None
        self.closing = False
        self.closer: Task | None = None
        self.since = math.inf
        self.slow = False
        self.noted = False
        self.failed = False


class Connections:
    """The connections of a server. Each moves from one stage to the next, and may end in any.

    Attributes:
        handshaking: those in their handshake, in the order of arrival.
        waiting: those that wait for room, likewise.
        established: those with a running handler.
    """

    def __init__(self, backend: Backend) -> None:
        self.handshaking: dict[ServedConnection, None] = {}
        self.waiting: dict[ServedConnection, None] = {}
        self.established: dict[ServedConnection, None] = {}
        self._stages = (self.handshaking, self.waiting, self.established)
        self._backend = backend
        self._changed = backend.event()

    def __len__(self) -> int:
        return sum(map(len, self._stages))

    def __contains__(self, served: ServedConnection) -> bool:
        return any(served in stage for stage in self._stages)

    def next_waiting(self) -> ServedConnection | None:
        """Return the connection that has waited longest for room and is not being closed."""
        return next((served for served in self.waiting if served.closer is None), None)

    def all(self) -> list[ServedConnection]:
        """Return all current connections."""
        return [served for stage in self._stages for served in stage]

    def remove(self, served: ServedConnection) -> None:
        """Remove a connection that has ended."""
        for stage in self._stages:
            stage.pop(served, None)
        self.note_change()

    def note_change(self) -> None:
        """Wake all tasks that wait for a change."""
        self._changed.set()

    async def wait_for_change(self) -> None:
        """Wait until a connection has ended or moved, a listener has closed, or a drain's deadline was shortened."""
        if self._changed.is_set():
            self._changed = self._backend.event()
        await self._changed.wait()
