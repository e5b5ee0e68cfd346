"""A byte pipe over trio's SSLStream."""

from __future__ import annotations

import os

import trio

from interop.programs.pipe import SIZE, Arguments, show, tell, typed

Stream = trio.SSLStream[trio.SocketStream]


async def read(stream: Stream, scope: trio.CancelScope) -> None:
    with scope:
        try:
            while data := await stream.receive_some(SIZE):
                show(data)
            tell("read", "EOF")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            tell("read", error.__cause__ or error)
    os.close(1)


async def write(stream: Stream, scope: trio.CancelScope) -> None:
    try:
        while data := await trio.to_thread.run_sync(typed):
            await stream.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
        tell("write", error.__cause__ or error)
    scope.cancel()  # trio has no half-close for TLS, and closing is not for two tasks
    try:
        await stream.aclose()
    except trio.BrokenResourceError as error:
        tell("end", error.__cause__ or error)


async def connection(arguments: Arguments) -> Stream:
    if not arguments.is_server:
        return await trio.open_ssl_over_tcp_stream("127.0.0.1", arguments.port, ssl_context=arguments.context())
    (listener,) = await trio.open_ssl_over_tcp_listeners(0, arguments.context(), host="127.0.0.1")
    async with listener:
        plain = listener.transport_listener
        assert isinstance(plain, trio.SocketListener)
        tell("listening", plain.socket.getsockname()[1])
        return await listener.accept()


async def main() -> None:
    stream = await connection(Arguments())
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()
        nursery.start_soon(read, stream, scope)
        nursery.start_soon(write, stream, scope)


trio.run(main)
