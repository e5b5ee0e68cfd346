"""Is ciphertext that somebody else has read from the socket already taken as if it came now?"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

import bowout
from bowout import How, NotTLS
from helpers.tasks import in_thread
from helpers.wire import NAME, PATIENCE, VERSIONS, Version, Wire, client_context, peer, polite, server_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from helpers.runners import Runner

both_versions = pytest.mark.parametrize("version", VERSIONS)

HEADER = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n"


def asking(wire: Wire) -> str:
    """A client that asks, and reads to the end."""
    wire.handshake()
    wire.send(b"ping")
    return answer_end(wire)


def answer_end(wire: Wire) -> str:
    end = wire.read_to_end()
    if end == "close_notify":
        with contextlib.suppress(ConnectionError):
            wire.close_notify()
    return end


def read_before(sock: socket.socket, count: int) -> bytes:
    """What a front end would have read: up to so many bytes."""
    sock.settimeout(PATIENCE)
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more or count == 1 << 16:  # all that came in one piece
            return data + more
        data += more
    return data


@both_versions
@pytest.mark.parametrize("count", [1, 5, 6, 100, 1 << 16])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_server_goes_on_where_somebody_else_has_begun(
    run: Runner, version: Version, count: int, kind: Callable[[bytes], bytes]
) -> None:
    async def main() -> tuple[bytes, How]:
        first = await in_thread(lambda: read_before(link.sock, count))
        stream = link.stream(received=kind(first))
        data = await stream.receive()
        return data, (await stream.close()).how

    with peer(asking, version=version, we="server") as link:
        assert run(main) == (b"ping", How.CLEAN)
    assert link.result == "close_notify"


def test_what_came_with_the_header_of_a_proxy(run: Runner) -> None:
    def behind_a_proxy(wire: Wire) -> str:
        wire.sock.sendall(HEADER)
        return asking(wire)

    async def main() -> bytes:
        data = b""
        while b"\r\n" not in data:
            data += await in_thread(lambda: read_before(link.sock, 1 << 16))
        header, _, rest = data.partition(b"\r\n")
        assert header + b"\r\n" == HEADER
        async with link.stream(received=rest) as stream:
            return await stream.receive()

    with peer(behind_a_proxy, we="server") as link:
        assert run(main) == b"ping"


def test_what_unwrap_gave_is_the_beginning_of_the_next_connection(run: Runner) -> None:
    """The client ends one TLS connection and begins another on the same socket, without waiting."""

    def twice(wire: Wire) -> str:
        wire.handshake()
        again = Wire(wire.sock, client_context(), server_side=False, link=wire.link)
        with contextlib.suppress(OSError):
            again.tls.do_handshake()
        hello = again._out.read()
        wire.sock.sendall(wire.encrypt_close_notify() + hello)
        assert wire.read_to_end() == "close_notify"
        return asking(again)

    async def main() -> tuple[bool, bytes, How]:
        stream = link.stream()
        assert await stream.receive() == b""
        sock, rest = await stream.unwrap()
        again = bowout.wrap(sock, server_context(), server_side=True, received=rest)
        data = await again.receive()
        return bool(rest), data, (await again.close()).how

    with peer(twice, we="server") as link:
        assert run(main) == (True, b"ping", How.CLEAN)


@both_versions
def test_a_client_takes_what_was_read_too(run: Runner, version: Version) -> None:
    """A server speaks second: nothing that is TLS can have come, and what has is told as ever."""

    async def main() -> None:
        stream = link.stream(received=b"HTTP/1.1 400 Bad Request\r\n")
        with pytest.raises(NotTLS, match="HTTP"):
            await stream.handshake()
        assert link.sock.fileno() == -1

    with peer(lambda wire: wire.read_to_tcp_end(), version=version) as link:
        run(main)


def test_nothing_received_is_nothing(run: Runner) -> None:
    async def main() -> How:
        stream = bowout.wrap(link.sock, client_context(), server_hostname=NAME, received=b"")
        await stream.handshake()
        return (await stream.close()).how

    with peer(polite) as link:
        assert run(main) is How.CLEAN


def test_what_was_received_is_plain_text(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream(received=b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(NotTLS) as caught:
            await stream.receive()
        assert caught.value.sample.startswith(b"GET /")

    with peer(lambda wire: wire.read_to_tcp_end(), we="server") as link:
        run(main)
