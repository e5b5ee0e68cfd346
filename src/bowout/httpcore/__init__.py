"""httpx and httpcore over bowout: connections that end properly, under asyncio (uvloop too) or trio.

    client = httpx.AsyncClient(transport=bowout.httpcore.transport(http2=True))

    pool = httpcore.AsyncConnectionPool(network_backend=bowout.httpcore.AsyncBackend())

The first is for httpx, the second for httpcore alone. Both need the extra: ``pip install 'bowout[httpx]'``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    import httpcore as _  # noqa: F401  (imported here, so that its absence names the extra)
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"bowout.httpcore needs the package {_error.name}: pip install 'bowout[httpx]'", name=_error.name
    ) from _error

from bowout.httpcore._backend import AsyncBackend
from bowout.httpcore._policy import CLOSE_TIMEOUT, HostTruncation
from bowout.httpcore._streams import NetworkStream

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable

    import httpcore
    import httpx

__all__ = ["AsyncBackend", "HostTruncation", "NetworkStream", "transport"]


def transport(  # noqa: D417  (of the others, httpx has the descriptions)
    *,
    verify: ssl.SSLContext | str | bool = True,
    cert: str | tuple[str, str] | tuple[str, str, str] | None = None,
    trust_env: bool = True,
    http1: bool = True,
    http2: bool = False,
    limits: httpx.Limits | None = None,
    proxy: httpx.Proxy | httpx.URL | str | None = None,
    uds: str | None = None,
    local_address: str | None = None,
    retries: int = 0,
    socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    truncation: HostTruncation = "raise",
    close_timeout: float = CLOSE_TIMEOUT,
) -> httpx.AsyncBaseTransport:
    """Make a transport for ``httpx.AsyncClient``, in place of ``httpx.AsyncHTTPTransport``.

        client = httpx.AsyncClient(transport=bowout.httpcore.transport(http2=True))

    Everything is as with httpx's own, except for the end of a TLS connection:

    * The end of an answer that only the end of the connection marks (no Content-Length, not chunked) is the server's
      close_notify. A FIN without it, or an RST, is an ``httpx.ReadError`` whose cause is the `bowout.Truncated` or
      `bowout.Reset`.
    * A connection is closed by close_notify, FIN, and the wait for the server's own, for `close_timeout` at most. A
      request that finds expired connections waits for them all together for that long, and so does ``aclose()`` of the
      client. After a timeout, and in a task that is being cancelled, no close waits.
    * A pooled connection that the server has ended is not used again, HTTP/2 included; one that is idle and healthy is,
      also through a proxy that speaks TLS itself.
    * ``response.extensions["network_stream"].get_extra_info("ending")`` is the `bowout.Ending`, None before the end.

    If an ``httpx.AsyncClient`` has a transport, it ignores its own ``verify``, ``cert``, ``http1``, ``http2`` and
    ``limits``, and the proxies of the environment: give them here.

    Args:
        verify, cert, trust_env, http1, http2, limits, proxy, uds, local_address, retries, socket_options: as for
            ``httpx.AsyncHTTPTransport``, with its defaults. `local_address` and `socket_options` are used for the
            connection to a proxy, too.
        truncation: what a FIN without close_notify is at the end of an answer that has no other end. ``"raise"``: an
            error. ``"tolerate"``: the end; the logger ``bowout`` gets one line at level INFO, with the ending. An
            attacker on the path can forge such a FIN, and so cut an answer off: tolerate it only of servers that you
            must use as they are. A mapping has the policy of each host, in lower case, and ``"raise"`` for all others;
            a function is called with the host and returns the policy. An answer that tells its own length is checked in
            any case, and a FIN inside a TLS record always raises.
        close_timeout: seconds that the close of a connection waits for the server.

    Raises:
        TypeError, ValueError: invalid arguments, or arguments that contradict each other.
        ModuleNotFoundError: a package is missing that these arguments need; the error says how to install it.

    Cancelling a request leaves no descriptor open.
    """
    try:
        from bowout.httpcore._transport import make_transport  # noqa: PLC0415  (httpcore alone does without httpx)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"bowout.httpcore.transport() needs the package {error.name}: pip install 'bowout[httpx]'", name=error.name
        ) from error

    backend = AsyncBackend(
        truncation=truncation, close_timeout=close_timeout, local_address=local_address, socket_options=socket_options
    )
    return make_transport(
        backend,
        verify=verify,
        cert=cert,
        trust_env=trust_env,
        http1=http1,
        http2=http2,
        limits=limits,
        proxy=proxy,
        uds=uds,
        retries=retries,
    )


for _public in (AsyncBackend, NetworkStream, transport):
    _public.__module__ = "bowout.httpcore"  # in tracebacks, in `help()`
