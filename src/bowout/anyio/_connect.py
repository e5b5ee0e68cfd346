"""Connecting under the names that anyio has for it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc

from bowout._adapters import check_keywords
from bowout._arguments import check_flag, check_has, checked_port
from bowout._backends.sockets import HAPPY_EYEBALLS_DELAY
from bowout._client import connect, default_context
from bowout.anyio._stream import TRUNCATION, TLSStream, handshake_translated, wrap_options

if TYPE_CHECKING:
    import ssl
    from typing import Unpack

    from bowout._adapters import StreamKeywords


async def connect_tcp(
    remote_host: str | IPv4Address | IPv6Address,
    remote_port: int,
    *,
    local_host: str | IPv4Address | IPv6Address | None = None,
    local_port: int | None = None,
    tls: bool = True,
    ssl_context: ssl.SSLContext | None = None,
    tls_standard_compatible: bool = True,
    tls_hostname: str | None = None,
    happy_eyeballs_delay: float = HAPPY_EYEBALLS_DELAY,
    connect_timeout: float = 30.0,
    **options: Unpack[StreamKeywords],
) -> TLSStream:
    """Connect to a TLS server, and perform the handshake, as ``anyio.connect_tcp`` does with ``tls=True``.

        async with await bowout.anyio.connect_tcp("example.org", 443) as stream: ...

    Args:
        remote_host: a name or an address; every address of a name is tried, by Happy Eyeballs (RFC 8305).
        remote_port: the TCP port.
        local_host: name or address of this machine to connect from.
        local_port: port to connect from; only with `local_host`.
        tls: always True here; ``anyio.connect_tcp`` makes plain connections.
        ssl_context: the TLS configuration; None for the system's trust store.
        tls_standard_compatible: as ``standard_compatible`` for `TLSStream.wrap`.
        tls_hostname: the name for SNI and for the check of the certificate; None for `remote_host`.
        happy_eyeballs_delay: seconds after which the next address is tried beside those that have not answered.
        connect_timeout: seconds for resolving and connecting.
        options: see `StreamKeywords`.

    Raises:
        TypeError, ValueError: invalid arguments; raised before anything is opened.
        OSError: there is no connection; it is a `bowout.ConnectError`.
        ssl.SSLError: the handshake failed; it is a `bowout.HandshakeError`.
        anyio.BrokenResourceError: the peer left during the handshake.

    Cancelling it leaves no descriptor open.
    """
    check_keywords(options, TRUNCATION)
    check_flag("tls", tls)
    check_flag("tls_standard_compatible", tls_standard_compatible)
    if not tls:
        raise ValueError("bowout.anyio.connect_tcp() always speaks TLS: anyio.connect_tcp() makes plain connections")
    if local_port is not None and checked_port(local_port, least=0) and local_host is None:
        raise ValueError("local_port needs local_host: give the address that the port belongs to, too")
    connecting = connect(
        _as_text(remote_host),
        remote_port,
        context=ssl_context,
        server_hostname=None if tls_hostname == "" else tls_hostname,
        local_address=None if local_host is None else (_as_text(local_host), 0 if local_port is None else local_port),
        happy_eyeballs_delay=happy_eyeballs_delay,
        connect_timeout=connect_timeout,
        truncation="raise" if tls_standard_compatible else "tolerate",
        **options,
    )
    with handshake_translated:
        return TLSStream.from_stream(await connecting, standard_compatible=tls_standard_compatible)


def _as_text(host: Any) -> Any:
    """Return an address of the module `ipaddress` as text; anything else stays for the check."""
    return str(host) if isinstance(host, IPv4Address | IPv6Address) else host


class TLSConnectable(anyio.abc.ByteStreamConnectable):
    """Performs a handshake over what another connectable connects, in place of ``anyio.streams.tls.TLSConnectable``.

    Args:
        connectable: any connectable of byte streams.
        hostname, ssl_context, standard_compatible: as for a client's `TLSStream.wrap`.
        options: see `StreamKeywords`.

    Raises:
        TypeError, ValueError: invalid arguments.

    Attributes:
        connectable, hostname, ssl_context, standard_compatible: the arguments; the context is never None.
    """

    def __init__(
        self,
        connectable: anyio.abc.AnyByteStreamConnectable,
        *,
        hostname: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
        standard_compatible: bool = True,
        **options: Unpack[StreamKeywords],
    ) -> None:
        check_has("connectable", connectable, "connect", "a connectable of anyio")
        self.connectable: anyio.abc.AnyByteStreamConnectable = connectable
        self.hostname: str | None = hostname
        self.ssl_context: ssl.SSLContext = default_context() if ssl_context is None else ssl_context
        self.standard_compatible: bool = standard_compatible
        self._options = options
        wrap_options(
            server_side=False,
            hostname=hostname,
            ssl_context=self.ssl_context,
            standard_compatible=standard_compatible,
            options=options,
        )

    async def connect(self) -> TLSStream:
        """Connect, and perform the handshake.

        Raises:
            OSError: there is no connection.
            As `TLSStream.wrap`.

        Cancelling it leaves nothing open.
        """
        stream = await self.connectable.connect()
        try:
            return await TLSStream.wrap(
                stream,
                server_side=False,
                hostname=self.hostname,
                ssl_context=self.ssl_context,
                standard_compatible=self.standard_compatible,
                **self._options,
            )
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise
