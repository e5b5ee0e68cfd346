"""Probes that answer at once, and stores with made-up endpoints: a fleet without a network."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bowout.fleet import (
    Endpoint,
    FleetRunner,
    HereRunner,
    Limits,
    Probe,
    Store,
    WorkersRunner,
    open_store,
    parse_endpoint,
    run,
)

#: No limit that a test would wait for.
UNLIMITED = Limits(rate=1e9, per_host=1000, per_network=1000, at_once=200, retry_after=0.0)


def made_up(count: int) -> Iterator[Endpoint]:
    """Endpoints in 10.0.0.0/8, a few in each network."""
    for number in range(count):
        yield parse_endpoint(f"10.{number >> 14 & 255}.{number >> 6 & 255}.{number & 63}:{443 + (number >> 22)}")


def a_report(endpoint: Endpoint, verdict: str = "OK", **more: Any) -> dict[str, Any]:
    """A report of version 1 with two findings."""
    findings = [
        {"probe": probe, "verdict": each, "says": f"{probe} says", "rule": "RFC 8446 §6.1", "runs": 1, "lost": 0,
         "seconds": 0.25, "facts": {"bytes": 3}, "ending": {"how": "clean"}}
        for probe, each in (("reply-end", "OK"), ("answers", verdict))
    ]  # fmt: skip
    return {
        "version": 1, "tool": "bowout test", "endpoint": f"{endpoint.host}:{endpoint.port}",
        "address": endpoint.address, "starttls": endpoint.starttls, "protocol": "http", "tls": "TLSv1.3",
        "began": "2026-01-01T00:00:00+00:00", "seconds": 0.5, "connections": 2, "verdict": verdict,
        "worst": "answers", "findings": findings, **more,
    }  # fmt: skip


async def probe_nothing(endpoint: Endpoint) -> Mapping[str, Any]:
    """Answer at once; every hundredth endpoint has lost data."""
    return a_report(endpoint, "DATA-LOSS" if endpoint.id % 100 == 7 else "OK")


def slowly() -> Probe:
    """A probe that takes a moment, so that a run can be met in the middle."""

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        await asyncio.sleep(0.05)
        return a_report(endpoint)

    return probe


def nothing() -> Probe:
    """The factory of `probe_nothing`."""
    return probe_nothing


def fill(path: Path, count: int) -> None:
    """Make a store with made-up endpoints."""
    with Store(path, write=True, create=True) as store:
        store.begin({})
        store.add(made_up(count))
        store.loaded()


def of_its_process() -> Probe:
    """A probe whose reports name the process as their protocol."""

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        return a_report(endpoint, protocol=str(os.getpid()))

    return probe


def suicidal() -> Probe:
    """A probe that kills its own process in the middle, after some reports have left."""
    probed = 0

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        nonlocal probed
        probed += 1
        if probed == 700:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0)
        return a_report(endpoint)

    return probe


@dataclass(frozen=True)
class killing_once:  # noqa: N801  (a factory, as the functions here)
    """Makes a probe; the first process that is in the middle of a shard kills itself, and leaves a mark."""

    mark: Path

    def __call__(self) -> Probe:
        probed = 0

        async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
            nonlocal probed
            probed += 1
            if probed == 500:
                try:
                    self.mark.touch(exist_ok=False)
                except FileExistsError:
                    pass
                else:
                    os.kill(os.getpid(), signal.SIGKILL)
            await asyncio.sleep(0)
            return a_report(endpoint)

        return probe


def broken() -> Probe:
    """A factory that cannot make its probe."""
    raise ValueError("no file")


def endless() -> Probe:
    """A probe that says that it has begun, and never ends."""

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        os.write(1, b"probing\n")
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    return probe


def main(path: str, *how: str) -> None:
    """Go on with a store until it is finished, in a process that can be killed."""
    runners: dict[str, Callable[[], FleetRunner]] = {
        "workers": lambda: WorkersRunner(endless, UNLIMITED, 2),
        "endless": lambda: HereRunner(endless, UNLIMITED),
        "here": lambda: HereRunner(nothing, UNLIMITED),
    }
    runner = runners["".join(how) or "here"]()
    with open_store(path, write=True) as store:
        sys.stdout.write("begun\n")
        sys.stdout.flush()
        asyncio.run(run(store, runner, UNLIMITED))


if __name__ == "__main__":
    main(*sys.argv[1:])
    os._exit(0)
