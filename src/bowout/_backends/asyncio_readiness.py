"""A socket on a loop of asyncio, or uvloop, that can watch descriptors."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from bowout._backends.asyncio_loops import close_soon, release
from bowout._backends.sockets import SocketTransport, belongs_elsewhere

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine

#: Whether what the loop's callback receives in the lane is given to the waiting task within that callback, instead of
#: by one of the loop's next turn: it saves that turn.
_STEP_AT_ONCE: Final = True


class ReadinessTransport(SocketTransport):
    """A socket on a loop that can watch descriptors."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, peer: str) -> None:
        super().__init__(sock, peer)
        self._loop = loop
        self._reading = _Direction(loop, sock, reads=True)
        self._writing = _Direction(loop, sock, reads=False)
        self._others: list[asyncio.Future[None]] = []
        # uvloop reports an error once, perhaps together with the data before it, and forgets the descriptor.
        self._tells_once = not isinstance(loop, asyncio.BaseEventLoop)

    @property
    def carries_lane(self) -> bool:
        return not self._reading.waiters

    def begin_lane(self, lane: Any) -> bool:
        if self._tells_once and self._reading.watched:
            self._reading.stop()  # It may have told an error, and takes no other callback for the descriptor then.
        lane.use_loop(self._loop, self._tells_once, _STEP_AT_ONCE, self._reading.watched)
        self._reading.watched = True  # by the lane, perhaps: closing stops that, too
        return True

    def end_lane(self, *, watched: bool) -> None:
        self._reading.watched = False
        if watched:
            with contextlib.suppress(OSError, ValueError, RuntimeError):  # no descriptor, or no loop any more
                self._reading.watch()

    async def wait(self, *, read: bool, write: bool) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        for direction, wanted in ((self._reading, read), (self._writing, write)):
            if self._tells_once and direction.watched:
                direction.stop()
                direction.watch()
            if wanted:
                direction.enlist(waiter)
        if not (read or write):
            self._others.append(waiter)
        try:
            await waiter
        except RuntimeError as error:  # from asyncio: the waiting task belongs to another loop
            raise belongs_elsewhere(running=self._loop.is_running()) from error
        finally:
            for waiters in (self._reading.waiters, self._writing.waiters, self._others):
                if waiter in waiters:
                    waiters.remove(waiter)

    def wait_readable(self, take: Callable[[], bool]) -> Coroutine[Any, Any, None]:
        # After the bytes taken last there may be an error that was already reported.
        return self._wait_to_move(self._reading, take, try_first=self._tells_once)

    def wait_writable(self, give: Callable[[], bool]) -> Coroutine[Any, Any, None]:
        return self._wait_to_move(self._writing, give, try_first=False)

    async def _wait_to_move(self, direction: _Direction, move: Callable[[], bool], *, try_first: bool) -> None:
        if try_first and move():
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        direction.enlist(waiter)
        direction.move = move
        try:
            await waiter
        except RuntimeError as error:
            raise belongs_elsewhere(running=self._loop.is_running()) from error
        finally:
            direction.move = None
            if waiter in direction.waiters:
                direction.waiters.remove(waiter)

    def wake(self) -> None:
        for direction in (self._reading, self._writing):
            direction.move = None
            if direction.waiters:
                release(direction.waiters)
        if self._others:
            release(self._others)

    def close(self, *, deadline: float = 0.0) -> None:
        if self._is_ours():  # A forked child shares what the loop watches with its parent.
            self._stop_watching()
        super().close(deadline=deadline)

    def drop(self) -> None:
        # The loop may watch the descriptor, and the loop belongs to its own thread.
        close_soon(self._loop, self)

    async def detach(self) -> tuple[socket.socket, bytes]:
        self._stop_watching()
        return await super().detach()

    def _stop_watching(self) -> None:
        for direction in (self._reading, self._writing):
            if direction.watched:
                direction.stop()


class _Direction:
    """One direction of a socket, on the loop.

    The loop keeps watching the descriptor between two waits: starting and stopping the watch costs as much as a small
    message. The watch stops when bytes can be moved and no task waits, since the loop would report that again and
    again. Until then the loop holds a reference to the socket, as it does to the transports of asyncio.

    Attributes:
        waiters: the futures of the waiting tasks.
        move: the function to call for the only waiter as soon as bytes can be moved, if there is one; it tells whether
            the wait is over.
        watched: whether the loop is watching.
    """

    __slots__ = ("_loop", "_reads", "_socket", "move", "waiters", "watched")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, *, reads: bool) -> None:
        self._loop = loop  # Its methods, bound, would be larger than all the rest.
        self._socket = sock
        self._reads = reads
        self.waiters: list[asyncio.Future[None]] = []
        self.move: Callable[[], bool] | None = None
        self.watched = False

    def enlist(self, waiter: asyncio.Future[None]) -> None:
        """Wake `waiter` when bytes can be moved."""
        try:
            if not self.watched:
                self.watch()
        except RuntimeError as error:  # The loop is closed.
            raise belongs_elsewhere(running=False) from error
        except (OSError, ValueError):
            waiter.set_result(None)  # The descriptor was closed elsewhere: its next use reports that.
        else:
            self.waiters.append(waiter)

    def watch(self) -> None:
        """Make the loop watch the descriptor. Raises OSError or ValueError if there is no descriptor."""
        add = self._loop.add_reader if self._reads else self._loop.add_writer
        add(self._socket.fileno(), self._ready)
        self.watched = True

    def stop(self) -> None:
        """Make the loop stop watching the descriptor."""
        self.watched = False
        remove = self._loop.remove_reader if self._reads else self._loop.remove_writer
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # no descriptor, or no loop any more
            remove(self._socket.fileno())

    def _ready(self) -> None:
        if not self.waiters:
            self.stop()
        elif self.move is None or self.move():
            self.move = None
            release(self.waiters)
