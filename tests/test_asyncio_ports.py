"""Numbers of ports that are none: asyncio's resolver takes them modulo 65536, and would connect to another port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final

import pytest

from bowout.asyncio import create_connection, create_server, loop_factory, open_connection, start_server
from bowout.testing import client_context, default_ca, server_context
from helpers.asyncio_apps import RecordingApp
from helpers.runners import Runner

pytestmark = pytest.mark.backends("asyncio", "uvloop")

Call = Callable[..., Coroutine[Any, Any, Any]]


async def streams_to(port: Any, **options: Any) -> None:
    _, writer = await open_connection("localhost", port, **options)
    writer.close()
    await writer.wait_closed()


async def protocol_to(port: Any, **options: Any) -> None:
    app = RecordingApp()
    await create_connection(lambda: app, "localhost", port, **options)
    app.transport.close()
    await app.lost


async def loop_to(port: Any, **options: Any) -> None:
    app = RecordingApp()
    await asyncio.get_running_loop().create_connection(lambda: app, "localhost", port, **options)
    app.transport.close()
    await app.lost


async def streams_at(port: Any, **options: Any) -> None:
    (await start_server(nobody, "localhost", port, **options)).close()


async def protocol_at(port: Any, **options: Any) -> None:
    (await create_server(asyncio.Protocol, "localhost", port, **options)).close()


async def loop_at(port: Any, **options: Any) -> None:
    (await asyncio.get_running_loop().create_server(asyncio.Protocol, "localhost", port, **options)).close()


async def nobody(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    raise AssertionError("nobody connects")


CLIENTS: Final = pytest.mark.parametrize("connect", [streams_to, protocol_to, loop_to])
SERVERS: Final = pytest.mark.parametrize("listen", [streams_at, protocol_at, loop_at])


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()
    await writer.wait_closed()


def run_ours(backend: str, main: Call) -> None:
    """Run `main` on a loop of ours: with TLS, its own methods are ours, too."""
    base: Any = asyncio.SelectorEventLoop
    if backend == "uvloop":
        import uvloop  # noqa: PLC0415  (an optional extra)

        base = uvloop.Loop
    with asyncio.Runner(loop_factory=loop_factory(base)) as runner:
        runner.run(main())


async def with_server(use: Call) -> None:
    listening = await start_server(echo, "127.0.0.1", 0, ssl=server_context(default_ca()))
    try:
        await use(listening.sockets[0].getsockname()[1])
    finally:
        listening.close()
        await listening.wait_closed()


@CLIENTS
def test_a_number_that_is_none_connects_nowhere(backend: str, connect: Call) -> None:
    async def use(port: int) -> None:
        options = {"ssl": client_context(default_ca()), "server_hostname": "localhost"}
        for wrong in (port + 65536, port - 65536, str(port + 65536), 0, b"65536"):
            with pytest.raises(ValueError, match="port must be from 1 to 65535"):
                await connect(wrong, **options)
        for no_number in (True, 443.0):
            with pytest.raises(TypeError, match="port must be an int"):
                await connect(no_number, **options)
        with pytest.raises(ValueError, match="local_addr must be a tuple of a host and a port: port must be from 0"):
            await connect(port, local_addr=("127.0.0.1", 65536), **options)

    run_ours(backend, lambda: with_server(use))


@CLIENTS
def test_what_asyncio_takes_is_taken(backend: str, connect: Call) -> None:
    async def use(port: int) -> None:
        options = {"ssl": client_context(default_ca()), "server_hostname": "localhost", "family": socket.AF_INET}
        for right in (port, str(port)):
            await connect(right, local_addr=("127.0.0.1", 0), **options)
        with pytest.raises(OSError, match=r".+"):  # Nothing listens there, or this system has no names of services.
            await connect("discard", **options)

    run_ours(backend, lambda: with_server(use))


@SERVERS
def test_a_server_listens_at_no_other_port(backend: str, listen: Call) -> None:
    async def main() -> None:
        options = {"ssl": server_context(default_ca())}
        for wrong in (65536, -1, "65536"):
            with pytest.raises(ValueError, match="port must be from 0 to 65535"):
                await listen(wrong, **options)
        for right in (0, "0", None):
            await listen(right, **options)

    run_ours(backend, main)


def test_a_loop_of_ours_leaves_plain_connections_alone(backend: str) -> None:
    async def use(port: int) -> None:
        with pytest.raises(OSError, match=r".+"):  # The system's answer.
            await asyncio.get_running_loop().create_connection(asyncio.Protocol, "127.0.0.1", 0)

    run_ours(backend, lambda: with_server(use))


def test_the_functions_check_plain_connections_too(run: Runner) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="port must be from 1"):
            await open_connection("localhost", 65536 + 443)
        with pytest.raises(ValueError, match="port must be from 0"):
            await start_server(nobody, "localhost", -1)

    run(main)
