"""The cost that bowout adds to OpenSSL: its verbs on a socket that costs nothing, beside the same calls of OpenSSL.

    python bench/overhead.py

The rest of a real transfer is the kernel's cost, and the event loop's if there is a wait. Microseconds of one core, the
minimum of many tries; TLS 1.3, on asyncio.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Final

import trustme

import bowout
from bowout._core.outgoing import WRITE_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_SIZES: Final = (64, 1 << 16)


class FreeSocket:
    """A socket that accepts all data, and returns the data in `arrived`."""

    def __init__(self) -> None:
        self.arrived = memoryview(b"")

    def send(self, data: bytes) -> int:
        return len(data)

    def recv_into(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self.arrived))
        if not count:
            raise BlockingIOError
        buffer[:count], self.arrived = self.arrived[:count], self.arrived[count:]
        return count


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a client's and a server's context."""
    authority = trustme.CA()
    client, server = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.configure_trust(client)
    authority.issue_cert("localhost").configure_cert(server)
    return client, server


def finish(verb: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a verb that need not wait."""
    try:
        verb.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


def least(
    rounds: int, size: int, given: Callable[[int], memoryview], work: Callable[[memoryview, int], object]
) -> float:
    """Return the shortest time, in microseconds."""
    found = []
    for _ in range(rounds):
        data = given(size)
        began = time.perf_counter()
        work(data, size)
        found.append(time.perf_counter() - began)
    return min(found) * 1e6


class OverheadBench:
    """A connection whose socket costs nothing, and its OpenSSL object."""

    def __init__(self, stream: Any, peer: Any) -> None:
        self._stream = stream
        self._connection = stream._connection
        self._real = self._connection._transport._socket
        self._socket = self._connection._transport._socket = FreeSocket()
        self._engine = self._connection.engine
        self._far = peer._connection.engine
        self._buffer = memoryview(bytearray(max(_SIZES)))

    def end(self) -> None:
        """Restore the stream's own socket, and end the stream."""
        self._connection._transport._socket = self._real
        self._stream.abort()

    @staticmethod
    def plain(size: int) -> memoryview:
        """The data to send."""
        return memoryview(bytes(size))

    def encrypted(self, size: int) -> memoryview:
        """The data that the peer would send."""
        self._far.tls.write(bytes(size))
        return memoryview(self._far._openssl.outgoing.read())

    def send_alone(self, data: memoryview, size: int) -> None:
        """Make the OpenSSL calls of `Stream.send`."""
        for at in range(0, size, WRITE_SIZE):
            self._engine.tls.write(data[at : at + WRITE_SIZE])
            self._engine._openssl.outgoing.read()

    def send(self, data: memoryview, _size: int) -> None:
        """`Stream.send`."""
        self._connection.channel._operations = 0  # No other task is waiting to run.
        finish(self._stream.send(data))

    def receive_alone(self, ciphertext: memoryview, size: int) -> None:
        """Make the OpenSSL calls of `Stream.receive`."""
        while size:
            end = 5 + int.from_bytes(ciphertext[3:5])
            self._engine._openssl.incoming.write(ciphertext[:end])
            ciphertext = ciphertext[end:]
            size -= self._engine.tls.read(len(self._buffer), self._buffer)

    def receive(self, ciphertext: memoryview, size: int) -> None:
        """`Stream.receive`."""
        self._socket.arrived = ciphertext
        channel = self._connection.channel
        channel.dry, channel._operations = False, 0  # Data is there, and no task waits.
        while size:
            size -= len(finish(self._stream.receive()))


async def measure(rounds: int) -> None:
    """Print the cost of sending and receiving, with and without bowout."""
    for_client, for_server = contexts()
    ours, theirs = socket.socketpair()
    stream = bowout.wrap(ours, context=for_client, server_hostname="localhost")
    peer = bowout.wrap(theirs, context=for_server, server_side=True)
    await asyncio.gather(stream.handshake(), peer.handshake())
    await peer.send(b"the tickets are before this")
    await stream.receive()

    bench = OverheadBench(stream, peer)
    print("µs                 OpenSSL alone   with bowout")
    for name, given, alone, whole in (
        ("send", bench.plain, bench.send_alone, bench.send),
        ("receive", bench.encrypted, bench.receive_alone, bench.receive),
    ):
        for size in _SIZES:
            figures = (least(rounds, size, given, work) for work in (alone, whole))
            print(f"{name:7} {size:6} B", *(f"{figure:14.2f}" for figure in figures))
    bench.end()
    peer.abort()


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5000, help="tries of each")
    asyncio.run(measure(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
