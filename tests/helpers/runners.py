"""One coroutine function on one backend, with a deadline and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, TypeVar, TypeVarTuple, get_args

import trio

Backend = Literal["asyncio", "uvloop", "trio"]
BACKENDS: Final[tuple[Backend, ...]] = get_args(Backend)

#: Seconds after which a run is lost: no time that a test measures, only the end of a hang.
DEADLINE: Final = 300.0

#: Turns of the loop that a task which was just cancelled, or woken for the last time, may take to end.
TURNS: Final = 5

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class RunFailed(AssertionError):
    """The coroutine returned too late, or left something running."""


class Runner:
    """Runs coroutine functions on one backend, each in a fresh event loop.

    Attributes:
        backend: ``"asyncio"``, ``"uvloop"`` or ``"trio"``.
        deadline: Seconds until a run fails.
    """

    def __init__(self, backend: Backend, deadline: float = DEADLINE) -> None:
        self.backend: Final = backend
        self.deadline: Final = deadline

    def __call__(self, async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Run it to its end and give its result.

        Raises:
            RunFailed: It hung, left a task pending, or a task died with an exception that nobody saw.
        """
        if self.backend == "trio":
            return _run_trio(async_fn, args, self.deadline)
        return _run_asyncio(async_fn, args, self.deadline, _loop_factory(self.backend))


def warm_up() -> None:
    """Make what a backend keeps for the life of the process (libuv: a pipe for signals), so that no test is blamed."""
    with contextlib.suppress(ModuleNotFoundError):
        import uvloop  # noqa: PLC0415 an optional extra, and there is none on Windows

        uvloop.new_event_loop().close()


def _loop_factory(backend: Backend) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if backend == "uvloop":
        import uvloop  # noqa: PLC0415 see warm_up

        return uvloop.new_event_loop
    return None


def _run_asyncio(
    async_fn: Callable[[*Ts], Awaitable[T]],
    args: tuple[*Ts],
    deadline: float,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
) -> T:
    complaints: list[str] = []

    async def main() -> T:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(_describe(context)))
        stacks: list[str] = []
        main_task = asyncio.current_task()
        assert main_task is not None

        def expire() -> None:
            stacks.append(_asyncio_stacks())
            main_task.cancel()

        timer = loop.call_later(deadline, expire)
        try:
            result = await async_fn(*args)
        except asyncio.CancelledError:
            if stacks:
                raise RunFailed(f"still running after {deadline} s:\n{stacks[0]}") from None
            raise
        finally:
            timer.cancel()
        await _expect_no_asyncio_task(main_task)
        return result

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        result = runner.run(main())
    gc.collect()  # a task that nobody awaited tells of its exception when it is collected
    if complaints:
        raise RunFailed("the event loop complained:\n" + "\n".join(complaints))
    return result


async def _expect_no_asyncio_task(main_task: asyncio.Task[Any]) -> None:
    for _ in range(TURNS):
        if asyncio.all_tasks() == {main_task}:
            return
        await asyncio.sleep(0)
    raise RunFailed(f"tasks are left pending:\n{_asyncio_stacks()}")


def _asyncio_stacks() -> str:
    text = io.StringIO()
    for task in asyncio.all_tasks():
        task.print_stack(file=text)
    return text.getvalue()


def _describe(context: dict[str, Any]) -> str:
    """One complaint of an event loop, as `loop.default_exception_handler` gets it."""
    return f"{context['message']}: {context.get('exception')!r}"


def _run_trio(async_fn: Callable[[*Ts], Awaitable[T]], args: tuple[*Ts], deadline: float) -> T:
    async def main() -> T:
        before = set(_trio_tasks())
        with trio.move_on_after(deadline) as scope:
            result = await async_fn(*args)
        if scope.cancelled_caught:
            raise RunFailed(f"still running after {deadline} s")
        left = set(_trio_tasks()) - before
        if left:
            raise RunFailed(f"system tasks are left running: {sorted(task.name for task in left)}")
        return result  # no task of a nursery can be left: that is trio's promise

    return trio.run(main)


def _trio_tasks() -> list[trio.lowlevel.Task]:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    tasks = [root]
    for task in tasks:
        for nursery in task.child_nurseries:
            tasks.extend(nursery.child_tasks)
    return tasks
