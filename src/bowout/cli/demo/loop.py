"""The demo's additions to bowout's backends: running an event loop by its name, and tasks with a result."""

from __future__ import annotations

import asyncio
import enum
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from bowout import _backends
from bowout.errors import BowoutError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

T = TypeVar("T")


class LoopName(enum.StrEnum):
    """The event loops that bowout runs on."""

    ASYNCIO = "asyncio"
    UVLOOP = "uvloop"
    TRIO = "trio"


def require(name: LoopName) -> None:
    """Raise ModuleNotFoundError if this loop is not installed."""
    __import__(name.value)


def run(name: LoopName, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main` in a new event loop called `name`."""
    if name is LoopName.TRIO:
        import trio  # noqa: PLC0415  (an extra)

        # Otherwise a KeyboardInterrupt could come between any two bytecodes, and leave a library's state inconsistent.
        return trio.run(main, restrict_keyboard_interrupt_to_checkpoints=True)
    factory = None
    if name is LoopName.UVLOOP:
        import uvloop  # noqa: PLC0415  (an extra)

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


class SideTask(Generic[T]):
    """Work that runs beside the act, in its own task.

    Attributes:
        result, error: its result, or the BowoutError that ended it; both None while it runs and after a cancellation.
    """

    def __init__(self, work: Callable[[], Awaitable[T]], crew: _backends.TaskGroup) -> None:
        self._work = work
        self._done = _backends.current().event()
        self.result: T | None = None
        self.error: BowoutError | None = None
        self._task = crew.start(self._run)

    async def _run(self) -> None:
        try:
            self.result = await self._work()
        except BowoutError as error:
            self.error = error
        finally:
            self._done.set()

    def cancel(self) -> None:
        """Cancel it."""
        self._task.cancel()

    async def wait(self) -> None:
        """Wait until it has ended, in any way."""
        await self._done.wait()


class SideTasks:
    """Starts side tasks, and can cancel them all."""

    def __init__(self, crew: _backends.TaskGroup) -> None:
        self._tasks = crew
        self._jobs: list[SideTask[Any]] = []

    def start(self, work: Callable[[], Awaitable[T]]) -> SideTask[T]:
        """Start `work` in its own task."""
        job = SideTask(work, self._tasks)
        self._jobs.append(job)
        return job

    def dismiss(self) -> None:
        """Cancel all tasks that still run."""
        for job in self._jobs:
            job.cancel()


@asynccontextmanager
async def jobs() -> AsyncIterator[SideTasks]:
    """Provide a place for side tasks: at the end of the block, all of them have ended."""
    async with _backends.current().task_group() as crew:
        jobs = SideTasks(crew)
        try:
            yield jobs
        finally:
            jobs.dismiss()


async def pause(seconds: float) -> None:
    """Wait for `seconds`."""
    backend = _backends.current()
    await backend.sleep_until(backend.time() + seconds)
