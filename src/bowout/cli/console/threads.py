"""Calls that may block forever, outside the event loop: in daemon threads, which are not joined at the exit.

asyncio's own means do not fit. Its pipe transports accept no regular files, and make descriptors non-blocking that are
shared with the shell; its default executor is joined at the interpreter's exit, so one blocked read would delay it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import select
import stat
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK: Final = 1 << 18
#: Largest number of chunks that are read ahead.
_AHEAD: Final = 2
#: Bytes that may wait to be written before `Writer.room` waits.
_BEHIND: Final = 1 << 20

_P = ParamSpec("_P")
_T = TypeVar("_T")


class DaemonExecutor(ThreadPoolExecutor):
    """An executor for `loop.set_default_executor`: a name server that does not answer must not delay the exit."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Run `fn` in its own thread."""
        future: Future[_T] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001  (it is the caller's)
                    future.set_exception(error)

        threading.Thread(target=work, name="bowout worker", daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Return at once, without waiting for the threads."""


class ThreadReader:
    """A descriptor's bytes, read a little ahead by a thread. It must be made inside the loop."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._loop = asyncio.get_running_loop()
        self._chunks: asyncio.Queue[bytes | OSError] = asyncio.Queue()
        self._credit = threading.Semaphore(_AHEAD)
        self._taken = 0  # by the thread
        self._given = 0  # by the loop
        threading.Thread(target=self._work, name="bowout reader", daemon=True).start()

    async def read(self) -> bytes:
        """Return the next bytes; ``b""`` at the end.

        Raises:
            OSError: they cannot be read.
        """
        chunk = await self._chunks.get()
        if isinstance(chunk, OSError):
            raise chunk
        self._given += len(chunk)
        self._credit.release()
        return chunk

    def stop(self) -> bool:
        """Make a pending `read` return ``b""``; return whether there is data that no `read` has returned.

        The thread stays blocked: a blocking read cannot be interrupted.
        """
        self._chunks.put_nowait(b"")
        return self._taken > self._given or _holds_more(self._descriptor)

    def _work(self) -> None:
        chunk: bytes | OSError = b" "
        while chunk and not isinstance(chunk, OSError):
            self._credit.acquire()
            try:
                chunk = _blocking(select.POLLIN, os.read, self._descriptor, _CHUNK)
            except OSError as error:
                chunk = error
            else:
                self._taken += len(chunk)
            if not _tell(self._loop, self._chunks.put_nowait, chunk):
                return


class Writer:
    """Writes to a descriptor in a thread, with a queue. It must be made inside the loop.

    Args:
        descriptor: a pipe, a file, a terminal.
        on_error: called once, in the loop, when the descriptor accepts no more; later data is dropped.
    """

    def __init__(self, descriptor: int, on_error: Callable[[OSError], None]) -> None:
        self._descriptor = descriptor
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._work_to_do: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._moved = asyncio.Event()
        self._watching = self._watch_the_reader()
        self.waiting: int = 0
        self.failed: bool = False
        threading.Thread(target=self._work, name="bowout writer", daemon=True).start()

    def put(self, data: bytes) -> None:
        """Queue `data`."""
        if data and not self.failed:
            self.waiting += len(data)
            self._work_to_do.put(data)

    async def room(self) -> None:
        """Return when the queue has room."""
        while self.waiting > _BEHIND and not self.failed:
            await self._move()

    async def finish(self) -> None:
        """Wait until all data is written, or writing has failed."""
        while self.waiting and not self.failed:
            await self._move()

    def close(self) -> None:
        """Stop watching, and let the thread end as soon as it can."""
        self._stop_watching()
        self._work_to_do.put(None)

    async def _move(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    def _work(self) -> None:
        while (data := self._work_to_do.get()) is not None:
            view = memoryview(data)
            try:
                while view:
                    view = view[_blocking(select.POLLOUT, os.write, self._descriptor, view) :]
            except OSError as error:
                _tell(self._loop, self._fail, error)
                return
            if not _tell(self._loop, self._took, len(data)):
                return

    def _took(self, count: int) -> None:
        self.waiting -= count
        self._moved.set()

    def _fail(self, error: OSError) -> None:
        self._stop_watching()
        if not self.failed:
            self.failed = True
            self._moved.set()
            self._on_error(error)

    # A pipe reports that its reader has left, so that `bowout … | head -1` ends without waiting for the next line.

    def _watch_the_reader(self) -> bool:
        if not hasattr(select, "poll") or not stat.S_ISFIFO(os.fstat(self._descriptor).st_mode):
            return False
        try:
            self._loop.add_reader(self._descriptor, self._look_at_the_reader)
        except (NotImplementedError, OSError):
            return False
        return True

    def _look_at_the_reader(self) -> None:
        self._stop_watching()
        poll = select.poll()
        poll.register(self._descriptor, 0)
        if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
            self._fail(BrokenPipeError())

    def _stop_watching(self) -> None:
        if self._watching:
            self._watching = False
            self._loop.remove_reader(self._descriptor)


def _blocking(direction: int, call: Callable[..., _T], descriptor: int, *arguments: Any) -> _T:
    """Repeat `call` until it does not fail with EAGAIN: another process may have made the descriptor non-blocking."""
    while True:
        try:
            return call(descriptor, *arguments)
        except BlockingIOError:
            poll = select.poll()
            poll.register(descriptor, direction)
            poll.poll()


def _holds_more(descriptor: int) -> bool:
    """Return whether a file or a pipe has more data; for others, readable may also mean the end."""
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        return os.lseek(descriptor, 0, os.SEEK_CUR) < status.st_size
    if not hasattr(select, "poll") or not stat.S_ISFIFO(status.st_mode):
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return any(events & select.POLLIN for _, events in poll.poll(0))


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *arguments: object) -> bool:
    """Schedule `call` in the loop; return False if the loop is closed."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *arguments)
        return True
    return False
