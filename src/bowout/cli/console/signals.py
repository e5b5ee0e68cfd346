"""Ctrl-C, SIGTERM and SIGHUP: the first asks to leave, the second to leave at once, the third ends the process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any, Final, Self

from bowout.cli.console import output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

_NAMES: Final = ("SIGINT", "SIGTERM", "SIGHUP")
_SHELL_BASE: Final = 128
_LAST_WARNING: Final = 2


class LeaveSignals:
    """Counts requests to leave during its block, which must be in the main thread and enclose the loop's lifetime.

    So no KeyboardInterrupt is raised while the loop is set up or shut down, which could be left incomplete. A signal
    that our parent told us to ignore (``nohup``, a background job of a script) stays ignored.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._before: dict[signal.Signals, object] = {}
        self._came: list[int] = []
        self._modes = _modes_of_stdin()
        self.first: asyncio.Event = asyncio.Event()
        self.second: asyncio.Event = asyncio.Event()
        #: The exit status for the first signal, by the convention of shells.
        self.status: int | None = None
        #: Whether the terminal showed ``^C``, and a new line was begun after it.
        self.line_begun: bool = False

    def __enter__(self) -> Self:
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """In the running loop, set the events for the signals of this block, and for earlier ones."""
        self._loop = asyncio.get_running_loop()
        with _waking(self._loop):
            self._tell()
            try:
                yield
            finally:
                self._loop = None

    def leave(self, number: int = signal.SIGINT) -> None:
        """Count a request to leave: a signal, or a key that stands for one."""
        self._came.append(number)
        self._tell()

    def _tell(self) -> None:
        """Set the events for all signals so far; they may be set already."""
        if self._came:
            self.status = _SHELL_BASE + self._came[0]
            self.first.set()
        if len(self._came) > 1:
            self.second.set()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal; the interpreter runs this between two instructions of the main thread."""
        self._came.append(number)
        if len(self._came) > _LAST_WARNING:
            _set_modes_of_stdin(self._modes)
            os._exit(_SHELL_BASE + number)  # The loop itself is blocked, by a reader that does not read our stderr.
        if number == signal.SIGINT:
            self.line_begun = output.end_echoed_line()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._tell)


@contextlib.contextmanager
def _waking(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Let each signal wake `loop`; on Windows loops do so by themselves.

    A Python handler alone does not: it runs between two instructions, and a signal that comes after the last one before
    the loop waits for events does not interrupt the wait. Nor does one that the system gives to another thread.
    """
    if os.name == "nt":
        yield
        return
    # The loop lets signals wake it as long as it has a handler for any. The editor adds and removes one of its own, so
    # there has to be another: for a signal that nobody sends.
    loop.add_signal_handler(signal.SIGURG, lambda: None)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGURG)


def _modes_of_stdin() -> list[Any] | None:
    """Return the modes of the terminal at stdin, which `os._exit` would not restore."""
    try:
        import termios  # noqa: PLC0415  (not everywhere)
    except ImportError:
        return None
    try:
        return termios.tcgetattr(0)
    except termios.error:
        return None


def _set_modes_of_stdin(modes: list[Any] | None) -> None:
    if modes is not None:
        import termios  # noqa: PLC0415

        with contextlib.suppress(termios.error):
            termios.tcsetattr(0, termios.TCSANOW, modes)
