"""The transport that an application gets over TLS."""

from __future__ import annotations

import asyncio
import logging
import warnings
from asyncio import constants
from typing import TYPE_CHECKING, Any, Final

from bowout._backends.forks import generation
from bowout.errors import MisuseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bowout.asyncio._application import Application
    from bowout.asyncio._lane import CallbackLane
    from bowout.asyncio._protocol import TLSProtocol
    from bowout.ending import Ending

_log = logging.getLogger("bowout.asyncio")
#: Number of useless writes from which on each is logged, as asyncio does.
_LOGGED_WRITES: Final = 5
if TYPE_CHECKING:
    _Base = asyncio.Transport
else:
    #: ``loop.sendfile`` wants this base, private in asyncio. It adds flow control, which is replaced here.
    _Base = getattr(asyncio.transports, "_FlowControlMixin", asyncio.Transport)
#: How ``loop.sendfile`` sends through a transport that encrypts: it reads the file and writes. (Private in asyncio.)
_SENDFILE_MODE: Final = getattr(getattr(constants, "_SendfileMode", None), "FALLBACK", None)


class TLSTransport(_Base):
    """A TLS connection as an `asyncio.Transport`, with the ending that asyncio's own has not.

    * `close` sends everything written, close_notify and FIN, and reads until the peer has ended, too, within the time
      for a close; ``connection_lost`` gets None then, or an error if not all that was written has left.
    * `abort` ends with an RST.
    * `write_eof` sends close_notify; the peer may go on sending, in TLS 1.3.
    * The peer's close_notify is ``eof_received``. If that returns True, and we have not ended our direction, the
      connection stays half-open.
    * A FIN without close_notify is no ``eof_received``: after all data, ``connection_lost`` gets
      `bowout.errors.Truncated`.
    * It belongs to the process that made it. In a forked child `close` and `abort` leave it alone, and to write, or to
      pause or resume reading, is an error: the parent's connection goes on. asyncio's own transport would stop the
      parent from reading.
    """

    # asyncio looks for these names.
    _start_tls_compatible = True
    _sendfile_compatible = _SENDFILE_MODE

    __slots__ = ("_app", "_generation", "_lane", "_protocol", "_useless_writes")

    def __init__(self, protocol: TLSProtocol, app: Application, lane: CallbackLane) -> None:
        asyncio.Transport.__init__(self)
        self._protocol = protocol
        self._app = app
        self._lane = lane
        self._generation = generation.number
        self._useless_writes = 0

    def __repr__(self) -> str:
        return repr(self._protocol).replace("TLSProtocol", "TLSTransport", 1)

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        protocol: TLSProtocol | None = getattr(self, "_protocol", None)
        if protocol is None or self._generation != generation.number:
            return
        if protocol.connected and not protocol.closing:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)

    @property
    def ending(self) -> Ending | None:
        """How the connection ended; None before the end. The same as ``get_extra_info("ending")``."""
        return self._protocol.ending

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return a fact: ``"ending"``, asyncio's own names for TLS, or what the transport under TLS knows."""
        return self._protocol.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Replace the application's protocol."""
        self._app.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the application's protocol."""
        return self._app.protocol

    # -- ending --------------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Tell whether the connection is ending, or has ended."""
        return self._protocol.closing

    def close(self) -> None:
        """End gracefully, after everything written. A second call does nothing."""
        if self._is_ours():
            self._protocol.close()

    def abort(self) -> None:
        """End at once with an RST: the peer sees an error. What was not sent is dropped."""
        if self._is_ours():
            self._protocol.abort()

    def _force_close(self, exc: BaseException | None) -> None:
        """End at once; asyncio calls this for a failed sendfile."""
        if self._is_ours():
            self._protocol.abort(exc)

    def _is_ours(self) -> bool:
        """Tell whether this process made the transport; log it if not: its end would be that of the parent's, too."""
        if self._generation == generation.number:
            return True
        _log.warning("a forked child leaves %r to the process that made it", self)
        return False

    def _check_process(self) -> None:
        if self._generation != generation.number:
            raise MisuseError(
                f"{self!r} belongs to the process that made it: in a forked child, make a connection of its own"
            )

    # -- reading -------------------------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        """Tell whether data are delivered."""
        return not self._app.reading_paused and not self.is_closing()

    def pause_reading(self) -> None:
        """Deliver nothing until `resume_reading`.

        Raises:
            MisuseError: a forked child calls this.
        """
        self._check_process()
        self._protocol.pause_reading()

    def resume_reading(self) -> None:
        """Deliver again.

        Raises:
            MisuseError: a forked child calls this.
        """
        self._check_process()
        self._protocol.resume_reading()

    # -- writing -------------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data` without blocking; what the peer does not take yet is queued.

        Raises:
            TypeError: `data` is not bytes-like.
            MisuseError: `write_eof` was called before (it is a RuntimeError too, as in asyncio), or a forked child
                calls this.
        """
        lane = self._lane.writing
        if lane is not None and type(data) is bytes and self._generation == generation.number:
            self._protocol.write_in_lane(lane, data)
            return
        self._check_process()
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"data: a bytes-like object is required, not {type(data).__name__}")
        if not self._protocol.write(data):
            self._useless_writes += 1
            if self._useless_writes >= _LOGGED_WRITES:
                _log.warning("write() to a connection that is closing or closed: %r", self)

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Send several pieces."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Tell whether `write_eof` leaves the peer's direction open: in TLS 1.3, but not in TLS 1.2."""
        return self._protocol.can_half_close

    def write_eof(self) -> None:
        """Send close_notify after everything written: the half-close (RFC 8446 section 6.1).

        In TLS 1.2 the peer must answer at once, and may discard what it still had to send (RFC 5246 section 7.2.1).

        Raises:
            MisuseError: a forked child calls this.
        """
        self._check_process()
        self._protocol.write_eof()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the numbers of waiting bytes at which the protocol is asked to pause and to resume writing."""
        self._app.set_limits(high, low)
        self._app.control_writing(self.get_write_buffer_size())

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return these limits, the lower one first."""
        return self._app.low, self._app.high

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that were written and have not left."""
        return self._protocol.waiting_bytes

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The event loop; asyncio's sendfile reads this."""
        return self._app.loop

    @property
    def _protocol_paused(self) -> bool:
        """Whether the protocol was asked to pause; asyncio's sendfile reads this."""
        return self._app.writing_paused
