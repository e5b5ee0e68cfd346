"""The application's protocol over TLS: what it is told, and when."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Default of the number of bytes that wait to be sent, above which the application is asked to pause: asyncio's own.
HIGH_WATER: Final = 512 << 10

#: In place of a protocol that was told the end.
_NOBODY: Final = asyncio.Protocol()
#: The application's callback has failed.
_FAILED: Final = object()


class Application:
    """One application's protocol.

    Args:
        loop: the event loop, which is told of errors in callbacks.
        protocol: the application's protocol; it may be replaced at any time.
        made: whether ``connection_made`` was called already, before TLS began.
        failed: called with an error that the application raised: the connection must end.
        interrupted: called with a KeyboardInterrupt or SystemExit that the application raised: they end the loop's run,
            and no connection.

    Attributes:
        loop: the event loop.
        is_buffered: whether it takes the data in memory of its own.
        made: whether ``connection_made`` was called.
        reading_paused: whether the application wants no data for the moment.
        writing_paused: whether it was asked to write nothing for the moment.
        low, high: limits of the number of bytes that wait, for `control_writing`.
    """

    __slots__ = (
        "_failed",
        "_interrupted",
        "_lost",
        "_protocol",
        "high",
        "is_buffered",
        "loop",
        "low",
        "made",
        "reading_paused",
        "writing_paused",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        *,
        made: bool,
        failed: Callable[[BaseException], None],
        interrupted: Callable[[BaseException], None],
    ) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self._failed = failed
        self._interrupted = interrupted
        self.made: bool = made
        self._lost = False
        self.reading_paused: bool = False
        self.writing_paused: bool = False
        self.high: int = HIGH_WATER
        self.low: int = HIGH_WATER // 4
        self.protocol = protocol

    @property
    def protocol(self) -> asyncio.BaseProtocol:
        """The application's protocol."""
        return self._protocol

    @protocol.setter
    def protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self.is_buffered: bool = isinstance(protocol, asyncio.BufferedProtocol)

    # -- what it is told -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> bool:
        """Call ``connection_made``, once; return False if it failed."""
        if not self.made:
            self.made = True
            return self._call("connection_made", self._protocol.connection_made, transport) is not _FAILED
        return True

    def get_buffer(self) -> memoryview | None:
        """Return the memory for the next data of an application that `is_buffered`; None if it failed."""
        try:
            buffer = memoryview(self._protocol.get_buffer(-1)).cast("B")  # type: ignore[attr-defined]
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
        except BaseException as error:  # noqa: BLE001  (see _raised)
            self._raised("get_buffer", error)
            return None
        return buffer

    def buffer_updated(self, count: int) -> bool:
        """Deliver the `count` bytes in the memory of `get_buffer`; return False if the application failed."""
        try:
            self._protocol.buffer_updated(count)  # type: ignore[attr-defined]
        except BaseException as error:  # noqa: BLE001  (see _raised)
            self._raised("buffer_updated", error)
            return False
        return True

    def data_received(self, data: bytes) -> bool:
        """Deliver `data` to an application that is not `is_buffered`; return False if it failed."""
        try:
            self._protocol.data_received(data)  # type: ignore[attr-defined]
        except BaseException as error:  # noqa: BLE001  (see _raised)
            self._raised("data_received", error)
            return False
        return True

    def eof_received(self) -> bool | None:
        """Tell it of the end of the peer's direction; return whether it wants to go on sending, None if it failed."""
        goes_on = self._call("eof_received", self._protocol.eof_received)  # type: ignore[attr-defined]
        return None if goes_on is _FAILED else bool(goes_on)

    def connection_lost(self, error: BaseException | None) -> None:
        """Call ``connection_lost`` soon, once, if ``connection_made`` was called."""
        if self.made and not self._lost:
            self._lost = True
            self.loop.call_soon(self._protocol.connection_lost, error)  # type: ignore[arg-type]  # as asyncio does

    def forget(self) -> None:
        """Break the reference cycles: the application is told nothing more."""
        self._failed = self._interrupted = _ignore
        self._protocol = _NOBODY

    def _call(self, name: str, call: Callable[..., Any], *args: Any) -> Any:
        """Call the application; after an error of its own, report it and return `_FAILED`."""
        try:
            return call(*args)
        except BaseException as error:  # noqa: BLE001  (see _raised)
            self._raised(name, error)
            return _FAILED

    def _raised(self, name: str, error: BaseException) -> None:
        """Report an `error` of the application, CancelledError included, as asyncio's own transports do."""
        if isinstance(error, SystemExit | KeyboardInterrupt):
            self._interrupted(error)
            raise error
        self._report(f"Fatal error: protocol.{name}() call failed.", error)
        self._failed(error)

    # -- flow control --------------------------------------------------------------------------------------------

    def set_limits(self, high: int | None, low: int | None) -> None:
        """Set the limits of `control_writing`, with asyncio's defaults.

        Raises:
            ValueError: they are not ``high >= low >= 0``.
        """
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self.high, self.low = high, low

    def control_writing(self, size: int) -> None:
        """Ask it to pause or to resume writing: `size` bytes wait."""
        if not self.made or self._lost:
            return
        if size > self.high and not self.writing_paused:
            self.writing_paused = True
            self._tell("pause_writing", self._protocol.pause_writing)
        elif size <= self.low and self.writing_paused:
            self.writing_paused = False
            self._tell("resume_writing", self._protocol.resume_writing)

    def _tell(self, name: str, call: Callable[[], Any]) -> None:
        try:
            call()
        except (SystemExit, KeyboardInterrupt) as error:
            self._interrupted(error)
            raise
        except BaseException as error:  # noqa: BLE001  (likewise)
            self._report(f"protocol.{name}() failed", error)

    def _report(self, message: str, error: BaseException) -> None:
        """Give an error of the application's callback to the loop's exception handler."""
        self.loop.call_exception_handler({"message": message, "exception": error, "protocol": self._protocol})


def _ignore(error: BaseException) -> None:
    pass
