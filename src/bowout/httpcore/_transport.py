"""The transport for httpx: a pool of httpcore behind httpx's public interface."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any, Final

import httpcore
import httpx

from bowout import _backends
from bowout._arguments import check_flag, check_type, checked_count
from bowout._core import hook
from bowout.errors import BowoutError
from bowout.httpcore._calls import interruption
from bowout.httpcore._pool import WatchedPool

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterable, Iterator

    from bowout.httpcore._backend import AsyncBackend

#: The errors of httpcore; httpx has each under the same name.
_NAMES: Final = (
    "ConnectError",
    "ConnectTimeout",
    "LocalProtocolError",
    "NetworkError",
    "PoolTimeout",
    "ProtocolError",
    "ProxyError",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "TimeoutException",
    "UnsupportedProtocol",
    "WriteError",
    "WriteTimeout",
)
ERRORS: Final[dict[type, type[httpx.HTTPError]]] = {getattr(httpcore, name): getattr(httpx, name) for name in _NAMES}

#: Those of `httpx.AsyncHTTPTransport`.
LIMITS: Final = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=5.0)

#: Arguments that may be None, with the types of all others, and the words for them.
_TYPES: Final[dict[str, tuple[tuple[type, ...], str]]] = {
    "cert": ((str, tuple), "the path of a file, or a tuple of the paths of certificate and key"),
    "limits": ((httpx.Limits,), "an httpx.Limits"),
    "proxy": ((str, httpx.URL, httpx.Proxy), "a URL or an httpx.Proxy"),
    "uds": ((str,), "the path of a Unix socket"),
}


def make_transport(
    backend: AsyncBackend,
    *,
    verify: ssl.SSLContext | str | bool,
    cert: str | tuple[str, str] | tuple[str, str, str] | None,
    trust_env: bool,
    limits: httpx.Limits | None,
    proxy: httpx.Proxy | httpx.URL | str | None,
    **options: Any,
) -> HTTPXTransport:
    """Make the transport of `bowout.httpcore.transport`, whose arguments these are."""
    _check(verify=verify, cert=cert, trust_env=trust_env, limits=limits, proxy=proxy, **options)
    if proxy is not None and options["uds"] is not None:
        raise ValueError("uds and proxy exclude each other: the proxy is reached by TCP")
    if options["http2"]:
        _require("h2", "http2=True", "http2")
    limits = LIMITS if limits is None else limits
    pool = WatchedPool(
        backend,
        ssl_context=httpx.create_ssl_context(verify=verify, cert=cert, trust_env=trust_env),
        proxy=None if proxy is None else _proxy(proxy),
        max_connections=limits.max_connections,
        max_keepalive_connections=limits.max_keepalive_connections,
        keepalive_expiry=limits.keepalive_expiry,
        **options,
    )
    return HTTPXTransport(pool)


def _check(*, verify: object, retries: object, **given: object) -> None:
    """Raise TypeError or ValueError for what httpx would take for something else."""
    for name in ("trust_env", "http1", "http2"):
        check_flag(name, given[name])
    if not (given["http1"] or given["http2"]):
        raise ValueError("http1 and http2 are both switched off: leave one of them on")
    check_type("verify", verify, (bool, str, hook.BASE), "True, an ssl.SSLContext, or False for no check at all")
    for name, (kind, described) in _TYPES.items():
        if given[name] is not None:
            check_type(name, given[name], kind, described)
    for name, value in (("verify", verify), *given.items()):
        if value == "":
            raise ValueError(f"{name} is empty: leave it out")
    checked_count("retries", retries, least=0)


def _proxy(proxy: httpx.Proxy | httpx.URL | str) -> httpcore.Proxy:
    proxy = proxy if isinstance(proxy, httpx.Proxy) else httpx.Proxy(proxy)
    if proxy.url.scheme.startswith("socks"):
        _require("socksio", "a SOCKS proxy", "socks")
    return httpcore.Proxy(
        _url(proxy.url), auth=proxy.raw_auth, headers=proxy.headers.raw, ssl_context=proxy.ssl_context
    )


def _require(package: str, what: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(f"{what} needs the package {package}: pip install 'httpx[{extra}]'", name=package)


def _url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


@contextlib.contextmanager
def _raised_by_httpx() -> Iterator[None]:
    """Raise what httpcore raises as the same error of httpx, with the network's error as its cause if there is one."""
    try:
        yield
    except Exception as error:
        for kind in type(error).__mro__:
            if kind in ERRORS:
                # httpcore raises its errors again "from None", so that their cause is only the context.
                origin = error.__context__
                raise ERRORS[kind](str(error)) from (origin if isinstance(origin, BowoutError | OSError) else error)
        raise


class HTTPXTransport(httpx.AsyncBaseTransport):
    """The transport that `bowout.httpcore.transport` makes."""

    def __init__(self, pool: httpcore.AsyncConnectionPool) -> None:
        self._pool = pool

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`, and return the answer as soon as its head has arrived."""
        expired = [connection for connection in self._pool.connections if connection.has_expired()]
        await _close_together(expired)
        with _raised_by_httpx():
            answer = await self._pool.handle_async_request(
                httpcore.Request(
                    method=request.method,
                    url=_url(request.url),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        assert isinstance(answer.stream, AsyncIterable), "an asynchronous pool answers with nothing else"
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=AnswerStream(answer.stream),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        """Close every connection, all at the same time. In a task that is being cancelled, none waits."""
        try:
            if interruption() is None:
                await _close_together(self._pool.connections)
        finally:
            await self._pool.aclose()


async def _close_together(connections: Iterable[httpcore.AsyncConnectionInterface]) -> None:
    """Close them concurrently: httpcore would wait for one silent server after the other."""
    connections = list(connections)
    if not connections:
        return
    async with _backends.current().task_group() as group:
        for connection in connections:
            group.start(connection.aclose)


class AnswerStream(httpx.AsyncByteStream):
    """The body of an answer."""

    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _raised_by_httpx():
            async for part in self._stream:
                yield part

    async def aclose(self) -> None:
        """End the answer; the connection too, unless all of the answer was read."""
        close = getattr(self._stream, "aclose", None)
        if close is not None:
            await close()
