"""The probing of endpoints in one process, on asyncio, within the limits of a fleet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Self

import bowout
from bowout._names import host_port
from bowout._text import escape
from bowout.check import Finding, Report, Verdict
from bowout.check._protocols import default_protocol
from bowout.fleet._limits import Limits, Schedule, TokenBucket
from bowout.fleet._targets import Endpoint

#: Checks one endpoint, and returns its report: JSON of version 1.
Probe = Callable[[Endpoint], Awaitable[Mapping[str, Any]]]
#: Makes the probe in the process that uses it; it must be picklable for workers.
ProbeFactory = Callable[[], Probe]
#: Takes a target and its report; called in the loop.
Deliver = Callable[[Endpoint, Mapping[str, Any]], None]

#: Endpoints that wait in memory at most, for each that may be probed at once.
_WINDOW: Final = 4
#: Connections that a check makes at most. They are taken from the rate when it begins, and what it did not make is
#: given back when it is done, if its report tells: so no check has to wait for a connection in the middle.
_CONNECTIONS: Final = 8
#: Seconds after which a wait for the rate looks whether something was given back.
_LOOK_AGAIN: Final = 0.1
#: Characters of an error's text that a report keeps.
_LONGEST_TEXT: Final = 300


class Prober:
    """Probes the endpoints that are added, each within the limits; an async context manager.

    Leaving the block cancels the probes that still run: their endpoints are not delivered.

    Args:
        probe: checks one endpoint. Its errors become reports with the verdict UNKNOWN.
        limits: what it must keep to.
        deliver: takes each report.
    """

    def __init__(self, probe: Probe, limits: Limits, deliver: Deliver) -> None:
        self._probe, self._limits, self._deliver = probe, limits, deliver
        self._schedule = Schedule(limits)
        self._bucket = TokenBucket(limits.rate)
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._added = asyncio.Event()
        self._starter: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    async def __aenter__(self) -> Self:
        self._starter = asyncio.ensure_future(self._start())
        self._starter.add_done_callback(self._starter_ended)
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [*self._tasks, *([self._starter] if self._starter else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def room(self) -> int:
        """The number of endpoints that may be added now."""
        return max(_WINDOW * self._limits.at_once - self._schedule.waiting, 0)

    @property
    def idle(self) -> bool:
        """Whether every endpoint that was added is done."""
        return not self._schedule.waiting and not self._schedule.running

    def add(self, endpoints: Iterable[Endpoint]) -> None:
        """Let `endpoints` wait for their turn."""
        for endpoint in endpoints:
            self._schedule.add(endpoint)
        self._added.set()

    def wake(self) -> None:
        """Let `progress` return: there may be more to add."""
        self._changed.set()

    async def progress(self) -> None:
        """Return when at least one endpoint was done since the last call, or at `wake`.

        Raises:
            Exception: what `deliver` raised, or why no check can begin any more.
        """
        await self._changed.wait()
        self._changed.clear()
        if self._failure is not None:
            raise self._failure

    async def _start(self) -> None:
        """Begin each check when its turn and its connections are there, one after the other: so the rate is even."""
        loop = asyncio.get_running_loop()
        while True:
            await self._added.wait()
            self._added.clear()
            while self._failure is None and (endpoint := self._schedule.begin()) is not None:
                while (wait := self._bucket.wait(loop.time())) > 0:  # noqa: ASYNC110  (it waits for time)
                    await asyncio.sleep(min(wait, _LOOK_AGAIN))
                self._bucket.spend(_CONNECTIONS)
                task = asyncio.ensure_future(self._check(endpoint))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _starter_ended(self, starter: asyncio.Task[None]) -> None:
        """Let `progress` raise what ended the starter: it would wait for ever otherwise."""
        if not starter.cancelled() and isinstance(error := starter.exception(), Exception):
            self._failure = self._failure or error
            self._changed.set()

    async def _check(self, endpoint: Endpoint) -> None:
        try:
            self._deliver(endpoint, await self._report(endpoint))
        except Exception as error:  # noqa: BLE001  (progress() raises it: a full disk, for example)
            self._failure = self._failure or error
        finally:
            self._schedule.end(endpoint)
            self._changed.set()
            self._added.set()

    async def _report(self, endpoint: Endpoint) -> Mapping[str, Any]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._limits.patience):
                report = await self._probe(endpoint)
        except (Exception, asyncio.CancelledError) as error:  # (a row with the error's class, never a missing row)
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise  # This check is cancelled, and not something for which the probe waits.
            # It may have made all its connections: a server that lets us wait must not make us exceed the rate.
            return unknown(endpoint, error, loop.time() - began)
        if (connections := report.get("connections")) is not None:
            self._bucket.spend(int(connections) - _CONNECTIONS)
        return report


def unknown(endpoint: Endpoint, error: BaseException, seconds: float = 0.0) -> dict[str, Any]:
    """Return the report of an endpoint about which nothing could be learned, with the class of the error."""
    kind = type(error).__name__
    text = escape(str(error))[:_LONGEST_TEXT]
    return bare_report(endpoint, Verdict.UNKNOWN, f"{kind}: {text}" if text else kind, {"error": kind}, seconds)


def bare_report(
    endpoint: Endpoint, verdict: Verdict, says: str, facts: Mapping[str, Any], seconds: float = 0.0
) -> dict[str, Any]:
    """Return a report, JSON of version 1, with one finding that is about no connection."""
    finding = Finding(probe="reply-end", verdict=verdict, says=says, runs=0, seconds=seconds, facts=facts)
    report = Report(
        endpoint=host_port(endpoint.host, endpoint.port),
        findings=(finding,),
        starttls=endpoint.starttls,
        protocol=endpoint.protocol or default_protocol(endpoint.starttls),
        began=time.time() - seconds,
        seconds=seconds,
        tool=f"bowout {bowout.__version__}",
    )
    # A report of SKIPPED alone would be OK, and nothing is known of an endpoint that was left out.
    return {**report.to_dict(), "verdict": str(verdict), "worst": finding.probe}
