"""httpx over bowout through proxies: CONNECT in plain TCP and in TLS, forwarding, SOCKS."""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest

import bowout.httpcore
from bowout import CertificateError, How, Reset, Stream, Truncated
from bowout.testing import Peer
from helpers.peers import ROOT, require_module
from helpers.proxies import Opening, by_connect, by_socks, haproxy, proxy, refusing, refusing_socks
from helpers.runners import Runner
from helpers.served import LOOPBACK, Endings, serve
from helpers.sites import BODY, by_length, nothing_more, site, then_leave
from helpers.tasks import Awaits, jobs, on_trio
from helpers.wire import PATIENCE, VERSIONS, Version, client_context

sys.path.insert(0, str(ROOT / "examples" / "truncation"))
from answers import ENDS, End, answer

both_versions = pytest.mark.parametrize("version", VERSIONS)


@asynccontextmanager
async def client(through: str, *, timeout: float = PATIENCE, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client through a proxy; a close that a test does not hurry has time."""
    where = httpx.Proxy(through, ssl_context=client_context() if through.startswith("https") else None)
    options = {"verify": client_context(), "close_timeout": PATIENCE, "proxy": where, **options}
    async with httpx.AsyncClient(transport=bowout.httpcore.transport(**options), timeout=timeout) as made:
        yield made


def opening_of(scheme: str) -> Opening:
    """The proxy's part."""
    if scheme == "http":
        return by_connect
    require_module("socksio")
    return by_socks


# -- a proxy in plain TCP --------------------------------------------------------------------------------------------


@both_versions
@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_requests_share_a_tunnel_that_ends_clean(run: Runner, version: Version, scheme: str) -> None:
    async def main(port: int) -> None:
        async with site(version=version) as served:
            async with client(f"{scheme}://{LOOPBACK}:{port}") as http:
                answers = [await http.post(served.url, content=b"x" * 100_000) for _ in range(3)]
                assert [one.content for one in answers] == [BODY] * 3
            assert [one.how for one in await served.ended()] == [How.CLEAN]
            assert served.requests == [3]
            assert answers[0].extensions["network_stream"].get_extra_info("ending").how is How.CLEAN

    with proxy(opening_of(scheme)) as running:
        run(main, running.port)
    assert running.connections == 1


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_http2_through_a_proxy(run: Runner, scheme: str) -> None:
    async def main(port: int) -> None:
        async with site(nothing_more, http2=True) as served:
            async with client(f"{scheme}://{LOOPBACK}:{port}", http2=True) as http:
                answers = [await http.get(served.url) for _ in range(3)]
                assert {(one.http_version, one.content) for one in answers} == {("HTTP/2", BODY)}
            assert [one.how for one in await served.ended()] == [How.CLEAN]

    with proxy(opening_of(scheme)) as running:
        run(main, running.port)
    assert running.connections == 1


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_half_an_answer_through_a_proxy_is_an_error(run: Runner, scheme: str) -> None:
    async def main(port: int, url: str, context: ssl.SSLContext) -> None:
        async with client(f"{scheme}://{LOOPBACK}:{port}", verify=context) as http:
            with pytest.raises(httpx.ReadError) as caught:
                await http.get(url)
        assert isinstance(caught.value.__cause__, Truncated)

    end = ENDS[0]
    with (
        proxy(opening_of(scheme)) as running,
        Peer(answer("the end of the connection", end)) as peer,
    ):
        run(main, running.port, f"https://localhost:{peer.port}/", peer.client_context())


@pytest.mark.parametrize(("scheme", "opening"), [("http", refusing), ("socks5", refusing_socks)])
def test_a_proxy_that_refuses_leaves_nothing_open(run: Runner, scheme: str, opening: Any) -> None:
    """The guard of all tests looks for descriptors: httpcore leaves one open after SOCKS."""
    opening_of(scheme)

    async def main(port: int) -> None:
        async with client(f"{scheme}://{LOOPBACK}:{port}", limits=httpx.Limits(max_connections=1)) as http:
            for _ in range(2):
                with pytest.raises(httpx.ProxyError):
                    await http.get("https://localhost/")

    with proxy(opening) as running:
        run(main, running.port)
    assert running.connections == 2


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_handshake_that_fails_behind_a_proxy_frees_its_place_in_the_pool(run: Runner, scheme: str) -> None:
    async def main(port: int) -> None:
        limits = httpx.Limits(max_connections=1)
        async with site() as served, client(f"{scheme}://{LOOPBACK}:{port}", verify=True, limits=limits) as http:
            for _ in range(2):
                with pytest.raises(httpx.ConnectError, match="certificate"):
                    await http.get(served.url)

    with proxy(opening_of(scheme)) as running:
        run(main, running.port)
    assert running.connections == 2


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_cancelling_at_any_await_leaves_nothing_open(run: Runner, scheme: str) -> None:
    async def main(port: int) -> None:
        async with site() as served:

            async def visit() -> int:
                async with client(f"{scheme}://{LOOPBACK}:{port}") as http:
                    return (await http.get(served.url)).status_code

            whole = Awaits()
            assert await whole.drive(visit) == 200
            for number in range(1, whole.count + 1):
                await Awaits(cancel_at=number, shielded=on_trio()).drive(visit)

    with proxy(opening_of(scheme)) as running:
        run(main, running.port)


def test_a_request_without_tls_is_forwarded(run: Runner) -> None:
    """The proxy gets the whole URL, and the name and password."""
    heads: list[bytes] = []

    def forwarding(near: socket.socket) -> None:
        for _ in range(2):
            heads.append(near.recv(1 << 16))
            near.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        near.recv(1)

    async def main(port: int) -> None:
        async with client(f"http://user:secret@{LOOPBACK}:{port}") as http:
            for _ in range(2):
                assert (await http.get("http://other.test/path")).content == b"ok"

    with proxy(forwarding) as running:
        run(main, running.port)
    assert running.connections == 1
    assert heads[0].startswith(b"GET http://other.test/path HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=" in heads[0]


# -- a proxy in TLS --------------------------------------------------------------------------------------------------


async def connect_in_tls(stream: Stream) -> None:
    """A CONNECT proxy's part of one connection, behind `bowout.serve`."""
    head = await stream.receive_until(b"\r\n\r\n")
    host, _, port = head.split()[1].decode().rpartition(":")
    far = await bowout.httpcore.AsyncBackend().connect_tcp(host, int(port))
    try:
        await stream.send(b"HTTP/1.1 200 OK\r\n\r\n")

        async def back() -> None:
            try:
                while data := await far.read(1 << 16):
                    await stream.send(data)
                await stream.close()
            except httpcore.ReadError:
                stream.abort()

        async with jobs() as group:
            backwards = group.start(back)
            with contextlib.suppress(httpcore.WriteError, OSError):
                async for data in stream:
                    await far.write(data)
                far.get_extra_info("socket").shutdown(socket.SHUT_WR)
            await backwards.ended()
    finally:
        await far.aclose()


@asynccontextmanager
async def tls_proxy(version: Version = "1.3", **options: Any) -> AsyncIterator[tuple[str, Endings]]:
    """Run one; give its URL and its endings."""
    endings = Endings()
    async with serve(connect_in_tls, version=version, on_ending=endings, **options) as server:
        yield f"https://localhost:{server.port}", endings


@both_versions
@pytest.mark.parametrize("http2", [False, True])
def test_requests_share_tls_in_tls_that_ends_clean(run: Runner, version: Version, http2: bool) -> None:
    async def main() -> None:
        server = site(nothing_more if http2 else by_length, version=version, http2=http2)
        async with server as served, tls_proxy(version) as (url, proxied):
            async with client(url, http2=http2) as http:
                answers = [await http.post(served.url, content=b"x" * 100_000) for _ in range(3)]
                assert [one.content for one in answers] == [BODY] * 3
                assert not answers[0].extensions["network_stream"].get_extra_info("is_readable")
            assert served.requests == [3]
            assert [one.how for one in await served.ended()] == [How.CLEAN]
            assert [one.how for one in await proxied.wait()] == [How.CLEAN]
            assert answers[0].extensions["network_stream"].get_extra_info("ending").how is How.CLEAN

    run(main)


def test_tls_in_tls_that_the_server_has_ended_is_not_used_again(run: Runner) -> None:
    async def main() -> None:
        async with site(then_leave, http2=True) as served, tls_proxy() as (url, proxied):
            async with client(url, http2=True) as http:
                for number in range(1, 4):
                    assert (await http.get(served.url)).content == BODY
                    await served.ended(number)
                    await proxied.wait(number)
            assert served.requests == [1, 1, 1]

    run(main)


@pytest.mark.parametrize("end", ENDS)
def test_half_an_answer_in_tls_in_tls_is_an_error(run: Runner, end: End) -> None:
    async def main(url: str, context: ssl.SSLContext) -> None:
        async with tls_proxy() as (through, _), client(through, verify=context) as http:
            with pytest.raises(httpx.ReadError) as caught:
                await http.get(url)
        assert isinstance(caught.value.__cause__, Truncated | Reset)

    with Peer(answer("the end of the connection", end)) as peer:
        run(main, f"https://localhost:{peer.port}/", peer.client_context())


def test_cancelling_tls_in_tls_at_any_await_leaves_nothing_open(run: Runner) -> None:
    async def main() -> None:
        async with site() as served, tls_proxy() as (url, _):

            async def visit() -> int:
                async with client(url) as http:
                    return (await http.get(served.url)).status_code

            whole = Awaits()
            assert await whole.drive(visit) == 200
            for number in range(1, whole.count + 1):
                await Awaits(cancel_at=number, shielded=on_trio()).drive(visit)

    run(main)


def test_requests_through_haproxy_share_a_connection(run: Runner, tmp_path: Path) -> None:
    async def main(port: int) -> None:
        async with site() as served:
            async with client(f"https://localhost:{port}") as http:
                answers = [await http.post(served.url, content=b"x" * 100_000) for _ in range(3)]
                assert [one.content for one in answers] == [BODY] * 3
            assert served.requests == [3]
            assert [one.how for one in await served.ended()] == [How.CLEAN]

    with proxy() as running, haproxy(running.port, tmp_path) as port:
        run(main, port)


def test_a_handshake_with_a_proxy_that_fails_is_a_connect_error(run: Runner) -> None:
    async def main() -> None:
        async with tls_proxy() as (url, _):
            transport = bowout.httpcore.transport(proxy=httpx.Proxy(url, ssl_context=ssl.create_default_context()))
            async with httpx.AsyncClient(transport=transport, timeout=PATIENCE) as http:
                with pytest.raises(httpx.ConnectError) as caught:
                    await http.get("https://localhost/")
        assert isinstance(caught.value.__cause__, CertificateError)

    run(main)
