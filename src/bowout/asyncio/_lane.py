"""The lane of a connection of asyncio: application data by callbacks, past the engine (see `bowout._lane`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bowout._core.engine import Engine
    from bowout.asyncio._application import Application
    from bowout.asyncio._underlying import UnderlyingTransport


class CallbackLane:
    """Enters and leaves the lane in C, and delivers what comes through it.

    Args:
        engine: the connection's TLS, which gets all that is not usual.
        app: the application.

    Attributes:
        entered: the lane, while all received data go through it; then the engine has none. None: the engine gets them.
        writing: the lane, while nothing waits to be sent: then it may be written to directly.
    """

    __slots__ = ("_app", "_arrivals", "_engine", "entered", "writing")

    def __init__(self, engine: Engine, app: Application) -> None:
        self._engine = engine
        self._app = app
        self._arrivals: memoryview
        self.entered: Any = None
        self.writing: Any = None

    def enter(
        self, underlying: UnderlyingTransport, memory: memoryview, arrivals: memoryview, scratch: memoryview
    ) -> None:
        """Let data pass through the lane from now on, if there is one, and nothing unusual is under way.

        Args:
            underlying: the transport under TLS.
            memory: for ciphertext.
            arrivals: the part of it, behind `bowout._lane.HEADROOM`, in which the transport puts what it receives.
            scratch: memory for plaintext.
        """
        lane = self._engine.lane_to_enter()
        if lane is not None:
            lane.enter(-1, memory, scratch, True, self._engine.incoming.queue.hand_over())  # noqa: FBT003  (C's interface)
            underlying.carry(lane)
            self._engine.timeline.count_by(lane.take_counts)
            self._arrivals = arrivals
            self.entered = lane

    def leave(self) -> None:
        """Give the engine what the lane has, and let it judge: for all that is not usual."""
        lane = self.entered
        if lane is not None:
            self.entered = self.writing = None
            raw, held, rest, _eof, _error, _dry, _watched, ended = lane.leave()
            self._engine.timeline.count_by(None)
            self._engine.incoming.resume(raw, held, rest=rest, ended=ended)

    def deliver(self, count: int) -> bool:
        """Deliver to the application all that can be decrypted, until it pauses reading.

        Args:
            count: number of bytes that have arrived; 0: deliver what was left.

        Returns:
            False if the lane was left: go on without it.
        """
        lane, app = self.entered, self._app
        if app.is_buffered:
            return self._deliver_into(count)
        data = lane.take(count)
        while data:
            more = type(data) is tuple
            app.data_received(data[0] if more else data)
            if not more or self.entered is not lane or app.reading_paused:
                return self.entered is lane
            if app.is_buffered:
                return self._deliver_into(0)
            data = lane.take(0)
        if data is False:
            self.leave()
        return data is None

    def _deliver_into(self, count: int) -> bool:
        lane, app = self.entered, self._app
        more = True
        while more and not app.reading_paused:
            if not app.is_buffered:
                return self.deliver(0)
            into = None
            try:
                into = app.get_buffer()
            finally:
                if into is None or self.entered is not lane:
                    self._hand_over(count)
            if self.entered is not lane:
                break
            size = lane.take_into(count, into)
            count = 0
            if not size:
                if size is False:
                    self.leave()
                break
            more = size < 0
            if not app.buffer_updated(abs(size)) or self.entered is not lane:
                break
        return self.entered is lane

    def _hand_over(self, count: int) -> None:
        """Give the engine what has arrived, since there is no memory for what is decrypted."""
        self.leave()
        if count:
            self._engine.receive_data(self._arrivals[:count])
