"""What the demo needs of event loops beyond bowout's backends: to run one by its name, and jobs with a result."""

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
    """Raise ModuleNotFoundError where this loop is not installed."""
    __import__(name.value)


def run(name: LoopName, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `main` in a new loop of that kind."""
    if name is LoopName.TRIO:
        import trio  # noqa: PLC0415  (an extra)

        # Elsewhere a KeyboardInterrupt could come between any two bytecodes of somebody's bookkeeping, and break it.
        return trio.run(main, restrict_keyboard_interrupt_to_checkpoints=True)
    factory = None
    if name is LoopName.UVLOOP:
        import uvloop  # noqa: PLC0415  (an extra)

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())


class Job(Generic[T]):
    """Something done on the side, by a task of its own.

    Attributes:
        result, error: what it gave, or the BowoutError that ended it; both None while it runs and after a cancellation.
    """

    def __init__(self, work: Callable[[], Awaitable[T]], crew: _backends.Crew) -> None:
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
        """End it."""
        self._task.cancel()

    async def wait(self) -> None:
        """Wait until it has ended, in whatever way."""
        await self._done.wait()


class Jobs:
    """Starts jobs, and can end them all."""

    def __init__(self, crew: _backends.Crew) -> None:
        self._crew = crew
        self._jobs: list[Job[Any]] = []

    def start(self, work: Callable[[], Awaitable[T]]) -> Job[T]:
        """Start a job in a task of its own."""
        job = Job(work, self._crew)
        self._jobs.append(job)
        return job

    def dismiss(self) -> None:
        """Cancel whatever is still at work."""
        for job in self._jobs:
            job.cancel()


@asynccontextmanager
async def jobs() -> AsyncIterator[Jobs]:
    """A place for jobs: when it is left, all of them have ended."""
    async with _backends.current().crew() as crew:
        jobs = Jobs(crew)
        try:
            yield jobs
        finally:
            jobs.dismiss()


async def pause(seconds: float) -> None:
    """Let time pass."""
    backend = _backends.current()
    await backend.sleep_until(backend.time() + seconds)
