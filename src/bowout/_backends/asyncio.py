"""The backend for asyncio, uvloop included."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any, Final, Self

import aiohappyeyeballs

from bowout._backends.asyncio_completion import CompletionTransport
from bowout._backends.asyncio_loops import can_watch_descriptors, release, socket_calls_of
from bowout._backends.asyncio_readiness import ReadinessTransport
from bowout._backends.sockets import (
    HAPPY_EYEBALLS_DELAY,
    Endpoint,
    SocketTransport,
    begin_to_connect,
    bind_to_any,
    check_connected,
    new_socket,
    numeric_address,
    resolvable,
    with_zone,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType

#: Tasks that run by themselves: a loop has only weak references to its tasks.
_spawned: Final[set[asyncio.Task[None]]] = set()


class AsyncioBackend:
    """The running loop of asyncio."""

    cancellations: tuple[type[BaseException], ...] = (asyncio.CancelledError,)
    library = "asyncio"

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watches = can_watch_descriptors(loop)
        self.time = loop.time
        self.event = asyncio.Event

    def is_current(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def is_running(self) -> bool:
        return self._loop.is_running()

    def is_cancelled(self) -> bool:
        task = asyncio.current_task(self._loop)
        return task is None or task.cancelling() > 0  # A future that was cancelled raises it, too.

    def move_on_at(self, when: float, *, shield: bool = False) -> _AsyncioMoveOn:
        return (_ShieldedMoveOn if shield else _AsyncioMoveOn)(self._loop, when)

    async def checkpoint(self) -> None:
        await asyncio.sleep(0)

    def task_group(self) -> _AsyncioTaskGroup:
        return _AsyncioTaskGroup()

    def spawn(self, run: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        task = self._loop.create_task(run())
        _spawned.add(task)
        task.add_done_callback(_spawned.discard)
        return task

    def call_soon(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed.
            self._loop.call_soon_threadsafe(call)

    async def accept(self, listener: socket.socket) -> socket.socket:
        if not self._watches:
            with socket_calls_of(self._loop):
                sock, _ = await self._loop.sock_accept(listener)
            return sock
        # The loop's own sock_accept loses an accepted connection when it is cancelled.
        while True:
            try:
                return listener.accept()[0]
            except (BlockingIOError, InterruptedError):
                await self._wait_once(self._loop.add_reader, self._loop.remove_reader, listener)

    async def _wait_once(
        self, add: Callable[..., object], remove: Callable[[int], object], sock: socket.socket
    ) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        add(sock.fileno(), release, [waiter])
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

    async def connect(
        self,
        host: str,
        port: int,
        *,
        local_address: str | None = None,
        local_port: int = 0,
        delay: float = HAPPY_EYEBALLS_DELAY,
    ) -> socket.socket:
        endpoints = await self.resolve(host, port)
        local = None if local_address is None else await self.resolve(local_address, local_port)
        if len(endpoints) > 1:
            with socket_calls_of(self._loop):
                return await aiohappyeyeballs.start_connection(
                    list(map(with_zone, endpoints)),
                    local_addr_infos=local,
                    happy_eyeballs_delay=delay,
                    interleave=1,
                    loop=self._loop,
                )
        sock, address = new_socket(endpoints[0])
        try:
            if local is not None:
                bind_to_any(sock, local)
            if not self._watches:
                with socket_calls_of(self._loop):
                    await self._loop.sock_connect(sock, address)
            elif not begin_to_connect(sock, address):
                await self._wait_once(self._loop.add_writer, self._loop.remove_writer, sock)
                check_connected(sock)
        except BaseException:
            sock.close()
            raise
        return sock


class _AsyncioMoveOn:
    """`asyncio.timeout_at` that reports its expiry instead of raising, at a third of the cost."""

    __slots__ = ("_cancelling", "_fired", "_loop", "_task", "_timer", "_when", "expired")

    def __init__(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        self._loop = loop
        self._when = when
        self._fired = False
        self.expired = False

    async def __aenter__(self) -> Self:
        task = asyncio.current_task(self._loop)
        assert task is not None, "the caller has checked that this loop runs it, and a coroutine runs in a task"
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


class _ShieldedMoveOn(_AsyncioMoveOn):
    """The same, in a task that is being cancelled.

    A cancellation of asyncio ends one wait, and not those after it; but one of anyio ends them all, unless anyio itself
    shields them.
    """

    __slots__ = ("_shield",)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        anyio = sys.modules.get("anyio")
        self._shield: AbstractContextManager[object] = (
            contextlib.nullcontext() if anyio is None else anyio.CancelScope(shield=True)
        )
        self._shield.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._shield.__exit__(kind, error, traceback)
        return await super().__aexit__(kind, error, traceback)


class _AsyncioTaskGroup:
    """`asyncio.TaskGroup` with the names that bowout uses."""

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
    """Put `number` into `queue` at each such signal, until `undo` restores the previous handler."""
    before = signal.getsignal(number)
    if before is not None:  # None: the previous handler is not Python's
        undo.callback(signal.signal, number, before)  # loops restore the default, not asyncio.run()'s handler
    try:
        loop.add_signal_handler(number, queue.put_nowait, number)
    except NotImplementedError:  # Windows
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(queue.put_nowait, number))
    else:
        undo.callback(loop.remove_signal_handler, number)


async def _drain_queue(queue: asyncio.Queue[int]) -> AsyncIterator[int]:
    while True:
        yield await queue.get()
