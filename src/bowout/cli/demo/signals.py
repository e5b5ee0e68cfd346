"""Interruptions that leave nothing behind: they are deferred during set-up and clean-up. For the main thread."""

from __future__ import annotations

import signal
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

#: The signals by which a terminal or a service manager ends a program; not every system has all of them.
_ENDING: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextmanager
def like_ctrl_c() -> Iterator[list[int]]:
    """Make SIGTERM and SIGHUP act like Ctrl-C, which cleans up; yield the list to which received signals are added."""
    came: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        signal.raise_signal(signal.SIGINT)

    heeded = [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores one
    before = {number: signal.signal(number, interrupt) for number in heeded}
    # In a background job of a script Ctrl-C is ignored, but the other signals must end the demo even there.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Defer Ctrl-C to the end of the block; yield a function that makes an inner block without the deferral."""
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
