"""The peer's direction of a TLS connection of asyncio: from the transport under TLS to the application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bowout.errors import BowoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout._core.engine import Engine
    from bowout.asyncio._application import Application
    from bowout.asyncio._lane import CallbackLane


class Receiver:
    """Decrypts what was received, and delivers it to the application.

    Args:
        engine: the connection's TLS.
        app: the application.
        lane: the connection's lane.
        scratch: memory for plaintext, for an application that has none.
        ended: called with the error of a read, or with None after the last data, at the end of the peer's direction.

    Attributes:
        arrivals: the memory in which the transport puts what it receives.
        delivering: whether the application is being called, or will be: then nothing else is delivered.
        lost: whether the transport has ended.
        over: whether nothing is delivered any more.
    """

    __slots__ = ("_app", "_ended", "_engine", "_lane", "_scratch", "arrivals", "delivering", "lost", "over")

    def __init__(
        self,
        engine: Engine,
        app: Application,
        lane: CallbackLane,
        *,
        arrivals: memoryview,
        scratch: memoryview,
        ended: Callable[[BowoutError | None], None],
    ) -> None:
        self._engine = engine
        self._app = app
        self._lane = lane
        self._scratch = scratch
        self._ended = ended
        self.arrivals: memoryview = arrivals
        self.delivering: bool = False
        self.lost: bool = False
        self.over: bool = False

    def deliver(self, data: memoryview | None = None) -> None:
        """Deliver all that can be decrypted, up to a pause; `data` have just arrived, and are for the engine."""
        if self.delivering:
            return  # It was called from a callback of the application: the loop below goes on.
        if self._lane.entered is not None and (self._app.reading_paused or self.deliver_in_lane(0)):
            return
        self.delivering = True
        try:
            while self._may_deliver():
                new, data = data, None
                if not self._deliver_once(new):
                    return
        finally:
            self.delivering = False
            if data is not None:
                self._engine.receive_data(data)

    def _may_deliver(self) -> bool:
        """Tell whether to deliver: to an application that has paused, only the end of a lost transport."""
        if self.over:
            return False
        if self._app.reading_paused and self.lost:
            self._engine.incoming.hold()
            return not self._engine.incoming.held
        return not self._app.reading_paused

    def _deliver_once(self, data: memoryview | None) -> bool:
        """Deliver the next data or the end; tell whether there may be more."""
        app, incoming = self._app, self._engine.incoming
        has_memory = app.is_buffered and not app.reading_paused
        into = app.get_buffer() if has_memory else self._scratch
        if into is None or self.over:  # It failed, or has ended the connection.
            return False
        try:
            count = incoming.read_into(into) if data is None else self._engine.receive_and_read(data, into)
        except BowoutError as error:
            self._ended(error)
            return False
        if count:
            delivered = app.buffer_updated(count) if has_memory else app.data_received(bytes(into[:count]))
            return delivered and not incoming.is_waiting
        if count is not None:
            self.over = True
            self._ended(None)
        return False

    # -- through the lane, which is entered ----------------------------------------------------------------------

    def deliver_in_lane(self, count: int) -> bool:
        """Deliver all that can be decrypted, up to a pause.

        Args:
            count: number of bytes that have just arrived in `arrivals`.

        Returns:
            False if the lane was left: go on without it.
        """
        lane, app = self._lane.entered, self._app
        self.delivering = True
        try:
            if app.is_buffered:
                return self._deliver_into(count)
            data = lane.take(count)
            while data:
                more = type(data) is tuple
                app.data_received(data[0] if more else data)
                if not more or self._lane.entered is not lane or app.reading_paused:
                    return self._lane.entered is lane
                if self._app.is_buffered:  # It was replaced.
                    return self._deliver_into(0)
                data = lane.take(0)
            return data is None or self._leave_lane()
        finally:
            self.delivering = False

    def _deliver_into(self, count: int) -> bool:
        """Deliver to an application that `is_buffered`, likewise."""
        lane, app = self._lane.entered, self._app
        while app.is_buffered:
            into = None
            try:
                into = app.get_buffer()
            finally:
                if into is None or self._lane.entered is not lane:
                    self._leave_lane(count)
            size = lane.take_into(count, into) if into is not None and self._lane.entered is lane else None
            if not size:
                return self._leave_lane() if size is False else self._lane.entered is lane
            app.buffer_updated(abs(size))
            if size > 0 or self._lane.entered is not lane or app.reading_paused:
                return self._lane.entered is lane
            count = 0
        return self.deliver_in_lane(0)

    def _leave_lane(self, count: int = 0) -> bool:
        """Leave the lane, and give the engine the `count` bytes that have just arrived; return False."""
        self._lane.leave()
        if count:
            self._engine.receive_data(self.arrivals[:count])
        return False

    def forget(self) -> None:
        """Break the reference cycles."""
        self._ended = _nothing


def _nothing(error: BowoutError | None) -> None:
    pass
