"""A run of a fleet, from the store's waiting targets to none."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final, Protocol

from bowout.fleet._feed import Feed, FleetProgress, ResultWriter
from bowout.fleet._prober import ProbeFactory, Prober
from bowout.fleet._targets import Exclusions

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout.fleet._limits import Limits
    from bowout.fleet._stores import FleetStore

#: Seconds in which reports gather before a transaction writes them: a kill -9 loses that much work, at most.
GATHERING: Final = 0.02

#: Seconds between two looks at a store in which nothing can be done now: other runners may hold all of it, or none.
LOOK_EVERY: Final = 5.0


class FleetRunner(Protocol):
    """Probes the targets of a feed: in this process, in others, on other machines."""

    async def run_pass(self, feed: Feed, writer: ResultWriter) -> None:
        """Probe all targets of `feed`, and deliver and flush each report."""


class HereRunner:
    """Probes in this process."""

    def __init__(self, factory: ProbeFactory, limits: Limits) -> None:
        self._probe, self._limits = factory(), limits

    async def run_pass(self, feed: Feed, writer: ResultWriter) -> None:
        """Probe all targets of `feed`, and deliver and flush each report."""
        async with Prober(self._probe, self._limits, writer.deliver) as prober:
            feed.on_lookup = prober.wake
            while True:
                prober.add(feed.next(prober.room))
                if not prober.idle or feed.pending:
                    await prober.progress()
                elif feed.exhausted:
                    return
                await asyncio.sleep(GATHERING)
                writer.flush()


async def run(
    store: FleetStore,
    runner: FleetRunner,
    limits: Limits,
    *,
    exclusions: Exclusions | None = None,
    on_progress: Callable[[FleetProgress], None] | None = None,
) -> None:
    """Probe every waiting target of `store`, and write each report.

        >>> with Store("run.db", write=True) as store:
        ...     asyncio.run(run(store, HereRunner(factory, limits), limits))

    Cancelling it cancels the probes that run, and writes the reports that are there: the store can be resumed.

    Args:
        store: opened for writing; its targets are loaded.
        runner: what probes them.
        limits: how politely.
        exclusions: the networks and hosts to leave alone.
        on_progress: called about once a second.

    Raises:
        StoreError: the store could not be written. What was finished before is kept.
    """
    writer = ResultWriter(store, retry_after=limits.retry_after, on_progress=on_progress)
    try:
        while (when := store.next_attempt()) is not None:
            wait = when - time.time()
            if 0 < wait <= limits.retry_after:
                await asyncio.sleep(min(wait, LOOK_EVERY))
                continue
            # A longer wait means that the clock was set back meanwhile: the retry is due.
            now = max(when, time.time())
            before = writer.delivered
            with contextlib.closing(Feed(store, writer, exclusions or Exclusions(), now=now)) as feed:
                await runner.run_pass(feed, writer)
            writer.flush()
            if writer.delivered == before:
                await asyncio.sleep(LOOK_EVERY)  # Other runners have all of it.
    except asyncio.CancelledError:
        writer.flush()
        raise
