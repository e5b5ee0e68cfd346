"""One echo server in this process: bowout, or one that it is compared with. SIGTERM drains it in its usual way."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import gc
import json
import os
import resource
import select
import signal
import socket
import ssl
import sys
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout import Stream

_CHUNK: Final = 1 << 16
_BACKLOG: Final = 1024


def say(**facts: object) -> None:
    """Print one JSON line for the parent process."""
    print(json.dumps(facts), flush=True)


# -- bowout ------------------------------------------------------------------------------------------------------------


async def bowout_server(context: ssl.SSLContext, drain_timeout: float) -> None:
    """`bowout.serve`, on the running loop."""
    import bowout  # noqa: PLC0415  (the servers it is compared with must not carry its memory)

    async def echo(stream: Stream) -> None:
        async for chunk in stream:
            await stream.send(chunk)

    serving = bowout.serve(
        echo, "127.0.0.1", context=context, backlog=_BACKLOG, drain_on_signals=True, drain_timeout=drain_timeout
    )
    async with serving as server:
        say(port=server.port)
        report = await server.wait_drained()
    say(drained=time.monotonic(), endings={how: count for how, count in report.to_dict()["counts"].items() if count})


async def bowout_streams_server(context: ssl.SSLContext, drain_timeout: float) -> None:
    """`bowout.asyncio.start_server`, and its drain."""
    import bowout.asyncio  # noqa: PLC0415  (as above)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

    server = await bowout.asyncio.start_server(echo, "127.0.0.1", 0, ssl=context, backlog=_BACKLOG)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    say(port=server.sockets[0].getsockname()[1])
    await stop.wait()
    endings = await bowout.asyncio.drain(server, drain_timeout)
    say(drained=time.monotonic(), endings=dict(collections.Counter(ending.how.value for ending in endings)))


# -- asyncio and uvloop ------------------------------------------------------------------------------------------------


async def streams_server(context: ssl.SSLContext, drain_timeout: float) -> None:
    """`asyncio.start_server`: its shutdown closes the server and cancels the handlers, as `asyncio.run` does."""
    handlers: set[asyncio.Task[None]] = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        task.add_done_callback(handlers.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            try:
                while data := await reader.read(_CHUNK):
                    writer.write(data)
                    await writer.drain()
            finally:
                writer.close()
                await writer.wait_closed()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context, backlog=_BACKLOG)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    say(port=server.sockets[0].getsockname()[1])
    await stop.wait()
    server.close()
    for task in list(handlers):
        task.cancel()
    left: set[asyncio.Task[None]] = set()
    if handlers:
        _, left = await asyncio.wait(handlers, timeout=drain_timeout)
    say(drained=time.monotonic(), endings={"still closing": len(left)} if left else {})
    os._exit(0)  # What is left would be waited for 30 s; its FIN comes from the kernel.


# -- trio --------------------------------------------------------------------------------------------------------------


async def trio_server(context: ssl.SSLContext, _drain_timeout: float) -> None:
    """`trio.serve_ssl_over_tcp`: its shutdown is the cancellation of its nursery."""
    import trio  # noqa: PLC0415  (as above)

    async def echo(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            async with stream:
                async for chunk in stream:
                    await stream.send_all(chunk)

    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1", backlog=_BACKLOG)
            transport_listener = listeners[0].transport_listener
            assert isinstance(transport_listener, trio.SocketListener)
            say(port=transport_listener.socket.getsockname()[1])
            nursery.start_soon(trio.serve_listeners, echo, listeners)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                break
    say(drained=time.monotonic(), endings={})


# -- no library at all -------------------------------------------------------------------------------------------------


class EpollFloor:
    """The floor: a socket and an `ssl.SSLObject` for each connection, and one epoll."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._epoll = select.epoll()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._listener.setblocking(False)  # noqa: FBT003  (the socket's interface)
        self._open: dict[int, tuple[socket.socket, ssl.MemoryBIO, ssl.MemoryBIO, ssl.SSLObject]] = {}

    def run(self, drain_timeout: float) -> None:
        """Echo until SIGTERM, then send close_notify to every client and wait for the answers."""
        told, teller = socket.socketpair()
        teller.setblocking(False)  # noqa: FBT003
        signal.set_wakeup_fd(teller.fileno())
        signal.signal(signal.SIGTERM, lambda *_: None)
        self._epoll.register(self._listener, select.EPOLLIN)
        self._epoll.register(told, select.EPOLLIN)
        say(port=self._listener.getsockname()[1])
        while not self._turn(-1, told.fileno()):
            pass
        self._epoll.unregister(told)
        for sock, _, outgoing, tls in self._open.values():
            with contextlib.suppress(ssl.SSLError, OSError):
                tls.unwrap()
            sock.send(outgoing.read())
            sock.shutdown(socket.SHUT_WR)
        until = time.monotonic() + drain_timeout
        while self._open and time.monotonic() < until:
            self._turn(0.1, -1)
        say(drained=time.monotonic(), endings={"unanswered": len(self._open)} if self._open else {})

    def _turn(self, timeout: float, told: int) -> bool:
        for descriptor, _ in self._epoll.poll(timeout):
            if descriptor == told:
                return True
            if descriptor == self._listener.fileno():
                self._accept()
            else:
                self._receive(descriptor)
        return False

    def _accept(self) -> None:
        sock, _ = self._listener.accept()
        sock.setblocking(False)  # noqa: FBT003
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_side=True)
        self._open[sock.fileno()] = (sock, incoming, outgoing, tls)
        self._epoll.register(sock, select.EPOLLIN)

    def _receive(self, descriptor: int) -> None:
        sock, incoming, outgoing, tls = self._open[descriptor]
        try:
            data = sock.recv(_CHUNK)
            if not data:
                raise ConnectionError
            incoming.write(data)
            if tls.version() is None or outgoing.pending:
                tls.do_handshake()
            while chunk := tls.read(_CHUNK):
                tls.write(chunk)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, ConnectionError):
            self._epoll.unregister(descriptor)
            self._open.pop(descriptor)[0].close()
            return
        if outgoing.pending:
            sock.send(outgoing.read())


# -- which -------------------------------------------------------------------------------------------------------------


def run_asyncio(server: Callable[..., Any], *arguments: object) -> None:
    """Run on asyncio's own loop."""
    asyncio.run(server(*arguments))


def run_uvloop(server: Callable[..., Any], *arguments: object) -> None:
    """Run on uvloop."""
    import uvloop  # noqa: PLC0415  (as above)

    uvloop.run(server(*arguments))


def run_trio(server: Callable[..., Any], *arguments: object) -> None:
    """Run on trio."""
    import trio  # noqa: PLC0415  (as above)

    trio.run(server, *arguments)


def main() -> None:
    """Serve with the settings in the first argument, which is JSON."""
    settings = json.loads(sys.argv[1])
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(settings["certificate"])
    drain_timeout = settings["drain_timeout"]
    if not settings["collector"]:
        gc.disable()
    if settings["name"] == "bare SSLObject":
        EpollFloor(context).run(drain_timeout)
        return
    library, _, loop = settings["name"].partition(" on ")
    servers = {
        "bowout": bowout_server,
        "start_server of bowout.asyncio": bowout_streams_server,
        "start_server": streams_server,
        "serve_ssl_over_tcp": trio_server,
    }
    runners = {"asyncio": run_asyncio, "uvloop": run_uvloop, "trio": run_trio}
    runners[loop](servers[library], context, drain_timeout)


if __name__ == "__main__":
    main()
