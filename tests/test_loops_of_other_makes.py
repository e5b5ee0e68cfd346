"""Loops of asyncio that lack what its own have: they are served by what they can, or named in an error at once."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, TypeVarTuple

import pytest

import bowout
from bowout import How, MisuseError
from bowout._backends.on_asyncio import CompletionTransport
from helpers.served import echo, serve
from helpers.wire import NAME, client_context, peer, polite, server_context, tcp_pair

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class WithoutAdding(asyncio.SelectorEventLoop):
    """A loop that watches no descriptor, and says so only when it is asked to; its calls for sockets work."""

    def add_reader(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        raise NotImplementedError

    def add_writer(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        raise NotImplementedError


class WithoutWriters(asyncio.SelectorEventLoop):
    """A loop that watches for reading alone."""

    def add_writer(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        raise NotImplementedError


class WithoutSockets(WithoutAdding):
    """A loop that has nothing for sockets, as the standard library's abstract loop says it."""

    sock_accept = asyncio.AbstractEventLoop.sock_accept
    sock_connect = asyncio.AbstractEventLoop.sock_connect
    sock_recv = asyncio.AbstractEventLoop.sock_recv  # type: ignore[assignment]  # its arguments have other names
    sock_sendall = asyncio.AbstractEventLoop.sock_sendall


class RefusingSockets(WithoutAdding):
    """A loop that has these calls, to refuse them."""

    async def sock_accept(self, sock: socket.socket) -> Any:
        raise NotImplementedError

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        raise NotImplementedError

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        raise NotImplementedError

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        raise NotImplementedError


def run(kind: type[asyncio.AbstractEventLoop], main: Callable[[], Awaitable[T]]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(60):
            return await main()

    with asyncio.Runner(loop_factory=kind) as runner:
        return runner.run(bounded())


@pytest.mark.parametrize("kind", [WithoutAdding, WithoutWriters])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_loop_that_watches_nothing_serves_and_connects(kind: type[asyncio.AbstractEventLoop], host: str) -> None:
    async def main() -> tuple[bytes, How]:
        async with serve(echo) as server:
            async with bowout.connect(host, server.port, context=client_context(), server_hostname=NAME) as stream:
                assert isinstance(stream._connection._transport, CompletionTransport)
                await stream.send(b"x" * 100_000)
                data = await stream.receive_exactly(100_000)
            assert stream.ending is not None
            return data, stream.ending.how

    assert run(kind, main) == (b"x" * 100_000, How.CLEAN)


@pytest.mark.parametrize("kind", [WithoutSockets, RefusingSockets])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_connecting_names_a_loop_that_can_nothing(kind: type[asyncio.AbstractEventLoop], host: str) -> None:
    async def main() -> None:
        await bowout.connect(host, listener.getsockname()[1], context=client_context(), server_hostname=NAME)

    name = re.escape(f"{kind.__module__}.{kind.__qualname__}")
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(MisuseError, match=name) as caught:
        run(kind, main)
    assert "add_reader" in str(caught.value)
    assert "sock_recv" in str(caught.value)


def test_a_handshake_names_a_loop_that_can_nothing() -> None:
    async def main() -> None:
        with pytest.raises(MisuseError, match="RefusingSockets"):
            await bowout.wrap(link.sock, client_context(), server_hostname=NAME).handshake()

    with peer(lambda wire: wire.read_to_tcp_end()) as link:
        run(RefusingSockets, main)
    assert link.result in ("FIN", "RST")


def test_wrapping_leaves_the_socket_of_a_loop_that_has_nothing() -> None:
    async def main() -> None:
        with pytest.raises(MisuseError, match="WithoutSockets"):
            bowout.wrap(ours, client_context(), server_hostname=NAME)
        assert ours.fileno() >= 0
        assert ours.gettimeout() is None

    ours, theirs = tcp_pair()
    with ours, theirs:
        run(WithoutSockets, main)


@pytest.mark.parametrize("kind", [WithoutSockets, RefusingSockets])
def test_serving_names_a_loop_that_can_nothing(kind: type[asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        async with bowout.serve(echo, "127.0.0.1", context=server_context()) as server:
            await server.wait_drained()

    with pytest.raises((MisuseError, ExceptionGroup)) as caught:
        run(kind, main)
    error = caught.value
    while isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, MisuseError)
    assert kind.__qualname__ in str(error)


def test_a_loop_is_asked_once() -> None:
    class Counting(asyncio.SelectorEventLoop):
        asked = 0

        def add_reader(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
            Counting.asked += callback is int
            super().add_reader(fd, callback, *args)

    async def main() -> How:
        async with link.stream() as stream:
            pass
        assert stream.ending is not None
        return stream.ending.how

    for _ in range(2):
        with peer(polite) as link:
            assert run(Counting, main) is How.CLEAN
    assert Counting.asked == 1
