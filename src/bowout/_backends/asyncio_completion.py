"""A socket on an asyncio loop that cannot watch descriptors, such as the proactor loop of Windows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from bowout._backends.asyncio_loops import close_soon, socket_calls_of
from bowout._backends.sockets import SocketTransport

if TYPE_CHECKING:
    import socket

#: Maximum bytes of ciphertext that one call of the loop moves.
_CHUNK: Final = 1 << 16


class CompletionTransport(SocketTransport):
    """A socket on a loop that cannot watch descriptors: the loop's own socket calls do the waiting.

    Such a call cannot be cancelled without losing the bytes that it has moved, so it runs in a task of its own that
    outlives the wait, and the next `receive_into` or `send` takes its result.
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
                del task  # Break the reference cycle with its error.
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
        """Raise the error of the other direction's call, if there is one.

        The kernel reports the cause of a lost connection only once, to the first call; after that, a send gets a broken
        pipe, and a receive the end of input.
        """
        if other is not None and other.done() and not other.cancelled():
            error = other.exception()
            if isinstance(error, OSError) and not isinstance(error, ConnectionError):
                raise error

    async def _receive_some(self) -> bytes:
        with socket_calls_of(self._loop):
            return await self._loop.sock_recv(self._socket, _CHUNK)

    async def _send_refused(self) -> int:
        data, self._refused = self._refused, b""
        with socket_calls_of(self._loop):
            await self._loop.sock_sendall(self._socket, data)
        return len(data)

    def wake(self) -> None:
        self._woken.set()

    def close(self, *, deadline: float = 0.0) -> None:
        self._cancel_tasks()
        super().close(deadline=deadline)

    def drop(self) -> None:
        close_soon(self._loop, self)

    async def detach(self) -> tuple[socket.socket, bytes]:
        self._cancel_tasks()
        sock, _ = await super().detach()
        return sock, bytes(self._arrived)

    def _cancel_tasks(self) -> None:
        for task in (self._receiving, self._sending):
            if task is not None:
                task.add_done_callback(_look_away)
                task.cancel()
        self._receiving = self._sending = None  # Else a later caller would see their cancellation as its own.


def _look_away(task: asyncio.Task[Any]) -> None:
    """Retrieve a task's error, so that asyncio does not log that it was never retrieved."""
    if not task.cancelled():
        task.exception()
