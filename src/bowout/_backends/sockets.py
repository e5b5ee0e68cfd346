"""A connected, non-blocking socket: the common part of every event loop's transport."""

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

from bowout._names import ascii_name, host_of, host_port, ipv6
from bowout._text import escape
from bowout.errors import MisuseError

if TYPE_CHECKING:
    from collections.abc import Callable

Endpoint = tuple[int, int, int, str, Any]
"""One row of ``getaddrinfo``: family, type, protocol, canonical name, address."""

#: Delay between two connection attempts, in seconds, as RFC 8305 section 8 recommends.
HAPPY_EYEBALLS_DELAY: Final = 0.25
#: Maximum keepalive period that Linux accepts, in seconds.
_MOST_KEEPALIVE: Final = 32767
#: The socket's keepalive options, if the system has them, and the divisor of the period for each: after a missing
#: answer, the probes are more frequent.
_KEEPALIVE_OPTIONS: Final = [
    (getattr(socket, name), part) for name, part in (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 4)) if hasattr(socket, name)
]
#: The ioctl SIOCOUTQ of Linux (tcp(7)).
_SIOCOUTQ: Final = 0x5411
#: ``struct linger``: on, zero seconds; two ints, but two shorts on Windows.
_LINGER_NOT: Final = struct.pack("HH" if sys.platform == "win32" else "ii", 1, 0)


def unacknowledged_bytes(sock: socket.socket) -> int | None:
    """Count the bytes that the peer has not acknowledged, including our FIN; None if the kernel cannot tell."""
    if sys.platform != "linux":
        return None
    import fcntl  # noqa: PLC0415  (absent on Windows)

    try:
        answer = fcntl.ioctl(sock.fileno(), _SIOCOUTQ, bytes(4))
    except (OSError, ValueError):  # ValueError: the socket is closed.
        return None
    return int.from_bytes(answer, sys.byteorder)


def reset_on_close(sock: socket.socket) -> None:
    """Make the closing of `sock` send RST, even with unsent or unread bytes."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)


def take_over(sock: socket.socket) -> socket.socket:
    """Move the descriptor into a socket of our own, as `ssl.SSLContext.wrap_socket` does.

    The caller's object is closed from then on, so that its use cannot close the stream's descriptor.
    """
    return socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())


def not_blocking(sock: socket.socket) -> None:
    """Prepare `sock` for a connection of ours: it never blocks, and sends small messages at once."""
    if sock.gettimeout() != 0:
        sock.settimeout(0)
    with contextlib.suppress(OSError):  # A Unix socket has no such option, and needs none.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def belongs_elsewhere(*, running: bool) -> MisuseError:
    """Make the error for a wait on another event loop than the stream's own; `running`: that one still runs."""
    return MisuseError(
        f"this stream belongs to another event loop, which is {'still running' if running else 'over'}: "
        "asyncio.run_coroutine_threadsafe() or trio.from_thread.run() reach a loop from another thread, "
        "and close() ends a stream whose loop is over"
    )


class SocketCalls(abc.ABC):
    """The calls of a non-blocking socket that do not wait."""

    acts_at_once = True
    lacks = ""

    def __init__(self, sock: socket.socket, peer: str) -> None:
        self._socket = sock
        self._fin_sent = False
        self._process = os.getpid()
        self.peer: str = peer or peer_name(sock)

    @property
    def carries_lane(self) -> bool:
        return False

    def begin_lane(self, lane: Any) -> bool:
        raise NotImplementedError("it carries no lane")

    def end_lane(self, *, watched: bool) -> None:
        raise NotImplementedError("it carries no lane")

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

    def call_when_sent(self, call: Callable[[], object]) -> None:  # noqa: B027  (`send` sends at once)
        pass

    def send_fin(self) -> bool:
        self._fin_sent = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        return True

    def unacknowledged(self) -> int | None:
        return unacknowledged_bytes(self._socket)

    def get_extra_info(self, name: str) -> Any:  # noqa: ARG002  (the socket knows its addresses)
        return None

    def reset(self) -> bool:
        if self._is_ours():
            reset_on_close(self._socket)
        self._fin_sent = True  # A FIN would come before the RST.
        self.close()
        return True

    def close(self, *, deadline: float = 0.0) -> None:  # noqa: ARG002  (a descriptor is closed at once)
        self.wake()
        # A copy of the descriptor in another process would delay the FIN that closing sends.
        if not self._fin_sent and self._socket.fileno() >= 0 and self._is_ours():
            self.send_fin()
        with contextlib.suppress(OSError):  # It was closed elsewhere, by its number.
            self._socket.close()

    def _is_ours(self) -> bool:
        """Tell whether this process made the transport: a forked child only closes its copy of the descriptor."""
        return self._process == os.getpid()

    def drop(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()

    def leave_to_parent(self) -> None:
        # No loop is told: what it watches for the parent, by epoll for example, it watches for the child, too.
        with contextlib.suppress(OSError):
            self._socket.close()

    async def catch_up(self) -> bool:
        return False  # A receive asks the kernel itself.

    async def wait_closed(self) -> None:
        return  # `close` has done it.

    async def detach(self) -> tuple[socket.socket, bytes]:
        return self.hand_over(), b""

    def hand_over(self) -> socket.socket:
        """End every wait, and return the descriptor in a socket of the caller's."""
        self.wake()
        sock = socket.socket(fileno=self._socket.detach())
        sock.settimeout(0)  # The descriptor is non-blocking already; the new object must know it.
        return sock

    @abc.abstractmethod
    def wake(self) -> None: ...


class SocketTransport(SocketCalls):
    """A transport over a socket: its options, and the waits that are made of one."""

    def __init__(self, sock: socket.socket, peer: str) -> None:
        not_blocking(sock)
        super().__init__(sock, peer)

    async def wait_readable(self, take: Callable[[], bool]) -> None:
        await self.wait(read=True, write=False)
        take()

    async def wait_writable(self, give: Callable[[], bool]) -> None:  # noqa: ARG002  (subclasses may use it)
        await self.wait(read=False, write=True)

    @abc.abstractmethod
    async def wait(self, *, read: bool, write: bool) -> None: ...


#: Whether a second call of connect() shows if the first is done. On other systems it would consume the error of a
#: failed one.
CONNECTS_TWICE: Final = sys.platform == "linux"
_UNDER_WAY: Final = frozenset({errno.EINPROGRESS, errno.EALREADY, errno.EWOULDBLOCK})


def new_socket(endpoint: Endpoint) -> tuple[socket.socket, Any]:
    """Make a non-blocking socket for `endpoint`; return it with the address to connect it to."""
    family, kind, protocol, _, address = endpoint
    sock = socket.socket(family, kind, protocol)
    sock.settimeout(0)
    return sock, address


def bind_to_any(sock: socket.socket, local: list[Endpoint]) -> None:
    """Bind `sock` to the first address of `local` that has its family.

    Raises:
        OSError: there is none, or it is not an address of this machine.
    """
    for family, _, _, _, address in local:
        if family == sock.family:
            sock.bind(address)
            return
    raise OSError(errno.EADDRNOTAVAIL, "the local address is of another family than the remote one")


def begin_to_connect(sock: socket.socket, address: Any) -> bool:
    """Begin to connect; tell whether that is done already, as it is over loopback.

    If not, wait until the socket is writable, and call `check_connected`.

    Raises:
        OSError: the connection is impossible.
    """
    number = sock.connect_ex(address)
    if number in _UNDER_WAY and CONNECTS_TWICE:
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
    """Return the endpoints of `host` if it is an address, without any query; empty if it is a name."""
    if host and host[-1].isdigit():  # Usual addresses are parsed without getaddrinfo() as well.
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(socket.AF_INET, host)
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    try:
        return list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags | socket.AI_NUMERICHOST))
    except (socket.gaierror, ValueError):
        return []


def with_zone(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint with the zone of a link-local address in its host, too: uvloop looks only there."""
    family, kind, protocol, name, address = endpoint
    return (family, kind, protocol, name, (host_of(address), *address[1:]))


def is_unix(sock: socket.socket | None) -> bool:
    """Tell whether `sock` is a Unix socket: for it, the kernel counts the memory of queued bytes, not the bytes."""
    return sock is not None and sock.family == getattr(socket, "AF_UNIX", None)


def address_of(ask: Callable[[], Any]) -> Any:
    """Return the address from `ask`, getsockname or getpeername, a link-local host with its zone; None if unknown."""
    try:
        address = ask()
    except OSError:
        return None
    return (host_of(address), *address[1:]) if isinstance(address, tuple) else address


def peer_name(sock: socket.socket) -> str:
    """Return ``host:port`` of the peer, or the path of a Unix socket, escaped; "" if it has none."""
    try:
        return address_name(sock.getpeername())
    except OSError:
        return ""


def address_name(address: Any) -> str:
    """Return ``host:port`` of an address of a socket, or the path of a Unix socket, escaped; "" for None."""
    if not isinstance(address, tuple):
        # The peer has chosen the path: it must not forge a line of a log.
        return escape(os.fsdecode(address or ""))
    return host_port(host_of(address), int(address[1]))


def resolvable(host: str) -> str:
    """Return the name to resolve: `host` in ASCII by IDNA 2008, not by the codec of ``getaddrinfo``.

    Raises:
        socket.gaierror: `host` is not a name.
    """
    if ipv6(host) is not None:  # A known one would have been found; uvloop ignores an unknown zone.
        raise socket.gaierror(socket.EAI_NONAME, "this machine has no such zone")
    try:
        return ascii_name(host)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, f"it is not a host name ({error})") from error


def keep_alive(sock: socket.socket, seconds: float) -> None:
    """Enable TCP keepalive on `sock` after `seconds` of silence (RFC 9293 section 3.8.4).

    A socket with keepalive already enabled is not changed.
    """
    with contextlib.suppress(OSError):  # A Unix socket has no such option, and needs none.
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, part in _KEEPALIVE_OPTIONS:
            sock.setsockopt(socket.IPPROTO_TCP, option, min(math.ceil(seconds / part), _MOST_KEEPALIVE))
