"""The abilities of asyncio loops, and small helpers for the transports on them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING, Final

from bowout.errors import MisuseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bowout._backends.sockets import SocketTransport

#: Whether a kind of loop can watch descriptors, cached: a test costs as much as a handshake's other calls to the loop.
_watches: dict[type[asyncio.AbstractEventLoop], bool] = {}
#: The calls that a loop must have instead if it watches no descriptors.
_SOCKET_CALLS: Final = ("sock_accept", "sock_connect", "sock_recv", "sock_sendall")


def can_watch_descriptors(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether `loop` has ``add_reader``; the proactor loop of Windows and some third-party loops have not.

    Raises:
        MisuseError: it has no calls for sockets either.
    """
    kind = type(loop)
    if kind not in _watches:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.settimeout(0)
            _watches[kind] = _tries_to_watch(loop, ours.fileno())
    if not _watches[kind] and any(_is_missing(kind, name) for name in _SOCKET_CALLS):
        raise _unfit(loop)
    return _watches[kind]


def _tries_to_watch(loop: asyncio.AbstractEventLoop, descriptor: int) -> bool:
    try:
        for add, remove in ((loop.add_reader, loop.remove_reader), (loop.add_writer, loop.remove_writer)):
            add(descriptor, int)
            remove(descriptor)
    except (NotImplementedError, AttributeError):
        return False
    return True


def _is_missing(kind: type[asyncio.AbstractEventLoop], name: str) -> bool:
    """Tell whether `kind` inherits this call from the abstract loop, which does not implement it."""
    return getattr(kind, name, None) in (None, getattr(asyncio.AbstractEventLoop, name))


@contextlib.contextmanager
def socket_calls_of(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Raise MisuseError if a socket call of `loop` turns out to be not implemented."""
    try:
        yield
    except NotImplementedError as error:
        raise _unfit(loop) from error


def _unfit(loop: asyncio.AbstractEventLoop) -> MisuseError:
    kind = type(loop)
    return MisuseError(
        f"the event loop {kind.__module__}.{kind.__qualname__} can neither watch descriptors (add_reader, add_writer) "
        f"nor wait for sockets ({', '.join(_SOCKET_CALLS)}): run under a loop that can do one of them"
    )


def release(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            with contextlib.suppress(RuntimeError):  # The loop is closed, and no task waits any more.
                waiter.set_result(None)
    waiters.clear()


def close_soon(loop: asyncio.AbstractEventLoop, transport: SocketTransport) -> None:
    try:
        loop.call_soon_threadsafe(transport.close)
    except RuntimeError:  # The loop is closed, and watches nothing.
        transport.close()
