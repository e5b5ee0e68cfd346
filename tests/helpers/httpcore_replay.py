"""A plugin of pytest for httpcore's own tests: their mock network becomes a real one, over `bowout.httpcore`.

httpcore's tests give a mock stream the chunks that it is to read. Here a real server sends each of them when the test
reads, over a connection and TLS of bowout; it receives what the test writes, and each close is real, too. The backend
by default becomes bowout's as well. ``scripts/run_httpcore_suite.py`` runs it.
"""

from __future__ import annotations

import inspect
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import anyio
import httpcore
import pytest
import trio

import bowout
import bowout.httpcore
from bowout import How, Stream
from helpers.wire import client_context, server_context

#: Tests that cannot pass as they are, and why. One that passes is an error, and so is one that does not exist.
EXPECTED: Final[dict[str, str]] = {}

#: Seconds after which a close gives up: none takes so long.
_PATIENCE: Final = 30.0
_LOOPBACK: Final = "127.0.0.1"
_Mock: Final = httpcore.AsyncMockStream
#: Until `bowout.wrap` takes streams, TLS in TLS is TLS once.
_NESTS: Final = "sock" not in inspect.signature(bowout.wrap).parameters

_network: Final = bowout.httpcore.AsyncBackend(close_timeout=_PATIENCE)
#: The number of TLS connections by how they ended for the server.
_endings: Counter[How] = Counter()
#: The streams that are connected.
_open: set[ReplayStream] = set()


class MockSide:
    """The server's end of one connection. Its calls run beside those of the test, in the same task or a group."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(0)
        self._sock = sock
        self._layers: list[Stream] = []

    async def start_tls(self, *, http2: bool) -> None:
        """Be the server of a handshake, in TLS if there is some already."""
        context = server_context()
        context.set_alpn_protocols(["h2", "http/1.1"] if http2 else ["http/1.1"])
        carrier: Any = self._layers[-1] if self._layers else self._sock
        self._layers.append(bowout.wrap(carrier, context, server_side=True, close_timeout=_PATIENCE, on_error="close"))
        await self._layers[-1].handshake()

    async def receive(self, count: int) -> None:
        """Receive so many bytes, and forget them."""
        if self._layers:
            await self._layers[-1].receive_exactly(count)
        while not self._layers and count:
            await anyio.wait_readable(self._sock)
            count -= len(self._sock.recv(count))

    async def send(self, data: bytes) -> None:
        """Send a chunk of a mock, which is small."""
        if self._layers:
            await self._layers[-1].send(data)
        else:
            assert self._sock.send(data) == len(data)

    async def send_eof(self) -> None:
        """Say that there will be no more."""
        if self._layers:
            await self._layers[-1].send_eof()
        else:
            self._sock.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        """Close; note how that ended."""
        while self._layers:
            stream = self._layers.pop()
            if stream.ending is None:
                _endings[(await stream.close()).how] += 1
        self._sock.close()

    def abandon(self) -> None:
        """Close the socket."""
        self._sock.close()


class ReplayStream(httpcore.AsyncNetworkStream):
    """In place of `httpcore.AsyncMockStream`: what it reads comes from a server, and over TLS if it is made alone."""

    def __init__(self, buffer: list[bytes], http2: bool = False) -> None:
        self._buffer = buffer
        self._http2 = http2
        self._opening = anyio.Lock()
        self._ours: httpcore.AsyncNetworkStream | None = None
        self._theirs: MockSide
        self._is_tls = False
        self._is_closed = False

    async def connect(self) -> None:
        """Connect, in plain TCP."""
        with socket.create_server((_LOOPBACK, 0)) as listener:
            self._ours = await _network.connect_tcp(_LOOPBACK, listener.getsockname()[1])
            self._theirs = MockSide(listener.accept()[0])
        _open.add(self)

    async def _open(self) -> httpcore.AsyncNetworkStream:
        async with self._opening:
            if self._ours is None:
                await self._begin_tls()
        assert self._ours is not None
        return self._ours

    async def _begin_tls(self) -> None:
        if self._ours is None:
            await self.connect()
        assert self._ours is not None
        if self._is_tls and not _NESTS:
            return
        context = client_context()
        context.set_alpn_protocols(["h2", "http/1.1"] if self._http2 else ["http/1.1"])
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: self._theirs.start_tls(http2=self._http2))
            self._ours = await self._ours.start_tls(context, "localhost", _PATIENCE)
        self._is_tls = True

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._is_closed:
            raise httpcore.ReadError("Connection closed")
        ours = await self._open()
        if chunk := self._buffer.pop(0) if self._buffer else b"":
            await self._theirs.send(chunk)
        else:
            await self._theirs.send_eof()
        return await ours.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._is_closed or not buffer:
            return
        ours = await self._open()
        async with anyio.create_task_group() as group:
            group.start_soon(self._theirs.receive, len(buffer))
            await ours.write(buffer, timeout)

    async def aclose(self) -> None:
        self._is_closed = True
        if self._ours is not None:
            async with anyio.create_task_group() as group:
                group.start_soon(self._theirs.close)
                await self._ours.aclose()
        _open.discard(self)

    def abandon(self) -> None:
        """Close the sockets of a connection that nobody has closed; it must be one in plain TCP."""
        assert self._ours is not None
        assert not self._is_tls
        self._ours.get_extra_info("socket").close()
        self._theirs.abandon()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        await self._begin_tls()
        return self

    def get_extra_info(self, info: str) -> Any:
        fact = None if self._ours is None else self._ours.get_extra_info(info)
        if info == "ssl_object" and (fact is None or (fact.selected_alpn_protocol() == "h2") != self._http2):
            return _Mock([], self._http2).get_extra_info(info)  # A test has begun TLS without a network.
        return fact

    def __repr__(self) -> str:
        return "<httpcore.AsyncMockStream>"


class ReplayBackend(httpcore.AsyncNetworkBackend):
    """In place of `httpcore.AsyncMockBackend`."""

    def __init__(self, buffer: list[bytes], http2: bool = False) -> None:
        self._buffer = buffer
        self._http2 = http2

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = ReplayStream(list(self._buffer), self._http2)
        await stream.connect()
        return stream

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None
    ) -> httpcore.AsyncNetworkStream:
        return await self.connect_tcp("", 0)

    async def sleep(self, seconds: float) -> None:
        """Not at all: what a mock is for."""


def replace_networks() -> None:
    """Make httpcore's mocks, and its backend by default, those of bowout."""
    httpcore.AsyncMockBackend = ReplayBackend  # type: ignore[misc,assignment]
    httpcore.AsyncMockStream = ReplayStream  # type: ignore[misc,assignment]
    for module in (httpcore._async.connection, httpcore._async.connection_pool, httpcore._async.socks_proxy):
        module.AutoBackend = lambda: _network  # type: ignore[attr-defined]


replace_networks()


# -- the fixtures of httpcore's tests --------------------------------------------------------------------------------


class Site200(BaseHTTPRequestHandler):
    """In place of pytest-httpbin, of which httpcore's tests want an answer with status 200."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class HttpbinAddress:
    """What the fixtures give.

    Attributes:
        url: of the server.
    """

    def __init__(self, url: str) -> None:
        self.url = url


@contextmanager
def _running(context: ssl.SSLContext | None) -> Iterator[HttpbinAddress]:
    with ThreadingHTTPServer((_LOOPBACK, 0), Site200) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield HttpbinAddress(f"{'http' if context is None else 'https'}://{_LOOPBACK}:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The loops of the tests with anyio's marker."""
    return {"uvloop": ("asyncio", {"use_uvloop": True})}.get(request.param, (request.param, {}))


@pytest.fixture
def httpbin() -> Iterator[HttpbinAddress]:
    with _running(None) as where:
        yield where


@pytest.fixture
def httpbin_secure() -> Iterator[HttpbinAddress]:
    with _running(server_context("1.3")) as where:
        yield where


# -- the run ---------------------------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Know the marker of pytest-trio."""
    config.addinivalue_line("markers", "trio: run the test under trio")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run the tests of this marker, as pytest-trio would."""
    if pyfuncitem.get_closest_marker("trio") is None:
        return None
    trio.run(pyfuncitem.obj)
    return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that cannot pass."""
    known = {item.nodeid: item for item in items}
    if unknown := EXPECTED.keys() - known.keys():
        raise pytest.UsageError(f"there are no such tests any more: {sorted(unknown)}")
    for name, reason in EXPECTED.items():
        known[name].add_marker(pytest.mark.xfail(reason=reason, strict=True))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Close what a test has left open: httpcore forgets the connection to a SOCKS proxy that refuses."""
    while _open:
        _open.pop().abandon()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how the connections ended."""
    terminalreporter.write_line(f"endings: {', '.join(f'{how} {count}' for how, count in sorted(_endings.items()))}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run unless every connection ended clean."""
    if session.exitstatus == pytest.ExitCode.OK and _endings.keys() != {How.CLEAN}:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
