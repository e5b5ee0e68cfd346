"""What the users of client libraries do: one function for each library, registered with what a server says to it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import warnings
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from reach import dialogues
from reach.registry import Talk, client
from reach.ways import ALL_LOOPS, ASYNCIO_WAYS, DEADLINE

if TYPE_CHECKING:
    import aiohttp

_HTTP = (dialogues.HTTP_TO_THE_END, dialogues.HTTP_BY_LENGTH, dialogues.HTTP_IN_CHUNKS)


# -- aiohttp ----------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def aiohttp_session(talk: Talk, **options: Any) -> AsyncIterator[aiohttp.ClientSession]:
    """A session as its users make it; with our connector in the ways of bowout."""
    import aiohttp  # noqa: PLC0415 only the scenarios of a library import it

    if talk.ours:
        import bowout.aiohttp  # noqa: PLC0415

        connector: aiohttp.TCPConnector = bowout.aiohttp.TCPConnector(ssl=talk.context)
    else:
        connector = aiohttp.TCPConnector(ssl=talk.context)
    async with aiohttp.ClientSession(f"https://{talk.host}:{talk.port}", connector=connector, **options) as session:
        yield session


@client("aiohttp", *_HTTP, ways=ASYNCIO_WAYS, distributions=("aiohttp",))
async def aiohttp_post(talk: Talk) -> bytes:
    upload = io.BytesIO(talk.upload)
    async with aiohttp_session(talk) as session, session.post(talk.path, data=upload) as answer:
        talk.got_head()
        return await answer.read()


@client("aiohttp WebSocket", dialogues.WEBSOCKET, ways=ASYNCIO_WAYS, distributions=("aiohttp",))
async def aiohttp_websocket(talk: Talk) -> bytes:
    import aiohttp  # noqa: PLC0415

    async with aiohttp_session(talk) as session, session.ws_connect(talk.path, max_msg_size=0) as ws:
        talk.got_head()
        if talk.upload:
            await ws.send_bytes(talk.upload)
        message = await ws.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            return bytes(message.data)
        if message.type is aiohttp.WSMsgType.TEXT:
            return str(message.data).encode()
        raise WebSocketEnded(f"a message of the type {message.type.name}")


class WebSocketEnded(Exception):
    """aiohttp gives the end of a WebSocket as a message."""


# -- httpx ------------------------------------------------------------------------------------------------------------


@client("httpx", *_HTTP, ways=ALL_LOOPS, distributions=("httpx",))
async def httpx_async_post(talk: Talk) -> bytes:
    import httpx  # noqa: PLC0415

    if talk.ours:
        import bowout.httpcore  # noqa: PLC0415

        options: dict[str, Any] = {"transport": bowout.httpcore.transport(verify=talk.context)}
    else:
        options = {"verify": talk.context}
    async with (
        httpx.AsyncClient(timeout=DEADLINE, **options) as session,
        session.stream("POST", f"https://{talk.host}:{talk.port}{talk.path}", content=talk.upload) as answer,
    ):
        talk.got_head()
        return await answer.aread()


# -- websockets -------------------------------------------------------------------------------------------------------


@client("websockets", dialogues.WEBSOCKET, ways=ASYNCIO_WAYS, distributions=("websockets",))
async def websockets_client(talk: Talk) -> bytes:
    from websockets.asyncio.client import connect  # noqa: PLC0415

    return await _over_websocket(connect, talk)


@client("websockets (legacy)", dialogues.WEBSOCKET, ways=ASYNCIO_WAYS, distributions=("websockets",))
async def websockets_legacy_client(talk: Talk) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from websockets.legacy.client import connect  # noqa: PLC0415

    return await _over_websocket(connect, talk)


async def _over_websocket(connect: Callable[..., Any], talk: Talk) -> bytes:
    url = f"wss://{talk.host}:{talk.port}{talk.path}"
    async with connect(url, ssl=talk.context, max_size=None) as ws:
        talk.got_head()
        if talk.upload:
            await ws.send(talk.upload)
        message: str | bytes = await ws.recv()
        return message.encode() if isinstance(message, str) else message


# -- SMTP -------------------------------------------------------------------------------------------------------------


@client("aiosmtplib", dialogues.SMTPS, ways=ASYNCIO_WAYS, distributions=("aiosmtplib",))
async def aiosmtplib_over_tls(talk: Talk) -> bytes:
    return await _over_smtp(talk, use_tls=True)


@client("aiosmtplib", dialogues.STARTTLS, ways=ASYNCIO_WAYS, distributions=("aiosmtplib",))
async def aiosmtplib_starttls(talk: Talk) -> bytes:
    return await _over_smtp(talk, start_tls=True)


async def _over_smtp(talk: Talk, **options: Any) -> bytes:
    import aiosmtplib  # noqa: PLC0415

    async with aiosmtplib.SMTP(hostname=talk.host, port=talk.port, tls_context=talk.context, **options) as smtp:
        if talk.upload:
            await smtp.sendmail("a@peer.test", ["b@peer.test"], talk.upload)
        return (await smtp.help()).encode()


# -- databases --------------------------------------------------------------------------------------------------------


@client("redis-py", dialogues.REDIS, ways=ASYNCIO_WAYS, distributions=("redis",))
async def redis_get(talk: Talk) -> bytes:
    import redis.asyncio  # noqa: PLC0415
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    options: dict[str, Any] = {"ssl": True, "ssl_ca_certs": talk.ca_file, "retry": Retry(NoBackoff(), 0)}
    database = redis.asyncio.Redis(host=talk.host, port=talk.port, **options)
    try:
        if talk.upload:
            await database.set("key", talk.upload)
        value = await database.get("key")
        assert isinstance(value, bytes)
        return value
    finally:
        await database.aclose()


@client("asyncpg", dialogues.POSTGRES, ways=ASYNCIO_WAYS, distributions=("asyncpg",))
async def asyncpg_execute(talk: Talk) -> bytes:
    import asyncpg  # noqa: PLC0415

    where = {"host": talk.host, "port": talk.port, "user": "bowout", "database": "postgres"}
    connection = await asyncpg.connect(**where, ssl=talk.context)
    try:
        status: str = await connection.execute("SELECT 1")
        return status.encode()
    finally:
        await connection.close()


# -- asyncio itself ---------------------------------------------------------------------------------------------------


@client("asyncio streams", dialogues.HTTP_TO_THE_END, ways=ASYNCIO_WAYS, distributions=())
async def asyncio_streams(talk: Talk) -> bytes:
    reader, writer = await asyncio.open_connection(talk.host, talk.port, ssl=talk.context)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        talk.got_head()
        return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
