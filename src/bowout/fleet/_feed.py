"""From the store to the probes and back: which endpoints are next, and what is written about them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from bowout.check import Verdict
from bowout.fleet._prober import bare_report, unknown
from bowout.fleet._targets import Endpoint, Exclusions, network_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bowout.fleet._rows import Finished
    from bowout.fleet._stores import FleetStore

#: Names that are looked up at once: the resolver's cache is somebody's, too.
_LOOKUPS: Final = 32
#: Targets that are looked up between two transactions.
_LOOKED_UP: Final = 256
#: Reports that are written at once, at most; at 4 KB each they are 2 MB.
_MOST_REPORTS: Final = 500
#: Seconds between two calls of `on_progress`, at least, and over which a rate is measured, at most.
_TELL_EVERY: Final = 1.0
_RATE_OVER: Final = 60


@dataclass(frozen=True, slots=True)
class FleetProgress:
    """How far a fleet is.

    Attributes:
        targets: endpoints in all.
        finished: endpoints that are finished, in earlier runs of the same store, too.
        rate: endpoints that were finished a second, in the last minute.
        remaining: seconds that the rest takes at this rate; None before it is known.
    """

    targets: int
    finished: int
    rate: float
    remaining: float | None


class ResultWriter:
    """Writes reports in batches, and has an endpoint that was UNKNOWN tried again, once.

    Args:
        store: where they go.
        retry_after: seconds before the second attempt.
        on_progress: called at most once a second.
    """

    def __init__(
        self, store: FleetStore, *, retry_after: float, on_progress: Callable[[FleetProgress], None] | None = None
    ) -> None:
        self._store, self._retry_after, self._on_progress = store, retry_after, on_progress
        self._finished: list[Finished] = []
        self._retries: dict[int, float] = {}
        counts = store.counts()
        self._targets, self._done = counts["targets"], counts["finished"]
        self._told = time.monotonic()
        self._history: deque[tuple[float, int]] = deque([(self._told, self._done)], maxlen=_RATE_OVER)

    def deliver(self, endpoint: Endpoint, report: Mapping[str, Any]) -> None:
        """Take the report of `endpoint`; it is finished at the next `flush`."""
        if report["verdict"] == str(Verdict.UNKNOWN) and not endpoint.attempts:
            self._retries[endpoint.id] = time.time() + self._retry_after
        else:
            self._finished.append((endpoint, report))
        if len(self._finished) >= _MOST_REPORTS:
            self.flush()

    def flush(self) -> None:
        """Write all that was delivered.

        Raises:
            StoreError: it could not be written; the targets stay as they were.
        """
        if self._finished or self._retries:
            self._store.record(self._finished, retry_at=self._retries)
            self._done += len(self._finished)
            self._finished, self._retries = [], {}
        self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if self._on_progress is not None and now - self._told >= _TELL_EVERY:
            self._told = now
            self._history.append((now, self._done))
            then, done = self._history[0]
            rate = (self._done - done) / (now - then) if now > then else 0.0
            remaining = (self._targets - self._done) / rate if rate else None
            self._on_progress(FleetProgress(self._targets, self._done, rate, remaining))


class Feed:
    """The targets of one pass over the store, in the order of their ids, which is random.

    Endpoints that are excluded become SKIPPED on the way: they are in the store, and nothing was sent to them.
    """

    def __init__(self, store: FleetStore, writer: ResultWriter, exclusions: Exclusions) -> None:
        self._store, self._writer, self._exclusions = store, writer, exclusions
        self._now = time.time()
        self._after = -1
        self.exhausted: bool = False

    def next(self, limit: int) -> list[Endpoint]:
        """Return the next targets, `limit` at most; fewer, or none, do not mean the end: `exhausted` does."""
        if limit <= 0 or self.exhausted:
            return []
        batch = self._store.waiting(self._after, limit, now=self._now)
        self.exhausted = len(batch) < limit
        if batch:
            self._after = batch[-1].id
        return self.allowed(batch)

    def of_network(self, network: str) -> list[Endpoint]:
        """Return all targets of one network that are not excluded."""
        return self.allowed(self._store.waiting(-1, -1, now=self._now, network=network))

    def networks(self) -> list[tuple[str, int]]:
        """Return each network with waiting targets, and their number."""
        return list(self._store.networks(self._now))

    def allowed(self, batch: list[Endpoint]) -> list[Endpoint]:
        """Return the endpoints of `batch` that are not excluded."""
        kept = []
        for endpoint in batch:
            if self._exclusions.cover(endpoint.host, endpoint.address):
                says = "excluded: nothing was sent"
                self._writer.deliver(endpoint, bare_report(endpoint, Verdict.SKIPPED, says, {"excluded": True}))
            else:
                kept.append(endpoint)
        return kept

    async def resolve(self) -> None:
        """Look up every name whose address is not known, and write the addresses down.

        The limits hold for networks, so these must be known before the first probe. A name without an address is
        UNKNOWN, and is looked up again later, once.
        """
        after = -1
        # A loop's own threads for lookups are few: four to six on a machine with two cores.
        with ThreadPoolExecutor(_LOOKUPS, "lookup") as threads:
            while batch := self._store.unresolved(after, _LOOKED_UP, now=self._now):
                after = batch[-1].id
                found = await asyncio.gather(*(self._look_up(endpoint, threads) for endpoint in batch))
                self._store.resolved([each for each in found if each is not None])
                self._writer.flush()

    async def _look_up(self, endpoint: Endpoint, threads: ThreadPoolExecutor) -> Endpoint | None:
        if self._exclusions.cover(endpoint.host, None):  # Not even its name is looked up.
            self.allowed([endpoint])
            return None
        look_up = partial(socket.getaddrinfo, endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
        try:
            found = await asyncio.get_running_loop().run_in_executor(threads, look_up)
        except (OSError, UnicodeError) as error:
            self._writer.deliver(endpoint, unknown(endpoint, error))
            return None
        address = str(found[0][4][0]).partition("%")[0]
        return replace(endpoint, address=address, network=network_of(address))
