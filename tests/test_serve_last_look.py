"""A server whose loop was blocked past a limit looks once more at what had arrived, before it ends anybody."""

from __future__ import annotations

import threading
import time
from typing import Final

import pytest

from bowout import DrainReport, How, Stream
from helpers.runners import Runner
from helpers.served import dialled, echo, gate, serve
from helpers.tasks import in_thread, jobs, turn
from helpers.wire import VERSIONS, Version, patiently

BRIEF: Final = 3.0
"""A limit that passes while the loop is blocked, in seconds."""


class Rendezvous:
    """Where a client's thread and the server's loop meet.

    Attributes:
        ready: the client has done all that comes before the block.
        go: the loop is blocked from now on.
        done: the client has done its part.
    """

    def __init__(self) -> None:
        self.ready, self.go, self.done = threading.Event(), threading.Event(), threading.Event()

    def block(self) -> None:
        """Block the loop until the client has done its part and `BRIEF` is over."""
        began = time.monotonic()
        self.go.set()
        assert patiently(self.done), "the client never did its part"
        time.sleep(max(0.0, began + 1.1 * BRIEF - time.monotonic()))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_request_that_came_while_the_loop_was_blocked_is_answered(run: Runner, version: Version) -> None:
    """Its connection was idle for too long, as far as the clock can tell."""

    def client(port: int) -> bytes:
        with dialled(port, version) as wire:
            meet.ready.set()
            assert patiently(meet.go)
            wire.send(b"ping")
            meet.done.set()
            return wire.read()

    async def main() -> bytes:
        async def handler(stream: Stream) -> None:
            waiting.set()
            await echo(stream)

        waiting = gate()
        async with serve(handler, version=version, idle_timeout=BRIEF) as server, jobs() as group:
            job = group.start(in_thread, lambda: client(server.port))
            await waiting.wait()
            await in_thread(meet.ready.wait)
            meet.block()
            answer: bytes = await job.result()
            return answer

    meet = Rendezvous()
    assert run(main) == b"ping"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_drain_counts_the_answer_that_came_while_the_loop_was_blocked(run: Runner, version: Version) -> None:
    def client(port: int) -> None:
        with dialled(port, version) as wire:
            wire.send(b"ping")
            assert wire.read() == b"ping"
            meet.ready.set()
            assert wire.read_to_end() == "close_notify"
            assert patiently(meet.go)
            wire.close_notify()
            wire.fin()
            meet.done.set()

    async def main() -> DrainReport:
        async with serve(echo, version=version) as server, jobs() as group:
            job = group.start(in_thread, lambda: client(server.port))
            await in_thread(meet.ready.wait)
            draining = group.start(server.drain, BRIEF)
            while not server.draining:
                await turn()
            for _ in range(10):  # It sends close_notify; the deadline is still to come.
                await turn()
            meet.block()
            await job.result()
            return await draining.result()

    meet = Rendezvous()
    report = run(main)
    assert (dict(report.counts), report.cut) == ({How.CLEAN: 1}, 0), report
