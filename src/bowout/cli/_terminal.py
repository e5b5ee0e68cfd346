"""stdin and stdout as the conversation sees them: bytes to and from, whatever stands behind them."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Protocol

from bowout.cli._filters import TerminalText, Tilde
from bowout.cli._threads import Reader, Writer

if TYPE_CHECKING:
    from collections.abc import Callable


class UserLeft(Exception):
    """The user typed ``~.``, pressed Ctrl-C in the editor, or is gone with the terminal."""

    def __init__(self, *, interrupt: bool = False) -> None:
        super().__init__()
        self.interrupt = interrupt


class Console(Protocol):
    """Where the conversation's bytes come from and go to."""

    #: A person types: there are commands, and leaving is no interruption.
    interactive: bool

    @property
    def waiting(self) -> int:
        """How much was written here and is not passed on yet, in bytes or characters."""

    async def read(self) -> bytes:
        """What to send next; ``b""`` at the end.

        Raises:
            UserLeft: the user asks to leave.
            OSError: it cannot be read.
        """

    def stop_reading(self) -> bool:
        """Make a pending `read` return ``b""`` soon; tell whether it kept back what a pipe or a file still holds."""

    def start_line(self) -> None:
        """Take note that the terminal begins a new line: the last one ends in an echoed ``^C``."""

    def put(self, data: bytes) -> None:
        """Queue what the peer sent, to be shown or passed on, and wait for nothing."""

    async def write(self, data: bytes) -> None:
        """Do the same, but return when there is room for more. Cancelled, it is passed on all the same."""

    async def finish(self) -> None:
        """Wait until all of it is shown or passed on."""

    async def close(self) -> None:
        """Give the terminal back."""


class Plain:
    """stdin and stdout without any editing: pipes, files, or a terminal in its own line mode.

    Args:
        on_error: called once when stdout takes no more.
        mute: stdout is for something else, and what the peer sends is shown nowhere.
    """

    def __init__(self, on_error: Callable[[OSError], None], *, mute: bool = False) -> None:
        self.interactive = sys.stdin.isatty()
        self._reader: Reader | None = None
        self._stopped = False
        self._tilde = Tilde() if self.interactive else None
        self._writer = None if mute else Writer(1, on_error)
        self._text = TerminalText(sys.stdout.encoding) if sys.stdout.isatty() and not mute else None

    async def read(self) -> bytes:
        """See `Console`."""
        if self._stopped:
            return b""
        if self._reader is None:
            self._reader = Reader(0)  # Not before somebody wants it: a failed connection takes nothing from stdin.
        try:
            data = await self._reader.read()
        except OSError as error:
            if self.interactive and error.errno == errno.EIO:
                raise UserLeft from None  # The terminal is gone, and who sat at it. All that was typed is sent.
            raise
        if self._tilde is None or not data:
            return data
        typed = self._tilde.feed(data)
        if typed is None:
            raise UserLeft
        return typed

    def stop_reading(self) -> bool:
        """See `Console`."""
        self._stopped = True
        return self._reader is not None and self._reader.stop() and not self.interactive

    def start_line(self) -> None:
        """See `Console`."""
        if self._text is not None:
            self._text.line_starts = True

    def put(self, data: bytes) -> None:
        """See `Console`."""
        if self._writer is not None:
            self._writer.put(data if self._text is None else self._shown(data))

    async def write(self, data: bytes) -> None:
        """See `Console`."""
        self.put(data)
        if self._writer is not None:
            await self._writer.room()

    async def finish(self) -> None:
        """See `Console`."""
        if self._writer is None:
            return
        if self._text is not None:
            self._writer.put(self._shown(b"", last=True))
            if not self._text.line_starts and sys.stderr.isatty():
                self._writer.put(b"\n")
        await self._writer.finish()

    async def close(self) -> None:
        """See `Console`."""
        if self._writer is not None:
            self._writer.close()

    @property
    def waiting(self) -> int:
        """See `Console`."""
        return 0 if self._writer is None else self._writer.waiting

    def _shown(self, data: bytes, *, last: bool = False) -> bytes:
        assert self._text is not None
        return self._text.feed(data, last=last).encode(sys.stdout.encoding, "backslashreplace")


def has_editor() -> bool:
    """Whether a person sits at both ends, at a terminal that can edit a line, and the editor is installed."""
    import importlib.util  # noqa: PLC0415
    import os  # noqa: PLC0415

    at_a_terminal = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return at_a_terminal and importlib.util.find_spec("prompt_toolkit") is not None
