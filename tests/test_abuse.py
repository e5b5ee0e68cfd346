"""A server among bad clients: the good ones are served, and nothing is left behind."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

import bowout
from bowout import Ending, How, Server, Stream
from bowout.testing import Act, Peer
from helpers.abusers import abuse
from helpers.peers import require_program
from helpers.runners import Runner
from helpers.served import LOOPBACK, Endings, asks, connect, echo, serve
from helpers.tasks import in_thread, jobs, turn
from helpers.wire import PATIENCE, client_context

BAD: Final = 1000
GOOD: Final = 100
#: Seconds that a good client may take on a busy machine: no limit of the server is to strike one. Bad ones are there as
#: long, and the drain ends them.
ENOUGH: Final = 300.0
#: More than any socket takes.
MUCH: Final = bytes(32 << 20)
#: At most so much memory for each connection, OpenSSL's own included, and something for the rest; in bytes.
BUDGET: Final = (BAD + GOOD) * (128 << 10) + (32 << 20)


async def answer(stream: Stream) -> None:
    """Serve a protocol of lines."""
    async for line in stream.lines(limit=1024):
        await stream.send(MUCH if line == b"much\n" else line)


async def visit(server: Server) -> How:
    """A good client, with three questions."""
    async with await connect(server, handshake_timeout=ENOUGH) as stream:
        for number in range(3):
            await stream.send(b"question %d\n" % number)
            assert await stream.receive_until(b"\n") == b"question %d\n" % number
    assert stream.ending is not None
    return stream.ending.how


def resident() -> int:
    """Memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is measured where Linux tells it")
def test_good_clients_are_served_among_a_thousand_bad_ones(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> tuple[list[How], int, dict[str, int]]:
        before = resident()
        limits: dict[str, Any] = {"idle_timeout": ENOUGH, "handshake_timeout": ENOUGH, "drain_timeout": 5}
        limits["linger_bytes"] = 1 << 18
        async with serve(answer, **limits) as server:
            with abuse(server.port, BAD) as all_there:
                assert await in_thread(lambda: all_there.wait(ENOUGH))
                async with jobs() as group:
                    visits = [group.start(visit, server) for _ in range(GOOD)]
                    endings = [await job.result() for job in visits]
                grown = resident() - before
            await server.drain()
            return endings, grown, server.counters()

    endings, grown, counters = Runner(run.backend, ENOUGH)(main)
    assert endings == [How.CLEAN] * GOOD
    assert grown < BUDGET
    assert counters["accepted"] == BAD + GOOD
    assert sum(count for name, count in counters.items() if name.startswith("ended")) == counters["accepted"]
    assert (counters["handshaking"], counters["waiting"], counters["established"]) == (0, 0, 0)
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize("answer", [False, True], ids=["for nothing", "to be answered"])
def test_a_flood_of_key_updates_lets_other_tasks_run(run: Runner, *, answer: bool) -> None:
    def key_updates(act: Act) -> None:
        act.handshake()
        with act.one_segment():
            for _ in range(6000):
                act.key_update(request=answer)
            act.send(b"done")
        act.ready()

    async def main() -> tuple[bytes, int]:
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while not received:
                await turn()
                turns += 1

        received: list[bytes] = []
        stream = bowout.wrap(ours, peer.server_context(), server_side=True)
        await stream.handshake()
        await in_thread(peer.wait_ready)
        async with jobs() as group:
            group.start(count_turns)
            received.append(await stream.receive(1024))
        stream.abort()
        return received[0], turns

    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    with Peer(key_updates, role="client", sock=theirs) as peer, ours:
        data, turns = run(main)
    assert data == b"done"
    assert turns >= 3


def test_a_renegotiation_is_refused_and_others_are_served(run: Runner) -> None:
    async def main() -> tuple[bytes, Ending]:
        def renegotiate() -> None:
            command = [openssl, "s_client", "-tls1_2", "-connect", f"{LOOPBACK}:{server.port}"]
            subprocess.run(command, input=b"R\n", capture_output=True, check=False, timeout=PATIENCE)

        endings = Endings()
        async with serve(echo, version="1.2", on_ending=endings) as server:
            await in_thread(renegotiate)
            return await asks(server, context=client_context("1.2")), await endings.one

    openssl = require_program("openssl")
    answer, ending = run(main)
    assert answer == b"ping"
    assert ending.how is not How.FAILED_HANDSHAKE
    assert next(event.alert.name for event in ending.events if event.alert) == "no_renegotiation"
