"""The fragments of the pages about adapters: parts of programs, run where the rest is prepared, on both loops."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import aiohttp
import anyio
import httpcore
import httpx
import pytest
import trio

import bowout.aiohttp
import bowout.anyio
import bowout.asyncio
import bowout.httpcore
import bowout.trio
from bowout import Ending, How
from helpers.fragments import BODY, Place, half_of_http, http, passing, say, shows, tunnel
from helpers.runners import Runner
from helpers.served import LOOPBACK
from helpers.wire import Wire, polite

on_both: Final = pytest.mark.backends("asyncio", "trio")

AIOHTTP: Final = shows("how-to/aiohttp.md", "TCPConnector()")
#: aiohttp makes its own context when it is imported.
AIOHTTP_TRUSTING: Final = passing(AIOHTTP, "TCPConnector()", "TCPConnector(ssl=context)")
ANYIO: Final = shows("how-to/anyio.md", "bowout.anyio.connect_tcp(")
ANYIO_SERVER: Final = shows("how-to/anyio.md", "listener.serve(handler)")
TRIO: Final = shows("how-to/trio.md", "import bowout.trio")
TRIO_SERVER: Final = shows("how-to/trio.md", "nursery.start(")
HTTPX: Final = shows("how-to/httpx.md", "import bowout.httpcore, httpx")
HTTPX_TOLERANT: Final = shows("how-to/httpx.md", "truncation=")
HTTPX_BY_PROXY: Final = shows("how-to/httpx.md", "httpx.Proxy(")
HTTPCORE: Final = shows("how-to/httpx.md", "AsyncConnectionPool(")
ASYNCIO: Final = shows("how-to/asyncio.md", "bowout.asyncio.open_connection(")
ASYNCIO_POLICY: Final = shows("how-to/asyncio.md", "bowout.asyncio.Policy(")
ASYNCIO_SERVER: Final = shows("how-to/asyncio.md", "bowout.asyncio.drain(")

GET: Final = """
try:
    response = await client.get("https://example.org/")
finally:
    await client.aclose()
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Place:
    return Place(monkeypatch, tmp_path)


def test_aiohttp(place: Place) -> None:
    with place.peer(http):
        assert bowout.asyncio.run(place(AIOHTTP_TRUSTING, aiohttp=aiohttp))["body"] == BODY


def test_aiohttp_and_half_a_body(place: Place) -> None:
    """It says: the whole body, or an error."""
    with place.peer(half_of_http), pytest.raises(aiohttp.ClientPayloadError):
        bowout.asyncio.run(place(AIOHTTP_TRUSTING, aiohttp=aiohttp))


@on_both
def test_anyio(run: Runner, place: Place) -> None:
    with place.peer(polite) as server:
        scope = run(place, ANYIO + "await stream.aclose()")
    assert scope["stream"].ending.how is How.CLEAN
    assert server.results == ["close_notify"]


@on_both
def test_serving_with_anyio(run: Runner, place: Place) -> None:
    async def handler(stream: bowout.anyio.TLSStream) -> None:
        async with stream:
            await stream.send(await stream.receive())

    async def main() -> None:
        text = passing(ANYIO_SERVER, "8443", "0")
        names = {"anyio": anyio, "handler": handler, "context": place.server_context}
        async with place.meanwhile(text, "listener", **names) as listener:
            await say(place, listener.extra(anyio.abc.SocketAttribute.local_port))
        await listener.aclose()  # as with anyio's, whoever makes it closes it

    run(main)


@pytest.mark.backends("trio")
def test_trio(run: Runner, place: Place) -> None:
    with place.peer(polite) as server:
        scope = run(place, TRIO + "await stream.aclose()")
    assert scope["stream"].ending.how is How.CLEAN
    assert server.results == ["close_notify"]


@pytest.mark.backends("trio")
def test_serving_with_trio(run: Runner, place: Place) -> None:
    async def handler(stream: bowout.trio.SSLStream[trio.SocketStream]) -> None:
        async with stream:
            await stream.send_all(await stream.receive_some())

    async def main() -> None:
        names = {"trio": trio, "handler": handler, "context": place.server_context}
        async with place.meanwhile(passing(TRIO_SERVER, "8443", "0"), "listeners", **names) as listeners:
            await say(place, listeners[0].transport_listener.socket.getsockname()[1])

    run(main)


@on_both
def test_httpx(run: Runner, place: Place) -> None:
    with place.peer(http):
        assert run(place, HTTPX + GET)["response"].content == BODY


@on_both
def test_httpx_and_half_a_body(run: Runner, place: Place) -> None:
    with place.peer(half_of_http), pytest.raises(httpx.ReadError):
        run(place, HTTPX + GET)


@on_both
def test_httpx_that_tolerates(run: Runner, place: Place) -> None:
    transport = passing(HTTPX_TOLERANT, "old.example.org", "example.org").strip()
    with place.peer(half_of_http):
        scope = run(lambda: place(f"client = httpx.AsyncClient(transport={transport}){GET}", httpx=httpx))
    assert scope["response"].content == BODY


@on_both
def test_httpx_through_a_proxy(run: Runner, place: Place) -> None:
    async def main(port: int) -> None:
        async with tunnel(place, port):
            scope = await place(HTTPX_BY_PROXY + GET, httpx=httpx)
        assert scope["response"].content == BODY

    with place.peer(http) as server:
        run(main, server.port)


@on_both
def test_httpcore(run: Runner, place: Place) -> None:
    text = passing(HTTPCORE, "AsyncBackend()", "AsyncBackend(), ssl_context=context")
    text += 'response = await pool.request("GET", "https://example.org/")\nawait pool.aclose()'
    with place.peer(http):
        assert run(lambda: place(text, httpcore=httpcore))["response"].content == BODY


def test_asyncio(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    text = passing(ASYNCIO, "    ...\n", "    writer.close()\n    await writer.wait_closed()\n")
    with place.peer(polite) as server:
        place.alone(text)
    assert server.results == ["close_notify"]
    assert capsys.readouterr().out == "clean: we sent close_notify, the peer answered\n"


def test_a_policy_for_asyncio(place: Place) -> None:
    endings: list[Ending] = []

    class Log:
        def info(self, text: str, ending: Ending) -> None:
            assert text % ending
            endings.append(ending)

    async def main() -> None:
        reader, writer = await asyncio.open_connection("example.org", 443, ssl=place.context)
        try:
            with pytest.raises(bowout.Truncated):
                await reader.read()
        finally:
            writer.transport.abort()

    def cut(wire: Wire) -> None:
        wire.handshake()
        wire.fin()
        wire.read_to_end()

    with place.peer(cut):
        policy = place.alone(ASYNCIO_POLICY, log=Log(), main=main)["policy"]
    assert policy.tolerant_hosts == {"old.example.org"}
    assert [ending.how for ending in endings] == [How.TRUNCATED]


def test_draining_a_server_of_asyncio(place: Place) -> None:
    """A client is there when the drain begins, and is ended by it."""
    here = asyncio.Event()
    clients: list[asyncio.Task[None]] = []

    async def serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(5) == b"hello"
        here.set()
        await reader.read()

    async def client(port: int) -> None:
        async with bowout.connect(LOOPBACK, port, context=place.context) as stream:
            await stream.send(b"hello")
            assert [chunk async for chunk in stream] == []

    async def passes() -> None:
        clients.append(asyncio.create_task(client(scope["server"].sockets[0].getsockname()[1])))
        await here.wait()

    async def main() -> None:
        text = passing(passing(ASYNCIO_SERVER, "8443", "0"), "\n...\n", "\nawait passes()\n")
        await place.within(text, scope)
        await asyncio.gather(*clients)

    scope = place.scope({"serve_client": serve_client, "passes": passes, "context": place.server_context})
    bowout.asyncio.run(main())
    assert [ending.how for ending in scope["endings"]] == [How.CLEAN]
