"""The backend for trio."""

from __future__ import annotations

import contextlib
import contextvars
import socket
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import trio

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
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from contextlib import AbstractContextManager
    from types import TracebackType


class TrioBackend:
    """The running loop of trio."""

    cancellations: tuple[type[BaseException], ...] = (trio.Cancelled,)
    library = "trio"

    def __init__(self) -> None:
        self.time = trio.lowlevel.current_clock().current_time
        self.event = trio.Event
        self._token = trio.lowlevel.current_trio_token()

    def is_current(self) -> bool:
        try:
            return trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:
            return False

    def is_running(self) -> bool:
        try:
            self._token.run_sync_soon(_do_nothing, idempotent=True)
        except trio.RunFinishedError:
            return False
        return True

    def is_cancelled(self) -> bool:
        return True  # Only trio raises it.

    def move_on_at(self, when: float, *, shield: bool = False) -> _TrioMoveOn:
        return _TrioMoveOn(when, shield=shield)

    async def checkpoint(self) -> None:
        await trio.lowlevel.checkpoint()

    @asynccontextmanager
    async def task_group(self) -> AsyncIterator[_TrioTaskGroup]:
        async with trio.open_nursery() as nursery:
            yield _TrioTaskGroup(nursery)

    def spawn(self, run: Callable[[], Coroutine[Any, Any, None]]) -> trio.CancelScope:
        scope = trio.CancelScope()

        async def task() -> None:
            with scope:
                await run()

        trio.lowlevel.spawn_system_task(task, context=contextvars.copy_context())
        return scope

    def call_soon(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(call)

    async def accept(self, listener: socket.socket) -> socket.socket:
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return listener.accept()[0]
            except BlockingIOError:
                await trio.lowlevel.wait_readable(listener)

    async def sleep_until(self, when: float) -> None:
        await trio.sleep_until(when)

    def signals(self, *numbers: int) -> AbstractContextManager[AsyncIterator[int]]:
        return trio.open_signal_receiver(*numbers)

    def transport(self, sock: socket.socket, peer: str) -> TrioTransport:
        return TrioTransport(sock, peer)

    async def resolve(self, host: str | None, port: int, flags: int = 0) -> list[Endpoint]:
        if endpoints := numeric_address(host, port, flags):
            return endpoints
        name = None if host is None else resolvable(host)
        return list(await trio.socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=flags))

    async def connect(
        self,
        host: str,
        port: int,
        *,
        local_address: str | None = None,
        local_port: int = 0,
        delay: float = HAPPY_EYEBALLS_DELAY,
    ) -> socket.socket:
        endpoints = numeric_address(host, port)
        if not endpoints and not local_port:
            stream = await trio.open_tcp_stream(
                resolvable(host), port, local_address=local_address, happy_eyeballs_delay=delay
            )
            sock = socket.socket(fileno=stream.socket.detach())
            if sys.platform == "linux":  # trio limits the kernel's buffer to 16 KiB; a larger one needs fewer waits.
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 0)
            return sock
        local = None if local_address is None else await self.resolve(local_address, local_port)
        # One after the other: two sockets cannot have the same local port.
        return await _connect_to_any(endpoints or await self.resolve(host, port), local)


async def _connect_to_any(endpoints: list[Endpoint], local: list[Endpoint] | None) -> socket.socket:
    """Connect to the first of `endpoints` that answers. Raises OSError."""
    if len(endpoints) == 1:
        return await _connect_to(endpoints[0], local)
    errors: list[OSError] = []
    try:
        for endpoint in endpoints:
            try:
                return await _connect_to(endpoint, local)
            except OSError as error:
                errors.append(error)
        raise OSError("no address could be connected to") from ExceptionGroup("every attempt failed", errors)
    finally:
        errors.clear()  # A reference cycle: the tracebacks refer to this frame.


async def _connect_to(endpoint: Endpoint, local: list[Endpoint] | None) -> socket.socket:
    sock, address = new_socket(endpoint)
    try:
        if local is not None:
            bind_to_any(sock, local)
        if not begin_to_connect(sock, address):
            await trio.lowlevel.wait_writable(sock)
            check_connected(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def _do_nothing() -> None:
    pass


class _TrioMoveOn:
    """A cancel scope with the names that bowout uses."""

    def __init__(self, when: float, *, shield: bool) -> None:
        self._scope = trio.CancelScope(deadline=when, shield=shield)
        self.expired = False

    async def __aenter__(self) -> Self:
        self._scope.__enter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        handled = self._scope.__exit__(kind, error, traceback)
        self.expired = self._scope.cancelled_caught
        return handled

    def tighten(self, when: float) -> None:
        self._scope.deadline = min(self._scope.deadline, when)


class _TrioTaskGroup:
    """A nursery whose tasks can be cancelled one by one."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start(self, run: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> trio.CancelScope:
        scope = trio.CancelScope()

        async def job() -> None:
            with scope:
                await run(*args)

        self._nursery.start_soon(job)
        return scope


class TrioTransport(SocketTransport):
    """A socket under trio, which lets only one task wait for each direction: the others wait for that task."""

    def __init__(self, sock: socket.socket, peer: str) -> None:
        super().__init__(sock, peer)
        self._reading = _Leader(trio.lowlevel.wait_readable)
        self._writing = _Leader(trio.lowlevel.wait_writable)
        self._idle = _Lot()

    @property
    def carries_lane(self) -> bool:
        return not self._reading.led

    def begin_lane(self, lane: Any) -> bool:  # noqa: ARG002  (it needs no preparation)
        return False

    def end_lane(self, *, watched: bool) -> None:
        pass

    async def wait(self, *, read: bool, write: bool) -> None:
        if read and write:
            await self._wait_for_either()
        elif read:
            await self._reading.wait(self._socket)
        elif write:
            await self._writing.wait(self._socket)
        else:
            await self._idle.park()

    async def _wait_for_either(self) -> None:
        async def one(leader: _Leader) -> None:
            await leader.wait(self._socket)
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one, self._reading)
                nursery.start_soon(one, self._writing)
        except BaseExceptionGroup:
            await trio.lowlevel.checkpoint_if_cancelled()  # One Cancelled, as from every other wait, and no group.
            raise

    def wake(self) -> None:
        self._idle.unpark_all()
        self._reading.release()
        self._writing.release()
        # Removal from trio's epoll object in a forked child would affect its parent, too.
        if self._socket.fileno() >= 0 and self._is_ours():
            with contextlib.suppress(RuntimeError):  # outside trio, after the end of its loop: nothing waits any more
                trio.lowlevel.notify_closing(self._socket)


class _Lot:
    """A `trio.lowlevel.ParkingLot` that takes little memory as long as no task waits."""

    __slots__ = ("_lot",)

    def __init__(self) -> None:
        self._lot: trio.lowlevel.ParkingLot | None = None

    async def park(self) -> None:
        if self._lot is None:
            self._lot = trio.lowlevel.ParkingLot()
        await self._lot.park()

    def unpark_all(self) -> None:
        if self._lot is not None:
            self._lot.unpark_all()


class _Leader:
    """One wait for a direction of a socket, shared by all the tasks that wait for it.

    Attributes:
        led: whether a task waits.
    """

    __slots__ = ("_followers", "_wait", "led")

    def __init__(self, wait: Callable[[socket.socket], Awaitable[None]]) -> None:
        self._wait = wait
        self.led = False
        self._followers = _Lot()

    async def wait(self, sock: socket.socket) -> None:
        if self.led:
            await self._followers.park()
            return
        self.led = True
        try:
            if sock.fileno() < 0:
                raise trio.ClosedResourceError  # since this wait was requested: tasks start one after the other here
            await self._wait(sock)
        except (trio.ClosedResourceError, OSError):
            # `wake` was called, or the descriptor is closed: the caller will check.
            await trio.lowlevel.checkpoint()
        finally:
            self.led = False
            self.release()

    def release(self) -> None:
        """Wake the followers: they try again, and one of them becomes the leader."""
        self._followers.unpark_all()
