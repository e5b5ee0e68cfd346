"""Who is connected to a server, and how far each has come."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bowout._backends import Backend, Job
    from bowout._served_stream import ServedStream


class Served:
    """One connection and the tasks that have to do with it.

    Attributes:
        job: the task of its handler.
        closer: the task that closes it, while its handler may still run.
        since: its handshake was done then, and when it has a handler, that was called; on the loop's clock.
        slow: it was still there at the deadline of the drain.
        noted: its ending has been told.
        failed: so has the failure of its handler.
    """

    __slots__ = ("closer", "failed", "job", "noted", "since", "slow", "stream")

    def __init__(self, stream: ServedStream) -> None:
        self.stream = stream
        self.job: Job | None = None
        self.closer: Job | None = None
        self.since = math.inf
        self.slow = False
        self.noted = False
        self.failed = False


class Roster:
    """The connections of a server. Each moves from one stage to the next, and leaves from any.

    Attributes:
        shaking: in their handshake, in the order in which they came.
        waiting: for room, likewise.
        established: with their handler.
    """

    def __init__(self, backend: Backend) -> None:
        self.shaking: dict[Served, None] = {}
        self.waiting: dict[Served, None] = {}
        self.established: dict[Served, None] = {}
        self._stages = (self.shaking, self.waiting, self.established)
        self._backend = backend
        self._changed = backend.event()

    def __len__(self) -> int:
        return sum(map(len, self._stages))

    def __contains__(self, served: Served) -> bool:
        return any(served in stage for stage in self._stages)

    def next_waiting(self) -> Served | None:
        """Who waits longest for room, and is not being closed."""
        return next((served for served in self.waiting if served.closer is None), None)

    def everybody(self) -> list[Served]:
        """All of them, now."""
        return [served for stage in self._stages for served in stage]

    def remove(self, served: Served) -> None:
        """It has ended."""
        for stage in self._stages:
            stage.pop(served, None)
        self.note_change()

    def note_change(self) -> None:
        """Let everybody look who waits for a change."""
        self._changed.set()

    async def wait_for_change(self) -> None:
        """Wait until a connection has ended or moved, a listener has closed, or a drain was hurried."""
        if self._changed.is_set():
            self._changed = self._backend.event()
        await self._changed.wait()
