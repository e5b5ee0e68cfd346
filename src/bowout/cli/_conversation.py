"""One conversation over an established stream: what is typed goes out, what comes is shown, until somebody leaves."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bowout.cli import _say
from bowout.cli._filters import Crlf, LineWith
from bowout.cli._terminal import UserLeft
from bowout.errors import BowoutError

if TYPE_CHECKING:
    from bowout.cli._signals import Signals
    from bowout.cli._terminal import Console
    from bowout.ending import Ending
    from bowout.stream import Stream

_CHUNK: Final = 1 << 18
#: The line that ``--quit-on`` waits for gets so long for its end, in seconds: a prompt never has one.
_LINE_PATIENCE: Final = 1.0


@dataclass(frozen=True, slots=True)
class Manners:
    """How to behave in a conversation.

    Attributes:
        close_timeout: seconds that a graceful close may take.
        eof_wait: seconds of the peer's silence, after stdin has ended, until we close; None for ever.
        half_close: whether the end of stdin ends our direction only.
        crlf: send a CR LF for each LF.
        quit_on: close after a line of the peer that holds this.
    """

    close_timeout: float = 5.0
    eof_wait: float | None = 10.0
    half_close: bool = True
    crlf: bool = False
    quit_on: str | None = None


class InputCut(Exception):
    """Not all of stdin was sent. It leaves the stream's block, so that no close_notify vouches for a half."""


class Conversation:
    """Two tasks, one for each direction, and the decision to leave.

    Attributes:
        interrupted: a signal cut it short, and nobody sat at a terminal who could have meant that as leaving.
        failed: stdin or stdout did not work, or the peer ended before all of stdin was sent.
    """

    def __init__(self, stream: Stream, manners: Manners, signals: Signals) -> None:
        self._stream = stream
        self._manners = manners
        self._signals = signals
        self._leave = asyncio.Event()
        self._silence: asyncio.Timeout | None = None
        self._input_ended = False
        self._input_error: OSError | None = None
        self._peer_ended = False
        self._refused = False
        self.interrupted = False
        self.failed = False

    def output_failed(self, error: OSError) -> None:
        """Take note that stdout takes no more: nobody reads what we would go on to receive."""
        if not isinstance(error, BrokenPipeError):
            self.failed = True
            _say.error(f"cannot write to stdout: {error.strerror}")
        self._leave.set()

    async def run(self, console: Console) -> Ending:
        """Hold the conversation, close the stream, and see that stdout has everything."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send(console))
            group.create_task(self._receive(console))
            watch = group.create_task(self._heed_signals(console))
            await self._leave.wait()
            unsent = console.stop_reading()
            ending = await self._close(cut=self._peer_ended and (unsent or self._refused))
            watch.cancel()
        return ending

    # -- leaving -------------------------------------------------------------------------------------------------

    async def _heed_signals(self, console: Console) -> None:
        await self._signals.first.wait()
        self.interrupted = not console.interactive
        self._leave.set()
        await self._signals.second.wait()
        self.interrupted = True
        self._stream.abort()

    async def _close(self, *, cut: bool) -> Ending:
        try:
            async with self._stream:
                if cut or self._input_error is not None:
                    raise InputCut
                await self._stream.close(self._manners.close_timeout)
        except InputCut:
            self.failed = True
            if self._input_error is None:
                _say.error("the peer ended before all of stdin was sent")
            else:
                reason = self._input_error.strerror
                _say.error(f"cannot read stdin: {reason}", "what was sent is not all, so it ends without close_notify")
        return await self._stream.wait_ended()

    # -- sending -------------------------------------------------------------------------------------------------

    async def _send(self, console: Console) -> None:
        crlf = Crlf() if self._manners.crlf else None
        try:
            while data := await console.read():
                await self._stream.send(crlf.feed(data) if crlf else data)
            if not self._leave.is_set():
                await self._end_of_input()
        except UserLeft as leaving:
            if leaving.interrupt:
                self._signals.leave()
            self._leave.set()
        except BowoutError:
            self._refused = True  # The receiving side meets the same end, after what the peer has still to say.
        except OSError as error:
            self._input_error = error
            self._leave.set()

    async def _end_of_input(self) -> None:
        if not self._manners.half_close:
            self._leave.set()
            return
        await self._stream.send_eof()
        self._input_ended = True
        silence = self._silence
        # Where it has a limit already, that is for the line of --quit-on, which is not to wait longer.
        if silence is not None and silence.when() is None and self._manners.eof_wait is not None:
            silence.reschedule(asyncio.get_running_loop().time() + self._manners.eof_wait)

    # -- receiving -----------------------------------------------------------------------------------------------

    async def _receive(self, console: Console) -> None:
        wanted = LineWith(self._manners.quit_on) if self._manners.quit_on else None
        with contextlib.suppress(BowoutError):  # It is the ending's to tell.
            while data := await self._next_chunk(wanted):
                await console.write(wanted.feed(data) if wanted else data)
                if wanted and wanted.line_ended:
                    break
        self._leave.set()

    async def _next_chunk(self, wanted: LineWith | None) -> bytes:
        """The next bytes; ``b""`` at the peer's end, or when it has been silent for too long."""
        patience = self._manners.eof_wait if self._input_ended else None
        if wanted is not None and wanted.found:
            patience = _LINE_PATIENCE
        try:
            async with asyncio.timeout(patience) as self._silence:
                data = await self._stream.receive(_CHUNK)
                self._peer_ended = not data
                return data
        except TimeoutError:  # None of bowout's errors is one here: reading has no deadline of its own.
            if wanted is None or not wanted.found:
                _say.note(f"the peer was silent for {self._manners.eof_wait:g} s after the end of stdin: closing")
            return b""
        finally:
            self._silence = None
