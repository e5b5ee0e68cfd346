"""A byte pipe over asyncio's streams."""

from __future__ import annotations

import asyncio
import os

from interop.programs.pipe import SIZE, Arguments, show, tell, typed


async def read(reader: asyncio.StreamReader) -> None:
    try:
        while data := await reader.read(SIZE):
            show(data)
        tell("read", "EOF")
    except OSError as error:
        tell("read", error)
    os.close(1)


async def write(writer: asyncio.StreamWriter, way: str) -> None:
    try:
        while data := await asyncio.to_thread(typed):
            writer.write(data)
            await writer.drain()
    except OSError as error:
        tell("write", error)
    if way == "abort()":
        writer.transport.abort()
    else:
        writer.close()
    try:
        await writer.wait_closed()
    except OSError as error:
        tell("end", error)


async def main(arguments: Arguments) -> None:
    connected: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Future()
    context = arguments.context()
    server = None
    if arguments.is_server:
        server = await asyncio.start_server(
            lambda *pair: connected.set_result(pair), "127.0.0.1", 0, ssl=context, limit=SIZE
        )
        tell("listening", server.sockets[0].getsockname()[1])
    else:
        connected.set_result(await asyncio.open_connection("127.0.0.1", arguments.port, ssl=context, limit=SIZE))
    reader, writer = await connected
    if server is not None:
        server.close()
    await asyncio.gather(read(reader), write(writer, arguments.way))


if __name__ == "__main__":
    asyncio.run(main(Arguments()))
