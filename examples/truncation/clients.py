"""Typical clients that download over HTTPS; each returns the body of the answer, or raises."""

from __future__ import annotations

import asyncio
import ssl
import urllib.request
from collections.abc import Callable

import aiohttp
import requests

import bowout

Download = Callable[[str, int, str], bytes]
"""A function of host, port and the file of the authority."""

TIMEOUT = 10


def with_requests(host: str, port: int, ca_file: str) -> bytes:
    """Download with requests."""
    return requests.get(f"https://{host}:{port}/", verify=ca_file, timeout=TIMEOUT).content


def with_urllib(host: str, port: int, ca_file: str) -> bytes:
    """Download with the standard library."""
    context = ssl.create_default_context(cafile=ca_file)
    with urllib.request.urlopen(f"https://{host}:{port}/", context=context, timeout=TIMEOUT) as answer:
        body: bytes = answer.read()
    return body


def with_aiohttp(host: str, port: int, ca_file: str) -> bytes:
    """Download with aiohttp."""

    async def main() -> bytes:
        context = ssl.create_default_context(cafile=ca_file)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT)
        url = f"https://{host}:{port}/"
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, ssl=context) as answer:
            return await answer.read()

    return asyncio.run(main())


def with_asyncio_streams(host: str, port: int, ca_file: str) -> bytes:
    """Download with asyncio's streams and hand-written HTTP; the end of the stream is the end of the body."""

    async def main() -> bytes:
        context = ssl.create_default_context(cafile=ca_file)
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        return answer.partition(b"\r\n\r\n")[2]

    return asyncio.run(main())


def with_bowout(host: str, port: int, ca_file: str) -> bytes:
    """Do the same with bowout."""

    async def main() -> bytes:
        context = ssl.create_default_context(cafile=ca_file)
        async with asyncio.timeout(TIMEOUT), bowout.connect(host, port, context=context) as stream:
            await stream.send(b"GET / HTTP/1.0\r\n\r\n")
            answer = b"".join([chunk async for chunk in stream])
        return answer.partition(b"\r\n\r\n")[2]

    return asyncio.run(main())


CLIENTS: dict[str, Download] = {
    "requests": with_requests,
    "aiohttp": with_aiohttp,
    "asyncio streams": with_asyncio_streams,
    "urllib": with_urllib,
    "bowout": with_bowout,
}
