"""A terminal with line editing: the peer's data appears above the line that is being edited."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import IO, TYPE_CHECKING, Any, Final

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.input import create_input
from prompt_toolkit.input.typeahead import get_typeahead, store_typeahead
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import create_output
from prompt_toolkit.output.vt100 import Vt100_Output

from bowout.cli.console import output
from bowout.cli.console.filters import TerminalText, Tilde
from bowout.cli.console.terminal import UserLeft

if TYPE_CHECKING:
    from collections.abc import Callable

    from prompt_toolkit.output import Output

#: Longest unfinished line of the peer, in characters, that serves as the prompt.
_LONGEST_PROMPT: Final = 1024
#: Largest number of keys that may be typed ahead; the terminal itself keeps a quarter of that.
_MOST_AHEAD: Final = 1 << 14


class Editor:
    """A `Console` on prompt_toolkit. An unfinished line of the peer, such as ``login:``, serves as the prompt.

    All output passes through one queue: the peer's data, and stderr, in the order in which they came.

    Args:
        on_error: called once when the terminal accepts no more output.
        on_interrupt: called for a Ctrl-C while no line is read: it is a key here, not a signal.
    """

    interactive = True

    def __init__(self, on_error: Callable[[OSError], None], on_interrupt: Callable[[], None]) -> None:
        self._on_error = on_error
        self._on_interrupt = on_interrupt
        self._source = source = create_input()
        self._session: PromptSession[str] = PromptSession(
            input=source, output=_output(), key_bindings=self._keys(), enable_suspend=True
        )
        self._cooked_mode, source.cooked_mode = source.cooked_mode, self._mode_of_others  # type: ignore[method-assign]
        self._painting = False
        self._raw = contextlib.ExitStack()
        self._raw.enter_context(source.raw_mode())
        self._raw.enter_context(source.attach(self._heed_keys))
        self._tilde = Tilde()
        self._text = TerminalText(sys.stdout.encoding)
        self._unfinished = self._drawn = ""
        self._editing = True
        self._line_starts = True
        self._screen: asyncio.Queue[tuple[str, bool, asyncio.Future[None] | None]] = asyncio.Queue()
        self.waiting: int = 0
        self._stderr = sys.stderr
        sys.stderr = _Above(self._stderr, lambda text: self._screen.put_nowait((text, False, None)))
        self._painter = asyncio.create_task(self._paint())

    async def read(self) -> bytes:
        """See `Console`."""
        if not self._editing:
            self._stop_editing()
            return b""
        try:
            line = await self._session.prompt_async(self._prompt, handle_sigint=False)
        except EOFError:
            self._left_the_line()
            return b""
        except KeyboardInterrupt:
            self._left_the_line()
            raise UserLeft(interrupt=True) from None
        self._forget_what_is_drawn()
        typed = self._tilde.feed(line.encode("utf-8", "surrogateescape") + b"\n")
        if typed is None:
            self._stop_editing()
            raise UserLeft
        return typed

    def stop_reading(self) -> bool:
        """See `Console`."""
        self._editing = False
        self._exit(EOFError)
        return False

    def start_line(self) -> None:
        """See `Console`."""
        self._line_starts = True

    def put(self, data: bytes) -> None:
        """See `Console`."""
        self._show(self._text.feed(data))

    async def write(self, data: bytes) -> None:
        """See `Console`."""
        await asyncio.shield(self._show(self._text.feed(data)))

    async def finish(self) -> None:
        """See `Console`."""
        await self._show(self._text.feed(b"", last=True))
        await self._show("" if self._line_starts else "\n")

    async def close(self) -> None:
        """See `Console`."""
        self._stop_editing()
        sys.stderr = self._stderr
        self._painter.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._painter

    # -- the inside ----------------------------------------------------------------------------------------------

    def _keys(self) -> KeyBindings:
        """Return key bindings for Ctrl-C and Ctrl-D with their usual meaning, but without an empty line left behind."""
        keys = KeyBindings()
        keys.add("c-c")(lambda _: self._exit(KeyboardInterrupt))
        keys.add("c-d", filter=Condition(lambda: not self._session.default_buffer.text))(lambda _: self._exit(EOFError))
        return keys

    def _exit(self, exception: type[BaseException]) -> None:
        app = self._session.app
        if app.is_running and not app.is_done:
            app.erase_when_done = not self._session.default_buffer.text
            app.exit(exception=exception)

    def _prompt(self) -> FormattedText:
        self._drawn = self._unfinished
        return FormattedText([("", self._unfinished.expandtabs())])

    def _forget_what_is_drawn(self) -> None:
        """Drop the drawn part of the prompt: it stays on the screen, with the line that was edited."""
        self._unfinished = self._unfinished.removeprefix(self._drawn)

    def _left_the_line(self) -> None:
        self._stop_editing()
        if self._session.default_buffer.text:
            self._forget_what_is_drawn()
        self._screen.put_nowait(("", True, None))  # The peer's unfinished line no longer serves as the prompt.

    def _stop_editing(self) -> None:
        """Restore the terminal's own modes, in which Ctrl-C is a signal again."""
        self._editing = False
        self._raw.close()

    def _heed_keys(self) -> None:
        """Read keys typed while no line is edited, as when the peer does not read the data sent to it."""
        keys = self._source.read_keys()
        others = [press for press in keys if press.key is not Keys.ControlC]
        ahead = get_typeahead(self._source) + others
        store_typeahead(self._source, ahead[:_MOST_AHEAD])  # The next line begins with these keys.
        if len(ahead) > _MOST_AHEAD and others:
            output.note("too much was typed ahead: the last keys are lost")
        for _ in range(len(keys) - len(others)):
            self._on_interrupt()

    def _mode_of_others(self) -> contextlib.AbstractContextManager[None]:
        """Return the terminal's mode for output above the line that is being edited.

        The editor would leave raw mode for that, and a Ctrl-D typed at that moment would be lost.
        """
        return contextlib.nullcontext() if self._painting else self._cooked_mode()

    def _show(self, text: str) -> asyncio.Future[None]:
        shown: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting += len(text)
        self._screen.put_nowait((text, True, shown))
        return shown

    async def _paint(self) -> None:
        while True:
            text, from_peer, shown = await self._screen.get()
            try:
                await self._paint_one(text, from_peer=from_peer)
            except OSError as error:
                self._on_error(error)
            finally:
                if shown is not None:
                    self.waiting -= len(text)
                    if not shown.done():
                        shown.set_result(None)

    async def _paint_one(self, text: str, *, from_peer: bool) -> None:
        if from_peer:
            text = self._unfinished + text
            self._unfinished = ""
            if self._editing:
                rest = text.rpartition("\n")[2]
                if len(rest) <= _LONGEST_PROMPT:
                    self._unfinished = rest
                    text = text[: len(text) - len(rest)]
                else:
                    text += "\n"
        elif not self._line_starts:
            text = "\n" + text
        if text:
            self._line_starts = text.endswith("\n")
            self._painting = True
            await run_in_terminal(lambda: _write_all(text), in_executor=True)
            self._painting = False
        self._session.app.invalidate()


def _output() -> Output:
    """Return the terminal's output, without requests for the cursor's position: a missing answer would cost time."""
    output = create_output()
    if isinstance(output, Vt100_Output):
        output.enable_cpr = False
    return output


def _write_all(text: str) -> None:
    view = memoryview(text.encode(sys.stdout.encoding, "backslashreplace"))
    while view:
        view = view[os.write(1, view) :]


class _Above:
    """Stderr while a line is being edited: its output is shown above that line."""

    def __init__(self, stderr: IO[str], show: Callable[[str], None]) -> None:
        self._stderr = stderr
        self._show = show

    def write(self, text: str) -> int:
        """Queue `text`."""
        self._show(text)
        return len(text)

    def flush(self) -> None:
        """Do nothing: the queue needs no flush."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stderr, name)
