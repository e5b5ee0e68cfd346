"""The few things that an event loop must give, behind two small protocols.

A `Backend` is one event loop; a `Transport` is the narrow seam through which a stream reaches one connection. All that
closes a TLS connection well stands above this seam and is written once.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from typing import Any

    from bowout._backends.sockets import Endpoint


class Transport(Protocol):
    """One reliable byte stream. The calls that are not coroutines never block."""

    peer: str

    @property
    def sock(self) -> socket.socket | None:
        """The socket underneath, for its options and addresses; None where there is none, and after the end."""

    def receive_into(self, buffer: memoryview) -> int | None:
        """Receive: a count of bytes, 0 at the peer's FIN, None when nothing is there. OSError: it is gone."""

    def send(self, data: bytes | memoryview) -> int | None:
        """Hand bytes to the kernel: how many it took, or None when it takes none now. OSError: the connection is gone.

        After None the caller offers the same bytes again, and waits for writing only after that.
        """

    async def wait(self, *, read: bool, write: bool) -> None:
        """Return when one of the wanted directions may move, or after `wake`; any number of tasks may wait.

        It may return early: whoever waits tries again. Cancelling it loses nothing.
        """

    async def wait_to_take(self, take: Callable[[], bool]) -> None:
        """Like ``wait(read=True)`` for one task, but `take` is called as soon as something is there, and takes it.

        That may be from the loop, outside any task; where `take` says that nothing was there, the wait goes on. So what
        has arrived is out of the kernel before the loop looks at the socket again.
        """

    async def wait_to_give(self, give: Callable[[], bool]) -> None:
        """Like ``wait(write=True)`` for one task, but `give` may be called as soon as there is room, and fills it.

        That may be from the loop, outside any task; where `give` says that there is more to give, the wait goes on.
        """

    def wake(self) -> None:
        """Make every pending `wait` return soon."""

    def send_fin(self) -> None:
        """End our direction. Never raises: a connection that is gone needs no FIN."""

    def unacknowledged(self) -> int | None:
        """Bytes that the kernel has taken and the peer's has not acknowledged; None where this cannot be known."""

    def reset(self) -> None:
        """Close with an RST, dropping whatever is queued."""

    def close(self) -> None:
        """Close the descriptor. Never raises, and may be called again."""

    def drop(self) -> None:
        """Close the descriptor soon, where nothing waits for it any more. Never raises; any thread may call it."""

    def detach(self) -> socket.socket:
        """Give the socket away, open, and forget it."""


class Event(Protocol):
    """Set once, awaited by many."""

    def is_set(self) -> bool:
        """Whether `set` was called."""

    def set(self) -> object:
        """Let every waiter go."""

    async def wait(self) -> object:
        """Wait for `set`."""


class Deadline(Protocol):
    """A scope with a time limit."""

    expired: bool

    def tighten(self, when: float) -> None:
        """Move the limit to `when`, if that is earlier."""


class Job(Protocol):
    """A task of a `Crew`."""

    def cancel(self) -> object:
        """Cancel it, alone."""


class Crew(Protocol):
    """Tasks that end before the block does that they were started in."""

    def start(self, run: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> Job:
        """Run ``run(*args)`` as a task. What it raises ends the whole crew."""


class Backend(Protocol):
    """One event loop."""

    #: By these the loop cancels a task.
    cancellations: tuple[type[BaseException], ...]

    def is_current(self) -> bool:
        """This is the loop that runs the caller."""

    def is_running(self) -> bool:
        """The loop runs, here or in another thread."""

    def time(self) -> float:
        """The loop's clock, in seconds."""

    def event(self) -> Event:
        """A new event."""

    def move_on_at(self, when: float) -> AbstractAsyncContextManager[Deadline, bool]:
        """A scope that is left quietly when the loop's clock reaches `when`; its `expired` then says so."""

    async def checkpoint(self) -> None:
        """Let others run, and let a cancellation in."""

    def crew(self) -> AbstractAsyncContextManager[Crew]:
        """A new crew."""

    async def accept(self, listener: socket.socket) -> socket.socket:
        """The next connection of a listening, non-blocking socket. Raises OSError."""

    async def sleep_until(self, when: float) -> None:
        """Wait until the loop's clock reaches `when`."""

    def signals(self, *numbers: int) -> AbstractContextManager[AsyncIterator[int]]:
        """A block in which these signals come here, and nowhere else."""

    def transport(self, sock: socket.socket, peer: str) -> Transport:
        """Take over a connected socket."""

    async def resolve(self, host: str | None, port: int, flags: int = 0) -> list[Endpoint]:
        """Every TCP address of `host`. Raises OSError (`socket.gaierror`) where there is none."""

    async def connect(self, host: str, port: int) -> socket.socket:
        """Connect by happy eyeballs (RFC 8305). Raises OSError."""


def current() -> Backend:
    """The backend of the event loop that runs the caller.

    Raises:
        RuntimeError: neither asyncio nor trio is running here.
        MisuseError: the loop of asyncio can do nothing with sockets.
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
    from bowout._backends.on_trio import TrioBackend  # noqa: PLC0415  (trio is an extra)

    return TrioBackend()


def _asyncio() -> Backend | None:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    from bowout._backends.on_asyncio import AsyncioBackend  # noqa: PLC0415  (not needed under trio)

    return AsyncioBackend(loop)
