"""Ctrl-C and its relatives: the first asks us to leave, the second to leave at once, a third does not ask."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

_NAMES: Final = ("SIGINT", "SIGTERM", "SIGHUP")
_SHELL_BASE: Final = 128


class Signals:
    """Counts requests to leave while its block lasts. It must be entered inside the loop, in the main thread.

    A signal that our parent told us to ignore (``nohup``, a job in the background of a script) stays ignored.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._before: dict[signal.Signals, object] = {}
        self._handled = 0
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        #: The exit status that tells of the first signal, as shells have it.
        self.status: int | None = None

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

    def leave(self, number: int = signal.SIGINT) -> None:
        """Somebody asks us to leave: by a signal, or by the key that would have been one."""
        if self.status is None:
            self.status = _SHELL_BASE + number
            self.first.set()
        else:
            self.second.set()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        """Run by the interpreter between two instructions of the main thread."""
        self._handled += 1
        if self._handled > 2:
            os._exit(_SHELL_BASE + number)  # The loop itself is stuck: somebody does not read our stderr.
        self._loop.call_soon_threadsafe(self.leave, number)
