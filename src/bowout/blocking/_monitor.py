"""How threads share a connection: one at a time uses it, any number wait outside, and each wait can be ended."""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

from bowout.errors import MisuseError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

#: Longest time of one poll, in milliseconds: what the system call can be given.
_LONGEST_POLL: Final = (1 << 31) - 1


class Monitor:
    """Lets one thread at a time use a connection, and wakes the threads that wait outside.

    What a thread has seen in `run` may change before it waits. So it reads `generation` before `run`, and gives it to
    `wait`, which returns at once if there was a `wake` since.

    Attributes:
        generation: number of calls of `wake`.
    """

    __slots__ = ("_closed", "_lock", "_owner", "_waiting", "_waits", "_waker", "generation")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Identifier of the thread that runs a call; 0: none does.
        self._owner = 0
        # Guards what follows. A signal handler may re-enter it, and nothing below is wrong then.
        self._waits = threading.RLock()
        self._waiting: set[object] = set()
        self._waker: Waker | None = None
        self._closed = False
        self.generation: int = 0

    def run(self, call: Callable[[], T]) -> T:
        """Run `call` while no other thread runs one. It must not wait.

        Raises:
            MisuseError: this thread is running one already, and was interrupted in it.
        """
        thread = threading.get_ident()
        if self._owner == thread and self._lock.locked():
            raise MisuseError(
                "a signal handler, or on_event, interrupted a step of this connection and cannot use it: "
                "let it raise an exception, or tell another thread"
            )
        with self._lock:
            self._owner = thread
            try:
                return call()
            finally:
                self._owner = 0

    def wait(self, seen: int, descriptor: int, *, read: bool, write: bool, until: float) -> None:
        """Wait until `descriptor` is readable or writable, until a `wake`, or until a time; it may return early.

        Args:
            seen: the `generation` before the caller looked at the state for which it waits.
            descriptor: of the socket; negative for none.
            read: whether to wait until it is readable.
            write: whether to wait until it is writable; with neither, only a `wake` ends the wait.
            until: latest time to return, on the clock of ``time.monotonic``.
        """
        token = object()
        try:
            waker = self._begin_wait(token, seen)
            if waker is not None:
                _poll(waker.fileno(), descriptor, read=read, write=write, until=until)
        finally:
            self._waiting.discard(token)  # At once: the call of a function could be interrupted at its beginning.
            self._end_wait()

    def _begin_wait(self, token: object, seen: int) -> Waker | None:
        with self._waits:
            self._waiting.add(token)  # From here on, a wake reaches us, also one by a signal handler of this thread.
            if self._waker is None and not self._closed:
                self._waker = Waker()
            return self._waker if self.generation == seen and not self._closed else None

    def _end_wait(self) -> None:
        with self._waits:
            self._forget_wakes()

    def _forget_wakes(self) -> None:
        """If no thread waits, let the next wait begin anew; or close the descriptor, if there is no next one."""
        waker = self._waker
        if waker is None or self._waiting:
            return
        if self._closed:
            self._waker = None
            waker.close()
        else:
            waker.clear()

    def wake(self) -> None:
        """End every wait."""
        with self._waits:
            self.generation += 1
            if self._waker is not None and self._waiting:
                self._waker.wake()

    def close(self) -> None:
        """End every wait, of now and of later, and close the descriptor for that as soon as no thread uses it."""
        with self._waits:
            self.wake()
            self._closed = True
            self._forget_wakes()


def _poll(waker: int, descriptor: int, *, read: bool, write: bool, until: float) -> None:
    seconds = until - time.monotonic()
    if hasattr(select, "poll"):
        poller = select.poll()
        poller.register(waker, select.POLLIN)
        if descriptor >= 0 and (read or write):
            poller.register(descriptor, select.POLLIN * read | select.POLLOUT * write)
        poller.poll(None if math.isinf(seconds) else min(max(0.0, seconds * 1000), _LONGEST_POLL))
        return
    readers = [waker, descriptor] if read and descriptor >= 0 else [waker]
    writers = [descriptor] if write and descriptor >= 0 else []
    select.select(readers, writers, [], None if math.isinf(seconds) else max(0.0, seconds))


class Waker:
    """A descriptor that is readable from `wake` until `clear`."""

    __slots__ = ("_event", "_pair")

    def __init__(self) -> None:
        self._event: list[int] = []
        self._pair: tuple[socket.socket, socket.socket] | None = None
        if hasattr(os, "eventfd"):
            # Made and kept in one step of C: a signal handler that raises cannot come between, and leave it open.
            self._event.extend(map(os.eventfd, (0,), (os.EFD_CLOEXEC | os.EFD_NONBLOCK,)))
        else:
            self._pair = socket.socketpair()
            for end in self._pair:
                end.settimeout(0)

    def __del__(self) -> None:
        if hasattr(self, "_pair"):  # Otherwise an exception interrupted `__init__`, and nothing is open yet.
            self.close()

    def fileno(self) -> int:
        """Return the descriptor to poll for reading."""
        return self._event[0] if self._pair is None else self._pair[0].fileno()

    def wake(self) -> None:
        """Make it readable."""
        with contextlib.suppress(BlockingIOError):  # It has been readable for long.
            for event in self._event:
                os.eventfd_write(event, 1)
            if self._pair is not None:
                self._pair[1].send(b"\0")

    def clear(self) -> None:
        """Make it unreadable."""
        with contextlib.suppress(BlockingIOError):  # It is.
            for event in self._event:
                os.eventfd_read(event)
            while self._pair is not None and self._pair[0].recv(1 << 10):
                pass

    def close(self) -> None:
        """Close it. It may be called again."""
        while self._event:
            os.close(self._event.pop())
        for end in self._pair or ():
            end.close()


class Turn:
    """The right of one thread at a time to do something, such as to send.

    Attributes:
        holder: the holder's token and thread; None if the right is free.
    """

    __slots__ = ("_taken",)

    def __init__(self) -> None:
        self._taken: dict[None, Token] = {}

    @property
    def holder(self) -> Token | None:
        return self._taken.get(None)

    def take(self, token: Token) -> bool:
        """Take the right for `token`, if it is free; tell whether `token` has it now."""
        return self._taken.setdefault(None, token) is token  # one step, whatever other threads do

    def give_back(self, token: Token) -> bool:
        """Give the right back, if `token` has it; tell whether it had."""
        if self.holder is not token:
            return False
        self._taken.clear()
        return True


class Token:
    """One attempt to take a `Turn`.

    Attributes:
        thread: identifier of the thread that made it.
    """

    __slots__ = ("thread",)

    def __init__(self) -> None:
        self.thread: int = threading.get_ident()

    @property
    def is_of_this_thread(self) -> bool:
        """Whether the calling thread made it: then the caller is a signal handler."""
        return self.thread == threading.get_ident()
