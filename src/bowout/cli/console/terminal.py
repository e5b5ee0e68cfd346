"""stdin and stdout for the conversation: bytes in and out, over any kind of file or terminal."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Protocol

from bowout.cli.console.filters import TerminalText, Tilde
from bowout.cli.console.threads import ThreadReader, Writer

if TYPE_CHECKING:
    from collections.abc import Callable


class UserLeft(Exception):
    """The user typed ``~.``, pressed Ctrl-C in the editor, or closed the terminal."""

    def __init__(self, *, interrupt: bool = False) -> None:
        super().__init__()
        self.interrupt = interrupt


class Console(Protocol):
    """The source and the destination of the conversation's bytes."""

    #: Whether a user types: there are commands, and leaving is not an interruption.
    interactive: bool

    @property
    def waiting(self) -> int:
        """The amount of output that was accepted here and is not written yet, in bytes or characters."""

    async def read(self) -> bytes:
        """Return the next data to send; ``b""`` at the end.

        Raises:
            UserLeft: the user asks to leave.
            OSError: stdin cannot be read.
        """

    def stop_reading(self) -> bool:
        """Make a pending `read` return ``b""`` soon; return whether a pipe or a file has data that was not read."""

    def start_line(self) -> None:
        """Record that the terminal is at the start of a line: the last one ended with an echoed ``^C``."""

    def put(self, data: bytes) -> None:
        """Queue the peer's data for output, without waiting."""

    async def write(self, data: bytes) -> None:
        """Do the same, but return when there is room for more. A cancellation does not lose `data`."""

    async def finish(self) -> None:
        """Wait until all output is written."""

    async def close(self) -> None:
        """Restore the terminal."""


class Plain:
    """stdin and stdout without any editing: pipes, files, or a terminal in its own line mode.

    Args:
        on_error: called once when stdout accepts no more output.
        mute: whether to discard the peer's data, since stdout has another use.
    """

    def __init__(self, on_error: Callable[[OSError], None], *, mute: bool = False) -> None:
        self.interactive: bool = sys.stdin.isatty()
        self._reader: ThreadReader | None = None
        self._stopped = False
        self._tilde = Tilde() if self.interactive else None
        self._writer = None if mute else Writer(1, on_error)
        self._text = TerminalText(sys.stdout.encoding) if sys.stdout.isatty() and not mute else None

    async def read(self) -> bytes:
        """See `Console`."""
        if self._stopped:
            return b""
        if self._reader is None:
            self._reader = ThreadReader(0)  # Made only when needed: a failed connection reads nothing from stdin.
        try:
            data = await self._reader.read()
        except OSError as error:
            if self.interactive and error.errno == errno.EIO:
                raise UserLeft from None  # The terminal is closed. All that was typed is sent.
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
    """Return whether stdin and stdout are a terminal that can edit a line, and the editor is installed."""
    import importlib.util  # noqa: PLC0415
    import os  # noqa: PLC0415

    at_a_terminal = sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return at_a_terminal and importlib.util.find_spec("prompt_toolkit") is not None
