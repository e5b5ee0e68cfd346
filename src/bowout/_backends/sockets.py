"""A connected, non-blocking socket: what every event loop's transport has in common."""

from __future__ import annotations

import abc
import contextlib
import ipaddress
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

Endpoint = tuple[int, int, int, str, Any]
"""One row of ``getaddrinfo``: family, type, protocol, canonical name, address."""

#: The ioctl SIOCOUTQ: how many bytes TCP holds that the peer has not acknowledged, our FIN among them.
_SIOCOUTQ: Final = 0x5411


class SocketTransport(abc.ABC):
    """The calls of a transport that do not wait."""

    def __init__(self, sock: socket.socket, peer: str) -> None:
        sock.settimeout(0)
        with contextlib.suppress(OSError):  # A Unix socket has no such option, and needs none.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self.peer = peer or peer_name(sock)

    def receive_into(self, buffer: memoryview) -> int | None:
        try:
            return self._socket.recv_into(buffer)
        except (BlockingIOError, InterruptedError):
            return None

    def send(self, data: bytes | memoryview) -> int | None:
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return None

    def send_fin(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def unacknowledged(self) -> int | None:
        if sys.platform != "linux":
            return None
        import fcntl  # noqa: PLC0415  (not there on Windows)

        try:
            answer = fcntl.ioctl(self._socket.fileno(), _SIOCOUTQ, bytes(4))
        except (OSError, ValueError):  # ValueError: it is closed.
            return None
        return int.from_bytes(answer, sys.byteorder)

    def reset(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self.close()

    def close(self) -> None:
        self.wake()
        self._socket.close()

    def detach(self) -> socket.socket:
        self.wake()
        sock = socket.socket(fileno=self._socket.detach())
        sock.settimeout(0)  # The descriptor is so already, and the new object does not know.
        return sock

    @abc.abstractmethod
    def wake(self) -> None: ...

    async def wait_to_take(self, take: Callable[[], bool]) -> None:
        await self.wait(read=True, write=False)
        take()

    async def wait_to_give(self, give: Callable[[], bool]) -> None:  # noqa: ARG002  (there is time for it later)
        await self.wait(read=False, write=True)

    @abc.abstractmethod
    async def wait(self, *, read: bool, write: bool) -> None: ...


#: ``struct linger``: on, zero seconds; two ints, but two shorts on Windows.
_LINGER_NOT: Final = struct.pack("HH" if sys.platform == "win32" else "ii", 1, 0)


def numeric_address(host: str | None, port: int, flags: int = 0) -> list[Endpoint]:
    """What `host` stands for if it is an address and no name, without asking anybody; empty otherwise."""
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags | socket.AI_NUMERICHOST))
    except (socket.gaierror, ValueError):
        return []


def peer_name(sock: socket.socket) -> str:
    """``host:port`` of the peer, or the path of a Unix socket; empty where it has none."""
    try:
        address = sock.getpeername()
    except OSError:
        return ""
    if not isinstance(address, tuple):
        return address if isinstance(address, str) else ""
    return host_port(str(address[0]), int(address[1]))


def host_port(host: str, port: int) -> str:
    """``host:port``, with the brackets that an IPv6 address needs."""
    try:
        bare = ipaddress.ip_address(host.partition("%")[0]).version == 6
    except ValueError:
        bare = False
    return f"[{host}]:{port}" if bare else f"{host}:{port}"
