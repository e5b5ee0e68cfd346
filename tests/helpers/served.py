"""A server under test, and clients for it: blocking ones that a thread drives, byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import trio

import bowout
from bowout import Ending, Server, Stream
from helpers.tasks import in_thread, on_trio
from helpers.wire import PATIENCE, Link, Version, Wire, client_context, our_context, server_context

LOOPBACK: Final = "127.0.0.1"


def serve(
    handler: Callable[[Stream], Awaitable[None]], *, version: Version | None = None, **options: Any
) -> bowout.Serving:
    """`bowout.serve` on the loopback, with the tests' certificate."""
    where = {} if {"host", "path", "sockets", "port"} & options.keys() else {"host": LOOPBACK}
    return bowout.serve(handler, **{"context": server_context(version), **where, **options})


def gate() -> Any:
    """An event of the loop: ``set``, ``wait``, ``is_set``."""
    return trio.Event() if on_trio() else asyncio.Event()


class Failure(Exception):
    """What a handler of a test raises."""


async def nothing(stream: Stream) -> None:
    """Return at once."""


async def sleep_for_ever() -> None:
    """Wait for a cancellation."""
    await gate().wait()


async def echo(stream: Stream) -> None:
    """Send back what comes."""
    async for chunk in stream:
        await stream.send(chunk)


async def connect(server: Server, **options: Any) -> Stream:
    """A client's stream."""
    return await bowout.connect(LOOPBACK, server.port, **{"context": our_context("1.3", "client"), **options})


async def asks(server: Server, question: bytes = b"ping", **options: Any) -> bytes:
    """Connect, ask an echo server, and close."""
    async with await connect(server, **options) as stream:
        await stream.send(question)
        return await stream.receive_exactly(len(question))


def tcp(port: int, *, receive_buffer: int = 0) -> socket.socket:
    """A blocking TCP connection to the loopback."""
    sock = socket.socket()
    sock.settimeout(PATIENCE)
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        sock.connect((LOOPBACK, port))
    except OSError:
        sock.close()
        raise
    return sock


@contextlib.contextmanager
def dialled(port: int, version: Version = "1.3", *, context: ssl.SSLContext | None = None) -> Iterator[Wire]:
    """A client that has shaken hands, to be driven by hand; it blocks, so not in the loop's thread."""
    sock = tcp(port)
    wire = Wire(sock, context or our_context(version, "client"), server_side=False, link=Link(sock, version, "client"))
    try:
        wire.handshake()
        yield wire
    finally:
        sock.close()


def dialled_open(port: int) -> socket.socket:
    """A client that has shaken hands and then does nothing."""
    sock = tcp(port, receive_buffer=16 << 10)
    tls_in, tls_out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(tls_in, tls_out, server_hostname="localhost")
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            sock.sendall(tls_out.read())
            tls_in.write(sock.recv(1 << 14))
        else:
            sock.sendall(tls_out.read())
            return sock


def visit(
    server: Server, script: Callable[[Wire], Any], version: Version = "1.3", *, context: ssl.SSLContext | None = None
) -> Awaitable[Any]:
    """Run `script` on such a client in a thread."""

    def work() -> Any:
        with dialled(server.port, version, context=context) as wire:
            return script(wire)

    return in_thread(work)


def read_to_end(wire: Wire) -> str:
    """How the server's direction ends; a close_notify is answered."""
    end = wire.read_to_end()
    if end == "close_notify":
        with contextlib.suppress(OSError):
            wire.close_notify()
    return end


class Endings:
    """What `on_ending` was called with."""

    def __init__(self) -> None:
        self.all: list[Ending] = []
        self._more = gate()

    def __call__(self, ending: Ending) -> None:
        self.all.append(ending)
        self._more.set()
        self._more = gate()

    async def wait(self, count: int = 1) -> list[Ending]:
        """Wait until there are so many."""
        while len(self.all) < count:
            await self._more.wait()
        return self.all

    @property
    async def one(self) -> Ending:
        """The first."""
        return (await self.wait())[0]


class PythonProcess:
    """A Python process that runs a piece of text, and what it prints."""

    def __init__(self, text: str, *arguments: str, **options: Any) -> None:
        path = os.pathsep.join(sys.path)
        self.process: subprocess.Popen[str] = subprocess.Popen(
            [sys.executable, "-c", text, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, **options.pop("env", {})},
            **options,
        )

    def line(self) -> str:
        """Its next line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def rest(self) -> str:
        """What it prints until it ends; it must end well."""
        out, _ = self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0, out
        return out


@contextlib.contextmanager
def program(text: str, *arguments: str, **options: Any) -> Iterator[PythonProcess]:
    """Run one."""
    running = PythonProcess(text, *arguments, **options)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.communicate()
