"""Which console there is, and how long it is waited for in the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bowout.cli._terminal import Plain, has_editor

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout.cli._signals import Signals
    from bowout.cli._terminal import Console


def open_console(on_error: Callable[[OSError], None]) -> Console:
    """An editor where a person sits at a terminal and it is installed; otherwise stdin and stdout as they are."""
    if has_editor():
        from bowout.cli._editor import Editor  # noqa: PLC0415  (an extra, and slow to import)

        return Editor(on_error)
    return Plain(on_error)


async def finish(console: Console, signals: Signals, patience: float) -> bool:
    """Wait until stdout has everything, and tell whether it has.

    That is waited for as long as it takes, but for somebody who has asked to leave no longer than a close may take.
    """
    finishing = asyncio.create_task(console.finish())
    first, second = (asyncio.create_task(event.wait()) for event in (signals.first, signals.second))
    try:
        if not signals.first.is_set():
            await asyncio.wait({finishing, first}, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.wait({finishing, second}, return_when=asyncio.FIRST_COMPLETED, timeout=patience)
        return finishing.done()
    finally:
        for task in (finishing, first, second):
            task.cancel()
