"""The transport under TLS: what is needed of any asyncio transport, and what only those over a socket can do."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from bowout._backends.forks import generation
from bowout._backends.sockets import is_unix, reset_on_close, unacknowledged_bytes
from bowout._names import host_of, host_port
from bowout._text import escape

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

#: The modules of the transports that own a socket, read it only when bytes have arrived, and use the memory of
#: ``get_buffer`` at once. The proactor's asks for memory before the bytes arrive.
_SOCKET_TRANSPORTS: Final = frozenset({"asyncio.selector_events", "uvloop.loop"})


class UnderlyingTransport:
    """A transport, as the driver of TLS over it needs it.

    Args:
        loop: the event loop.
        transport: any `asyncio.Transport`, whose protocol is the driver.

    Attributes:
        is_socket: whether it is a socket's own transport, and not itself TLS or a channel of another protocol.
        in_flight: number of bytes of the last write that the transport has buffered and not passed on.
        lost: whether it has ended: ``connection_lost`` was called.
        peer: the peer's name for people: ``host:port``, or the path of a Unix socket, escaped.
        resuming: whether it is calling ``resume_writing``.
    """

    __slots__ = ("_generation", "_loop", "_reading", "_transport", "in_flight", "is_socket", "lost", "peer", "resuming")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._generation = generation.number
        self._reading = True
        # uvloop's own TLS transports are in the same module as those over sockets.
        self.is_socket: bool = (
            type(transport).__module__ in _SOCKET_TRANSPORTS and transport.get_extra_info("sslcontext") is None
        )
        self.in_flight: int = 0
        self.lost: bool = False
        self.peer: str = _name_of(transport.get_extra_info("peername"))
        self.resuming: bool = False
        with contextlib.suppress(NotImplementedError, AttributeError):
            transport.set_write_buffer_limits(high=0)  # So it reports when it has passed on what it had buffered.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what the transport knows."""
        return self._transport.get_extra_info(name, default)

    # -- moving bytes --------------------------------------------------------------------------------------------

    def carry(self, lane: Any) -> None:
        """Let `lane` write to the transport, as `write` does, until it is left."""
        transport = self._transport
        lane.use_transport(transport.write, transport.get_write_buffer_size, transport.is_closing)

    def write(self, data: bytes | memoryview) -> int | None:
        """Pass `data` on; return how much of it has left the transport, None if the transport is closing.

        The rest is `in_flight`, until the transport calls ``resume_writing``.
        """
        transport = self._transport
        if transport.is_closing():
            return None
        transport.write(data)
        if transport.is_closing():
            return None  # It is unknown how much it took; connection_lost() will tell why.
        left = transport.get_write_buffer_size()
        if not left:
            return len(data)
        self.in_flight = min(left, len(data))
        return len(data) - self.in_flight

    def read(self, *, on: bool) -> None:
        """Read, or do not."""
        if on != self._reading and not (self.lost or self._transport.is_closing()):
            self._reading = on
            if on:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # -- the end -------------------------------------------------------------------------------------------------

    def send_fin(self) -> None:
        """End our direction, if the transport can. Never raises: a lost connection needs no FIN."""
        transport = self._transport
        if not (self.lost or transport.is_closing()) and transport.can_write_eof():
            with contextlib.suppress(OSError):
                transport.write_eof()

    def unacknowledged(self) -> int | None:
        """Count the bytes that the peer's kernel has not acknowledged; None if unknown."""
        if not self.is_socket or self.lost:
            return None
        sock = self._transport.get_extra_info("socket")
        return None if sock is None else unacknowledged_bytes(sock)

    @property
    def counts_bytes(self) -> bool:
        """Whether `unacknowledged` returns a number of bytes; otherwise only its 0 is meaningful."""
        return not is_unix(self._transport.get_extra_info("socket"))

    def close(self) -> None:
        """Close; drop what is in flight. The transport calls ``connection_lost`` after that."""
        if not self.lost:
            self._end(self._transport.abort if self.in_flight else self._transport.close)

    def reset(self) -> None:
        """Close with an RST, if it is a socket; drop what is in flight."""
        if not self.lost:
            if self.is_socket and self._generation == generation.number:
                # Where no descriptor is left to copy it, the transport must be closed all the same, with a FIN.
                with contextlib.suppress(OSError), self._socket() as sock:
                    reset_on_close(sock)
            self._end(self._transport.abort)

    def _end(self, call: Callable[[], None]) -> None:
        """Run `call`; soon, if the transport is calling us: asyncio's would call ``connection_lost`` twice."""
        if self.resuming:
            self._loop.call_soon(call)
        else:
            call()

    @contextlib.contextmanager
    def _socket(self) -> Iterator[socket.socket]:
        """Give the socket for a moment; uvloop shows only a stand-in that has no options to set."""
        shown = self._transport.get_extra_info("socket")
        with socket.socket(fileno=os.dup(shown.fileno())) as sock:
            yield sock


def _name_of(address: Any) -> str:
    """Return a peer's name for people; its address is what the transport gave."""
    if isinstance(address, tuple) and len(address) > 1:
        return host_port(host_of(address), int(address[1]))
    return escape(os.fsdecode(address)) if isinstance(address, str | bytes) else ""
