"""Servers that mean harm: nothing waits past its time, and nothing is kept without a limit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bowout import _backends
from bowout.check._wire import ProbeConnection, ServerEnd


class _Bottomless:
    """A transport that always has more, so that nobody ever has to wait."""

    peer = "peer"
    sock = None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.turned = False
        self._left = 1000
        loop.call_soon(self._turn)

    def _turn(self) -> None:
        self.turned = True

    def receive_into(self, buffer: memoryview) -> int:
        self._left -= 1
        if self.turned:
            raise asyncio.CancelledError  # As a deadline does, whose turn has come.
        assert self._left, "the loop had no turn"
        return len(buffer)


class _Chatty:
    """A TLS connection whose buffer has a record for each reading, without an end."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self) -> bytes:
        self.reads += 1
        return b"x"


class _Deaf:
    """A TLS connection in which what comes never makes a record."""

    def read(self) -> None:
        return None

    def receive_data(self, data: Any) -> None:
        pass


@pytest.mark.parametrize("wait", ["read_to_end", "wait_for_fin"])
def test_a_server_that_always_has_more_cannot_stop_the_loop(wait: str) -> None:
    async def main() -> None:
        transport: Any = _Bottomless(asyncio.get_running_loop())
        deaf: Any = _Deaf()
        connection = ProbeConnection(_backends.current(), transport, lambda *_: deaf)
        with pytest.raises(asyncio.CancelledError):
            await getattr(connection, wait)(60)
        assert transport.turned

    asyncio.run(main())


def test_many_small_records_take_no_more_than_the_time() -> None:
    async def main() -> None:
        backend: Any = _backends.current()
        chatty: Any = _Chatty()
        transport: Any = None
        connection = ProbeConnection(backend, transport, lambda *_: chatty)
        backend.time = lambda: float(chatty.reads)
        heard = await connection.read_to_end(100)
        assert (heard.end, heard.answer.count) == (ServerEnd.SILENCE, 100)

    asyncio.run(main())
