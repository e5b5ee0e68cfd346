"""The ways to run a library: which event loop it stands on, and whether bowout ends its TLS connections.

A scenario is one function; each way runs it to its end and keeps what it did, what it raised and what it complained of.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import warnings
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from bowout import Ending
from helpers.leaks import open_fds
from helpers.peers import require_module

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

#: ``stock``: the library as it is. ``bowout``: our TLS through the loop, the transport or the context that the library
#: is given. ``installed``: our TLS in place of the standard library's class.
Means = Literal["stock", "bowout", "installed"]

#: Seconds after which a library hangs: no time that a test measures, only the end of a hang.
DEADLINE: Final = 60.0
#: Seconds for the connections that a library leaves behind; and between two looks at whether they are gone.
_LAST_CONNECTION: Final = 10.0
_LOOK: Final = 0.002
#: Iterations of the loop that a task which was just cancelled, or woken for the last time, may take to end.
_TURNS: Final = 20


class Hang(Exception):
    """The library did not come to an end."""


@dataclass(slots=True)
class LibraryRun:
    """What came of one run.

    Attributes:
        value: what the function returned; None where it raised.
        error: what it raised.
        complaints: what the loop reported, and tasks and transports left behind: lines, each with its kind first.
        tracebacks: of them, and of the records of all loggers, those with a traceback.
        endings: of the connections that `bowout.asyncio` ended.
    """

    value: Any = None
    error: BaseException | None = None
    complaints: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)


class Play(Protocol):
    """Runs a function that waits, or one that blocks, to its end."""

    def __call__(self, function: Callable[[], Any]) -> LibraryRun: ...


@dataclass(frozen=True)
class LibraryWay:
    """One way to run a library.

    Attributes:
        loop: ``asyncio``, ``uvloop``, ``trio``, or ``blocking`` for no loop.
        means: what ends the TLS connections.
        play: runs a scenario's function.
        needs: the modules without which there is no such way.
    """

    loop: str
    means: Means
    play: Play
    needs: tuple[str, ...] = ()

    @property
    def ours(self) -> bool:
        """Whether bowout ends the TLS connections."""
        return self.means != "stock"

    def require(self) -> None:
        """Skip the test, or fail it in CI, where a module of a third party is missing."""
        for module in self.needs:
            require_module(module)

    def __str__(self) -> str:
        return f"{self.loop}-{self.means}"


# -- asyncio and uvloop -----------------------------------------------------------------------------------------------


def stock_factory(loop: str) -> LoopFactory | None:
    """The factory of a plain loop; None for asyncio's own choice."""
    if loop == "uvloop":
        import uvloop  # noqa: PLC0415 an optional extra

        return uvloop.new_event_loop
    return None


def _our_factory(loop: str, played: LibraryRun) -> LoopFactory:
    """The factory of a loop on which bowout ends every TLS connection."""
    import bowout.asyncio  # noqa: PLC0415 the adapter of one kind of way

    policy = bowout.asyncio.Policy(on_ending=played.endings.append)
    if loop == "uvloop":
        import uvloop  # noqa: PLC0415 an optional extra

        return bowout.asyncio.loop_factory(uvloop.Loop, policy=policy)
    return bowout.asyncio.loop_factory(policy=policy)


def _on_loop(loop: str, means: Means) -> Play:
    def play(function: Callable[[], Awaitable[Any]]) -> LibraryRun:
        played = LibraryRun()
        with _installed(played) if means == "installed" else contextlib.nullcontext():
            run_on(_our_factory(loop, played) if means == "bowout" else stock_factory(loop), function, played)
        return played

    return play


@contextlib.contextmanager
def _installed(played: LibraryRun) -> Iterator[None]:
    import bowout.asyncio  # noqa: PLC0415 the adapter of one kind of way

    bowout.asyncio.install(policy=bowout.asyncio.Policy(on_ending=played.endings.append))
    try:
        yield
    finally:
        bowout.asyncio.uninstall()


def _asyncio_way(loop: str, means: Means) -> LibraryWay:
    needs = (*(["uvloop"] if loop == "uvloop" else []), *(["bowout.asyncio"] if means != "stock" else []))
    return LibraryWay(loop, means, _on_loop(loop, means), needs)


#: For a library that gets its TLS from the loop.
ASYNCIO_WAYS: Final[tuple[LibraryWay, ...]] = (
    *(_asyncio_way(loop, means) for means in ("stock", "bowout") for loop in ("asyncio", "uvloop")),
    _asyncio_way("asyncio", "installed"),
)
#: For a library that makes an `asyncio.sslproto.SSLProtocol` itself: only `bowout.asyncio.install` reaches it.
INSTALLED_WAYS: Final[tuple[LibraryWay, ...]] = tuple(way for way in ASYNCIO_WAYS if way.means != "bowout")
#: For a library with a transport or a connector of ours, on plain loops.
PLAIN_LOOPS: Final[tuple[LibraryWay, ...]] = tuple(
    LibraryWay(loop, means, _on_loop(loop, "stock"), ("uvloop",) if loop == "uvloop" else ())
    for means in ("stock", "bowout")
    for loop in ("asyncio", "uvloop")
)


def _play_on_trio(function: Callable[[], Awaitable[Any]]) -> LibraryRun:
    import trio  # noqa: PLC0415 an optional extra

    async def main() -> Any:
        with trio.move_on_after(DEADLINE):
            return await function()
        raise Hang(f"it hung for {DEADLINE:g} s")

    return _play_blocking(lambda: trio.run(main))


#: For a library that stands on either kind of loop, with a transport of ours.
ALL_LOOPS: Final[tuple[LibraryWay, ...]] = (
    *PLAIN_LOOPS,
    *(LibraryWay("trio", means, _play_on_trio, ("trio",)) for means in ("stock", "bowout")),
)


def _play_blocking(function: Callable[[], Any]) -> LibraryRun:
    played = LibraryRun()
    with _listening(played):
        try:
            played.value = function()
        except Exception as error:  # noqa: BLE001 each library has its own
            played.error = _without_frames(error)
    return played


#: For a library that blocks.
BLOCKING_WAYS: Final[tuple[LibraryWay, ...]] = (
    LibraryWay("blocking", "stock", _play_blocking),
    LibraryWay("blocking", "bowout", _play_blocking),
)


# -- one run on a loop ------------------------------------------------------------------------------------------------


def run_on(factory: LoopFactory | None, function: Callable[[], Awaitable[Any]], played: LibraryRun) -> None:
    """Run `function` on a loop of `factory` to its end, and note everything that it, the loop and the loggers say."""

    async def main() -> Any:
        sockets = _sockets()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: _complain(played, context))
        deadline = asyncio.timeout(DEADLINE)
        try:
            async with deadline:
                return await function()
        except TimeoutError as error:
            if deadline.expired():
                raise Hang(f"it hung for {DEADLINE:g} s") from error
            raise
        finally:
            await _let_connections_end(sockets)
            await _let_tasks_end(played)

    with _listening(played), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", ResourceWarning)  # of transports and sockets that are collected below
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        try:
            with asyncio.Runner(loop_factory=factory) as runner:
                played.value = runner.run(main())
        except Exception as error:  # noqa: BLE001 each library has its own
            played.error = _without_frames(error)
        gc.collect()  # a task that nobody awaited tells of its exception when it is collected
    played.complaints += [f"left open: {warning.message}" for warning in warned]


def _without_frames(error: BaseException) -> BaseException:
    """Drop the tracebacks of an error and of those behind it: what their frames hold is never closed otherwise."""
    chain: list[BaseException | None] = [error]
    for one in chain:
        if one is not None and one.__traceback__ is not None:
            one.__traceback__ = None
            chain += [one.__cause__, one.__context__]
            chain += one.exceptions if isinstance(one, BaseExceptionGroup) else ()
    return error


async def _let_connections_end(before: set[str]) -> None:
    """Give those time that the library closes without waiting for them; what is left then will be noted as such."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_CONNECTION):
            while _sockets() - before:  # noqa: ASYNC110 nothing tells when the last has ended
                await asyncio.sleep(_LOOK)


def _sockets() -> set[str]:
    """The sockets of this process, those of its peers' threads included."""
    return {kind for kind in open_fds().values() if kind.startswith("socket:")}


async def _let_tasks_end(played: LibraryRun) -> None:
    """Note the tasks that are left, after those that end by themselves."""
    own = asyncio.current_task()
    for _ in range(_TURNS):
        if asyncio.all_tasks() == {own}:
            return
        await asyncio.sleep(0)
    played.complaints += [f"left running: {task.get_coro()!r}" for task in asyncio.all_tasks() if task is not own]


def _complain(played: LibraryRun, context: dict[str, Any]) -> None:
    error = context.get("exception")
    played.complaints.append(f"the loop: {context['message']}: {error!r}")
    if error is not None:
        played.tracebacks.append(f"the loop: {context['message']}")


class _RecordsWithTracebacks(logging.Handler):
    def __init__(self, played: LibraryRun) -> None:
        super().__init__(logging.WARNING)
        self._played = played

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[0] is not None:
            self._played.tracebacks.append(f"{record.name}: {record.getMessage()}")


@contextlib.contextmanager
def _listening(played: LibraryRun) -> Iterator[None]:
    handler = _RecordsWithTracebacks(played)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
