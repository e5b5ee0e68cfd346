"""A connected, non-blocking socket: what every event loop's transport has in common."""

from __future__ import annotations

import abc
import contextlib
import errno
import math
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, Any, Final

from bowout._escape import escape
from bowout._names import ascii_name, host_of, host_port, ipv6
from bowout.errors import MisuseError

if TYPE_CHECKING:
    from collections.abc import Callable

Endpoint = tuple[int, int, int, str, Any]
"""One row of ``getaddrinfo``: family, type, protocol, canonical name, address."""

#: Linux takes no more seconds than these.
_MOST_KEEPALIVE: Final = 32767
#: The socket's options, where the system has them, and the part of the period that each is: once a peer has not
#: answered, it is asked more often.
_KEEPALIVE_OPTIONS: Final = [
    (getattr(socket, name), part) for name, part in (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 4)) if hasattr(socket, name)
]
#: The ioctl SIOCOUTQ: how many bytes TCP holds that the peer has not acknowledged, our FIN among them.
_SIOCOUTQ: Final = 0x5411


def take_over(sock: socket.socket) -> socket.socket:
    """Move the descriptor into a socket of our own, as `ssl.SSLContext.wrap_socket` does.

    The caller's object is closed from then on, so nothing done to it can close the descriptor behind a stream.
    """
    return socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())


def belongs_elsewhere(*, running: bool) -> MisuseError:
    """The error for a wait on another event loop than the stream's own, which still runs or does not."""
    return MisuseError(
        f"this stream belongs to another event loop, which is {'still running' if running else 'over'}: "
        "asyncio.run_coroutine_threadsafe() or trio.from_thread.run() reach a loop from another thread, "
        "and close() ends a stream whose loop is over"
    )


class SocketTransport(abc.ABC):
    """The calls of a transport that do not wait."""

    def __init__(self, sock: socket.socket, peer: str) -> None:
        if sock.gettimeout() != 0:
            sock.settimeout(0)
        with contextlib.suppress(OSError):  # A Unix socket has no such option, and needs none.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._fin_sent = False
        self._process = os.getpid()
        self.peer = peer or peer_name(sock)

    @property
    def sock(self) -> socket.socket | None:
        return self._socket if self._socket.fileno() >= 0 else None

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
        self._fin_sent = True
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
        if self._is_ours():
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._fin_sent = True  # It would come before the RST.
        self.close()

    def close(self) -> None:
        self.wake()
        # A copy of the descriptor in another process would keep the peer waiting for the FIN that closing means.
        if not self._fin_sent and self._socket.fileno() >= 0 and self._is_ours():
            self.send_fin()
        with contextlib.suppress(OSError):  # It was closed behind our back, by its number.
            self._socket.close()

    def _is_ours(self) -> bool:
        """Whether this process made the transport: a forked child closes its copy, and ends nothing for its parent."""
        return self._process == os.getpid()

    def drop(self) -> None:
        with contextlib.suppress(OSError):
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


#: A second call of connect() tells whether the first is done. Elsewhere that would use up the error of one that failed.
_LOOKS_AGAIN: Final = sys.platform == "linux"
_UNDER_WAY: Final = frozenset({errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK})


def new_socket(endpoint: Endpoint) -> tuple[socket.socket, Any]:
    """A non-blocking socket that can be connected to `endpoint`, and the address to connect it to."""
    family, kind, protocol, _, address = endpoint
    sock = socket.socket(family, kind, protocol)
    sock.settimeout(0)
    return sock, address


def begin_to_connect(sock: socket.socket, address: Any) -> bool:
    """Begin to connect; tell whether that is done, as over loopback it is at once.

    If not, wait until the socket is writable, and call `check_connected`.

    Raises:
        OSError: there will be no connection.
    """
    number = sock.connect_ex(address)
    if number in _UNDER_WAY and _LOOKS_AGAIN:
        number = sock.connect_ex(address)
    if number and number not in _UNDER_WAY:
        raise OSError(number, os.strerror(number))
    return not number


def check_connected(sock: socket.socket) -> None:
    """Raise OSError if the attempt to connect `sock`, which has become writable, failed."""
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, os.strerror(number))


def numeric_address(host: str | None, port: int, flags: int = 0) -> list[Endpoint]:
    """What `host` stands for if it is an address and no name, without asking anybody; empty otherwise."""
    if host and host[-1].isdigit():  # The usual way to write one needs no getaddrinfo(), either.
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(socket.AF_INET, host)
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags | socket.AI_NUMERICHOST))
    except (socket.gaierror, ValueError):
        return []


def with_zone(endpoint: Endpoint) -> Endpoint:
    """The same endpoint, with the zone of a link-local address in its host, too: uvloop looks for it there alone."""
    family, kind, protocol, name, address = endpoint
    return (family, kind, protocol, name, (host_of(address), *address[1:]))


def is_unix(sock: socket.socket | None) -> bool:
    """Tell whether it is a Unix socket: of one, the kernel counts the memory that its bytes take, and not the bytes."""
    return sock is not None and sock.family == getattr(socket, "AF_UNIX", None)


def address_of(ask: Callable[[], Any]) -> Any:
    """What ``getsockname`` or ``getpeername`` gives, with the zone of a link-local host; None where there is none."""
    try:
        address = ask()
    except OSError:
        return None
    return (host_of(address), *address[1:]) if isinstance(address, tuple) else address


def peer_name(sock: socket.socket) -> str:
    """``host:port`` of the peer, or the path of a Unix socket, escaped; empty where it has none."""
    try:
        address = sock.getpeername()
    except OSError:
        return ""
    if not isinstance(address, tuple):
        # The peer has chosen it: whatever is in it, it must not forge a line of a log.
        return escape(os.fsdecode(address))
    return host_port(host_of(address), int(address[1]))


def resolvable(host: str) -> str:
    """The name that a resolver is to be asked for: in ASCII by IDNA 2008, and not by the codec of ``getaddrinfo``.

    Raises:
        socket.gaierror: it is no name.
    """
    if ipv6(host) is not None:  # Then it would have been found: uvloop takes an unknown zone for none.
        raise socket.gaierror(socket.EAI_NONAME, "this machine has no such zone")
    try:
        return ascii_name(host)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, f"it is not a host name ({error})") from error


def keep_alive(sock: socket.socket, seconds: float) -> None:
    """Have the kernel ask whether the peer is still there when it has been silent for so long (RFC 9293 section 3.8.4).

    A socket that has it already stays as it is.
    """
    with contextlib.suppress(OSError):  # A Unix socket has no such option, and needs none.
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, part in _KEEPALIVE_OPTIONS:
            sock.setsockopt(socket.IPPROTO_TCP, option, min(math.ceil(seconds / part), _MOST_KEEPALIVE))
