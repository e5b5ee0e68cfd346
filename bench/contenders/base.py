"""The verbs of every contender. `native/peer.c` defines their protocol.

A loop over bytes or round trips is in the contender's own file, so that only its own idiom is measured.
"""

from __future__ import annotations

import abc
import asyncio
import ssl
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

HOST: Final = "127.0.0.1"
#: What is handed to a send at once: all contenders alike, bytes.
CHUNK: Final = b"x" * (1 << 16)
#: What is asked for at once, by who may choose: a bytes of more than 128 KiB is memory that malloc maps anew each time.
READ_SIZE: Final = 1 << 16
#: The buffer of who receives into one.
BUFFER_SIZE: Final = 1 << 18

Connection = TypeVar("Connection")
Result = TypeVar("Result")


def order(what: str, count: int) -> bytes:
    """Return the order for the peer: ``S``end, ``R``eceive or ``E``cho a number of bytes."""
    return what.encode() + count.to_bytes(8, "big")


def client_context(ca: str) -> ssl.SSLContext:
    """Return a context with the same trust and the same defaults for every contender."""
    return ssl.create_default_context(cafile=ca)


class Contender(abc.ABC, Generic[Connection]):
    """One way to be a TLS client."""

    def __init__(self, port: int, ca: str) -> None:
        self.port = port
        self.ca = ca

    def prepare(self, work: str) -> None:
        """Prepare for this job; most contenders need not."""

    @abc.abstractmethod
    def run(self, main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Run `main` in the contender's loop."""

    @abc.abstractmethod
    async def together(self, jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Run these concurrently, and wait for all."""

    @abc.abstractmethod
    async def open(self) -> Connection:
        """Connect, and perform the handshake."""

    @abc.abstractmethod
    async def receive(self, connection: Connection, count: int) -> None:
        """Have the peer send a number of bytes, and receive them as objects of bytes."""

    async def receive_into(self, connection: Connection, count: int) -> None:
        """Do the same, into a buffer of `BUFFER_SIZE` that is used again, if the contender has a verb for that."""
        raise NotImplementedError

    @abc.abstractmethod
    async def send(self, connection: Connection, count: int) -> None:
        """Send a number of bytes, in chunks of `CHUNK`, and wait for the one byte that acknowledges them all."""

    @abc.abstractmethod
    async def echo(self, connection: Connection, size: int, rounds: int) -> None:
        """Send a message of a given size and wait until it is back, repeatedly."""

    @abc.abstractmethod
    async def close(self, connection: Connection) -> None:
        """End the connection as gracefully as the contender does by default."""


def chunks_of(count: int) -> tuple[int, bytes]:
    """Return the number of whole `CHUNK` in `count` bytes, and the rest."""
    whole, rest = divmod(count, len(CHUNK))
    return whole, CHUNK[:rest]


class AsyncioRuns:
    """`run` and `together` for contenders on asyncio or uvloop."""

    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None

    def choose_loop(self, loop: str) -> None:
        """``"asyncio"`` or ``"uvloop"``."""
        if loop == "uvloop":
            import uvloop  # noqa: PLC0415  (the others must not carry its memory)

            self.loop_factory = uvloop.new_event_loop

    def run(self, main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        with asyncio.Runner(loop_factory=self.loop_factory) as runner:
            return runner.run(main())

    async def together(self, jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
        await asyncio.gather(*jobs)


class TrioRuns:
    """`run` and `together` for contenders on trio."""

    def run(self, main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        import trio  # noqa: PLC0415  (the others must not carry its memory)

        return trio.run(main)

    async def together(self, jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
        import trio  # noqa: PLC0415  (as above)

        async def await_(job: Coroutine[Any, Any, None]) -> None:
            await job

        async with trio.open_nursery() as nursery:
            for job in jobs:
                nursery.start_soon(await_, job)
