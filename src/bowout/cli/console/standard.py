"""The choice of the console, and the wait for its output at the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bowout.cli.console import output
from bowout.cli.console.terminal import Plain, has_editor

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout.cli.console.signals import LeaveSignals
    from bowout.cli.console.terminal import Console

#: Seconds to wait before any message, for output that stdout accepts at once: a thread has to wake up.
_AT_ONCE: Final = 0.1


def open_console(on_error: Callable[[OSError], None], signals: LeaveSignals, *, mute: bool = False) -> Console:
    """Return an editor, if a user is at a terminal and it is installed; otherwise plain stdin and stdout.

    Args:
        on_error: called once when stdout accepts no more output.
        signals: told of a Ctrl-C that is a key, not a signal.
        mute: whether to hide the peer's data.
    """
    if has_editor() and not mute:
        from bowout.cli.console.editor import Editor  # noqa: PLC0415  (an extra, and slow to import)

        return Editor(on_error, signals.leave)
    return Plain(on_error, mute=mute)


async def finish(console: Console, signals: LeaveSignals, patience: float) -> bool:
    """Wait until stdout has all output; return whether it has, and print an error if not.

    The wait has no limit until the user asks to leave; then it is limited to `patience` seconds.
    """
    finishing = asyncio.create_task(console.finish())
    first, second = (asyncio.create_task(event.wait()) for event in (signals.first, signals.second))
    try:
        # Usually all output has been written long ago, and no message is needed.
        await asyncio.wait({finishing}, timeout=_AT_ONCE)
        if not finishing.done() and not signals.first.is_set():
            await asyncio.wait({finishing, first}, return_when=asyncio.FIRST_COMPLETED)
        elif not finishing.done() and not signals.second.is_set():
            output.note(f"stdout has {patience:g} s to take the last {console.waiting:,} bytes; {output.NO_WAIT}")
            await asyncio.wait({finishing, second}, return_when=asyncio.FIRST_COMPLETED, timeout=patience)
        waiting = 0 if finishing.done() else console.waiting
    finally:
        for task in (finishing, first, second):
            task.cancel()
    if waiting:
        output.error(f"interrupted: stdout did not take the last {waiting:,} bytes")
    return not waiting
