"""The stream that users hold: the verbs of a TLS connection, and what leaving its block does."""

from __future__ import annotations

import contextlib
import sys
import warnings
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from bowout._arguments import check_callable, checked_timeout, unsendable
from bowout._exception_groups import consists_of
from bowout._stream_receiving import StreamReceiving
from bowout.errors import StreamClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

    from bowout._backends import LoopEvent
    from bowout._connection.connection import Connection
    from bowout.ending import Ending, Event

BytesLike = bytes | bytearray | memoryview

#: What the lane returns to let others run first; less: it is this minus the last bytes, and is to be left.
_OTHERS_FIRST: Final = -2
#: Longest wait for the peer, in seconds, when a block is left by an error: the error must reach the caller soon.
ERROR_PATIENCE: Final = 1.0
#: Exceptions that end a program or a task from outside, as a cancellation does.
INTERRUPTIONS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)


class Unwrapped(NamedTuple):
    """The result of `Stream.unwrap`.

    Attributes:
        transport: the non-blocking socket that carried TLS, or the stream that was given to `bowout.wrap`.
        leftover: the bytes that followed the peer's close_notify; they belong to the protocol that continues without
            TLS.
    """

    transport: Any
    leftover: bytes


class Stream(StreamReceiving):
    r"""A TLS connection that ends correctly. `bowout.connect` and `bowout.wrap` make it.

        async with bowout.connect("example.org", 443) as stream:
            await stream.send(b"GET / HTTP/1.0\r\nHost: example.org\r\n\r\n")
            async for chunk in stream:
                print(chunk)
        print(stream.ending)

    One task may send while another receives and a third closes. Leaving the block ends the connection: normally with
    `close`; by a cancellation with close_notify, if it can be sent at once; by any other error, or after an interrupted
    send, with a FIN alone, so that the peer never takes half a message for a whole one (``on_error`` changes that).
    """

    def __init__(
        self,
        connection: Connection,
        *,
        handshake_timeout: float,
        close_timeout: float,
        draining: LoopEvent | None = None,
    ) -> None:
        self._connection: Connection = connection
        self._draining = draining
        self._handshake_timeout = handshake_timeout
        self._close_timeout = close_timeout
        self._buffer = bytearray()
        self._receiving = False
        self._made_at = caller()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        connection = getattr(self, "_connection", None)
        if connection is not None and connection.closer.ending is None:
            try:
                _warn(f"{self!r} was never closed; it was made at {self._made_at}", ResourceWarning, source=self)
            finally:
                connection.closer.drop()

    def __repr__(self) -> str:
        state = str(self.ending) if self.ending else self._connection.engine.outbound.value
        return f"<bowout.Stream {self._connection.engine.role.value} {self.peer or '?'}: {state}>"

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def draining(self) -> LoopEvent:
        """Event that is set when our server drains: poll ``is_set()`` or await ``wait()``. A client's is never set."""
        if self._draining is None:
            self._draining = self._connection.backend.event()
        return self._draining

    def observe(self, on_event: Callable[[Event], None] | None) -> None:
        """Call `on_event` with each later event, in place of the function given before. None: call no function."""
        self._connection.channel.leave_lane()
        self._connection.engine.timeline.observe(on_event)

    # -- sending -------------------------------------------------------------------------------------------------

    async def send(self, data: BytesLike) -> None:
        """Send all of `data`; return when the kernel has every byte, so that a slow peer slows the sender down.

        Concurrent sends go out one after the other, never interleaved.

        Raises:
            StreamClosed: we have ended our direction.
            PeerClosed: the peer's close_notify has ended it, in TLS 1.2.
            Reset, AlertReceived, ProtocolViolation: the connection has ended.
            SendInterrupted: an earlier send or message() was interrupted.

        If it is cancelled before its turn, nothing was sent. If it is cancelled when all of `data` was encrypted, the
        next operation sends the rest. If it is cancelled in between, only a part of `data` was sent: close_notify would
        then be false, so later sends fail, and `close` sends a FIN alone (unless ``on_error="close"``).
        """
        lane = self._connection.channel.send_lane
        if lane is not None:
            try:
                sent = lane.send(data)
                view = None if sent is None else memoryview(data).cast("B")  # The lane may have left `data` unread.
            except TypeError as error:
                raise unsendable(data, error) from None
            if view is not None:
                await self._connection.sender.finish_send(view, sent)
            return
        try:
            view = memoryview(data).cast("B")
        except TypeError as error:
            raise unsendable(data, error) from None
        if not self._connection.engine.handshake_done:
            await self.handshake()
        await self._connection.sender.send(view)

    @contextlib.contextmanager
    def message(self) -> Iterator[None]:
        """Mark what is sent within the block as one message, so that no close_notify follows half of it.

            with stream.message():
                await stream.send(head)
                await stream.send(body)

        An interrupted send is never followed by close_notify. Between two sends only the caller knows that the message
        is incomplete; the block tells it to a cancellation, to another task's `close` and to the drain of a server.
        Blocks may be nested, and each task may have its own. Nothing is held back: each send goes out at once. A send
        of any task during the block counts: enter the block directly before the first send.

        If an exception leaves the block after something was sent, the message counts as an interrupted send. Until the
        block is left, `send_eof` and `unwrap` raise MisuseError, and `close` sends a FIN alone.
        """
        self._connection.channel.leave_lane()
        began = self._connection.engine.outgoing.begin_message()
        whole = False
        try:
            yield
            whole = True
        finally:
            self._connection.engine.outgoing.end_message(began, whole=whole)

    async def wait_writable(self) -> None:
        """Wait until the kernel has taken everything sent before: a cancelled send may have left bytes in the queue.

        Raises:
            As `send`.

        Cancelling it changes nothing.
        """
        if not self._connection.engine.handshake_done:
            await self.handshake()
        await self._connection.sender.wait_writable()

    def is_reusable(self) -> bool:
        """Tell whether the connection is idle and healthy: a pool calls it before it reuses a stream.

        It processes what has arrived, without waiting. False if the handshake is not done, a direction has ended (by
        the peer's close_notify or FIN, for example), received bytes are unread, a task is receiving or sending, or the
        caller runs on another event loop than the stream.
        """
        connection = self._connection
        if self._receiving or self._buffer or not self.can_send or not connection.backend.is_current():
            return False
        return connection.is_idle()

    async def send_eof(self) -> None:
        """Half-close: send close_notify; receiving goes on (RFC 8446 section 6.1).

        Reliable in TLS 1.3. In TLS 1.2 the peer must answer at once and may discard what it still had to send (RFC 5246
        section 7.2.1).

        Raises:
            SendInterrupted: an earlier send or message() was interrupted.
            As `send`. A second call does nothing.

        If it is cancelled, the close_notify stays queued, and the next operation sends it.
        """
        await self.handshake()
        await self._connection.sender.send_eof()

    # -- ending --------------------------------------------------------------------------------------------------

    async def handshake(self) -> None:
        """Perform the handshake within ``handshake_timeout``. Every other verb does so first if it has not been done.

        Raises:
            HandshakeError: its subclass says why; the descriptor is closed then.

        If it is cancelled, the descriptor is closed.
        """
        await self._connection.handshake(self._handshake_timeout)

    async def close(self, timeout: float | None = None, *, late: Callable[[bytes], object] | None = None) -> Ending:
        """End the connection gracefully in both directions, from any task, at any time, in any state.

        Wait for the send in flight, send close_notify, then FIN, then read and discard until the peer has ended too, so
        that no RST destroys the last bytes sent. A task that is receiving gets `StreamClosed`. Bounded by `timeout` and
        by ``linger_bytes``; concurrent calls share one ending, and the earliest deadline applies.

        Args:
            timeout: seconds for the whole close; None for the stream's ``close_timeout``, 0 for what can be done at
                once.
            late: called with the application data that is unread or still arrives, in order; without it, the data are
                discarded. It must not block. An exception from it ends the close early. Of concurrent calls, the first
                one's `late` is used.

        Returns:
            The ending. It reports every fault of the peer; none is raised.

        Raises:
            TypeError, ValueError: `timeout` is not a number of seconds, or `late` is not a function.
            MisuseError: it was called on another event loop than the stream's. If the stream's loop has ended, the
                connection is ended first, without waiting.

        Cancelling it sends close_notify if that is possible at once, closes the descriptor and sets `ending`; then the
        cancellation propagates.
        """
        timeout = self._close_timeout if timeout is None else checked_timeout("timeout", timeout)
        check_callable("late", late)
        return await self._close("close()", timeout, notify=True, late=late)

    aclose = close

    def abort(self) -> Ending:
        """End the connection at once with an RST, without waiting: the peer sees an error.

        If another process holds a copy of the descriptor (by ``fork``, or sent to it), the kernel sends the RST only
        when the last copy is closed; a FIN, which every other way of ending sends, ends the connection for all copies.
        In a forked child, this and `close` only close the child's copy.
        """
        self._drop_buffer()
        self._connection.closer.abort()
        return self._ended()

    async def unwrap(self, timeout: float | None = None) -> Unwrapped:
        """End TLS in both directions, and keep the socket or the stream under it.

            sock, leftover = await stream.unwrap()

        Args:
            timeout: seconds for the whole exchange; None for the stream's ``close_timeout``.

        Returns:
            The transport, which is the caller's from now on, and the bytes that followed the peer's close_notify.
            Unread application data is discarded and counted in the ending.

        Raises:
            NoCloseNotify: the peer did not answer in time. The connection is closed then, and after every other error.
            SendInterrupted: a send or message() was interrupted; the stream can only be closed.
            StreamClosed, PeerError, HandshakeError.

        Cancelling it closes the connection like a cancelled `close`.
        """
        timeout = self._close_timeout if timeout is None else checked_timeout("timeout", timeout)
        await self.handshake()
        self._connection.closer.check_staying()
        self._connection.closer.check_loop()
        self._connection.sender.check_whole()
        self._drop_buffer()
        return Unwrapped(*await self._connection.closer.unwrap(self._connection.backend.time() + timeout))

    async def wait_ended(self) -> Ending:
        """Wait until the connection has ended, by any cause. This has no deadline of its own and ends nothing."""
        await self._connection.closer.wait_ended()
        return self._ended()

    async def __aenter__(self) -> Self:
        if not self._connection.engine.handshake_done:
            await self.handshake()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or (self._connection.closer.leaving and consists_of(error, (StreamClosed,))):
            await self.close()
        elif consists_of(error, (*self._connection.backend.cancellations, *INTERRUPTIONS)):
            self._drop_buffer()
            await self._connection.closer.leave_soon("left by a cancellation", notify=True)
        else:
            self._connection.closer.note_reason(f"left by an exception: {type(error).__name__}")
            timeout = min(self._close_timeout, ERROR_PATIENCE)
            await self._close("left by an error", timeout, notify=self._connection.engine.notify_on_error)

    async def _close(
        self, verb: str, timeout: float, *, notify: bool, late: Callable[[bytes], object] | None = None
    ) -> Ending:
        connection = self._connection
        if connection.closer.leave_to_parent(verb):
            return self._ended()
        if not connection.backend.is_current():
            connection.closer.leave_from_elsewhere(verb)
            return self._ended()
        deadline = connection.backend.time() + timeout
        if connection.closer.ending is not None:
            await connection.backend.checkpoint()
            await connection.closer.wait_closed()
        elif connection.closer.leaving:
            await connection.closer.go_on(deadline)
        else:
            held = self._take(len(self._buffer)) if late is not None else b""
            self._drop_buffer()
            await connection.closer.close(verb, deadline, notify=notify, late=late, held=held)
        return self._ended()

    def _leave(self, reason: str) -> Ending:
        """End the connection at once, without an await: close_notify is sent if possible and true."""
        self._drop_buffer()
        self._connection.closer.leave_at_once(reason, notify=True)
        return self._ended()

    def _drop_buffer(self) -> None:
        if self._connection.closer.ending is None:  # What came before the peer's error stays readable.
            self._connection.engine.incoming.count_discarded(len(self._buffer))
            self._buffer.clear()

    def _ended(self) -> Ending:
        ending = self._connection.closer.ending
        if ending is None:  # pragma: no cover  (every path here has released the connection)
            raise RuntimeError("the connection has not ended")
        return ending


def caller() -> str:
    """Return the file and the line of the code that called this package."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001  (the documented way to the caller)
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "bowout":
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "?"
