"""From the store to the probes and back: which endpoints are next, and what is written about them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from bowout.check import Verdict
from bowout.fleet._lookups import Found, NameLookups
from bowout.fleet._prober import bare_report, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bowout.fleet._rows import Finished
    from bowout.fleet._stores import FleetStore
    from bowout.fleet._targets import Endpoint, Exclusions

#: Names that wait for their lookup, and addresses that wait for their probes, at most.
_LOOKED_UP: Final = 1000
#: Errors of a connection that was never there.
_REFUSALS: Final = frozenset({"ConnectError", "ConnectRefused", "ConnectTimeout"})
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

    Attributes:
        delivered: the number of reports that were taken.
    """

    def __init__(
        self, store: FleetStore, *, retry_after: float, on_progress: Callable[[FleetProgress], None] | None = None
    ) -> None:
        self._store, self._retry_after, self._on_progress = store, retry_after, on_progress
        self._finished: list[Finished] = []
        self._retries: dict[int, float] = {}
        self._moved: list[Endpoint] = []
        self.delivered: int = 0
        counts = store.counts()
        self._targets, self._done = counts["targets"], counts["finished"]
        self._told = time.monotonic()
        self._history: deque[tuple[float, int]] = deque([(self._told, self._done)], maxlen=_RATE_OVER)

    def deliver(self, endpoint: Endpoint, report: Mapping[str, Any]) -> None:
        """Take the report of `endpoint`; it is finished at the next `flush`."""
        self.delivered += 1
        unknown = report["verdict"] == str(Verdict.UNKNOWN)
        following = endpoint.at_next() if unknown and _refused(report) else None
        if following is not None:
            self._moved.append(following)
        elif unknown and not endpoint.attempts:
            self._retries[endpoint.id] = time.time() + self._retry_after
            if endpoint.addresses:
                self._moved.append(endpoint.at_first())
        else:
            self._finished.append((endpoint, report))
        if len(self._finished) + len(self._moved) >= _MOST_REPORTS:
            self.flush()

    def flush(self) -> None:
        """Write all that was delivered.

        Raises:
            StoreError: it could not be written; the targets stay as they were.
        """
        if self._finished or self._retries or self._moved:
            self._store.record(self._finished, retry_at=self._retries, moved=self._moved)
            self._done += len(self._finished)
            self._finished, self._retries, self._moved = [], {}, []
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


def _refused(report: Mapping[str, Any]) -> bool:
    """Tell whether no connection could be made, so that another address of the name may be better."""
    return any(each["facts"].get("error") in _REFUSALS for each in report["findings"][:1])


def _nothing() -> None:
    """Do nothing."""


class Feed:
    """The targets of one pass over the store, in the order of their ids, which is random.

    Endpoints that are excluded become SKIPPED on the way: they are in the store, and nothing was sent to them.

    Args:
        store: where they are.
        writer: takes the reports of what is not probed.
        exclusions: what to leave alone.
        now: the time, in Unix time: targets that are to be tried later are left out; None for the clock's.

    Attributes:
        pending: the number of lookups that are under way.
        on_lookup: called in the loop when one of them is done, so that `next` may have more.
    """

    def __init__(
        self, store: FleetStore, writer: ResultWriter, exclusions: Exclusions, *, now: float | None = None
    ) -> None:
        self._store, self._writer, self._exclusions = store, writer, exclusions
        self._now = time.time() if now is None else now
        self._after = -1
        self._read_all = False
        self._ready: deque[Endpoint] = deque()
        self._lookups: NameLookups | None = None
        self._answers: list[tuple[Endpoint, Found]] = []
        self.pending: int = 0
        self.on_lookup: Callable[[], object] = _nothing

    @property
    def exhausted(self) -> bool:
        """Whether `next` has nothing more to return."""
        return self._read_all and not (self.pending or self._answers or self._ready)

    def next(self, limit: int) -> list[Endpoint]:
        """Return the next targets, `limit` at most; fewer, or none, do not mean the end: `exhausted` does.

        Names are looked up on the way, a few hundred ahead of the probes: they come when their addresses are there.
        """
        self._ready += self.allowed(self._looked_up())
        batch = [self._ready.popleft() for _ in range(min(max(limit, 0), len(self._ready)))]
        room = min(limit - len(batch), _LOOKED_UP - self.pending - len(self._ready))
        if room > 0 and not self._read_all:
            found = self._store.waiting(self._after, room, now=self._now)
            self._read_all = len(found) < room
            if found:
                self._after = found[-1].id
            for endpoint in self.allowed(found):
                if endpoint.network:
                    batch.append(endpoint)
                else:
                    self._look_up(endpoint)
        return batch

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
        """Look up every name whose address is not known, before anything else: shards are made of networks.

        A name without an address is UNKNOWN, and is looked up again later, once.
        """
        changed = asyncio.Event()
        self.on_lookup = changed.set
        after = -1
        while batch := self._store.unresolved(after, _LOOKED_UP, now=self._now):
            after = batch[-1].id
            for endpoint in self.allowed(batch):
                self._look_up(endpoint)
            while self.pending:
                await changed.wait()
                changed.clear()
            self._looked_up()
            self._writer.flush()

    def _look_up(self, endpoint: Endpoint) -> None:
        if self._lookups is None:
            self._lookups = NameLookups(asyncio.get_running_loop())
        self.pending += 1
        self._lookups.begin(endpoint, self._answered)

    def _answered(self, endpoint: Endpoint, found: Found) -> None:
        self.pending -= 1
        self._answers.append((endpoint, found))
        self.on_lookup()

    def _looked_up(self) -> list[Endpoint]:
        """Write down what lookups have found since the last call; return what may be probed at once."""
        answers, self._answers = self._answers, []
        there = []
        for endpoint, found in answers:
            if isinstance(found, Exception):
                self._writer.deliver(endpoint, unknown(endpoint, found))
            else:
                # Its first address decides whether it is excluded; of the others, the excluded ones are never tried.
                others = (each for each in found[1:] if not self._exclusions.cover(endpoint.host, each))
                there.append(endpoint.at((found[0], *others)))
        if not there:
            return []
        self._read_all = False  # A store that others use, too, gives them out by their networks now.
        return self._store.resolved(there)

    def close(self) -> None:
        """Drop the lookups that are under way."""
        if self._lookups is not None:
            self._lookups.close()
