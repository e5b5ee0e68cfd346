"""An event loop, a clock and a TCP connection of which a test moves every part by hand.

Nothing happens by itself: a task runs when the test says so, up to its next await; time passes when the test says so; a
byte moves when the test says so. So every order of things can be tried, and tried again.
"""

from __future__ import annotations

import errno
import itertools
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final, Self, cast

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from types import TracebackType

    from bowout._backends import Task, TaskGroup
    from bowout._backends.sockets import Endpoint

_FULL: Final = 1 << 16
#: More steps without news from outside than any that carry data a few bytes at a time.
_BUSY: Final = 200_000


class Cancelled(BaseException):
    """By this the simulated loop cancels a task."""


class SimulatedTask:
    """One coroutine, and its outcome.

    Attributes:
        cancels: how often somebody outside has cancelled it.
        began_at: when it ran first, and not into a cancellation.
    """

    def __init__(self, loop: Loop, name: str, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._loop = loop
        self._coroutine = coroutine
        self.name = name
        self.scopes: list[Scope] = []
        self.cancels = 0
        self.began_at: float | None = None
        self._to_throw = False
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None

    @property
    def cancelled(self) -> bool:
        """Somebody outside has cancelled it."""
        return self.cancels > 0

    def cancel(self) -> None:
        """Let its next await, or the one in which it is, raise."""
        if not self.done:
            self.cancels += 1
            self.interrupt()

    def interrupt(self) -> None:
        """The same, for a scope whose time is up."""
        self._to_throw = True
        self._loop.wake(self)

    def forgive(self) -> None:
        """A scope is left before its interruption was met."""
        self._to_throw = False

    @property
    def interrupted(self) -> bool:
        """Its next await raises. Where the loop is like trio, so does every later one; like asyncio, only that one."""
        if self._loop.like_trio:
            return self.cancelled or any(scope.due for scope in self.scopes)
        return self._to_throw

    def step(self) -> None:
        """Run up to the next await."""
        try:
            if self.interrupted:
                self._to_throw = False
                self._coroutine.throw(Cancelled())
            else:
                if self.began_at is None:
                    self.began_at = self._loop.now
                self._coroutine.send(None)
        except StopIteration as stop:
            self.done, self.result = True, stop.value
        except BaseException as error:  # noqa: BLE001  (it is the task's outcome)
            self.done, self.error = True, error


class Loop:
    """The event loop.

    Args:
        like_trio: a cancelled task meets its cancellation at every await, not only at the next.
    """

    def __init__(self, *, like_trio: bool) -> None:
        self.like_trio = like_trio
        self.now = 1000.0
        self.tasks: list[SimulatedTask] = []
        self.ready: list[SimulatedTask] = []
        self.current: SimulatedTask | None = None
        self._timers: list[Scope] = []
        self._numbers = itertools.count(1)

    def spawn(self, name: str, coroutine: Coroutine[Any, Any, Any]) -> SimulatedTask:
        """Start a task; it runs at the next `step`."""
        task = SimulatedTask(self, f"{name} #{next(self._numbers)}", coroutine)
        self.tasks.append(task)
        self.ready.append(task)
        return task

    def wake(self, task: SimulatedTask) -> None:
        """Let it run again."""
        if task not in self.ready and not task.done:
            self.ready.append(task)

    def step(self, which: int = 0) -> None:
        """Run one of those that can run, up to its next await."""
        if self.ready:
            self.current = self.ready.pop(which % len(self.ready))
            if not self.current.done:
                self.current.step()
            self.current = None

    def run(self) -> None:
        """Run until everybody waits for something outside."""
        for _ in range(_BUSY):
            if not self.ready:
                return
            self.step()
        raise AssertionError(f"a busy loop: {[task.name for task in self.ready]}")

    def advance(self, seconds: float) -> None:
        """Let time pass, and those run whose time has come."""
        end = self.now + seconds
        while (scope := min(self._timers, key=lambda one: one.when, default=None)) and scope.when <= end:
            self.now = max(self.now, scope.when)
            self._timers.remove(scope)
            scope.expire()
            self.run()
        self.now = max(self.now, end)

    def add_timer(self, scope: Scope) -> None:
        """Expire it when its time comes."""
        self._timers.append(scope)

    def drop_timer(self, scope: Scope) -> None:
        """Do not."""
        if scope in self._timers:
            self._timers.remove(scope)

    @types.coroutine
    def park(self) -> Generator[None, None, None]:
        """Wait for `wake`."""
        assert self.current is not None
        if self.current.interrupted:
            self.wake(self.current)
        yield


class Scope:
    """What `move_on_at` gives: a deadline."""

    def __init__(self, loop: Loop, when: float) -> None:
        self._loop = loop
        self.when = when
        self.due = False
        self.expired = False

    async def __aenter__(self) -> Self:
        assert self._loop.current is not None
        self._task = self._loop.current
        self._cancels = self._task.cancels
        self._task.scopes.append(self)
        if self.when <= self._loop.now:
            self.expire()
        else:
            self._loop.add_timer(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._loop.drop_timer(self)
        self._task.scopes.remove(self)
        outside = self._task.cancels > self._cancels
        if self.due and error is None and not outside:
            self._task.forgive()
        # Under trio the cancellation from outside comes again, at the next await.
        self.expired = self.due and isinstance(error, Cancelled) and (self._loop.like_trio or not outside)
        return self.expired

    def expire(self) -> None:
        self.due = True
        self._task.interrupt()

    def tighten(self, when: float) -> None:
        if not self.due and when < self.when:
            self.when = when
            if when <= self._loop.now:
                self._loop.drop_timer(self)
                self.expire()


class Lot:
    """Where tasks wait."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: dict[SimulatedTask, Callable[[], bool]] = {}

    async def wait(self, until: Callable[[], bool]) -> None:
        """Wait once: for `until`, looked at whenever somebody calls `look`, or for `release`."""
        task = self._loop.current
        assert task is not None
        self._waiting[task] = until
        self.look()
        try:
            await cast("Awaitable[None]", self._loop.park())
        finally:
            self._waiting.pop(task, None)

    def look(self) -> None:
        """Let those go whose time has come."""
        for task in [task for task, until in self._waiting.items() if until()]:
            self._loop.wake(task)

    def release(self) -> None:
        """Let everybody go."""
        for task in list(self._waiting):
            self._loop.wake(task)


class SimulatedEvent:
    """Set once, awaited by many."""

    def __init__(self, loop: Loop) -> None:
        self._set = False
        self._lot = Lot(loop)

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        self._lot.release()

    async def wait(self) -> None:
        # The real ones wait for this event only: an early return would be a set event.
        while not self._set:
            await self._lot.wait(self.is_set)


class SimulatedBackend:
    """A `Backend` on a `Loop`; what only clients and servers need is missing."""

    cancellations: tuple[type[BaseException], ...] = (Cancelled,)
    library = "simulated"

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def is_current(self) -> bool:
        return True

    def is_running(self) -> bool:
        return True

    def is_cancelled(self) -> bool:
        return True

    def time(self) -> float:
        return self._loop.now

    def event(self) -> SimulatedEvent:
        return SimulatedEvent(self._loop)

    def move_on_at(self, when: float, *, shield: bool = False) -> Scope:
        return Scope(self._loop, when)

    async def checkpoint(self) -> None:
        assert self._loop.current is not None
        self._loop.wake(self._loop.current)
        await cast("Awaitable[None]", self._loop.park())

    def task_group(self) -> AbstractAsyncContextManager[TaskGroup]:
        raise NotImplementedError

    def spawn(self, run: Callable[[], Coroutine[Any, Any, None]]) -> Task:
        raise NotImplementedError

    def call_soon(self, call: Callable[[], None]) -> None:
        raise NotImplementedError

    async def accept(self, listener: socket.socket) -> socket.socket:
        raise NotImplementedError

    async def sleep_until(self, when: float) -> None:
        raise NotImplementedError

    def signals(self, *numbers: int) -> AbstractContextManager[AsyncIterator[int]]:
        raise NotImplementedError

    def transport(self, sock: socket.socket, peer: str) -> SimulatedTransport:
        raise NotImplementedError

    async def resolve(self, host: str | None, port: int, flags: int = 0) -> list[Endpoint]:
        raise NotImplementedError

    async def connect(
        self, host: str, port: int, *, local_address: str | None = None, local_port: int = 0, delay: float = 0.0
    ) -> socket.socket:
        raise NotImplementedError


class SimulatedTransport:
    """A `Transport`, and the kernel under it.

    Attributes:
        incoming: what the kernel has received and nobody has read; `fin_received` and `reset_received` come after it.
        outgoing: what the kernel has taken and the peer's has not.
        most: no call moves more bytes than this.
        capacity: of `outgoing`.
        tells: the kernel says what the peer has not acknowledged.
        destroyed: our descriptor was closed with something unread, or something came after it: the kernel has sent RST.
    """

    peer = "simulated"
    sock = None
    acts_at_once = True
    carries_lane = False
    lacks = ""

    def __init__(self, loop: Loop) -> None:
        self._lot = Lot(loop)
        self.incoming = bytearray()
        self.outgoing = bytearray()
        self.fin_received = self.reset_received = False
        self.fin_sent = self.closed = self.destroyed = self.detached = False
        self._told_reset = False
        self.most = _FULL
        self.capacity = _FULL
        self.tells = True

    # -- for the stream

    def receive_into(self, buffer: memoryview) -> int | None:
        if self.closed:
            raise OSError(errno.EBADF, "Bad file descriptor")
        if self.incoming:
            count = min(len(buffer), len(self.incoming), self.most)
            buffer[:count] = self.incoming[:count]
            del self.incoming[:count]
            return count
        if self.reset_received and not self._told_reset:
            self._told_reset = True
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        return 0 if self.fin_received or self.reset_received else None

    def send(self, data: bytes | memoryview) -> int | None:
        if self.closed:
            raise OSError(errno.EBADF, "Bad file descriptor")
        if self.reset_received or self.fin_sent:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        count = min(len(data), self.capacity - len(self.outgoing), self.most)
        if count <= 0 < len(data):
            return None
        self.outgoing += data[:count]
        return count

    async def wait(self, *, read: bool, write: bool) -> None:
        await self._lot.wait(lambda: self.closed or (read and self._readable()) or (write and self._writable()))

    async def wait_readable(self, take: Callable[[], bool]) -> None:
        await self.wait(read=True, write=False)
        take()

    async def wait_writable(self, give: Callable[[], bool]) -> None:
        await self.wait(read=False, write=True)

    def _readable(self) -> bool:
        return bool(self.incoming) or self.fin_received or self.reset_received

    def _writable(self) -> bool:
        return len(self.outgoing) < self.capacity or self.reset_received or self.fin_sent

    def begin_lane(self, lane: object) -> bool:
        raise AssertionError("it carries none")

    def end_lane(self, *, watched: bool) -> None:
        raise AssertionError("it carries none")

    def wake(self) -> None:
        self._lot.release()

    def call_when_sent(self, call: Callable[[], object]) -> None:
        pass

    def send_fin(self) -> bool:
        self.fin_sent = True
        return True

    def unacknowledged(self) -> int | None:
        return len(self.outgoing) if self.tells and not self.closed else None

    def get_extra_info(self, name: str) -> Any:
        return None

    def reset(self) -> bool:
        self.destroyed = True
        self.outgoing.clear()
        self.close()
        return True

    def close(self, *, deadline: float = 0.0) -> None:
        if not self.closed and self.incoming:
            self.destroyed = True
            self.outgoing.clear()
        self.closed = True
        self._lot.release()

    def drop(self) -> None:
        self.close()

    def leave_to_parent(self) -> None:
        self.closed = True

    async def catch_up(self) -> bool:
        return False

    async def wait_closed(self) -> None:
        pass

    async def detach(self) -> tuple[Any, bytes]:
        self.closed = self.detached = True
        self._lot.release()
        return self, b""

    # -- for the test

    def arrive(self, data: bytes) -> None:
        """The peer's bytes come."""
        if self.closed and not self.detached:
            self.destroyed = True
            self.outgoing.clear()
        elif not self.reset_received:
            self.incoming += data
        self._lot.look()

    def arrive_fin(self) -> None:
        """The peer's FIN comes."""
        self.fin_received = True
        self._lot.look()

    def arrive_reset(self) -> None:
        """The peer's RST comes."""
        self.reset_received = True
        self.outgoing.clear()
        self._lot.look()

    def leave(self, count: int) -> bytes:
        """The peer's kernel takes `count` bytes."""
        data = bytes(self.outgoing[:count])
        del self.outgoing[:count]
        self._lot.look()
        return data
