"""Which console there is, and how long it is waited for in the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from bowout.cli import _say
from bowout.cli._terminal import Plain, has_editor

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout.cli._signals import Signals
    from bowout.cli._terminal import Console

#: Seconds that stdout has for what it takes anyway: a thread has to be woken.
_AT_ONCE: Final = 0.1


def open_console(on_error: Callable[[OSError], None], signals: Signals, *, mute: bool = False) -> Console:
    """An editor where a person sits at a terminal and it is installed; otherwise stdin and stdout as they are.

    Args:
        on_error: called once when stdout takes no more.
        signals: hears of a Ctrl-C that is a key and no signal.
        mute: show nothing of what the peer sends.
    """
    if has_editor() and not mute:
        from bowout.cli._editor import Editor  # noqa: PLC0415  (an extra, and slow to import)

        return Editor(on_error, signals.leave)
    return Plain(on_error, mute=mute)


async def finish(console: Console, signals: Signals, patience: float) -> bool:
    """Wait until stdout has everything; where it has not, say so and give False.

    That is waited for as long as it takes, but for somebody who has asked to leave no longer than a close may take.
    """
    finishing = asyncio.create_task(console.finish())
    first, second = (asyncio.create_task(event.wait()) for event in (signals.first, signals.second))
    try:
        # Most often everything has been written long ago, and nothing is to be said about it to anybody.
        await asyncio.wait({finishing}, timeout=_AT_ONCE)
        if not finishing.done() and not signals.first.is_set():
            await asyncio.wait({finishing, first}, return_when=asyncio.FIRST_COMPLETED)
        elif not finishing.done() and not signals.second.is_set():
            _say.note(f"stdout has {patience:g} s to take the last {console.waiting:,} bytes; {_say.NO_WAIT}")
            await asyncio.wait({finishing, second}, return_when=asyncio.FIRST_COMPLETED, timeout=patience)
        waiting = 0 if finishing.done() else console.waiting
    finally:
        for task in (finishing, first, second):
            task.cancel()
    if waiting:
        _say.error(f"interrupted: stdout did not take the last {waiting:,} bytes")
    return not waiting
