"""The part of a server's connection before the handshake: the PROXY protocol's header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bowout._server.proxy_protocol import BadProxyHeader, ProxyHeaderReader
from bowout.errors import HandshakeError, HandshakeReset, HandshakeTruncated

if TYPE_CHECKING:
    from bowout._backends import Transport
    from bowout._connection.connection import Connection
    from bowout._server.proxy_protocol import ProxyHeader

_CHUNK: Final = 256


async def receive_proxy_header(transport: Transport, connection: Connection) -> None:
    """Receive the header, and nothing after it; set the peer to the client that it names. The caller limits the time.

    Raises:
        HandshakeError: there is no header, or an invalid one, or the connection has ended.
        StreamClosed: we have ended it.

    If it is cancelled, it records a reason for the ending.
    """
    try:
        header = await _receive(transport, connection)
    except connection.backend.cancellations:
        connection.closer.note_reason("its PROXY header did not come")
        raise
    transport.peer = header.peer or transport.peer


async def _receive(transport: Transport, connection: Connection) -> ProxyHeader:
    reader, scratch = ProxyHeaderReader(), memoryview(bytearray(_CHUNK))
    while reader.header is None:
        piece = scratch[: min(reader.wanted, _CHUNK)]
        try:
            count = transport.receive_into(piece)
            if count:
                reader.feed(piece[:count])
        except OSError as error:
            connection.closer.check_staying()  # We have closed the connection.
            connection.engine.receive_reset(error.strerror or "")
            raise _failure(connection, HandshakeReset, "the peer left before its PROXY header came") from error
        except BadProxyHeader as error:
            raise _failure(connection, HandshakeError, f"invalid PROXY header: {error}") from error
        if count is None:
            await transport.wait(read=True, write=False)
            connection.closer.check_staying()
        elif not count:
            connection.engine.receive_eof()
            raise _failure(connection, HandshakeTruncated, "the peer left before its PROXY header came")
    return reader.header


async def turn_away(connection: Connection) -> None:
    """Refuse a client of which it is unknown whether it is a proxy."""
    raise _failure(connection, HandshakeError, "proxy_protocol failed: it is unknown whether the peer is a proxy")


def _failure(connection: Connection, kind: type[HandshakeError], text: str) -> HandshakeError:
    """Record the reason of the failed handshake for the ending."""
    connection.engine.give_up(lambda: kind(text))
    return kind(text)
