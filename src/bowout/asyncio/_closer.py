"""The driver of the wind-down by callbacks, without a task: the transport under TLS pushes what arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bowout._core.winddown import Goal, Step, WindDown

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from bowout._core.engine import Engine
    from bowout.asyncio._underlying import UnderlyingTransport

#: Iterations of the loop without any arrival after which everything has arrived that was in the kernel before. The
#: first may run before the loop polls the sockets, and the second in the same poll, before its events are handled.
QUIET_ROUNDS: Final = 3
#: Iterations after which the last look is over, whatever still arrives: more than a socket's buffer needs.
_MOST_ROUNDS: Final = 100


class CallbackCloser:
    """Carries out the end of one connection: it does what its `WindDown` says.

    Args:
        loop: the event loop.
        engine: the connection's TLS.
        underlying: the transport under TLS.
        linger_bytes: maximum number of bytes that are read and discarded.
        scratch: memory for plaintext that is discarded.
        write: passes on as much as the transport takes.
        release: called once, at the end, to close the transport.
        go_on: calls `run`, and tears the connection if that is interrupted; for what the loop calls.

    Attributes:
        winddown: decides.
        over: whether `release` was called.
    """

    __slots__ = (
        "_arrivals",
        "_deadline",
        "_engine",
        "_go_on",
        "_loop",
        "_quiet",
        "_release",
        "_rounds",
        "_running",
        "_timer",
        "_underlying",
        "_write",
        "over",
        "winddown",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        engine: Engine,
        underlying: UnderlyingTransport,
        *,
        linger_bytes: int,
        scratch: memoryview,
        write: Callable[[], None],
        release: Callable[[], None],
        go_on: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._engine = engine
        self._underlying = underlying
        self._write = write
        self._release = release
        self._go_on = go_on
        self._deadline = 0.0
        self._arrivals = 0
        self._quiet = 0
        self._rounds = 0
        self._running = False
        self._timer: asyncio.Handle | None = None
        self.over: bool = False
        self.winddown: WindDown = WindDown(
            engine, linger_bytes=linger_bytes, scratch=scratch, unacknowledged=underlying.unacknowledged
        )

    # -- the ways to end -----------------------------------------------------------------------------------------

    def close(self, verb: str, timeout: float) -> None:
        """End both directions gracefully, within `timeout` seconds; `verb` is "" if the application called none."""
        now = self._loop.time()
        self._deadline = now + timeout
        if verb:
            self.winddown.leave(verb)
        self.winddown.begin_close(now, self._deadline)
        self.run()

    def leave(self, verb: str) -> None:
        """End at once with a FIN, and without close_notify: what was sent may not be all."""
        if verb and not self.winddown.leaving:
            self.winddown.leave(verb)
        self.winddown.notify(allowed=False)
        self.winddown.begin(Goal.LEAVE)
        self._quiet = QUIET_ROUNDS
        self.run()

    def abort(self) -> None:
        """End at once with an RST."""
        if not self.winddown.leaving:
            self.winddown.leave("abort()")
        self._engine.sent_rst()
        self._finish()

    # -- what happens --------------------------------------------------------------------------------------------

    def received(self, count: int) -> None:
        """Record that the engine was given `count` bytes, 0 at its end, and go on."""
        self.winddown.received(count)
        self._arrivals += 1
        self.run()

    def run(self) -> None:
        """Do the next steps, up to a wait."""
        if self._running or self.over:
            return  # A step is being done, and goes on by itself.
        self._running = True
        try:
            while self._step():
                pass
        except BaseException:
            self._survive()
            raise
        finally:
            self._running = False

    def _survive(self) -> None:
        """Keep the end coming after an exception in a step: nothing else may call `run` again."""
        if self._engine.torn:
            self._finish()  # It was the attempt to leave after another exception.
        elif not self.over:
            self._set_timer(self._loop.call_soon(self._on_time))

    def _step(self) -> bool:
        """Do the next step; return False if it is a wait, or the end."""
        self._write()
        now = self._loop.time()
        if now >= self._deadline and not self._has_looked and not self._is_slice_full():
            self._look()
            return False
        step = self.winddown.next_step(now)
        if step is Step.RELEASE:
            self._finish()
            return False
        if step is Step.FIN:
            self._underlying.send_fin()
            self._engine.sent_fin()
            return True
        return step is Step.WRITE or self._wait(step)

    def _wait(self, step: Step) -> bool:
        """Wait for the transport, or until the time comes; return True if there is no reason to wait."""
        if step is Step.READ:
            self._set_timer(self._loop.call_soon(self._on_time))
        else:
            room = self.winddown.room()
            if not room and self.winddown.gave_up:
                return True
            self._underlying.read(on=room > 0)
            self._set_timer(self._loop.call_at(self.winddown.until, self._on_time))
        return False

    def _is_slice_full(self) -> bool:
        return not self.winddown.input_done and not self.winddown.room()

    def _set_timer(self, handle: asyncio.Handle | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = handle

    def _on_time(self) -> None:
        self._timer = None
        self._go_on()

    # -- the last look -------------------------------------------------------------------------------------------

    @property
    def _has_looked(self) -> bool:
        return self._quiet >= QUIET_ROUNDS or self._rounds >= _MOST_ROUNDS

    def _look(self) -> None:
        """Wait for what had arrived by the deadline: the loop may have been blocked, and delivers it now."""
        self._underlying.read(on=not self.winddown.input_done)
        self._set_timer(self._loop.call_soon(self._look_again, self._arrivals))

    def _look_again(self, arrivals: int) -> None:
        self._timer = None
        self._rounds += 1
        self._quiet = self._quiet + 1 if arrivals == self._arrivals else 0
        self._go_on()

    def forget(self) -> None:
        """Break the reference cycles."""
        self._write = self._release = self._go_on = _nothing

    def _finish(self) -> None:
        self._set_timer(None)
        if not self.over:
            self.over = True
            self._release()


def _nothing() -> None:
    pass
