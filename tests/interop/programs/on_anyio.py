"""A byte pipe over anyio's TLSStream, on asyncio."""

from __future__ import annotations

import os

import anyio
import anyio.to_thread
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener, TLSStream

from interop.programs.pipe import SIZE, Arguments, show, tell, typed

LOST = (anyio.BrokenResourceError, anyio.ClosedResourceError)


async def read(stream: TLSStream, scope: anyio.CancelScope) -> None:
    with scope:
        try:
            while True:
                show(await stream.receive(SIZE))
        except anyio.EndOfStream:
            tell("read", "EOF")
        except LOST as error:
            tell("read", error.__cause__ or error)
    os.close(1)


async def write(stream: TLSStream, scope: anyio.CancelScope) -> None:
    try:
        while data := await anyio.to_thread.run_sync(typed):
            await stream.send(data)
    except LOST as error:
        tell("write", error.__cause__ or error)
    scope.cancel()  # aclose() raises BusyResourceError beside a receive
    try:
        await stream.aclose()
    except (*LOST, OSError) as error:
        tell("end", error.__cause__ or error)


async def talk(stream: TLSStream) -> None:
    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()
        group.start_soon(read, stream, scope)
        group.start_soon(write, stream, scope)


async def main() -> None:
    arguments = Arguments()
    context = arguments.context()
    if not arguments.is_server:
        await talk(await anyio.connect_tcp("127.0.0.1", arguments.port, ssl_context=context, tls=True))
        return
    listener = TLSListener(await anyio.create_tcp_listener(local_host="127.0.0.1"), context)
    async with listener, anyio.create_task_group() as group:
        tell("listening", listener.listener.extra(SocketAttribute.local_port))

        async def once(stream: TLSStream) -> None:
            await talk(stream)
            group.cancel_scope.cancel()

        await listener.serve(once, group)


anyio.run(main)
