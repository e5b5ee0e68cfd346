"""Probes on a cluster of Dask: one task is a shard with whole networks in it, and this process writes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from bowout.fleet._errors import FleetError
from bowout.fleet._prober import ProbeFactory, Prober
from bowout.fleet._rows import slim

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from distributed import Client

    from bowout.fleet._feed import Feed, ResultWriter
    from bowout.fleet._limits import Limits
    from bowout.fleet._targets import Endpoint

#: Endpoints of one task, at least, unless there are no more: below it, a scheduler costs more than the probes.
SHARD: Final = 1000
#: Endpoints of one task, at most, unless one network has more: a shard is repeated as a whole if its worker dies.
LARGEST_SHARD: Final = 5000
#: Shards that wait or run, for each thread of the cluster.
_AHEAD: Final = 2
#: Seconds to wait for the scheduler, and for its first worker.
_PATIENCE: Final = 30


class DaskRunner:
    """Probes on a cluster of Dask. The rate is divided by the number of its threads when a pass begins.

    Each task has whole networks, so that their limits are kept inside it. A shard whose worker dies is probed again by
    another one; its reports are written once, when the shard is done.

    Args:
        factory: makes the probe in each task; it must be picklable, and its module must be there on every worker.
        limits: of the whole cluster.
        scheduler: its address, such as ``tcp://HOST:8786``.
    """

    def __init__(self, factory: ProbeFactory, limits: Limits, scheduler: str) -> None:
        self._factory, self._limits, self._scheduler = factory, limits, scheduler

    async def run_pass(self, feed: Feed, writer: ResultWriter) -> None:
        """Probe all targets of `feed`, and deliver and flush each report.

        Raises:
            FleetError: distributed is not installed, there is no scheduler or no worker, or a shard failed.
        """
        try:
            import distributed  # noqa: PLC0415  (an extra)
        except ImportError as error:
            raise FleetError("a cluster of Dask needs distributed", "pip install 'bowout[dask]'") from error
        try:
            async with distributed.Client(self._scheduler, asynchronous=True, timeout=_PATIENCE) as client:
                await client.wait_for_workers(1, timeout=_PATIENCE)
                await feed.resolve()
                await self._probe(client, feed, writer)
        except (OSError, ValueError) as error:
            raise FleetError(
                f"no cluster of Dask at '{self._scheduler}': {error}",
                "what was finished is kept; start dask scheduler and dask worker, then resume",
            ) from error

    async def _probe(self, client: Client, feed: Feed, writer: ResultWriter) -> None:
        from distributed import as_completed  # noqa: PLC0415  (an extra)

        threads = max(sum((await client.nthreads()).values()), 1)
        limits = self._limits.shared_by(threads)
        shards = shards_of(feed)
        running: dict[Any, dict[int, Endpoint]] = {}
        done = as_completed(loop=client.loop)

        def submit() -> None:
            shard = next(shards, None)
            if shard is not None:
                future = client.submit(probe_shard, shard, self._factory, limits, pure=False)
                running[future.key] = {endpoint.id: endpoint for endpoint in shard}
                done.add(future)

        for _ in range(_AHEAD * threads):
            submit()
        while running:
            future = await anext(done)
            shard = running.pop(future.key)
            try:
                reports = await future
            except Exception as error:
                raise FleetError(
                    f"a shard of {len(shard):,} endpoints failed on the cluster: {type(error).__name__}: {error}",
                    "what was finished is kept: mend the cause, and resume",
                ) from error
            for number, report in reports:
                writer.deliver(shard[number], report)
            writer.flush()
            future.release()
            submit()


def shards_of(feed: Feed) -> Iterator[list[Endpoint]]:
    """Yield the targets of `feed` in shards of whole networks, of `SHARD` to `LARGEST_SHARD` endpoints.

    A network with more is a shard of its own; the last shard may be smaller.
    """
    shard: list[Endpoint] = []
    for network, count in feed.networks():
        if shard and len(shard) + count > LARGEST_SHARD:
            yield shard
            shard = []
        shard += feed.of_network(network)
        if len(shard) >= SHARD:
            yield shard
            shard = []
    if shard:
        yield shard


def probe_shard(shard: list[Endpoint], factory: ProbeFactory, limits: Limits) -> list[tuple[int, Mapping[str, Any]]]:
    """Run in a task of the cluster: probe all endpoints of `shard`; return their reports, by their ids."""
    return asyncio.run(_probe_all(shard, factory, limits))


async def _probe_all(
    shard: list[Endpoint], factory: ProbeFactory, limits: Limits
) -> list[tuple[int, Mapping[str, Any]]]:
    finished: list[tuple[int, Mapping[str, Any]]] = []
    async with Prober(factory(), limits, lambda each, report: finished.append((each.id, slim(each, report)))) as prober:
        prober.add(shard)
        while not prober.idle:
            await prober.progress()
    return finished
