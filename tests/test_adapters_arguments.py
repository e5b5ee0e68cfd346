"""Arguments that cannot be meant, given to the faces of other libraries: each is refused by what says what to write."""

from __future__ import annotations

import math
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
import httpcore
import pytest

import bowout
import bowout.aiohttp
import bowout.anyio
import bowout.asyncio
import bowout.blocking
import bowout.httpcore
import bowout.trio
from helpers.runners import Runner
from helpers.wire import NAME, client_context, server_context, tcp_pair

CLIENT: Final = client_context()
SERVER: Final = server_context()
#: What hardly any parameter takes.
NOTHINGS: Final = [None, "", 0, -1, math.nan, math.inf, True, b""]


async def handler(stream: Any) -> None:
    """Never called."""


def anyio_connect(**wrong: Any) -> Awaitable[object]:
    return bowout.anyio.connect_tcp(**{"remote_host": "peer.test", "remote_port": 443, "ssl_context": CLIENT, **wrong})


def anyio_wrap(**wrong: Any) -> Awaitable[object]:
    options: dict[str, Any] = {"hostname": NAME, "ssl_context": CLIENT, **wrong}
    return bowout.anyio.TLSStream.wrap(options.pop("transport_stream", Never()), **options)


def anyio_connectable(**wrong: Any) -> object:
    given: dict[str, Any] = {"connectable": anyio.TCPConnectable("peer.test", 1), "hostname": NAME, **wrong}
    return bowout.anyio.TLSConnectable(**{"ssl_context": CLIENT, **given})


def trio_stream(**wrong: Any) -> object:
    options: dict[str, Any] = {"ssl_context": CLIENT, "server_hostname": NAME, **wrong}
    return bowout.trio.SSLStream(options.pop("transport_stream", Never()), **options)


def trio_open(**wrong: Any) -> Awaitable[object]:
    return bowout.trio.open_ssl_over_tcp_stream(**{"host": "peer.test", "port": 443, "ssl_context": CLIENT, **wrong})


def trio_listeners(**wrong: Any) -> Awaitable[object]:
    return bowout.trio.open_ssl_over_tcp_listeners(**{"port": 0, "ssl_context": SERVER, "host": "127.0.0.1", **wrong})


def trio_serve(**wrong: Any) -> Awaitable[object]:
    given: dict[str, Any] = {"handler": handler, "port": 0, "ssl_context": SERVER, "host": "127.0.0.1", **wrong}
    return bowout.trio.serve_ssl_over_tcp(**given)


def tcp(**wrong: Any) -> Awaitable[object]:
    return bowout.httpcore.AsyncBackend().connect_tcp(**{"host": "127.0.0.1", "port": 1, **wrong})


def unix(**wrong: Any) -> Awaitable[object]:
    return bowout.httpcore.AsyncBackend().connect_unix_socket(**{"path": "/nowhere", **wrong})


class Never:
    """A byte stream over which nothing is ever sent: a call of it would be a failure."""

    async def receive(self, max_bytes: int) -> bytes:
        raise AssertionError(max_bytes)

    async def send(self, data: bytes) -> None:
        raise AssertionError(data)

    async def aclose(self) -> None:
        raise AssertionError


WRONG: Final[list[tuple[Callable[..., Any], dict[str, Any], type[Exception], str]]] = [
    (anyio_connect, {"remote_host": None}, TypeError, "host must be a str, not None"),
    (anyio_connect, {"remote_host": b"peer.test"}, TypeError, "host must be a str, not bytes"),
    (anyio_connect, {"remote_host": 1}, TypeError, "host must be a str, not int"),
    (anyio_connect, {"local_host": b"::1"}, TypeError, "local_address must be"),
    (anyio_connect, {"local_host": "::1", "local_port": True}, TypeError, "port must be an int, not bool"),
    (anyio_connect, {"tls_hostname": b""}, TypeError, "server_hostname must be a str"),
    (anyio_connect, {"tls_hostname": 0}, TypeError, "server_hostname must be a str"),
    (anyio_connect, {"tls": 1}, TypeError, "tls must be a bool"),
    (anyio_connect, {"tls_standard_compatible": None}, TypeError, "tls_standard_compatible must be a bool"),
    (anyio_wrap, {"transport_stream": None}, TypeError, "NoneType cannot carry TLS: give"),
    (anyio_wrap, {"hostname": None}, ValueError, "a client needs hostname"),
    (anyio_wrap, {"hostname": ""}, ValueError, "a client needs hostname"),
    (anyio_wrap, {"hostname": b"peer.test"}, TypeError, "hostname must be a str, not bytes"),
    (anyio_wrap, {"server_side": 1}, TypeError, "server_side must be a bool"),
    (anyio_wrap, {"standard_compatible": ""}, TypeError, "standard_compatible must be a bool"),
    (anyio_connectable, {"connectable": None}, TypeError, "connectable must be a connectable of anyio, not None"),
    (anyio_connectable, {"hostname": 0}, TypeError, "hostname must be a str"),
    (bowout.anyio.TLSListener, {"listener": None, "ssl_context": SERVER}, TypeError, "a listener of anyio, not None"),
    (trio_stream, {"transport_stream": None}, TypeError, "NoneType cannot carry TLS: give"),
    (trio_stream, {"transport_stream": None, "server_hostname": None}, TypeError, "NoneType cannot carry TLS: give"),
    (trio_stream, {"server_hostname": 0}, TypeError, "server_hostname must be a str"),
    (trio_stream, {"server_side": 0}, TypeError, "server_side must be a bool"),
    (trio_stream, {"https_compatible": "yes"}, TypeError, "https_compatible must be a bool"),
    (trio_open, {"host": None}, TypeError, "host must be a str, not None"),
    (trio_open, {"https_compatible": None}, TypeError, "https_compatible must be a bool"),
    (bowout.trio.SSLListener, {"transport_listener": None, "ssl_context": SERVER}, TypeError, "a listener of trio"),
    (trio_listeners, {"port": None}, TypeError, "port must be an int"),
    (trio_listeners, {"port": 65536}, ValueError, "port must be from 0 to 65535"),
    (trio_listeners, {"host": ""}, ValueError, "host is empty"),
    (trio_listeners, {"host": 0}, TypeError, "host must be a str"),
    (trio_listeners, {"backlog": 0}, ValueError, "backlog must be 1 or more"),
    (trio_listeners, {"backlog": math.inf}, TypeError, "backlog must be an int"),
    (trio_serve, {"handler": None}, TypeError, "handler must be"),
    (trio_serve, {"handler_nursery": True}, TypeError, "handler_nursery must be a nursery of trio, not bool"),
    (trio_serve, {"task_status": None}, TypeError, "task_status must be"),
    (tcp, {"port": 65537}, httpcore.ConnectError, "port must be from 1 to 65535"),
    (tcp, {"port": 0}, httpcore.ConnectError, "port must be from 1 to 65535"),
    (tcp, {"host": ""}, httpcore.ConnectError, "host is empty"),
    (tcp, {"port": "443"}, TypeError, "write 443, without quotation marks"),
    (tcp, {"host": b"peer.test"}, TypeError, "host must be a str, not bytes"),
    (tcp, {"timeout": -1}, ValueError, "timeout must be"),
    (tcp, {"local_address": ""}, ValueError, "local_address must be"),
    (tcp, {"socket_options": [1]}, TypeError, "socket_options must be a list of tuples"),
    (tcp, {"socket_options": ""}, TypeError, "socket_options must be a list of tuples"),
    (unix, {"path": None}, TypeError, "path must be a str"),
    (unix, {"path": ""}, ValueError, "path is empty"),
    (bowout.httpcore.AsyncBackend().sleep, {"seconds": math.nan}, ValueError, "seconds must be"),
    (bowout.httpcore.AsyncBackend, {"socket_options": 5}, TypeError, "socket_options must be a list of tuples"),
    (bowout.httpcore.AsyncBackend, {"local_address": 0}, TypeError, "local_address must be"),
    (bowout.httpcore.transport, {"verify": ""}, ValueError, "verify is empty"),
    (bowout.httpcore.transport, {"verify": None}, TypeError, "verify must be"),
    (bowout.httpcore.transport, {"cert": ""}, ValueError, "cert is empty"),
    (bowout.httpcore.transport, {"cert": 0}, TypeError, "cert must be"),
    (bowout.httpcore.transport, {"retries": -1}, ValueError, "retries must be 0 or more"),
    (bowout.httpcore.transport, {"retries": True}, TypeError, "retries must be an int"),
    (bowout.httpcore.transport, {"http2": 1}, TypeError, "http2 must be a bool"),
    (bowout.httpcore.transport, {"http1": False}, ValueError, "leave one of them on"),
    (bowout.httpcore.transport, {"trust_env": None}, TypeError, "trust_env must be a bool"),
    (bowout.httpcore.transport, {"limits": 5}, TypeError, "limits must be an httpx.Limits"),
    (bowout.httpcore.transport, {"proxy": ""}, ValueError, "proxy is empty"),
    (bowout.httpcore.transport, {"proxy": 1}, TypeError, "proxy must be"),
    (bowout.httpcore.transport, {"uds": ""}, ValueError, "uds is empty"),
    (bowout.httpcore.transport, {"truncation": {"": "tolerate"}}, ValueError, "truncation must have names of hosts"),
    (bowout.httpcore.transport, {"truncation": {b"x": "tolerate"}}, TypeError, "truncation must be"),
    (bowout.httpcore.transport, {"truncation": {"X.test": "tolerate"}}, ValueError, "write 'x.test'"),
    (bowout.blocking.prepare_context, {"handshake_timeout": 0}, ValueError, "handshake_timeout must be more than 0"),
    (bowout.blocking.prepare_context, {"tolerant_hosts": [""]}, ValueError, "tolerant_hosts must have names"),
    (bowout.blocking.prepare_context, {"tolerant_hosts": ["a b"]}, ValueError, "tolerant_hosts must have names"),
    (bowout.blocking.prepare_context, {"tolerant_hosts": iter(["x"])}, TypeError, "tolerant_hosts must be a coll"),
    (bowout.blocking.prepare_context, {"tolerant_hosts": 5}, TypeError, "tolerant_hosts must be a collection"),
    (bowout.asyncio.drain, {"server": None}, TypeError, "server must be a server of asyncio, not None"),
]


@pytest.mark.backends("trio")
@pytest.mark.parametrize(("call", "wrong", "kind", "words"), WRONG)
def test_an_argument_that_cannot_be_meant(
    run: Runner, call: Callable[..., Any], wrong: dict[str, Any], kind: type[Exception], words: str
) -> None:
    async def main() -> None:
        with pytest.raises(kind, match=words):
            await call(**wrong)

    run(main)


@pytest.mark.backends("trio")
@pytest.mark.parametrize("call", [anyio_wrap, trio_stream])
@pytest.mark.parametrize("nothing", NOTHINGS, ids=repr)
def test_what_is_no_stream_carries_no_tls(run: Runner, call: Callable[..., Any], nothing: object) -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="cannot carry TLS: give"):
            await call(transport_stream=nothing)

    run(main)


@pytest.mark.parametrize("flag", [None, "", 0, 1, b""], ids=repr)
@pytest.mark.parametrize("wrap", [bowout.wrap, bowout.blocking.wrap], ids=["loop", "blocking"])
def test_a_side_is_told_by_a_flag(wrap: Callable[..., Any], flag: Any) -> None:
    ours, theirs = tcp_pair()
    with ours, theirs, pytest.raises(TypeError, match="server_side must be a bool"):
        wrap(ours, CLIENT, server_side=flag, server_hostname=NAME)


@pytest.mark.backends("asyncio", "uvloop", "trio")
def test_a_port_is_not_taken_modulo(run: Runner) -> None:
    """The system takes the lowest 16 bits of a port: it would be another server."""

    async def main(port: int) -> None:
        with pytest.raises(httpcore.ConnectError, match="port must be"):
            await bowout.httpcore.AsyncBackend().connect_tcp("127.0.0.1", port + (1 << 16))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        run(main, listener.getsockname()[1])
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
