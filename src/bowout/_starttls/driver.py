"""The driver of a STARTTLS dialogue over a transport."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bowout._starttls.negotiation import CHUNK, Negotiation

if TYPE_CHECKING:
    from bowout._backends import Transport


async def negotiate(transport: Transport, protocol: str, *, host: str, name: str | None) -> None:
    """Agree with the server to change to TLS. The caller limits the time.

    Raises:
        StartTLSError: the server does not agree, ends the connection, or injects plain text before the handshake.
        OSError: the connection is lost.
    """
    negotiation = Negotiation(protocol, host=host, name=name)
    try:
        while not negotiation.done:
            if data := negotiation.advance():
                await _send(transport, memoryview(data))
            elif not negotiation.done:
                negotiation.receive(await _read(transport))
    finally:
        negotiation.close()


async def _send(transport: Transport, data: memoryview) -> None:
    while len(data):
        count = transport.send(data)
        if count is None:
            await transport.wait(read=False, write=True)
        else:
            data = data[count:]


async def _read(transport: Transport) -> memoryview:
    chunk = memoryview(bytearray(CHUNK))
    while (count := transport.receive_into(chunk)) is None:
        await transport.wait(read=True, write=False)
    return chunk[:count]
