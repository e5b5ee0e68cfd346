"""A peer's socket: every wait has a deadline, and ends early when the test is over.

The invariant: no call here blocks beyond the connection's deadline, nor beyond `GRACE` once the test is over.
"""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
import struct
import sys
import threading
import time
from typing import Final

#: When the test is over, the other side's last bytes may still be on their way from kernel to kernel: so long, in
#: seconds, they are waited for.
GRACE: Final = 0.25

_CHUNK: Final = 1 << 16
#: Seconds between two looks whether everything has arrived.
_TICK: Final = 0.001
#: The ioctl that tells how many bytes the other side's kernel has not acknowledged.
_SIOCOUTQ: Final = 0x5411

#: A selector without a descriptor of its own.
_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)
#: The other side's FIN, whatever is unread before it; Linux has it.
_POLLRDHUP: Final = getattr(select, "POLLRDHUP", 0)


class Stopped(Exception):
    """The script has nothing more to wait for: the test is over, or its time is."""


class Gone(Exception):
    """The other side has left: its RST was met, or its FIN where more was wanted."""


class Signals:
    """What a test and its peers tell each other, over threads."""

    def __init__(self) -> None:
        self.over: threading.Event = threading.Event()
        self.go: threading.Event = threading.Event()
        self.ready: threading.Event = threading.Event()
        self._wake, self._waker = socket.socketpair()

    @property
    def wake(self) -> socket.socket:
        """Readable as soon as the test is over."""
        return self._wake

    def end(self) -> None:
        """The test is over."""
        self.over.set()
        self.go.set()
        with contextlib.suppress(OSError):
            self._waker.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Let the descriptors go."""
        self._wake.close()
        self._waker.close()


class Wire:
    """One connected socket.

    Args:
        sock: it is the wire's from now on.
        signals: of the peer.
        deadline: by `time.monotonic`.
        byte_by_byte: hand the kernel one byte at a time.
    """

    def __init__(self, sock: socket.socket, signals: Signals, deadline: float, *, byte_by_byte: bool = False) -> None:
        sock.settimeout(0)
        if sock.family in {socket.AF_INET, socket.AF_INET6}:
            # Else an RST may overtake what was written before it, and single bytes would be put together.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._signals = signals
        self.deadline = deadline
        self.byte_by_byte = byte_by_byte
        self.closed: bool = False
        #: Nothing more could be sent: an RST must have come, whatever can still be read from before it.
        self.lost: bool = False

    def put(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            Gone: the other side has reset the connection.
            Stopped: the other side does not read, and the test or the time is over.
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
        """Receive what comes next, so many bytes at most; ``b""`` is the FIN.

        Raises:
            Gone: RST.
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
        """Wait until something has arrived, and leave it there.

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
        """Wait for the end of TCP both ways, which poll always tells, or for what is in `mask`."""
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
        """Wait, at most until the test or the time is over; True if either is."""
        return self._signals.over.wait(min(seconds, self._remaining())) or not self._remaining()

    def fin(self) -> None:
        """End our direction of TCP."""
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.lost = True
            raise Gone(f"no FIN can be sent: {error}") from error

    def rst(self) -> None:
        """Reset the connection, when what was sent has arrived; its descriptor is closed."""
        # The kernel drops what it could not send yet, such as the last of many small segments.
        ends = time.monotonic() + GRACE  # whoever does not read gets it all the same
        while self._unacknowledged() and time.monotonic() < ends and not self.pause(_TICK):
            pass
        with contextlib.suppress(OSError):
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Let the descriptor go."""
        self.closed = True
        self._sock.close()

    def _unacknowledged(self) -> int:
        """Bytes that the other side's kernel has not acknowledged; 0 where that cannot be known."""
        if sys.platform != "linux":
            return 0
        import fcntl  # noqa: PLC0415  (not there on Windows)

        try:
            return int.from_bytes(fcntl.ioctl(self._sock.fileno(), _SIOCOUTQ, bytes(4)), sys.byteorder)
        except (OSError, ValueError):
            return 0

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


def accept(listener: socket.socket, signals: Signals, deadline: float | None) -> socket.socket | None:
    """The next connection, or None when the test or the time is over. Those in the backlog are still taken."""
    listener.settimeout(0)
    while True:
        over = signals.over.is_set()  # asked before, so that whoever came by then is in the backlog
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
