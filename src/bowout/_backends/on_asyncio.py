"""asyncio, and uvloop as well."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from typing import TYPE_CHECKING, Any, Final, Self

import aiohappyeyeballs

from bowout._backends.sockets import (
    Endpoint,
    SocketTransport,
    begin_to_connect,
    belongs_elsewhere,
    check_connected,
    new_socket,
    numeric_address,
    resolvable,
    with_zone,
)
from bowout.errors import MisuseError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from types import TracebackType

#: RFC 8305 section 8: the recommended delay between two attempts to connect.
_HAPPY_EYEBALLS_DELAY: Final = 0.25
_CHUNK: Final = 1 << 16


class AsyncioBackend:
    """The running loop of asyncio."""

    cancellations: tuple[type[BaseException], ...] = (asyncio.CancelledError,)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watches = _can_watch_descriptors(loop)
        self.time = loop.time
        self.event = asyncio.Event

    def is_current(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def is_running(self) -> bool:
        return self._loop.is_running()

    def move_on_at(self, when: float) -> _MoveOn:
        return _MoveOn(self._loop, when)

    async def checkpoint(self) -> None:
        await asyncio.sleep(0)

    def crew(self) -> _Crew:
        return _Crew()

    async def accept(self, listener: socket.socket) -> socket.socket:
        if not self._watches:
            with _socket_calls_of(self._loop):
                sock, _ = await self._loop.sock_accept(listener)
            return sock
        # The loop's own sock_accept loses the connection that it holds when it is cancelled.
        while True:
            try:
                return listener.accept()[0]
            except (BlockingIOError, InterruptedError):
                await self._wait_once(self._loop.add_reader, self._loop.remove_reader, listener)

    async def _wait_once(
        self, add: Callable[..., object], remove: Callable[[int], object], sock: socket.socket
    ) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        add(sock.fileno(), _release, [waiter])
        try:
            await waiter
        finally:
            remove(sock.fileno())

    async def sleep_until(self, when: float) -> None:
        await asyncio.sleep(when - self._loop.time())

    @contextlib.contextmanager
    def signals(self, *numbers: int) -> Iterator[AsyncIterator[int]]:
        queue: asyncio.Queue[int] = asyncio.Queue()
        with contextlib.ExitStack() as undo:
            for number in numbers:
                _catch_signal(undo, self._loop, number, queue)
            yield _drain_queue(queue)

    def transport(self, sock: socket.socket, peer: str) -> SocketTransport:
        if self._watches:
            return ReadinessTransport(self._loop, sock, peer)
        return CompletionTransport(self._loop, sock, peer)

    async def resolve(self, host: str | None, port: int, flags: int = 0) -> list[Endpoint]:
        if endpoints := numeric_address(host, port, flags):
            return endpoints
        name = None if host is None else resolvable(host)
        return list(await self._loop.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=flags))

    async def connect(self, host: str, port: int) -> socket.socket:
        endpoints = await self.resolve(host, port)
        if len(endpoints) > 1:
            with _socket_calls_of(self._loop):
                return await aiohappyeyeballs.start_connection(
                    list(map(with_zone, endpoints)),
                    happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY,
                    interleave=1,
                    loop=self._loop,
                )
        sock, address = new_socket(endpoints[0])
        try:
            if not self._watches:
                with _socket_calls_of(self._loop):
                    await self._loop.sock_connect(sock, address)
            elif not begin_to_connect(sock, address):
                await self._wait_once(self._loop.add_writer, self._loop.remove_writer, sock)
                check_connected(sock)
        except BaseException:
            sock.close()
            raise
        return sock


class _MoveOn:
    """`asyncio.timeout_at` that says whether it expired instead of raising, at a third of the cost."""

    __slots__ = ("_cancelling", "_fired", "_loop", "_task", "_timer", "_when", "expired")

    def __init__(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        self._loop = loop
        self._when = when
        self._fired = False
        self.expired = False

    async def __aenter__(self) -> Self:
        task = asyncio.current_task(self._loop)
        assert task is not None, "the caller has looked whether this loop runs it, and a coroutine runs in a task"
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = self._loop.call_at(self._when, self._fire)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._timer.cancel()
        if self._fired and self._task.uncancel() <= self._cancelling:
            self.expired = kind is not None and issubclass(kind, asyncio.CancelledError)
        return self.expired

    def _fire(self) -> None:
        self._fired = True
        self._task.cancel()

    def tighten(self, when: float) -> None:
        if not self._fired and when < self._when:
            self._when = when
            self._timer.cancel()
            self._timer = self._loop.call_at(when, self._fire)


class _Crew:
    """`asyncio.TaskGroup` under the names that bowout uses."""

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._group.__aexit__(kind, error, traceback)

    def start(self, run: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> asyncio.Task[None]:
        return self._group.create_task(run(*args))


def _catch_signal(
    undo: contextlib.ExitStack, loop: asyncio.AbstractEventLoop, number: int, queue: asyncio.Queue[int]
) -> None:
    """Put a signal's number into `queue` whenever it comes, until `undo` puts back what there was."""
    before = signal.getsignal(number)
    if before is not None:  # None: a handler that is not Python's
        undo.callback(signal.signal, number, before)  # the loops leave the default, not asyncio.run()'s, nor "ignored"
    try:
        loop.add_signal_handler(number, queue.put_nowait, number)
    except NotImplementedError:  # Windows
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(queue.put_nowait, number))
    else:
        undo.callback(loop.remove_signal_handler, number)


async def _drain_queue(queue: asyncio.Queue[int]) -> AsyncIterator[int]:
    while True:
        yield await queue.get()


#: By the kind of loop: asking costs as much as a handshake's every other call to the loop.
_watches: dict[type[asyncio.AbstractEventLoop], bool] = {}
#: What a loop that watches no descriptors has to have instead.
_SOCKET_CALLS: Final = ("sock_accept", "sock_connect", "sock_recv", "sock_sendall")


def _can_watch_descriptors(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether `loop` has ``add_reader``; the proactor loop of Windows has not, nor have some of other makes.

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
    """Whether `kind` says no more of this call than that a loop may have it."""
    return getattr(kind, name, None) in (None, getattr(asyncio.AbstractEventLoop, name))


@contextlib.contextmanager
def _socket_calls_of(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Say what a loop lacks that has a call for sockets only to say that it has none."""
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


class ReadinessTransport(SocketTransport):
    """A socket on a loop that can watch descriptors."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, peer: str) -> None:
        super().__init__(sock, peer)
        self._loop = loop
        self._reading = _Direction(loop.add_reader, loop.remove_reader, sock)
        self._writing = _Direction(loop.add_writer, loop.remove_writer, sock)
        self._others: list[asyncio.Future[None]] = []
        # uvloop tells of an error once, perhaps with the data before it, and forgets the descriptor.
        self._tells_once = not isinstance(loop, asyncio.BaseEventLoop)

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
        except RuntimeError as error:  # from asyncio: the task that waits is another loop's
            raise belongs_elsewhere(running=self._loop.is_running()) from error
        finally:
            for waiters in (self._reading.waiters, self._writing.waiters, self._others):
                if waiter in waiters:
                    waiters.remove(waiter)

    async def wait_to_take(self, take: Callable[[], bool]) -> None:
        # Behind what was taken last there may be an error that was told of already.
        if self._tells_once and take():
            return
        await self._wait_to_move(self._reading, take)

    async def wait_to_give(self, give: Callable[[], bool]) -> None:
        await self._wait_to_move(self._writing, give)

    async def _wait_to_move(self, direction: _Direction, move: Callable[[], bool]) -> None:
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
            _release(direction.waiters)
        _release(self._others)

    def close(self) -> None:
        self._stop_watching()
        super().close()

    def drop(self) -> None:
        # The loop may watch the descriptor, and belongs to its thread.
        _close_soon(self._loop, self)

    def detach(self) -> socket.socket:
        self._stop_watching()
        return super().detach()

    def _stop_watching(self) -> None:
        for direction in (self._reading, self._writing):
            if direction.watched:
                direction.stop()


def _close_soon(loop: asyncio.AbstractEventLoop, transport: SocketTransport) -> None:
    try:
        loop.call_soon_threadsafe(transport.close)
    except RuntimeError:  # It is closed, and watches nothing.
        transport.close()


class _Direction:
    """One direction of a socket, on the loop.

    The loop goes on watching it between two waits: asking it to, and not to, costs as much as a small message. It stops
    when something can move and nobody waits for it, or it would find that again and again. Until then the loop holds
    the socket, as it holds the transports of asyncio.

    Attributes:
        waiters: who waits for it.
        move: what the one waiter wants done as soon as possible, if that is known; it tells whether it is done.
        watched: the loop is watching.
    """

    __slots__ = ("_add", "_remove", "_socket", "move", "waiters", "watched")

    def __init__(self, add: Callable[..., object], remove: Callable[[int], object], sock: socket.socket) -> None:
        self._add = add
        self._remove = remove
        self._socket = sock
        self.waiters: list[asyncio.Future[None]] = []
        self.move: Callable[[], bool] | None = None
        self.watched = False

    def enlist(self, waiter: asyncio.Future[None]) -> None:
        """Let `waiter` go when something can move."""
        try:
            if not self.watched:
                self.watch()
        except RuntimeError as error:  # The loop is closed.
            raise belongs_elsewhere(running=False) from error
        except (OSError, ValueError):
            waiter.set_result(None)  # The descriptor was closed behind our back: the next look at it tells.
        else:
            self.waiters.append(waiter)

    def watch(self) -> None:
        """Have the loop watch. Raises OSError or ValueError where there is no descriptor."""
        self._add(self._socket.fileno(), self._ready)
        self.watched = True

    def stop(self) -> None:
        """Have the loop watch no longer."""
        self.watched = False
        with contextlib.suppress(OSError, ValueError, RuntimeError):  # no descriptor, or no loop any more
            self._remove(self._socket.fileno())

    def _ready(self) -> None:
        if not self.waiters:
            self.stop()
        elif self.move is None or self.move():
            self.move = None
            _release(self.waiters)


def _release(waiters: list[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            with contextlib.suppress(RuntimeError):  # The loop is closed, and nobody waits any more.
                waiter.set_result(None)
    waiters.clear()


class CompletionTransport(SocketTransport):
    """A socket on a loop that cannot watch descriptors: the loop's own socket calls do the waiting.

    Such a call cannot be cancelled without losing what it had moved, so it runs in a task of its own that outlives the
    waiting, and the next `receive_into` or `send` takes its result.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, peer: str) -> None:
        super().__init__(sock, peer)
        self._loop = loop
        self._receiving: asyncio.Task[bytes] | None = None
        self._sending: asyncio.Task[int] | None = None
        self._refused: bytes = b""
        self._arrived = memoryview(b"")
        self._woken = asyncio.Event()

    def receive_into(self, buffer: memoryview) -> int | None:
        if not self._arrived:
            if self._receiving is None:
                return super().receive_into(buffer)
            if not self._receiving.done():
                return None
            task, self._receiving = self._receiving, None
            try:
                self._arrived = memoryview(task.result())
            except OSError:
                self._raise_loss(self._sending)
                raise
            finally:
                del task  # Its error would hold it in a cycle.
            if not self._arrived:
                self._raise_loss(self._sending)
                return 0
        count = min(len(buffer), len(self._arrived))
        buffer[:count] = self._arrived[:count]
        self._arrived = self._arrived[count:]
        return count

    def send(self, data: bytes | memoryview) -> int | None:
        if self._sending is not None:
            if not self._sending.done():
                return None
            task, self._sending = self._sending, None
            try:
                return task.result()
            except OSError:
                self._raise_loss(self._receiving)
                raise
            finally:
                del task
        try:
            count = super().send(data)
        except OSError:
            self._raise_loss(self._receiving)
            raise
        self._refused = bytes(data[:_CHUNK]) if count is None else b""
        return count

    async def wait(self, *, read: bool, write: bool) -> None:
        if read and self._receiving is None and not self._arrived:
            self._receiving = self._loop.create_task(self._receive_some())
        if write and self._sending is None and self._refused:
            self._sending = self._loop.create_task(self._send_refused())
        self._woken.clear()
        woken = self._loop.create_task(self._woken.wait())
        wanted: set[asyncio.Task[Any]] = {woken}
        if read and self._receiving is not None:
            wanted.add(self._receiving)
        if write and self._sending is not None:
            wanted.add(self._sending)
        try:
            await asyncio.wait(wanted, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()

    @staticmethod
    def _raise_loss(other: asyncio.Task[Any] | None) -> None:
        """Raise the error that the other direction's call has met, if it has.

        The kernel tells why a connection is gone once, to the call that asks first; after it a send meets a broken
        pipe, and a receive the end.
        """
        if other is not None and other.done() and not other.cancelled():
            error = other.exception()
            if isinstance(error, OSError) and not isinstance(error, ConnectionError):
                raise error

    async def _receive_some(self) -> bytes:
        with _socket_calls_of(self._loop):
            return await self._loop.sock_recv(self._socket, _CHUNK)

    async def _send_refused(self) -> int:
        data, self._refused = self._refused, b""
        with _socket_calls_of(self._loop):
            await self._loop.sock_sendall(self._socket, data)
        return len(data)

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        self._cancel_tasks()
        super().close()

    def drop(self) -> None:
        _close_soon(self._loop, self)

    def detach(self) -> socket.socket:
        self._cancel_tasks()
        return super().detach()

    def _cancel_tasks(self) -> None:
        for task in (self._receiving, self._sending):
            if task is not None:
                task.add_done_callback(_look_away)
                task.cancel()
        self._receiving = self._sending = None  # Or their cancellation would pass for that of whoever asks next.


def _look_away(task: asyncio.Task[Any]) -> None:
    """Take a task's error, so that nobody complains that it was never looked at."""
    if not task.cancelled():
        task.exception()
