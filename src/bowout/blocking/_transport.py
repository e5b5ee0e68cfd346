"""The socket under a blocking connection."""

from __future__ import annotations

import socket
import weakref
from typing import TYPE_CHECKING, Any, cast

from bowout._backends.sockets import SocketCalls

if TYPE_CHECKING:
    from bowout.blocking._monitor import Monitor


class PolledTransport(SocketCalls):
    """A non-blocking socket whose waits are those of a `Monitor`.

    Attributes:
        sent: number of bytes that the kernel took.
    """

    def __init__(self, sock: socket.socket, peer: str, monitor: Monitor) -> None:
        super().__init__(sock, peer)
        self._monitor = monitor
        self.sent: int = 0

    def send(self, data: bytes | memoryview) -> int | None:
        count = super().send(data)
        self.sent += count or 0
        return count

    def fileno(self) -> int:
        """Return the descriptor; -1 after the end."""
        return self._socket.fileno()

    def wake(self) -> None:
        self._monitor.wake()


class Underneath:
    """The plain socket that an `ssl.SSLSocket` is, too, for its TLS: each call is that of the class written in C.

    Args:
        owner: the `ssl.SSLSocket`. It is not kept alive, so that both go together.
    """

    __slots__ = ("_owner", "family")

    def __init__(self, owner: socket.socket) -> None:
        self._owner = weakref.ref(owner)
        self.family: int = owner.family

    def as_socket(self) -> socket.socket:
        """Return this object as what it stands for."""
        return cast("socket.socket", self)

    def _sock(self) -> Any:
        owner = self._owner()
        if owner is None:  # Only its finalizer can have asked.
            raise OSError("the socket is gone")
        return owner

    def fileno(self) -> int:
        owner = self._owner()
        return -1 if owner is None else owner.fileno()

    def recv_into(self, buffer: memoryview) -> int:
        return socket.SocketType.recv_into(self._sock(), buffer)

    def send(self, data: bytes | memoryview) -> int:
        return socket.SocketType.send(self._sock(), data)

    def shutdown(self, how: int) -> None:
        socket.SocketType.shutdown(self._sock(), how)

    def close(self) -> None:
        socket.SocketType.close(self._sock())

    def getsockopt(self, *arguments: Any) -> Any:
        return self._sock().getsockopt(*arguments)

    def setsockopt(self, *arguments: Any) -> None:
        self._sock().setsockopt(*arguments)

    def getpeername(self) -> Any:
        return self._sock().getpeername()

    def getsockname(self) -> Any:
        return self._sock().getsockname()
