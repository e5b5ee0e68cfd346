"""Tasks, threads and turns under the same names on asyncio and trio."""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, Generic, TypeVar

import trio
import trio.testing

T = TypeVar("T")

#: Turns of asyncio's loop after which tasks that were just started wait for something outside.
_TURNS: Final = 20


def on_trio() -> bool:
    """Whether trio runs this task."""
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


async def settle() -> None:
    """Let every other task go as far as it can without news from outside."""
    if on_trio():
        await trio.testing.wait_all_tasks_blocked()
        return
    for _ in range(_TURNS):
        await asyncio.sleep(0)


async def turn() -> None:
    """Let others run once."""
    if on_trio():
        await trio.lowlevel.checkpoint()
    else:
        await asyncio.sleep(0)


def this_task() -> object:
    """The task that is running."""
    return trio.lowlevel.current_task() if on_trio() else asyncio.current_task()


async def in_thread(function: Callable[[], T]) -> T:
    """Wait for what blocks, in a thread."""
    if on_trio():
        return await trio.to_thread.run_sync(function)
    return await asyncio.to_thread(function)


def cancelled() -> type[BaseException]:
    """The exception by which this loop cancels."""
    return trio.Cancelled if on_trio() else asyncio.CancelledError


class Background(Generic[T]):
    """One task, with its outcome: it is kept, and raised only to who asks."""

    def __init__(self) -> None:
        self._done: asyncio.Event | trio.Event = trio.Event() if on_trio() else asyncio.Event()
        self._value: T | None = None
        self.error: BaseException | None = None
        self.cancel: Callable[[], object] = lambda: None

    async def work(self, function: Callable[[], Awaitable[T]]) -> None:
        """Run `function` and keep what comes of it."""
        try:
            self._value = await function()
        except BaseException as error:
            self.error = error
            if not isinstance(error, Exception):
                raise
        finally:
            self._done.set()

    @property
    def done(self) -> bool:
        """It has ended, in whatever way."""
        return self._done.is_set()

    async def ended(self) -> BaseException | None:
        """Wait for its end; give what it raised."""
        await self._done.wait()
        return self.error

    async def result(self) -> T:
        """Wait for its end; give what it returned, or raise what it raised."""
        await self._done.wait()
        if self.error is not None:
            raise self.error
        return self._value  # type: ignore[return-value]


class BackgroundGroup:
    """Starts jobs; see `jobs`."""

    def __init__(self, start: Callable[[Background[Any], Callable[[], Awaitable[Any]]], None]) -> None:
        self._start = start

    def start(self, function: Callable[..., Awaitable[T]], *args: Any) -> Background[T]:
        """Start a task."""
        job: Background[T] = Background()
        self._start(job, lambda: function(*args))
        return job


@contextlib.asynccontextmanager
async def jobs() -> AsyncIterator[BackgroundGroup]:
    """A group of tasks: leaving the block waits for them all."""
    if on_trio():
        async with trio.open_nursery() as nursery:

            async def in_scope(
                job: Background[Any], scope: trio.CancelScope, function: Callable[[], Awaitable[Any]]
            ) -> None:
                with scope:
                    await job.work(function)

            def start_trio(job: Background[Any], function: Callable[[], Awaitable[Any]]) -> None:
                scope = trio.CancelScope()
                job.cancel = scope.cancel
                nursery.start_soon(in_scope, job, scope, function)

            yield BackgroundGroup(start_trio)
    else:
        async with asyncio.TaskGroup() as group:

            def start_asyncio(job: Background[Any], function: Callable[[], Awaitable[Any]]) -> None:
                job.cancel = group.create_task(job.work(function)).cancel

            yield BackgroundGroup(start_asyncio)


class Awaits:
    """Counts the awaits of a coroutine at which it really waits, and cancels it at one of them.

    Args:
        cancel_at: at which one; 0 for none.
        at_first: called at the first: what the coroutine waits for may happen then.
        shielded: some of its awaits are protected from cancellation, and it may end after one of them.

    Attributes:
        count: how many there were.
    """

    def __init__(
        self, cancel_at: int = 0, at_first: Callable[[], object] = lambda: None, *, shielded: bool = False
    ) -> None:
        self._cancel_at = cancel_at
        self._at_first = at_first
        self._shielded = shielded
        self.count = 0

    async def drive(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """Run it; give its result, or None where the cancellation came out of it.

        Raises:
            AssertionError: it was cancelled, and swallowed that.
        """
        result: T | None = None
        with trio.CancelScope() if on_trio() else contextlib.nullcontext() as scope:
            cancel = scope.cancel if scope is not None else self._cancel_task
            try:
                result = await self._step(function(), cancel)
                swallowed = 0 < self._cancel_at <= self.count
                assert self._shielded or not swallowed, "the cancellation was swallowed"
            except cancelled():
                assert 0 < self._cancel_at <= self.count, "cancelled, and not by us"
                if scope is not None:
                    raise
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
        return result

    @staticmethod
    def _cancel_task() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    @types.coroutine
    def _step(self, coroutine: Coroutine[Any, Any, T], cancel: Callable[[], object]) -> Generator[Any, Any, T]:
        step: Callable[[Any], Any] = coroutine.send
        value: Any = None
        while True:
            try:
                trap = step(value)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            self.count += 1
            if self.count == 1:
                self._at_first()
            if self.count == self._cancel_at:
                cancel()
            try:
                value, step = (yield trap), coroutine.send
            except BaseException as error:  # noqa: BLE001 it is passed on
                value, step = error, coroutine.throw
