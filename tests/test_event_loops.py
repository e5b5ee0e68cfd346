"""Which event loops will do: those that watch descriptors, those that move bytes themselves, and no others."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

import bowout
from bowout import How, MisuseError
from helpers import runners
from helpers.served import asks, echo, serve
from helpers.wire import NAME, client_context, tcp_pair
from test_backends import RunnerWithoutReaders, WithoutReaders

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class OwnSelector(asyncio.SelectorEventLoop):
    """What these loops watch for their own sake, which is their pipe to other threads, goes past the public names."""

    def _add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> Any:
        return super()._add_reader(fd, callback, *args)  # type: ignore[misc]


class WithoutSockets(OwnSelector):
    """A loop that has every name of asyncio's, to say of each that it cannot do it."""

    def add_reader(self, *args: Any) -> NoReturn:  # type: ignore[override]
        raise NotImplementedError

    remove_reader = add_writer = remove_writer = add_reader  # type: ignore[assignment]

    async def sock_recv(self, sock: socket.socket, *args: Any) -> NoReturn:
        raise NotImplementedError

    sock_sendall = sock_connect = sock_accept = sock_recv  # type: ignore[assignment]


class BareLoop(WithoutSockets):
    """A loop that does not even override what the abstract class says."""

    sock_recv: Any = asyncio.AbstractEventLoop.sock_recv
    sock_sendall: Any = asyncio.AbstractEventLoop.sock_sendall
    sock_connect: Any = asyncio.AbstractEventLoop.sock_connect
    sock_accept: Any = asyncio.AbstractEventLoop.sock_accept


class Nameless(WithoutReaders):
    """A loop that has no such names at all, but can move bytes itself."""

    @property
    def add_reader(self) -> NoReturn:
        raise AttributeError("add_reader")


UNFIT = pytest.mark.parametrize("kind", [WithoutSockets, BareLoop])


def under(kind: type[asyncio.AbstractEventLoop], main: Callable[[], Awaitable[Any]]) -> Any:
    """Run `main` on such a loop."""
    return runners._run_asyncio(main, (), runners.DEADLINE, kind)


@pytest.mark.parametrize("kind", [WithoutReaders, Nameless])
def test_a_loop_that_moves_bytes_itself_will_do(kind: type[asyncio.AbstractEventLoop]) -> None:
    async def main() -> bytes:
        async with serve(echo) as server:
            return await asks(server)

    assert under(kind, main) == b"ping"


def test_it_tries_every_address_of_a_name() -> None:
    async def main() -> How:
        async with serve(echo) as server:
            stream = await bowout.connect("localhost", server.port, context=client_context())
            return (await stream.close()).how

    assert RunnerWithoutReaders()(main) is How.CLEAN


@UNFIT
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_connecting_names_the_loop_that_will_not_do(kind: type[asyncio.AbstractEventLoop], host: str) -> None:
    async def main() -> None:
        with pytest.raises(MisuseError, match=rf"{kind.__module__}\.{kind.__name__} can neither watch descriptors"):
            await bowout.connect(host, port, context=client_context())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        under(kind, main)


@UNFIT
def test_a_socket_is_not_wrapped_on_it(kind: type[asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        with pytest.raises(MisuseError, match="can neither watch descriptors"):
            await shake_hands()

    async def shake_hands() -> None:
        stream = bowout.wrap(ours, client_context(), server_hostname=NAME)
        try:
            await stream.handshake()
        finally:
            stream.abort()

    ours, theirs = tcp_pair()
    with ours, theirs:
        under(kind, main)


@UNFIT
def test_nobody_serves_on_it(kind: type[asyncio.AbstractEventLoop]) -> None:
    async def main() -> None:
        await serve(echo)

    with pytest.raises(BaseException) as caught:  # noqa: PT011  (a group of it, where a task of the server's met it)
        under(kind, main)
    error: BaseException = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, MisuseError)
    assert "can neither watch descriptors" in str(error)


def test_without_a_loop_there_is_an_error_that_says_so() -> None:
    ours, theirs = tcp_pair()
    with ours, theirs, pytest.raises(RuntimeError, match="running event loop"):
        bowout.wrap(ours, client_context(), server_hostname=NAME)
