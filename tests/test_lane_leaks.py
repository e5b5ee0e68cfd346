"""Connections on the lane in C, many of them, in every way to leave one: nothing of them stays."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path
from typing import Any, Final

import pytest

import bowout
from bowout import _lane
from helpers.leaks import open_fds
from helpers.runners import Runner
from helpers.wire import NAME, VERSIONS, Version, client_context, server_context

native: Any = pytest.importorskip("bowout._lane._native", reason="it was built without a C compiler")
pytestmark = pytest.mark.backends("asyncio", "uvloop")

#: Bytes of memory that a connection may leave behind, on average: less than any object of one.
_LEFT: Final = 8
_PAGE: Final = os.sysconf("SC_PAGESIZE")


@pytest.fixture(autouse=True)
def _lane_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lane, "native", native)


def alive() -> int:
    """Count the lanes that exist."""
    gc.collect()
    return sum(type(each).__module__ == native.__name__ for each in gc.get_objects())


def resident() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


async def echo(stream: bowout.Stream) -> None:
    async for data in stream:
        await stream.send(data)


class LeavingClients:
    """Makes connections to a server in the same loop, each another way to use one and to leave it."""

    def __init__(self, server: bowout.Server, version: Version) -> None:
        self._port = server.addresses[0][1]
        self._context = client_context(version)

    async def connect(self, count: int) -> None:
        for number in range(count):
            async with bowout.connect("127.0.0.1", self._port, context=self._context, server_hostname=NAME) as stream:
                for size in (10, 40_000):
                    await stream.send(bytes(size))
                    assert len(await stream.receive_exactly(size)) == size
                if number % 3 == 0:
                    await self._cancel_a_wait(stream)
                if number % 4 == 0:
                    await stream.send(b"x")
                    await stream.receive_into(bytearray(10))
                if number % 5 == 0:
                    stream.abort()

    @staticmethod
    async def _cancel_a_wait(stream: bowout.Stream) -> None:
        reader = asyncio.create_task(stream.receive())
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.wait([reader])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_hundred_connections_leave_no_lane(run: Runner, version: Version) -> None:
    async def main() -> None:
        async with bowout.serve(echo, "127.0.0.1", 0, context=server_context(version)) as server:
            clients = LeavingClients(server, version)
            await clients.connect(10)
            descriptors = len(open_fds())
            await clients.connect(100)
            assert len(open_fds()) <= descriptors + 1, "the server may have one that it is closing"

    before = alive()
    run(main)
    assert alive() == before


@pytest.mark.timeout(3600)
def test_a_hundred_thousand_connections_leave_no_memory(run: Runner) -> None:
    async def main() -> float:
        async with bowout.serve(echo, "127.0.0.1", 0, context=server_context("1.3")) as server:
            clients = LeavingClients(server, "1.3")
            await clients.connect(5_000)
            before = resident()
            await clients.connect(100_000)
            return (resident() - before) / 100_000

    assert Runner(run.backend, deadline=3600.0)(main) < _LEFT
