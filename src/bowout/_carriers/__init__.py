"""The byte streams that can carry TLS, told apart, and each behind the methods of `bowout.transport.ByteStream`."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING, Any, Final

from bowout._backends.byte_stream import ByteStreamTransport
from bowout._backends.sockets import take_over
from bowout._carriers.pair import PairCarrier
from bowout._carriers.tls import StreamFace, TLSCarrier
from bowout._stream import Stream
from bowout.errors import MisuseError
from bowout.transport import ByteStream

if TYPE_CHECKING:
    from bowout._backends import Backend, Transport

_ACCEPTED: Final = (
    "a connected socket.socket, a byte stream of anyio or trio, a bowout.Stream, an asyncio pair (reader, writer), "
    "or an object with the methods of bowout.transport.ByteStream"
)


def adapted(stream: object) -> ByteStream | None:
    """Return `stream` behind the methods of `ByteStream`; None for a socket, which needs no adapter.

    Raises:
        TypeError: `stream` cannot carry TLS.
    """
    if isinstance(stream, socket.socket):
        return None
    if isinstance(stream, Stream):
        return TLSCarrier(stream)
    if isinstance(stream, StreamFace):  # As a stream of its library it would hide what it can do.
        return TLSCarrier(stream.stream)
    if isinstance(stream, tuple):
        return PairCarrier.of(stream)
    for adapt in (_anyio, _trio):
        if (carrier := adapt(stream)) is not None:
            return carrier
    if isinstance(stream, ByteStream) and not isinstance(stream, type):
        return stream
    raise TypeError(f"{type(stream).__name__} cannot carry TLS: give {_ACCEPTED}")


def _anyio(stream: object) -> ByteStream | None:
    if "anyio" not in sys.modules:  # Then it is not one of anyio's.
        return None
    from bowout._carriers.anyio import adapt  # noqa: PLC0415  (anyio is the caller's)

    return adapt(stream)


def _trio(stream: object) -> ByteStream | None:
    if "trio" not in sys.modules:
        return None
    from bowout._carriers.trio import adapt  # noqa: PLC0415  (trio is an extra)

    return adapt(stream)


def transport(backend: Backend, stream: Any, peer: str) -> Transport:
    """Make a transport over `stream`, which is a socket or passes `adapted`, and belongs to the transport from now on.

    Raises:
        MisuseError: `stream` belongs to another library than the one that runs the event loop.
    """
    carrier = adapted(stream)
    if carrier is None:
        return backend.transport(take_over(stream), peer)
    check_library(backend, stream, carrier)
    return ByteStreamTransport(backend, carrier, stream, peer)


def check_library(backend: Backend, stream: object, carrier: ByteStream) -> None:
    """Raise MisuseError if `stream` belongs to another library than the one that runs the event loop."""
    library = backend.library if carrier is stream else getattr(carrier, "library", backend.library)
    if library != backend.library:
        kind = (
            "an asyncio pair (reader, writer)" if isinstance(stream, tuple) else f"{library}'s {type(stream).__name__}"
        )
        raise MisuseError(
            f"{kind} cannot be used here: {library} has to run the event loop, and it is {backend.library}'s"
        )
