"""A peer's socket: every wait has a deadline, and ends earlier when the test is over.

The invariant: no call here blocks beyond the connection's deadline, nor beyond `GRACE` once the test is over.
"""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
import threading
import time
from typing import Final

from bowout._backends.sockets import reset_on_close, unacknowledged_bytes

#: Seconds to wait for the other side's last bytes when the test is over: they may still be on their way from kernel to
#: kernel.
GRACE: Final = 0.25

_CHUNK: Final = 1 << 16
#: Interval, in seconds, at which `PeerSocket.rst` polls for unacknowledged bytes.
_TICK: Final = 0.001

#: A selector without a descriptor of its own.
_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)
#: The poll event for the other side's FIN, even with unread data before it; only Linux has it.
_POLLRDHUP: Final = getattr(select, "POLLRDHUP", 0)


class Stopped(Exception):
    """The script need not wait any more: the test or the peer's time is over."""


class Gone(Exception):
    """The other side has left: its RST came, or its FIN where more data was expected."""


class PeerSignals:
    """The events by which a test and its peers signal each other, across threads."""

    def __init__(self) -> None:
        self.over: threading.Event = threading.Event()
        self.go: threading.Event = threading.Event()
        self.ready: threading.Event = threading.Event()
        self._wake, self._waker = socket.socketpair()

    @property
    def wake(self) -> socket.socket:
        """A socket that is readable as soon as the test is over."""
        return self._wake

    def end(self) -> None:
        """Signal that the test is over."""
        self.over.set()
        self.go.set()
        with contextlib.suppress(OSError):
            self._waker.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the descriptors."""
        self._wake.close()
        self._waker.close()


class PeerSocket:
    """One connected socket.

    Args:
        sock: the connected socket; from now on this object owns it.
        signals: the peer's signals.
        deadline: the end of every wait, by `time.monotonic`.
        byte_by_byte: hand the kernel one byte at a time.
    """

    def __init__(
        self, sock: socket.socket, signals: PeerSignals, deadline: float, *, byte_by_byte: bool = False
    ) -> None:
        sock.settimeout(0)
        if sock.family in {socket.AF_INET, socket.AF_INET6}:
            # Otherwise an RST may overtake data that was written before it, and single bytes would be merged.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._signals = signals
        self.deadline = deadline
        self.byte_by_byte = byte_by_byte
        self.closed: bool = False
        #: Nothing more could be sent: an RST must have come, even if data from before it can still be read.
        self.lost: bool = False

    def put(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            Gone: the other side has reset the connection.
            Stopped: the other side does not read, and the test or the peer's time is over.
        """
        view = memoryview(data)
        while view:
            if self.closed:
                raise Gone("the script has reset the connection")
            try:
                view = view[self._sock.send(view[:1] if self.byte_by_byte else view) :]
            except BlockingIOError:
                self._wait(selectors.EVENT_WRITE)
            except OSError as error:
                self.lost = True
                raise Gone(f"nothing can be sent: {error}") from error

    def get(self, size: int = _CHUNK) -> bytes:
        """Receive at most `size` bytes; ``b""`` is the FIN.

        Raises:
            Gone: the other side has reset the connection.
            Stopped: nothing came before the test or the time was over.
        """
        while True:
            if self.closed:
                raise Stopped("the script has reset the connection")
            try:
                return self._sock.recv(size)
            except BlockingIOError:
                self._wait(selectors.EVENT_READ)
            except OSError as error:
                raise Gone(f"RST: {error}") from error

    def wait_readable(self) -> None:
        """Wait until data has arrived, and leave it unread.

        Raises:
            Stopped: nothing came before the test or the time was over.
        """
        self._wait(selectors.EVENT_READ)

    def wait_left(self) -> None:
        """Wait, without reading, until the other side has left or the test or the time is over."""
        self._wait_end(_POLLRDHUP)

    def wait_gone(self) -> None:
        """Wait until the connection is reset, or ended by both sides, or the test or the time is over."""
        self._wait_end(0)

    def _wait_end(self, mask: int) -> None:
        """Wait for the end of TCP in both directions, which poll always reports, or for an event of `mask`."""
        if self.closed:
            return
        if _POLLRDHUP:
            poll = select.poll()
            poll.register(self._sock, mask)
            poll.register(self._signals.wake, select.POLLIN)
            poll.poll(1000 * self._remaining())
        else:
            self._signals.over.wait(self._remaining())

    def pause(self, seconds: float) -> bool:
        """Wait for `seconds`, at most until the test or the time is over; return whether either is over."""
        return self._signals.over.wait(min(seconds, self._remaining())) or not self._remaining()

    def fin(self) -> None:
        """End our direction of TCP."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.lost = True
            raise Gone(f"no FIN can be sent: {error}") from error

    def rst(self) -> None:
        """Reset the connection when the data sent has arrived, and close the descriptor."""
        # At a reset, the kernel drops data that it could not send yet, such as the last of many small segments.
        ends = time.monotonic() + GRACE  # a side that does not read is reset nevertheless
        while unacknowledged_bytes(self._sock) and time.monotonic() < ends and not self.pause(_TICK):
            pass
        reset_on_close(self._sock)
        self.close()

    def close(self) -> None:
        """Close the descriptor."""
        self.closed = True
        self._sock.close()

    def _remaining(self) -> float:
        return max(0.0, self.deadline - time.monotonic())

    def _wait(self, event: int) -> None:
        with _Selector() as selector:
            selector.register(self._sock, event)
            selector.register(self._signals.wake, selectors.EVENT_READ)
            ready = {key.fileobj for key, _ in selector.select(self._remaining())}
            if self._sock in ready:
                return
            if not ready:
                raise Stopped("the peer's time is over")
            selector.unregister(self._signals.wake)
            if not selector.select(min(GRACE, self._remaining())):
                raise Stopped("the test is over")


def accept(listener: socket.socket, signals: PeerSignals, deadline: float | None) -> socket.socket | None:
    """Return the next connection; None when the test or the time is over. The backlog is still accepted then."""
    listener.settimeout(0)
    while True:
        over = signals.over.is_set()  # asked first, so that earlier connections are in the backlog
        try:
            return listener.accept()[0]
        except BlockingIOError:
            if over:
                return None
        except OSError:
            return None
        with _Selector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(signals.wake, selectors.EVENT_READ)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not selector.select(left):
                return None
