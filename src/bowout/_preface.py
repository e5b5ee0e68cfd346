"""What comes before the handshake of a server's connection: the PROXY protocol's header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bowout._proxy_protocol import BadProxyHeader, ProxyHeaderReader
from bowout.errors import HandshakeError, HandshakeReset, HandshakeTruncated

if TYPE_CHECKING:
    from bowout._backends import Transport
    from bowout._connection import Connection
    from bowout._proxy_protocol import ProxyHeader

_CHUNK: Final = 256


async def receive_proxy_header(transport: Transport, connection: Connection) -> None:
    """Receive the header, and nothing after it; make the client that it names the peer. The caller bounds the time.

    Raises:
        HandshakeError: there is none, or a bad one, or the connection has ended.
        StreamClosed: we have ended it.

    Cancelling it leaves its reason for the ending.
    """
    try:
        header = await _receive(transport, connection)
    except connection.backend.cancellations:
        connection.note_reason("its PROXY header did not come")
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
            connection.check_staying()  # It was us who closed it.
            connection.engine.receive_reset(error.strerror or "")
            raise _failure(connection, HandshakeReset, "the peer left before its PROXY header came") from error
        except BadProxyHeader as error:
            raise _failure(connection, HandshakeError, f"no good PROXY header: {error}") from error
        if count is None:
            await transport.wait(read=True, write=False)
            connection.check_staying()
        elif not count:
            connection.engine.receive_eof()
            raise _failure(connection, HandshakeTruncated, "the peer left before its PROXY header came")
    return reader.header


async def turn_away(connection: Connection) -> None:
    """Refuse a client of which is not known whether a proxy speaks for it."""
    raise _failure(connection, HandshakeError, "proxy_protocol failed: it is not known whether a proxy speaks")


def _failure(connection: Connection, kind: type[HandshakeError], text: str) -> HandshakeError:
    """Latch why there will be no handshake, for the ending."""
    connection.engine.give_up(lambda: kind(text))
    return kind(text)
