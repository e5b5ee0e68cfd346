"""Probes in several processes, each with networks of its own, and one writer: this process."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import threading
import zlib
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from bowout.fleet._errors import FleetError
from bowout.fleet._prober import ProbeFactory, Prober
from bowout.fleet._process import collecting_less
from bowout.fleet._rows import slim
from bowout.fleet._run import GATHERING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from bowout.fleet._feed import Feed, ResultWriter
    from bowout.fleet._limits import Limits
    from bowout.fleet._targets import Endpoint

#: Endpoints that are sent at once, at most: a message is small, so that a pipe takes it.
_MESSAGE: Final = 100
#: Endpoints that a worker has, for each that it may probe at once.
_WINDOW: Final = 4
#: Deaths of workers in a row, without a report between them, after which the fleet gives up.
_MOST_DEATHS: Final = 5
#: Seconds in which a worker has to end after its pipe was closed.
_TO_END: Final = 5.0


class WorkersRunner:
    """Probes in processes. A network belongs to one of them, so that its limits are kept there.

    A worker that dies is replaced, and its endpoints are probed by the new one: their reports are there once, since
    only this process writes.

    Args:
        factory: makes the probe in each worker; it must be picklable, as a module's function or a dataclass is.
        limits: of all workers together.
        number: of processes.
    """

    def __init__(self, factory: ProbeFactory, limits: Limits, number: int) -> None:
        self._factory, self._limits, self._number = factory, limits.shared_by(number), number

    async def run_pass(self, feed: Feed, writer: ResultWriter) -> None:
        """Probe all targets of `feed`, and deliver and flush each report."""
        changed = asyncio.Event()
        deaths = 0
        with contextlib.ExitStack() as stack:
            workers = [
                stack.enter_context(contextlib.closing(_Worker(self._factory, self._limits, changed)))
                for _ in range(self._number)
            ]
            feed.on_lookup = changed.set
            while True:
                for endpoint in feed.next(self._room(workers)):
                    workers[worker_of(endpoint.network, self._number)].add(endpoint)
                if feed.exhausted and all(worker.idle for worker in workers):
                    return
                for worker in workers:
                    worker.send()
                if feed.pending or not all(worker.idle for worker in workers):
                    await changed.wait()
                await asyncio.sleep(GATHERING)
                changed.clear()
                reported, died = _collect(workers, writer)
                deaths = 0 if reported else deaths + died
                if deaths >= _MOST_DEATHS:
                    raise FleetError(
                        f"workers died {deaths} times in a row, and reported nothing",
                        "what was finished is kept: resume without workers to see what ends them",
                    )
                writer.flush()

    def _room(self, workers: list[_Worker]) -> int:
        held = sum(worker.held for worker in workers)
        return max(2 * _WINDOW * self._limits.at_once * self._number - held, 0)


def worker_of(network: str, number: int) -> int:
    """Return the worker to which `network` belongs; the same in every run."""
    return zlib.crc32(network.encode()) % number


def _collect(workers: list[_Worker], writer: ResultWriter) -> tuple[int, int]:
    """Deliver what the workers reported, and replace the dead; return the number of reports and of deaths."""
    reports = deaths = 0
    for worker in workers:
        for endpoint, report in worker.take():
            writer.deliver(endpoint, report)
            reports += 1
        if worker.failure is not None:
            raise FleetError(f"a worker cannot probe: {worker.failure}", "nothing was lost: mend the cause, and resume")
        if worker.dead:
            worker.restart()
            deaths += 1
    return reports, deaths


class _Worker:
    """One process, as the parent sees it.

    Attributes:
        dead: whether it has ended, and must be replaced.
        failure: why it could not begin; None if it could.
    """

    def __init__(self, factory: ProbeFactory, limits: Limits, changed: asyncio.Event) -> None:
        self._arguments = (factory, limits)
        self._window = _WINDOW * limits.at_once
        self._changed = changed
        #: Endpoints that it has and those that wait for it.
        self._sent: dict[int, Endpoint] = {}
        self._backlog: deque[Endpoint] = deque()
        self._reported: list[tuple[Endpoint, Mapping[str, Any]]] = []
        self.failure: str | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._pipe: Connection = ours
        self._process: SpawnProcess = context.Process(target=_work, args=(theirs, *self._arguments), daemon=True)
        self._process.start()
        theirs.close()
        self.dead = False
        asyncio.get_running_loop().add_reader(ours.fileno(), self._read)

    @property
    def held(self) -> int:
        """The number of endpoints that it has, and that wait for it."""
        return len(self._sent) + len(self._backlog)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do for it, or to take from it."""
        return not self.held and not self._reported

    def add(self, endpoint: Endpoint) -> None:
        """Let `endpoint` wait for it."""
        self._backlog.append(endpoint)

    def send(self) -> None:
        """Send it as many endpoints as it has room for. It always reads, so that this does not block for long."""
        while self._backlog and len(self._sent) < self._window and not self.dead:
            count = min(_MESSAGE, len(self._backlog), self._window - len(self._sent))
            batch = [self._backlog.popleft() for _ in range(count)]
            self._sent |= {endpoint.id: endpoint for endpoint in batch}
            try:
                self._pipe.send(batch)
            except OSError:
                self._bury()

    def take(self) -> list[tuple[Endpoint, Mapping[str, Any]]]:
        """Return the reports since the last call."""
        reported, self._reported = self._reported, []
        return reported

    def restart(self) -> None:
        """Start it again; what it had waits for the new one."""
        self._backlog.extendleft(self._sent.values())
        self._sent = {}
        self._pipe.close()
        self._end_process()
        self._start()

    def close(self) -> None:
        """End it."""
        if not self.dead:
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        self._pipe.close()
        self._process.terminate()
        self._end_process()

    def _end_process(self) -> None:
        self._process.join(_TO_END)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._process.close()

    def _read(self) -> None:
        try:
            message = self._pipe.recv()
        except (EOFError, OSError):
            self._bury()
            return
        if isinstance(message, str):
            self.failure = message
        else:
            for number, report in message:
                self._reported.append((self._sent.pop(number), report))
        self._changed.set()

    def _bury(self) -> None:
        if not self.dead:
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            self.dead = True
            self._changed.set()


def _work(pipe: Connection, factory: ProbeFactory, limits: Limits) -> None:
    """Run in the worker: probe what comes from the parent, until it closes the pipe or is gone."""
    import signal  # noqa: PLC0415  (in the worker only)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # A Ctrl-C is the parent's to answer.
    try:
        probe = factory()
    except Exception as error:  # noqa: BLE001  (the parent reports it)
        pipe.send(f"{type(error).__name__}: {error}")
        return
    with collecting_less():
        asyncio.run(_serve(pipe, probe, limits))


async def _serve(pipe: Connection, probe: Any, limits: Limits) -> None:
    loop = asyncio.get_running_loop()
    finished: list[tuple[int, dict[str, Any]]] = []
    async with Prober(probe, limits, lambda each, report: finished.append((each.id, slim(each, report)))) as prober:
        # A thread reads, so that the parent never waits for us: both could wait for each other otherwise.
        threading.Thread(target=_listen, args=(pipe, loop, prober), daemon=True).start()
        while True:
            await prober.progress()
            await asyncio.sleep(GATHERING)
            if finished:
                batch, finished[:] = finished[:], []
                pipe.send(batch)


def _listen(pipe: Connection, loop: asyncio.AbstractEventLoop, prober: Prober) -> None:
    while True:
        try:
            batch = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)  # The parent is gone or has closed the pipe: nobody would take a report.
        loop.call_soon_threadsafe(prober.add, batch)
