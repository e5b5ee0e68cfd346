"""One conversation over an established stream: it sends stdin, and shows the peer's data, until one side leaves."""

from __future__ import annotations

import asyncio
import contextlib
import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bowout.cli.console import output
from bowout.cli.console.countdown import Countdown
from bowout.cli.console.filters import Crlf, LineWith
from bowout.cli.console.terminal import UserLeft
from bowout.ending import How, Inbound
from bowout.errors import BowoutError, StreamClosed

if TYPE_CHECKING:
    from bowout._stream import Stream
    from bowout.cli.console.signals import LeaveSignals
    from bowout.cli.console.terminal import Console
    from bowout.ending import Ending

_CHUNK: Final = 1 << 18
_TRUNCATED: Final = frozenset({Inbound.TRUNCATED_AT_BOUNDARY, Inbound.TRUNCATED_INSIDE_RECORD})
#: Seconds to wait for the end of the line that ``--quit-on`` found: a prompt has no end of line.
_LINE_PATIENCE: Final = 1.0
_TOO_EARLY: Final = "before all of stdin was sent"


class OnEof(enum.StrEnum):
    """The effect of the end of stdin."""

    HALF_CLOSE = "half-close"
    WAIT = "wait"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The settings of a conversation.

    Attributes:
        close_timeout: seconds that a graceful close may take.
        eof_wait: seconds of the peer's silence, after the end of stdin, until we close; None to wait forever.
        on_eof: the effect of the end of stdin: it ends our direction, nothing, or the connection.
        crlf: send a CR LF for each LF.
        quit_on: close after a line from the peer that contains this text.
    """

    close_timeout: float = 5.0
    eof_wait: float | None = 10.0
    on_eof: OnEof = OnEof.HALF_CLOSE
    crlf: bool = False
    quit_on: str | None = None


class InputCut(Exception):
    """Not all of stdin was sent. Raised in the stream's block, it prevents a close_notify after incomplete data."""


class Conversation:
    """Two tasks, one for each direction, and the decision to leave.

    Attributes:
        interrupted: a signal interrupted it. At a terminal only the second one counts: the first is a request to close.
        failed: stdin or stdout failed, the peer ended before all of stdin was sent, or its answer may be incomplete.
        hung_up: the peer ended after our half-close, before it had answered.
    """

    def __init__(self, stream: Stream, behaviour: Behaviour, signals: LeaveSignals) -> None:
        self._stream = stream
        self._behaviour = behaviour
        self._signals = signals
        self._leave = asyncio.Event()
        self._patience = Countdown()
        self._wanted = LineWith(behaviour.quit_on) if behaviour.quit_on else None
        self._input_ended = False
        self._input_error: OSError | None = None
        self._sending = False
        self._half_closed = False
        self._gave_up = False
        self._heard_late = False
        self._peer_ended = False
        self._peer_left = False
        self._refused = False
        self._output_gone = False
        self._begun = False
        #: All of stdin is one message: no close_notify is sent before its end.
        self._upload = contextlib.ExitStack()
        self.interrupted: bool = False
        self.failed: bool = False
        self.hung_up: bool = False

    def output_failed(self, error: OSError) -> None:
        """Leave, since stdout failed: the peer's further data could not be printed."""
        self._output_gone = True
        if not isinstance(error, BrokenPipeError):
            self.failed = True
            output.error(f"cannot write to stdout: {error.strerror}")
        self._leave.set()

    async def run(self, console: Console) -> Ending:
        """Run the conversation, and close the stream."""
        self._upload.enter_context(self._stream.message())
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send(console))
            receiving = group.create_task(self._receive(console))
            watches = (self._heed_signals(console, sending), self._heed_silence())
            watching = [group.create_task(watch) for watch in watches]
            await self._leave.wait()
            cut = self._cut_by(unsent=console.stop_reading())
            if cut is None:
                self._upload.close()
            ending = await self._close(console, cut=cut)
            receiving.cancel()  # It has handed over all its data; stdout is waited for later.
            await asyncio.wait({sending})
            for watch in watching:
                watch.cancel()
        self._judge(ending)
        return ending

    # -- leaving -------------------------------------------------------------------------------------------------

    async def _heed_signals(self, console: Console, sending: asyncio.Task[None]) -> None:
        await self._signals.first.wait()
        self.interrupted = not console.interactive
        self._heed_echo(console)
        if timeout := self._behaviour.close_timeout:
            wanted = "read what was sent" if self._sending else "end it, too"
            output.note(f"closing: the peer has {timeout:g} s to {wanted}; {output.NO_WAIT}")
        self._leave.set()
        await self._signals.second.wait()
        self.interrupted = True
        self._heed_echo(console)
        self._stream.abort()
        sending.cancel()

    def _heed_echo(self, console: Console) -> None:
        if self._signals.line_begun:
            console.start_line()

    def _cut_by(self, *, unsent: bool) -> str | None:
        """Return the reason why a pipe or a file on stdin was sent only in part; None if it was sent whole."""
        if self._input_error is not None:
            return f"cannot read stdin: {self._input_error.strerror}"
        if self._peer_ended and (unsent or self._refused):
            return f"the peer ended {_TOO_EARLY}"
        if self._output_gone and unsent:
            return f"stdout was closed {_TOO_EARLY}"
        return f"it was interrupted {_TOO_EARLY}" if self.interrupted and unsent else None

    async def _close(self, console: Console, *, cut: str | None) -> Ending:
        def print_late(data: bytes) -> None:
            self._heard_late = True
            console.put(self._wanted.feed(data) if self._wanted else data)

        try:
            async with self._stream:
                if cut is not None:
                    self.failed = True
                    hint = "not all of stdin was sent, so the connection ends without close_notify"
                    output.error(cut, hint if self._input_error is not None else None)
                    if not self._begun:
                        raise InputCut  # Otherwise close() knows that the message is incomplete.
                # A user who asked to leave wants no more data; after the mere end of stdin, late data is printed.
                await self._stream.close(self._behaviour.close_timeout, late=print_late if self._gave_up else None)
        except InputCut:
            pass
        return await self._stream.wait_ended()

    def _judge(self, ending: Ending) -> None:
        """Find failures that the verdict does not show: data was not printed, or may be missing."""
        if self._heard_late and ending.inbound in _TRUNCATED:
            self.failed = True
            output.error(
                "the peer had begun to answer, and left without close_notify: the printed answer may be incomplete"
            )
        elif self._heard_late and ending.inbound is Inbound.OPEN:
            self.failed = True
            output.error(
                "the peer had begun to answer when the time to close was over: the printed answer may be incomplete",
                "--eof-wait SECONDS waits longer for an answer to begin, and --timeout SECONDS for its end",
            )
        lost = not ending.received or ending.how is How.RESET or ending.inbound is Inbound.TRUNCATED_INSIDE_RECORD
        self.hung_up = self._half_closed and self._peer_left and bool(ending.sent) and lost

    # -- sending -------------------------------------------------------------------------------------------------

    async def _send(self, console: Console) -> None:
        crlf = Crlf() if self._behaviour.crlf else None
        try:
            while data := await console.read():
                self._sending = self._begun = True
                await self._stream.send(crlf.feed(data) if crlf else data)
                self._sending = False
            if not self._leave.is_set():
                self._upload.close()
                await self._end_of_input()
        except UserLeft as leaving:
            if leaving.interrupt:
                self._signals.leave()
            self._leave.set()
        except BowoutError:
            self._refused = True  # The receiving side gets the same end, after the peer's remaining data.
        except OSError as error:
            self._input_error = error
            self._leave.set()

    async def _end_of_input(self) -> None:
        if self._behaviour.on_eof is OnEof.CLOSE:
            self._leave.set()
            return
        if self._behaviour.on_eof is OnEof.HALF_CLOSE:
            self._half_closed = not self._peer_left
            await self._stream.send_eof()
        self._input_ended = True
        self._set_patience()

    # -- receiving -----------------------------------------------------------------------------------------------

    async def _receive(self, console: Console) -> None:
        wanted = self._wanted
        try:
            while data := await self._stream.receive(_CHUNK):
                shown = wanted.feed(data) if wanted else data
                self._set_patience()
                with self._patience.held():  # Time in which stdout blocks does not count as the peer's silence.
                    await console.write(shown)
                if wanted and wanted.line_ended:
                    break
            else:
                self._peer_ended = self._peer_left = True
        except StreamClosed:
            pass
        except BowoutError:
            self._peer_left = True  # The ending says how.
        self._leave.set()

    def _set_patience(self) -> None:
        """Restart the countdown of the peer's silence; once --quit-on has found its text, with its own limit."""
        if self._wanted is not None and self._wanted.found:
            self._patience.start(_LINE_PATIENCE)
        elif self._input_ended:
            self._patience.start(self._behaviour.eof_wait)

    async def _heed_silence(self) -> None:
        """Leave when the peer has been silent for too long."""
        await self._patience.over()
        if self._wanted is None or not self._wanted.found:
            output.note(f"the peer was silent for {self._behaviour.eof_wait:g} s after the end of stdin: closing")
            self._gave_up = True
        self._leave.set()
