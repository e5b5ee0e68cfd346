"""A connector for aiohttp that tells a body that was cut off from a whole one; it needs the extra ``bowout[aiohttp]``.

    async def main():
        async with aiohttp.ClientSession(connector=bowout.aiohttp.TCPConnector()) as session:
            async with session.get("https://example.org/") as response:
                body = await response.read()

    bowout.asyncio.run(main())

aiohttp takes the end of the connection for the end of a body that has no length, also where its transport reports an
error. `TCPConnector` gives that error to the body.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import weakref
from typing import TYPE_CHECKING, Any, Final, cast

from bowout._arguments import checked_timeout

try:
    import aiohttp
    from aiohttp.client_proto import ResponseHandler
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"bowout.aiohttp needs the package {_error.name}: pip install 'bowout[aiohttp]'", name=_error.name
    ) from _error

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TCPConnector"]

#: Seconds to end a TLS connection: the default of every close in bowout.
_SHUTDOWN_TIMEOUT: Final = 5.0
#: Seconds by which a transport may be late with its own deadline before its connection is aborted.
_GRACE: Final = 1.0


class _EndingHandler(ResponseHandler):
    """aiohttp's protocol of one connection, with the end of the connection made known to the body first.

    Args:
        loop: the loop of the connection.
        handlers: where the handler is found while its transport is open.
    """

    __slots__ = ("_handlers", "_lost", "_transport_below")

    def __init__(self, loop: asyncio.AbstractEventLoop, handlers: weakref.WeakSet[_EndingHandler]) -> None:
        super().__init__(loop=loop)
        self._handlers = handlers
        self._lost: asyncio.Future[None] = loop.create_future()
        self._transport_below: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._transport_below = cast("asyncio.Transport", transport)
        self._handlers.add(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        if exc is not None:
            self._fail_body(exc)
        super().connection_lost(exc)
        self._handlers.discard(self)
        self._transport_below = None
        if not self._lost.done():
            self._lost.set_result(None)

    @property
    def lost(self) -> asyncio.Future[None]:
        """Done when the connection is lost."""
        return self._lost

    @property
    def in_tls(self) -> bool:
        """Whether the connection is a TLS connection and not lost."""
        return self._transport_below is not None and self._transport_below.get_extra_info("sslcontext") is not None

    def abort_now(self) -> None:
        """Abort the connection, also if it is closing."""
        if self._transport_below is not None:
            self._transport_below.abort()

    def _fail_body(self, exc: BaseException) -> None:
        """Let the body raise, unless it is whole; aiohttp itself would ask its parser first, which takes it for whole.

        A WebSocket knows its end by itself, and then the body is none of HTTP.
        """
        body, websocket = self._payload, cast("object", self._payload_parser)
        if body is None or websocket is not None or body.is_eof() or body.exception() is not None:
            return
        body.set_exception(aiohttp.ClientPayloadError(f"Response payload is not completed: {exc}"), exc)


class TCPConnector(aiohttp.TCPConnector):
    """aiohttp's connector, in which every connection, and every body, ends well or raises.

    It differs from `aiohttp.TCPConnector` in this:

    * A body that only the end of the connection ends (no ``Content-Length``, no chunks) raises
      `aiohttp.ClientPayloadError` when the connection was lost by an error; the error is its ``__cause__``. A FIN
      without close_notify is such an error on a loop of `bowout.asyncio`, and hidden on any other. A reset is one on
      every loop.
    * Connections are closed, not aborted, when the session is closed: aiohttp's own default destroys what is still on
      its way to the server, which sees an error.
    * ``close()`` waits for all connections to end, those in use and those that aiohttp has already given up included,
      so that the event loop can be closed after it.

    Args:
        ssl_shutdown_timeout: seconds to end a TLS connection; 0 aborts it instead.
        options: all other arguments of `aiohttp.TCPConnector`.

    Raises:
        TypeError, ValueError: `ssl_shutdown_timeout` is not a finite number, 0 or more; or an option is not valid.
        RuntimeError: no event loop is running; or this version of aiohttp is not known.
    """

    def __init__(self, *, ssl_shutdown_timeout: float = _SHUTDOWN_TIMEOUT, **options: Any) -> None:
        self._shutdown_timeout = checked_timeout("ssl_shutdown_timeout", ssl_shutdown_timeout)
        self._handlers: weakref.WeakSet[_EndingHandler] = weakref.WeakSet()
        super().__init__(**options)
        self._adapt()

    async def close(self, *, abort_ssl: bool = False) -> None:
        """Close all connections, and wait until they have ended.

        A cancelled call leaves them to end by themselves, each within the timeout.

        Args:
            abort_ssl: abort TLS connections instead.
        """
        await super().close(abort_ssl=abort_ssl)
        timeout = 0.0 if abort_ssl else self._shutdown_timeout
        closing = [handler for handler in self._handlers if handler.in_tls]
        if closing and timeout:
            await asyncio.wait([handler.lost for handler in closing], timeout=timeout + _GRACE)
        if late := [handler for handler in closing if handler.in_tls]:
            for handler in late:
                handler.abort_now()
            await asyncio.wait([handler.lost for handler in late], timeout=_GRACE)

    def _adapt(self) -> None:
        """Replace what has no public name in aiohttp: the class of a connection's protocol, and a deprecated timeout.

        Raises:
            RuntimeError: they are not there, or are other things.
        """
        factory = getattr(self, "_factory", None)
        handler = factory() if isinstance(factory, functools.partial) and factory.func is ResponseHandler else None
        known = (
            hasattr(handler, "_payload"),
            hasattr(handler, "_payload_parser"),
            hasattr(self, "_ssl_shutdown_timeout"),
            "abort_ssl" in inspect.signature(aiohttp.TCPConnector.close).parameters,
        )
        if not all(known):
            raise RuntimeError(
                f"bowout.aiohttp does not know the inside of aiohttp {aiohttp.__version__}; it knows those of "
                "aiohttp 3.12.15 to 3.14: install one of them, or a newer bowout"
            )
        make: Callable[..., ResponseHandler] = _EndingHandler
        self._factory = functools.partial(make, loop=self._loop, handlers=self._handlers)
        self._ssl_shutdown_timeout = self._shutdown_timeout
