"""Fragments of pages, run where what they leave out is prepared: a peer for every name, and the names they use."""

from __future__ import annotations

import ast
import inspect
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.lowlevel
import pytest

import bowout
from bowout import How
from helpers.commands import ScriptedServer, ca_file, listening
from helpers.documents import DOCS, blocks
from helpers.served import LOOPBACK
from helpers.wire import Wire, client_context, server_context

#: Hosts that the pages name, and for which the peer's certificate is good.
HOSTS: Final = ("localhost", *(f"{name}example.org" for name in ("", "old.", "mail.", "ftp.", "proxy.")))
BODY: Final = b"all of it"

Scope = dict[str, Any]


def shows(page: str, words: str) -> str:
    """Return the one fragment of a page of docs/ that has these words, which is run by the test that asks."""
    found = [block.text for block in blocks(DOCS / page) if words in block.text]
    assert len(found) == 1, f"{page} has {len(found)} snippets with {words!r}"
    return found[0]


def passing(text: str, before: str, after: str) -> str:
    """Replace the one place of a fragment that no test can run: a port, a name, or what is left out."""
    assert text.count(before) == 1, f"{before!r} in\n{text}"
    return text.replace(before, after)


class Place:
    """Runs fragments.

    Attributes:
        context: trusts the peers of the tests.
        server_context: has a certificate for all `HOSTS`.
        folder: an empty one.
    """

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder = folder
        self.context = client_context()
        self.server_context = server_context(None, *HOSTS, LOOPBACK)
        self._ports: dict[str, int] = {}
        self._resolve = socket.getaddrinfo
        patch.setattr(socket, "getaddrinfo", self._getaddrinfo)
        patch.setenv("SSL_CERT_FILE", ca_file())
        patch.setenv("REQUESTS_CA_BUNDLE", ca_file())

    def lead(self, host: str, port: int) -> None:
        """Make a name lead to this port of the loopback."""
        self._ports[host] = port

    @contextmanager
    def peer(self, script: Callable[[Wire], object], *hosts: str) -> Iterator[ScriptedServer]:
        """Run a scripted peer at these names (example.org, unless given)."""
        with listening(script, context=self.server_context) as server:
            for host in hosts or ("example.org",):
                self.lead(host, server.port)
            yield server

    async def __call__(self, text: str, **names: Any) -> Scope:
        """Run a fragment within a coroutine; return its names."""
        scope = self.scope(names)
        await self.within(text, scope)
        return scope

    def alone(self, text: str, **names: Any) -> Scope:
        """Run a fragment of a program without a loop, or one that starts its own; return its names."""
        scope = self.scope(names)
        exec(compile(text, "fragment", "exec", dont_inherit=True), scope)
        return scope

    @asynccontextmanager
    async def meanwhile(self, text: str, wanted: str, **names: Any) -> AsyncIterator[Any]:
        """Run a fragment that goes on until it is cancelled; give its name `wanted` as soon as it is there."""
        scope = self.scope(names)
        async with anyio.create_task_group() as group:
            group.start_soon(self.within, text, scope)
            while wanted not in scope:
                await anyio.lowlevel.checkpoint()
            yield scope[wanted]
            group.cancel_scope.cancel()

    def scope(self, names: Scope) -> Scope:
        """Return what every fragment may use, and these names."""
        return {"__name__": "fragment", "bowout": bowout, "context": self.context, **names}

    async def within(self, text: str, scope: Scope) -> None:
        """Run a fragment within a coroutine; it uses these names, and adds its own to them."""
        code = compile(text, "fragment", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        result = eval(code, scope)
        if inspect.isawaitable(result):
            await result

    def _getaddrinfo(self, host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name in self._ports:
            host, port = LOOPBACK, self._ports[name]
        return self._resolve(host, port, *arguments, **options)


def http(wire: Wire) -> str:
    """Answer one request of HTTP/1.0, and end as one should."""
    answer(wire)
    wire.close_notify()
    return wire.read_to_end()


def half_of_http(wire: Wire) -> str:
    """Answer one request, and end without close_notify."""
    answer(wire)
    wire.fin()
    return wire.read_to_end()


def answer(wire: Wire) -> None:
    """Answer one request of HTTP/1.0."""
    wire.handshake()
    while b"\r\n\r\n" not in wire.received:
        if not wire.read():
            return
    wire.send(b"HTTP/1.0 200 OK\r\n\r\n" + BODY)


def by_starttls(*dialogue: tuple[bytes, bytes]) -> Callable[[Wire], str]:
    """Make a script that plays these lines, each with what it waits for before it, and then TLS with a greeting."""

    def script(wire: Wire) -> str:
        for awaited, said in dialogue:
            seen = b""
            while awaited and awaited not in seen:
                data = wire.sock.recv(100)
                assert data
                seen += data
            wire.sock.sendall(said)
        wire.handshake()
        wire.send(b"welcome\r\n")
        end = wire.read_to_end()
        wire.close_notify()
        return end

    return script


@asynccontextmanager
async def tunnel(place: Place, target: int) -> AsyncIterator[None]:
    """Run an HTTP proxy over TLS at proxy.example.org, whose CONNECT leads to a port of the loopback."""

    async def pass_on(stream: bowout.Stream) -> None:
        await stream.receive_until(b"\r\n\r\n")
        await stream.send(b"HTTP/1.1 200 OK\r\n\r\n")
        async with await anyio.connect_tcp(LOOPBACK, target) as far, anyio.create_task_group() as group:
            group.start_soon(outwards, stream, far)
            with suppress(anyio.EndOfStream):
                while True:
                    await stream.send(await far.receive())
            await stream.send_eof()

    async def outwards(stream: bowout.Stream, far: anyio.abc.SocketStream) -> None:
        async for chunk in stream:
            await far.send(chunk)
        await far.send_eof()

    async with bowout.serve(pass_on, LOOPBACK, context=place.server_context) as server:
        place.lead("proxy.example.org", server.port)
        yield


async def say(place: Place, port: int) -> None:
    """Say hello to an echo on a port of the loopback, and leave; all must be well."""
    async with bowout.connect(LOOPBACK, port, context=place.context) as stream:
        await stream.send(b"hello")
        assert await stream.receive_exactly(5) == b"hello"
    assert stream.ending is not None
    assert stream.ending.how is How.CLEAN, str(stream.ending)
