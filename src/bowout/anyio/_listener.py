"""A listener of anyio whose connections are TLS."""

from __future__ import annotations

import logging
from functools import wraps
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
from anyio.streams.tls import TLSAttribute

from bowout._arguments import check_has, checked_timeout
from bowout._server.handlers import check_handler
from bowout._text import escape
from bowout.anyio._stream import TLSStream, wrap_options
from bowout.errors import HandshakeError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from typing import Unpack

    from bowout._adapters import EndKeywords

_log = logging.getLogger("bowout.anyio")


class TLSListener(anyio.abc.Listener[TLSStream]):
    """A listener whose connections are TLS, in place of ``anyio.streams.tls.TLSListener``.

    When the handshake of a connection fails or times out, `handle_handshake_error` is called; override it to do
    something else.

    Args:
        listener: any listener of byte streams.
        ssl_context: the server's TLS configuration.
        standard_compatible: as for `TLSStream.wrap`.
        handshake_timeout: seconds for a handshake.
        options: see `EndKeywords`.

    Raises:
        TypeError, ValueError: invalid arguments.

    Attributes:
        listener, ssl_context, standard_compatible, handshake_timeout: the arguments.
    """

    def __init__(
        self,
        listener: anyio.abc.Listener[Any],
        ssl_context: ssl.SSLContext,
        standard_compatible: bool = True,  # noqa: FBT001, FBT002  (as in anyio)
        handshake_timeout: float = 30.0,
        **options: Unpack[EndKeywords],
    ) -> None:
        wrap_options(
            server_side=True,
            hostname=None,
            ssl_context=ssl_context,
            standard_compatible=standard_compatible,
            options=options,
        )
        checked_timeout("handshake_timeout", handshake_timeout)
        check_has("listener", listener, "serve", "a listener of anyio")
        self.listener: anyio.abc.Listener[Any] = listener
        self.ssl_context: ssl.SSLContext = ssl_context
        self.standard_compatible: bool = standard_compatible
        self.handshake_timeout: float = handshake_timeout
        self._options: EndKeywords = options

    @staticmethod
    async def handle_handshake_error(exc: BaseException, stream: anyio.abc.AnyByteStream) -> None:
        """Handle `exc`, which ended a handshake.

        Close `stream` at once. Log a peer's fault in one line, at level INFO, and any other exception with its
        traceback (logger ``bowout.anyio``). Raise a cancellation again, and what else is no `Exception`.

        Args:
            exc: the exception; that of a handshake has its `bowout.Ending`, or its cause has.
            stream: the accepted stream.
        """
        await anyio.aclose_forcefully(stream)
        if isinstance(exc, anyio.get_cancelled_exc_class()) or not isinstance(exc, Exception):
            raise exc
        if isinstance(exc, HandshakeError | anyio.BrokenResourceError):
            _log.info("the TLS handshake failed: %s", escape(str(exc)))
        else:
            _log.error("the TLS handshake failed", exc_info=exc)

    async def serve(self, handler: Callable[[TLSStream], Any], task_group: anyio.abc.TaskGroup | None = None) -> None:
        """Accept connections until cancelled; after its handshake, each is passed to `handler` in a task of its own.

        Args:
            handler: coroutine function; the stream is its own, to close or to give away.
            task_group: for the tasks; None for one that ends with this call.
        """
        check_handler(handler)

        @wraps(handler)
        async def handle(stream: anyio.abc.AnyByteStream) -> None:
            try:
                tls = await TLSStream.wrap(
                    stream,
                    server_side=True,
                    ssl_context=self.ssl_context,
                    standard_compatible=self.standard_compatible,
                    handshake_timeout=self.handshake_timeout,
                    **self._options,
                )
            except BaseException as exc:  # noqa: BLE001  (the hook raises what must not be lost)
                await self.handle_handshake_error(exc, stream)
            else:
                await handler(tls)

        await self.listener.serve(handle, task_group)

    async def aclose(self) -> None:
        """Close the listener underneath; accepted connections go on."""
        await self.listener.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """``TLSAttribute.standard_compatible``, and the attributes of the listener underneath."""
        return {
            **self.listener.extra_attributes,
            TLSAttribute.standard_compatible: lambda: self.standard_compatible,
        }
