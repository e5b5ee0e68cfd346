"""Bad clients by the hundred: raw sockets on a loop of their own, in a thread beside the server under test."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from helpers.wire import NAME, PATIENCE, our_context

#: Seconds between two bytes of a client that drips.
_DRIP: Final = 0.05
_BLOCK: Final = bytes(1 << 16)


class Abuser:
    """One bad client.

    Attributes:
        over: set when the abuse is to end.
    """

    def __init__(self, sock: socket.socket, over: asyncio.Event) -> None:
        self.sock = sock
        self.over = over
        self._loop = asyncio.get_running_loop()
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = our_context("1.3", "client").wrap_bio(self._in, self._out, server_hostname=NAME)

    async def put(self, data: bytes) -> None:
        """Send bytes."""
        await self._loop.sock_sendall(self.sock, data)

    def hello(self) -> bytes:
        """A ClientHello."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._out.read()

    async def shake_hands(self) -> None:
        """Handshake."""
        await self.put(self.hello())
        while True:
            data = await self._loop.sock_recv(self.sock, 1 << 16)
            if not data:
                raise ConnectionError("the server left in the handshake")
            self._in.write(data)
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                break
        await self.put(self._out.read())

    def records(self, data: bytes) -> bytes:
        """Application data, encrypted."""
        self._tls.write(data)
        return self._out.read()

    async def drip(self, data: bytes) -> None:
        """Send bytes one by one."""
        for byte in data:
            await self.put(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), _DRIP)
                return

    async def hold(self) -> None:
        """Keep the connection, and read nothing."""
        await self.over.wait()

    def reset(self) -> None:
        """Send RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


async def silent(abuser: Abuser) -> None:
    await abuser.hold()


async def garbage(abuser: Abuser) -> None:
    await abuser.put(b"\x5a" * 4096)
    await abuser.hold()


async def http(abuser: Abuser) -> None:
    await abuser.put(b"GET / HTTP/1.1\r\nHost: peer.test\r\n\r\n")
    await abuser.hold()


async def half_a_hello(abuser: Abuser) -> None:
    await abuser.put(abuser.hello()[:20])
    await abuser.hold()


async def dripping_hello(abuser: Abuser) -> None:
    await abuser.drip(abuser.hello())


async def no_finished(abuser: Abuser) -> None:
    await abuser.put(abuser.hello())
    await abuser.hold()


async def alerts_first(abuser: Abuser) -> None:
    await abuser.put(b"\x15\x03\x01\x00\x02\x01\x5a" * 1000)
    await abuser.hold()


async def reset_at_once(abuser: Abuser) -> None:
    abuser.reset()


async def reset_in_the_handshake(abuser: Abuser) -> None:
    await abuser.put(abuser.hello())
    abuser.reset()


async def reset_after_it(abuser: Abuser) -> None:
    await abuser.shake_hands()
    abuser.reset()


async def bare_fin(abuser: Abuser) -> None:
    await abuser.shake_hands()


async def half_a_record(abuser: Abuser) -> None:
    await abuser.shake_hands()
    await abuser.put(abuser.records(b"ping\n")[:10])


async def plain_alerts(abuser: Abuser) -> None:
    await abuser.shake_hands()
    await abuser.put(b"\x15\x03\x03\x00\x02\x01\x00" * 1000)
    await abuser.hold()


async def empty_records(abuser: Abuser) -> None:
    await abuser.shake_hands()
    await abuser.put(b"\x17\x03\x03\x00\x00" * 1000)
    await abuser.hold()


async def dripping_request(abuser: Abuser) -> None:
    await abuser.shake_hands()
    await abuser.drip(abuser.records(b"x" * 600))


async def long_line(abuser: Abuser) -> None:
    await abuser.shake_hands()
    while not abuser.over.is_set():
        await abuser.put(abuser.records(_BLOCK))


async def never_reading(abuser: Abuser) -> None:
    await abuser.shake_hands()
    await abuser.put(abuser.records(b"much\n"))
    await abuser.hold()


async def never_reading_and_asking_on(abuser: Abuser) -> None:
    await abuser.shake_hands()
    while not abuser.over.is_set():
        await abuser.put(abuser.records(b"much\n" * 1000))


KINDS: Final[tuple[Callable[[Abuser], Awaitable[None]], ...]] = (
    silent,
    garbage,
    http,
    half_a_hello,
    dripping_hello,
    no_finished,
    alerts_first,
    reset_at_once,
    reset_in_the_handshake,
    reset_after_it,
    bare_fin,
    half_a_record,
    plain_alerts,
    empty_records,
    dripping_request,
    long_line,
    never_reading,
    never_reading_and_asking_on,
)


@contextlib.contextmanager
def abuse(port: int, count: int) -> Iterator[threading.Event]:
    """Have so many bad clients, of every kind, while the block runs; the event says that all have connected."""
    loop_made, all_there = threading.Event(), threading.Event()
    connected = 0
    stop: list[Callable[[], object]] = []

    async def one(kind: Callable[[Abuser], Awaitable[None]], over: asyncio.Event) -> None:
        nonlocal connected
        with socket.socket() as sock:
            sock.setblocking(False)
            with contextlib.suppress(OSError, ssl.SSLError):  # The server may defend itself.
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
                connected += 1
                if connected == count:
                    all_there.set()
                work = asyncio.ensure_future(kind(Abuser(sock, over)))
                ended = asyncio.ensure_future(over.wait())
                await asyncio.wait([work, ended], return_when=asyncio.FIRST_COMPLETED)
                ended.cancel()
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work

    async def main() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(over.set))
        loop_made.set()
        await asyncio.gather(*(one(KINDS[number % len(KINDS)], over) for number in range(count)))

    thread = threading.Thread(target=lambda: asyncio.run(main()), name="abusers")
    thread.start()
    loop_made.wait(PATIENCE)
    try:
        yield all_there
    finally:
        stop[0]()
        thread.join(PATIENCE)
