"""The lane of a connection of asyncio: application data by callbacks, past the engine (see `bowout._lane`)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from bowout.asyncio._errors import loss_of

if TYPE_CHECKING:
    from bowout._core.engine import Engine
    from bowout.asyncio._underlying import UnderlyingTransport


class CallbackLane:
    """Enters and leaves the lane in C.

    Args:
        engine: the connection's TLS, which gets all that is not usual.

    Attributes:
        possible: whether there is a lane in C.
        entered: the lane, while all received data go through it; then the engine has none. None: the engine gets them.
        writing: the lane, while nothing waits to be sent: then the application may write to it.
    """

    __slots__ = ("_engine", "_last", "entered", "possible", "writing")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._last: Any = None
        self.possible: bool = engine.has_lane
        self.entered: Any = None
        self.writing: Any = None

    def enter(self, underlying: UnderlyingTransport, memory: memoryview, scratch: memoryview) -> None:
        """Let data pass through the lane from now on, if there is one, and nothing unusual is under way.

        Args:
            underlying: the transport under TLS.
            memory: for ciphertext; the transport puts what it receives behind `bowout._lane.HEADROOM` in it.
            scratch: memory for plaintext.
        """
        engine = self._engine
        lane = engine.lane_to_enter()
        if lane is not None:
            lane.enter(-1, memory, scratch, True, engine.incoming.queue.hand_over())  # noqa: FBT003  (C takes no names)
            underlying.carry(lane)
            engine.timeline.count_by(lane.take_counts)
            self.entered = self._last = lane

    def leave(self) -> None:
        """Give the engine what the lane has, and let it judge: for all that is not usual."""
        lane = self.entered
        if lane is not None:
            raw, held, rest, _, error, _, _, ended, _ = lane.leave()
            self.entered = self.writing = None
            self._engine.timeline.count_by(None)
            self._engine.incoming.resume(raw, held, rest=rest, ended=ended)
            if error:  # It had no memory for what was received.
                failure = OSError(error, os.strerror(error))
                self._engine.receive_reset(failure.strerror or "", loss=loss_of(failure))

    def unwritten(self) -> int:
        """Return how many bytes were to be written by a call of the transport that has not returned: it runs us."""
        return 0 if self._last is None else self._last.unwritten()
