"""The driver of a STARTTLS dialogue over a blocking socket."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bowout._starttls.negotiation import CHUNK, Negotiation

if TYPE_CHECKING:
    import socket


def negotiate(sock: socket.socket, protocol: str, *, host: str, name: str | None, deadline: float) -> None:
    """Agree with the server to change to TLS.

    Raises:
        StartTLSError: the server does not agree, ends the connection, or injects plain text before the handshake.
        TimeoutError: it has not agreed by `deadline`, a time of ``time.monotonic``.
        OSError: the connection is lost.
    """
    negotiation = Negotiation(protocol, host=host, name=name)
    try:
        while not negotiation.done:
            if data := negotiation.advance():
                _limit(sock, deadline)
                sock.sendall(data)
            elif not negotiation.done:
                _limit(sock, deadline)
                negotiation.receive(sock.recv(CHUNK))
    finally:
        negotiation.close()


def _limit(sock: socket.socket, deadline: float) -> None:
    """Limit the next call of `sock`. What has arrived by the deadline is still received."""
    sock.settimeout(max(1e-3, deadline - time.monotonic()))
