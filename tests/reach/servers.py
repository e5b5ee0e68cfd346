"""What the users of server libraries do: one server for each library, registered with what a client says to it.

An application calls ``stage.saw`` once for each client: with what it has from it, or the error that it got.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final

from reach import visits
from reach.observing import name_of
from reach.registry import ServerStage, server
from reach.ways import ASYNCIO_WAYS, INSTALLED_WAYS

LOOPBACK: Final = "127.0.0.1"
_CHUNK: Final = bytes(1 << 16)
_HTTP: Final = (visits.HTTP_UPLOAD, visits.HTTP_CHUNKED, visits.HTTP_DOWNLOAD)


@contextlib.contextmanager
def telling(stage: ServerStage, done: str) -> Iterator[None]:
    """Tell the stage how an application's part ended; it goes on to the library."""
    try:
        yield
    except BaseException as error:
        stage.saw(name_of(error))
        raise
    stage.saw(done)


@contextlib.contextmanager
def telling_of_writes(stage: ServerStage) -> Iterator[None]:
    """Do the same where it depends on time which of several errors meets a write."""
    try:
        yield
    except OSError:
        stage.saw("an error")
        raise
    stage.saw("nothing")


# -- aiohttp ----------------------------------------------------------------------------------------------------------


@server("aiohttp server", *_HTTP, ways=ASYNCIO_WAYS, distributions=("aiohttp",))
@server("aiohttp server", visits.WEBSOCKET, ways=ASYNCIO_WAYS, distributions=("aiohttp",))
@contextlib.asynccontextmanager
async def aiohttp_server(stage: ServerStage) -> AsyncIterator[int]:
    from aiohttp import WSMsgType, web  # noqa: PLC0415 only the scenarios of a library import it

    async def upload(request: web.Request) -> web.Response:
        stage.began()
        with telling(stage, "the whole"):
            body = await request.read()
        return web.Response(body=body)

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with telling_of_writes(stage):
            for _ in range(visits.FLOOD // len(_CHUNK)):
                await response.write(_CHUNK)
        return response

    async def echo(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(max_msg_size=0)
        await ws.prepare(request)
        async for message in ws:
            if message.type is WSMsgType.BINARY:
                await ws.send_bytes(message.data)
        stage.saw(f"closed with {ws.close_code}")
        return ws

    app = web.Application(client_max_size=1 << 30)
    app.add_routes([web.post("/upload", upload), web.get("/flood", flood), web.get("/ws", echo)])
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, LOOPBACK, 0, ssl_context=stage.context)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


# -- ASGI: uvicorn and hypercorn --------------------------------------------------------------------------------------


async def _body(receive: Any) -> bytes:
    """The body of a request, or `ClientLeft`."""
    body, more = bytearray(), True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientLeft
        body += event["body"]
        more = event["more_body"]
    return bytes(body)


def asgi_app(stage: ServerStage) -> Callable[..., Awaitable[None]]:
    """An application of a few lines; it learns of its client's leave by an event."""

    async def upload(receive: Any, send: Any) -> None:
        stage.began()
        try:
            body = await _body(receive)
        except (ClientLeft, asyncio.CancelledError):  # it depends on time which of them hypercorn gives
            stage.saw("the client left")
            raise
        stage.saw("the whole")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def flood(send: Any) -> None:
        with telling_of_writes(stage):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(visits.FLOOD // len(_CHUNK)):
                await send({"type": "http.response.body", "body": _CHUNK, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        with contextlib.suppress(ClientLeft):  # an application that is told so just ends
            await (upload(receive, send) if scope["path"] == "/upload" else flood(send))

    return app


class ClientLeft(Exception):
    """The event ``http.disconnect``."""


@server("uvicorn", *_HTTP, ways=ASYNCIO_WAYS, distributions=("uvicorn",))
@contextlib.asynccontextmanager
async def uvicorn_server(stage: ServerStage) -> AsyncIterator[int]:
    import uvicorn  # noqa: PLC0415

    class EmbeddedUvicorn(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Any:  # the signals are those of the tests
            yield

    config = uvicorn.Config(asgi_app(stage), http="h11", lifespan="off", log_config=None, access_log=False)
    config.load()
    config.ssl = stage.context
    embedded = EmbeddedUvicorn(config)
    with socket.create_server((LOOPBACK, 0)) as listener:
        serving = asyncio.create_task(embedded.serve([listener]))
        while not embedded.started and not serving.done():  # noqa: ASYNC110 nothing tells when it has started
            await asyncio.sleep(0.01)
        try:
            yield listener.getsockname()[1]
        finally:
            embedded.should_exit = True
            await serving


@server("hypercorn", *_HTTP, visits.H2_UPLOAD, ways=ASYNCIO_WAYS, distributions=("hypercorn", "h2"))
@contextlib.asynccontextmanager
async def hypercorn_server(stage: ServerStage) -> AsyncIterator[int]:
    import hypercorn.asyncio  # noqa: PLC0415
    import hypercorn.config  # noqa: PLC0415

    class PinnedConfig(hypercorn.config.Config):
        def create_ssl_context(self) -> Any:
            stage.context.set_alpn_protocols(self.alpn_protocols)
            return stage.context

    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        config = PinnedConfig()
        config.bind = [f"fd://{listener.detach()}"]
    config.certfile = config.keyfile = stage.pem  # without them it serves in plain
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    leave = asyncio.Event()
    app: Any = asgi_app(stage)
    serving = asyncio.create_task(hypercorn.asyncio.serve(app, config, shutdown_trigger=leave.wait, mode="asgi"))
    try:
        yield port
    finally:
        leave.set()
        await serving


# -- websockets -------------------------------------------------------------------------------------------------------


async def _echo(stage: ServerStage, ws: Any) -> None:
    from websockets.exceptions import ConnectionClosed  # noqa: PLC0415

    try:
        while True:
            await ws.send(await ws.recv())
    except ConnectionClosed as error:
        code = error.rcvd.code if error.rcvd else "no close frame"
        stage.saw(f"{name_of(error)}: {code}")


@server("websockets server", visits.WEBSOCKET, ways=ASYNCIO_WAYS, distributions=("websockets",))
@contextlib.asynccontextmanager
async def websockets_server(stage: ServerStage) -> AsyncIterator[int]:
    from websockets.asyncio.server import serve  # noqa: PLC0415

    async with serve(lambda ws: _echo(stage, ws), LOOPBACK, 0, ssl=stage.context, max_size=None) as serving:
        yield next(iter(serving.sockets)).getsockname()[1]


@server("websockets server (legacy)", visits.WEBSOCKET, ways=ASYNCIO_WAYS, distributions=("websockets",))
@contextlib.asynccontextmanager
async def websockets_legacy_server(stage: ServerStage) -> AsyncIterator[int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from websockets.legacy.server import serve  # noqa: PLC0415

    async with serve(lambda ws: _echo(stage, ws), LOOPBACK, 0, ssl=stage.context, max_size=None) as serving:
        yield next(iter(serving.sockets)).getsockname()[1]


# -- aiosmtpd ---------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def _aiosmtpd(stage: ServerStage, *, starttls: bool) -> AsyncIterator[int]:
    from aiosmtpd.smtp import SMTP  # noqa: PLC0415

    class Mailbox:
        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 aiosmtpd's
            stage.saw("the whole")
            return f"250 {len(envelope.content)} bytes"

    class WatchedSMTP(SMTP):
        def connection_lost(self, error: Exception | None) -> None:
            super().connection_lost(error)
            stage.saw("the end of the connection" if error is None else name_of(error))

    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {"tls_context": stage.context} if starttls else {}
    context = None if starttls else stage.context
    serving = await loop.create_server(
        lambda: WatchedSMTP(Mailbox(), loop=loop, hostname="localhost", data_size_limit=None, **options),
        LOOPBACK,
        0,
        ssl=context,
    )
    async with serving:
        yield serving.sockets[0].getsockname()[1]


@server("aiosmtpd", visits.SMTPS, ways=ASYNCIO_WAYS, distributions=("aiosmtpd",))
@contextlib.asynccontextmanager
async def aiosmtpd_over_tls(stage: ServerStage) -> AsyncIterator[int]:
    async with _aiosmtpd(stage, starttls=False) as port:
        yield port


@server("aiosmtpd", visits.STARTTLS, ways=INSTALLED_WAYS, distributions=("aiosmtpd",))
@contextlib.asynccontextmanager
async def aiosmtpd_starttls(stage: ServerStage) -> AsyncIterator[int]:
    async with _aiosmtpd(stage, starttls=True) as port:
        yield port
