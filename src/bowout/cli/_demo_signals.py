"""Interruptions that leave nothing behind: they wait while things are set up or cleared away. For the main thread."""

from __future__ import annotations

import signal
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

#: By these a terminal or a service manager ends a program; not all of them exist everywhere.
_ENDING: Final = tuple(number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)))


@contextmanager
def like_ctrl_c() -> Iterator[list[int]]:
    """Let SIGTERM and SIGHUP do what Ctrl-C does, which clears up; gives a list that those which come are put into."""
    came: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        signal.raise_signal(signal.SIGINT)

    heeded = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores one
    before = {number: signal.signal(number, interrupt) for number in heeded}
    # In the background of a script Ctrl-C is ignored, but the others must end us even there.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Keep Ctrl-C waiting to the end of the block; in a block within it, made by what this gives, it does not wait."""
    came: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def wait(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    def let_through() -> None:
        signal.signal(signal.SIGINT, before)
        if came:
            came.clear()
            signal.raise_signal(signal.SIGINT)

    @contextmanager
    def undeferred() -> Iterator[None]:
        try:
            let_through()
            yield
        finally:
            signal.signal(signal.SIGINT, wait)

    signal.signal(signal.SIGINT, wait)
    try:
        yield undeferred
    finally:
        let_through()
