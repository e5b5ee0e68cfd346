"""The few operations that an event loop must provide, behind two small protocols.

A `Backend` is one event loop; a `Transport` is the narrow interface between a stream and one connection. Everything
that closes a TLS connection properly is above this interface and is written once.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

from bowout._backends.sockets import HAPPY_EYEBALLS_DELAY

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from typing import Any

    from bowout._backends.sockets import Endpoint


class Transport(Protocol):
    """One reliable byte stream. The calls that are not coroutines never block."""

    peer: str
    #: Whether `send`, `send_fin` and `close` act at once. Otherwise they begin something that goes on by itself; `wait`
    #: with ``write`` waits for the first two, `wait_closed` for the last.
    acts_at_once: bool

    @property
    def carries_lane(self) -> bool:
        """Whether the lane may use the descriptor: it is a socket's, the loop tells what arrives, and no task waits."""

    @property
    def lacks(self) -> str:
        """What the transport cannot do, in words for the ending; "" if it can do everything."""

    @property
    def sock(self) -> socket.socket | None:
        """The socket under the transport, for its options and addresses; None if there is none, and after the end."""

    def receive_into(self, buffer: memoryview) -> int | None:
        """Receive bytes; return their number, 0 at the peer's FIN, None if there are none. OSError: it is lost."""

    def send(self, data: bytes | memoryview) -> int | None:
        """Pass bytes to the kernel; return how many it took, None if it takes none now. OSError: it is lost.

        After None the caller offers the same bytes again, and only then waits for writing.
        """

    def call_when_sent(self, call: Callable[[], object]) -> None:
        """Call `call` whenever bytes have left that `send` did not send at once; it may send more."""

    async def wait(self, *, read: bool, write: bool) -> None:
        """Return when one of the wanted directions may move, or after `wake`; any number of tasks may wait.

        It may return early: the caller tries again. Cancelling it loses nothing.
        """

    async def wait_readable(self, take: Callable[[], bool]) -> None:
        """Wait like ``wait(read=True)`` for one task, but call `take` as soon as there is something to receive.

        The loop may call it, outside any task; if `take` returns False, nothing was there, and the wait goes on. So the
        received bytes are out of the kernel before the loop polls the socket again.
        """

    async def wait_writable(self, give: Callable[[], bool]) -> None:
        """Wait like ``wait(write=True)`` for one task, but `give` may be called as soon as there is room, to fill it.

        The loop may call it, outside any task; if `give` returns False, there is more to send, and the wait goes on.
        """

    def wake(self) -> None:
        """Make every pending `wait` return soon."""

    def begin_lane(self, lane: Any) -> bool:
        """Lend the descriptor to `lane`; tell whether it is a future of the loop's, for which tasks can wait.

        Called only if `carries_lane`; until `end_lane`, nothing is received here, and no task waits for reading.
        """

    def end_lane(self, *, watched: bool) -> None:
        """Take the descriptor back; `watched`: whether the loop watches it for the lane."""

    async def catch_up(self) -> bool:
        """Give the loop the turns that it needs to bring here what the kernel has, and to pass on what was sent.

        It is for a last look, after a deadline: the loop may have been blocked.

        Returns:
            Whether something came or left: receive, send, and call it again. False if all is done that can be done
            without waiting for the peer.
        """

    def send_fin(self) -> bool | None:
        """End our direction. Never raises: a lost connection needs no FIN.

        Returns:
            True if it has ended; None if that goes on: wait for writing, and call this again; False if the transport
            cannot end one direction alone, so that `close` has to.
        """

    def unacknowledged(self) -> int | None:
        """Count the bytes that our kernel has taken and the peer's has not acknowledged; None if unknown."""

    def get_extra_info(self, name: str) -> Any:
        """Return what only a transport without a socket knows, such as its ``"peername"``; otherwise None."""

    def reset(self) -> bool:
        """Close with an RST, and drop everything that is queued. Return False if it has no RST: it is closed then."""

    def close(self, *, deadline: float = 0.0) -> None:
        """Close the descriptor. Never raises, and may be called again.

        Args:
            deadline: time until which a transport that does not act at once may take for it; it gets a moment in any
                case.
        """

    async def wait_closed(self) -> None:
        """Wait until what `close` or `reset` has begun is done. Cancelling it leaves no more time for that."""

    def drop(self) -> None:
        """Close the descriptor soon, when nothing waits for it any more. Never raises; any thread may call it."""

    def leave_to_parent(self) -> None:
        """In a forked child: close its copy of the descriptor, if there is one, and move nothing. Never raises."""

    async def detach(self) -> tuple[Any, bytes]:
        """Return the socket or the stream, open, and the bytes that were received from it and not taken; forget it."""


class LoopEvent(Protocol):
    """An event that is set once and awaited by many tasks."""

    def is_set(self) -> bool:
        """Tell whether `set` was called."""

    def set(self) -> object:
        """Wake every waiter."""

    async def wait(self) -> object:
        """Wait for `set`."""


class Deadline(Protocol):
    """A scope with a time limit."""

    expired: bool

    def tighten(self, when: float) -> None:
        """Move the limit to `when`, if that is earlier."""


class Task(Protocol):
    """A task of a `TaskGroup`, or one of its own."""

    def cancel(self) -> object:
        """Cancel this task alone."""


class TaskGroup(Protocol):
    """Tasks that end before the block in which they were started."""

    def start(self, run: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> Task:
        """Run ``run(*args)`` as a task. An exception from it ends the whole group."""


class Backend(Protocol):
    """One event loop."""

    #: The exceptions with which the loop cancels a task.
    cancellations: tuple[type[BaseException], ...]
    #: Name of the library that runs it: ``"asyncio"`` or ``"trio"``.
    library: str

    def is_current(self) -> bool:
        """Tell whether this loop runs the caller."""

    def is_running(self) -> bool:
        """Tell whether the loop runs, in this thread or another."""

    def is_cancelled(self) -> bool:
        """Tell whether one of `cancellations` that was just raised comes from a cancellation of the running task."""

    def time(self) -> float:
        """Return the time of the loop's clock, in seconds."""

    def event(self) -> LoopEvent:
        """Make a new event."""

    def move_on_at(self, when: float, *, shield: bool = False) -> AbstractAsyncContextManager[Deadline, bool]:
        """Return a scope that ends quietly when the loop's clock reaches `when`; then its `expired` is True.

        If `shield` is set, a cancellation from before the scope does not end its waits.
        """

    async def checkpoint(self) -> None:
        """Let other tasks run, and deliver a pending cancellation."""

    def task_group(self) -> AbstractAsyncContextManager[TaskGroup]:
        """Make a new task group."""

    def spawn(self, run: Callable[[], Coroutine[Any, Any, None]]) -> Task:
        """Run ``run()`` as a task of its own, which raises nothing but a cancellation. Only for a current loop."""

    def call_soon(self, call: Callable[[], None]) -> None:
        """Call `call` soon in the loop's thread, from any thread; not at all if the loop has ended."""

    async def accept(self, listener: socket.socket) -> socket.socket:
        """Accept the next connection of `listener`, a non-blocking socket. Raises OSError."""

    async def sleep_until(self, when: float) -> None:
        """Wait until the loop's clock reaches `when`."""

    def signals(self, *numbers: int) -> AbstractContextManager[AsyncIterator[int]]:
        """Return a block in which these signals are delivered here, and nowhere else."""

    def transport(self, sock: socket.socket, peer: str) -> Transport:
        """Make a transport that owns `sock`, a connected socket."""

    async def resolve(self, host: str | None, port: int, flags: int = 0) -> list[Endpoint]:
        """Return every TCP address of `host`. Raises OSError (`socket.gaierror`) if there is none."""

    async def connect(
        self,
        host: str,
        port: int,
        *,
        local_address: str | None = None,
        local_port: int = 0,
        delay: float = HAPPY_EYEBALLS_DELAY,
    ) -> socket.socket:
        """Connect by Happy Eyeballs (RFC 8305). Raises OSError.

        Args:
            host: a name or an address.
            port: the TCP port.
            local_address: name or address to connect from; None for the system's choice.
            local_port: port to connect from, only with `local_address`; 0 for the system's choice.
            delay: seconds after which the next address of `host` is tried beside those that have not answered.
        """


def current() -> Backend:
    """Return the backend of the event loop that runs the caller.

    Raises:
        RuntimeError: neither asyncio nor trio is running here.
        MisuseError: the asyncio loop cannot use sockets.
    """
    for find in (_trio, _asyncio):
        backend = find()
        if backend is not None:
            return backend
    raise RuntimeError("bowout needs a running event loop: call it from a coroutine under asyncio or trio")


def _trio() -> Backend | None:
    trio = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return None
    from bowout._backends.trio import TrioBackend  # noqa: PLC0415  (trio is an extra)

    return TrioBackend()


def _asyncio() -> Backend | None:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    from bowout._backends.asyncio import AsyncioBackend  # noqa: PLC0415  (not needed under trio)

    return AsyncioBackend(loop)
