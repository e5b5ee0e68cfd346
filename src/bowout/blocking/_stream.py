"""The stream that users of blocking code hold: the verbs of a TLS connection, and what leaving its block does."""

from __future__ import annotations

import contextlib
import time
import warnings
from typing import TYPE_CHECKING, Final, Self, TypeVar

from bowout._arguments import check_callable, checked_bytes, checked_count, checked_period, checked_timeout
from bowout._stream import Unwrapped, caller
from bowout._stream_facts import StreamFacts
from bowout._stream_receiving import check_separator
from bowout.blocking._limit import Limit
from bowout.blocking._monitor import Token
from bowout.errors import BowoutError, IncompleteRead, LimitExceeded, StreamClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from bowout._stream import BytesLike
    from bowout.blocking._connection import BlockingConnection, Find
    from bowout.ending import Ending, Event

T = TypeVar("T")

_CHUNK: Final = 1 << 16


class SyncStream(StreamFacts):
    r"""A TLS connection that ends correctly, for code without an event loop.

        with bowout.blocking.connect("example.org", 443) as stream:
            stream.send(b"GET / HTTP/1.0\r\nHost: example.org\r\n\r\n")
            for chunk in stream:
                print(chunk)
        print(stream.ending)

    `connect` and `wrap` make it. The verbs are those of `bowout.Stream`, and block.

    One thread may send while another receives and a third closes; no verb holds up another thread while it waits.
    Leaving the block ends the connection: normally with `close`; by KeyboardInterrupt or SystemExit with close_notify,
    if it can be sent at once; by any other error, or after an interrupted send, with a FIN alone, so that the peer
    never takes half a message for a whole one (``on_error`` changes that).

    An exception that a signal handler raises, KeyboardInterrupt for example, ends a wait and loses nothing. If it comes
    between two steps, where bytes may be lost or would be sent twice, the stream is ended with a FIN alone. A signal
    handler may call `close`, unless it interrupted such a step: then it raises `MisuseError`.
    """

    def __init__(
        self, connection: BlockingConnection, *, timeout: float | None, handshake_timeout: float, close_timeout: float
    ) -> None:
        self._timeout = timeout
        self._handshake_timeout = handshake_timeout
        self._close_timeout = close_timeout
        self._made_at = caller()
        self._connection: BlockingConnection = connection  # Last: the finalizer needs the others, too.

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        connection = getattr(self, "_connection", None)
        if connection is not None and connection.closer.ending is None:
            try:
                _warn(f"{self!r} was never closed; it was made at {self._made_at}", ResourceWarning, source=self)
            finally:
                connection.closer.drop()

    def __repr__(self) -> str:
        state = str(self.ending) if self.ending else self._connection.engine.outbound.value
        return f"<bowout.blocking.SyncStream {self._connection.engine.role.value} {self.peer or '?'}: {state}>"

    @property
    def timeout(self) -> float | None:
        """Longest time, in seconds, that a receive or a send goes on without progress; then it raises `TimedOut`.

        None: a receive waits for as long as the peer's machine is there (see ``keepalive``), a send for as long as its
        application may still read. A wait that has begun keeps the time that it began with.

        Raises:
            TypeError, ValueError: a new value is neither None nor a number of seconds above 0.
        """
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._timeout = checked_period("timeout", seconds)

    def observe(self, on_event: Callable[[Event], None] | None) -> None:
        """Call `on_event` with each later event, in place of the function given before. None: call no function."""
        self._connection.engine.timeline.observe(on_event)

    # -- receiving -----------------------------------------------------------------------------------------------

    def receive(self, max_bytes: int = _CHUNK) -> bytes:
        """Receive up to `max_bytes` bytes, as soon as there are any.

        Returns:
            The bytes; ``b""`` at the peer's close_notify, and only then (or at a FIN that ``truncation="tolerate"``
            accepts).

        Raises:
            Truncated, Reset, AlertReceived, ProtocolViolation: the peer ended its direction without close_notify; every
                later call raises it again.
            StreamClosed: we closed, before this call or, in another thread, while it waited.
            TimedOut: nothing came for `timeout` seconds. Nothing is lost.
            BusyError: another thread is receiving.
        """
        checked_count("max_bytes", max_bytes, least=1)
        return self._receiving(lambda limit: self._connection.read(max_bytes, limit))

    def receive_into(self, buffer: bytearray | memoryview) -> int:
        """Receive into `buffer` as many available records as fit; otherwise like `receive`.

        Returns:
            The number of bytes; 0 if `receive` would return ``b""``.
        """
        view = memoryview(buffer).cast("B")
        if not len(view) or view.readonly:
            raise ValueError(f"the buffer to receive into is {'empty' if not len(view) else 'read-only'}")
        return self._receiving(lambda limit: self._connection.read_into(view, limit))

    def receive_exactly(self, count: int) -> bytes:
        """Receive exactly `count` bytes.

        Raises:
            IncompleteRead: the peer ended cleanly before that; its ``partial`` has what was received.
            TimedOut: no byte more came for `timeout` seconds. What was received stays readable.
            As `receive`: what was received before the error stays readable, and is read before it is raised again.
        """
        checked_count("count", count, least=0)

        def find(unread: bytearray, ended: bool) -> bytes | BowoutError | None:  # noqa: FBT001
            if len(unread) >= count:
                return _take(unread, count)
            if not ended:
                return None
            partial = _take(unread, len(unread))
            text = f"the peer ended the stream after {len(partial)} of {count} bytes"
            return IncompleteRead(text, partial=partial, expected=count)

        return self._finding(find)

    def receive_until(self, separator: bytes, limit: int = _CHUNK) -> bytes:
        """Receive up to the next `separator`, and including it.

        Args:
            separator: not empty.
            limit: maximum number of bytes to hold during the search, the separator included.

        Raises:
            LimitExceeded: the first `limit` bytes hold no separator; they stay readable.
            IncompleteRead: the peer ended cleanly before the separator; its ``partial`` has what was received.
            TimedOut: no byte more came for `timeout` seconds. What was received stays readable.
            As `receive`: what was received before the error stays readable, and is read before it is raised again.
        """
        check_separator(separator, limit)
        searched = 0

        def find(unread: bytearray, ended: bool) -> bytes | BowoutError | None:  # noqa: FBT001
            nonlocal searched
            if (found := unread.find(separator, searched, limit)) >= 0:
                return _take(unread, found + len(separator))
            if len(unread) >= limit:
                return LimitExceeded(f"no {separator!r} within {limit} bytes")
            searched = max(0, len(unread) - len(separator) + 1)
            if not ended:
                return None
            text = f"the peer ended the stream before {separator!r}"
            return IncompleteRead(text, partial=_take(unread, len(unread)), expected=None)

        return self._finding(find)

    def lines(self, limit: int = _CHUNK) -> Iterator[bytes]:
        r"""Iterate over lines, each with its ``\n``; a last line without one is yielded, too.

        The iteration stops at the peer's close_notify and when we close; otherwise it raises like `receive_until`.
        """
        return SyncLines(self, limit)

    def __iter__(self) -> Iterator[bytes]:
        """Iterate over the received bytes, in chunks as they arrive; the iteration stops as that of `lines` does."""
        return SyncChunks(self)

    def _finding(self, find: Find) -> bytes:
        found = self._receiving(lambda limit: self._connection.read_until(find, limit))
        if isinstance(found, BowoutError):
            raise found
        return found

    def _receiving(self, receive: Callable[[Limit], T]) -> T:
        connection, token = self._connection, Token()
        try:
            connection.check_only_receiver(token)
            if not connection.engine.handshake_done:
                self.handshake()
            return receive(Limit(self._timeout))
        finally:
            connection.receives.give_back(token)

    # -- sending -------------------------------------------------------------------------------------------------

    def send(self, data: BytesLike) -> None:
        """Send all of `data`; return when the kernel has every byte, so that a slow peer slows the sender down.

        Sends of several threads go out one after the other, never interleaved.

        Raises:
            StreamClosed: we have ended our direction.
            PeerClosed: the peer's close_notify has ended it, in TLS 1.2.
            Reset, AlertReceived, ProtocolViolation: the connection has ended.
            SendInterrupted: an earlier send or message() was interrupted.
            TimedOut: the peer took no bytes for `timeout` seconds.

        If a timeout or another exception ends it when all of `data` was encrypted, the next operation sends the rest.
        If only a part of `data` was encrypted, close_notify would be false, so later sends fail, and `close` sends a
        FIN alone (unless ``on_error="close"``).
        """
        view = checked_bytes("data", data)
        if not self._connection.engine.handshake_done:
            self.handshake()
        self._connection.sender.send(view, Limit(self._timeout))

    @contextlib.contextmanager
    def message(self) -> Iterator[None]:
        """Mark what is sent within the block as one message, so that no close_notify follows half of it.

            with stream.message():
                stream.send(head)
                stream.send(body)

        See `bowout.Stream.message`.
        """
        outgoing = self._connection.engine.outgoing
        began = outgoing.begin_message()
        whole = False
        try:
            yield
            whole = True
        finally:
            outgoing.end_message(began, whole=whole)

    def send_eof(self) -> None:
        """Half-close: send close_notify; receiving goes on (RFC 8446 section 6.1).

        Reliable in TLS 1.3. In TLS 1.2 the peer must answer at once and may discard what it still had to send (RFC 5246
        section 7.2.1).

        Raises:
            SendInterrupted: an earlier send or message() was interrupted.
            As `send`. A second call does nothing.
        """
        self.handshake()
        self._connection.sender.send_eof(Limit(self._timeout))

    def is_reusable(self) -> bool:
        """Tell whether the connection is idle and healthy: a pool calls it before it reuses a stream.

        It processes what has arrived, without waiting. False if the handshake is not done, a direction has ended (by
        the peer's close_notify or FIN, for example), received bytes are unread, or a thread is receiving or sending.
        """
        connection = self._connection
        return not connection.unread and self.can_send and connection.is_idle()

    # -- ending --------------------------------------------------------------------------------------------------

    def handshake(self) -> None:
        """Perform the handshake within ``handshake_timeout``. Every other verb does so first if it has not been done.

        Raises:
            HandshakeError: its subclass says why; the descriptor is closed then, and after any other exception.
        """
        self._connection.handshake(Limit(self._handshake_timeout))

    def close(self, timeout: float | None = None, *, late: Callable[[bytes], object] | None = None) -> Ending:
        """End the connection gracefully in both directions, from any thread, at any time, in any state.

        Wait for the send in flight, send close_notify, then FIN, then read and discard until the peer has ended too, so
        that no RST destroys the last bytes sent. A thread that is receiving gets `StreamClosed` at once. Bounded by
        `timeout` and by ``linger_bytes``; concurrent calls share one ending, and the earliest deadline applies.

        Args:
            timeout: seconds for the whole close; None for the stream's ``close_timeout``, 0 for what can be done at
                once.
            late: called with the application data that is unread or still arrives, in order; without it, the data are
                discarded. It must not block, nor use the stream. An exception from it ends the close early. Of
                concurrent calls, the first one's `late` is used.

        Returns:
            The ending. It reports every fault of the peer; none is raised.

        Raises:
            TypeError, ValueError: `timeout` is not a number of seconds, or `late` is not a function.

        An exception that interrupts it, KeyboardInterrupt for example, is raised after close_notify was sent, if that
        is possible at once, the descriptor was closed and `ending` was set.
        """
        timeout = self._close_timeout if timeout is None else checked_timeout("timeout", timeout)
        check_callable("late", late)
        self._connection.closer.close("close()", time.monotonic() + timeout, notify=True, late=late)
        return self._ended()

    def abort(self) -> Ending:
        """End the connection at once with an RST, without waiting: the peer sees an error. Any thread may call it.

        If another process holds a copy of the descriptor (by ``fork``, or sent to it), the kernel sends the RST only
        when the last copy is closed. In a forked child that has not used the stream, this and `close` only close the
        child's copy.
        """
        self._connection.closer.abort()
        return self._ended()

    def unwrap(self, timeout: float | None = None) -> Unwrapped:
        """End TLS in both directions, and keep the socket under it.

            sock, leftover = stream.unwrap()

        Args:
            timeout: seconds for the whole exchange; None for the stream's ``close_timeout``.

        Returns:
            The socket, which is the caller's from now on and has the stream's `timeout`, and the bytes that followed
            the peer's close_notify. Unread application data is discarded and counted in the ending.

        Raises:
            NoCloseNotify: the peer did not answer in time. The connection is closed then, and after every other error.
            SendInterrupted: a send or message() was interrupted; the stream can only be closed.
            StreamClosed, PeerError, HandshakeError.
        """
        timeout = self._close_timeout if timeout is None else checked_timeout("timeout", timeout)
        self.handshake()
        leftover = self._connection.unwrap(Limit(timeout))
        sock = self._connection.detach()
        sock.settimeout(self._timeout)
        return Unwrapped(sock, leftover)

    def __enter__(self) -> Self:
        try:
            self.handshake()
        except BaseException as error:
            self._connection.leave_block(error, 0)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.close()
            else:
                self._connection.leave_block(error, self._close_timeout)
        finally:  # An exception may have come before the close began.
            self._connection.closer.leave_at_once("left by an interrupted close", notify=error is None)

    def _ended(self) -> Ending:
        ending = self._connection.closer.ending
        if ending is None:  # pragma: no cover  (every path here has released the connection)
            raise RuntimeError("the connection has not ended")
        return ending


class SyncChunks:
    """Yields received data in chunks, up to the end of the peer's direction or of ours."""

    __slots__ = ("_stream",)

    def __init__(self, stream: SyncStream) -> None:
        self._stream = stream

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        try:
            chunk = self._stream.receive()
        except StreamClosed:
            raise StopIteration from None
        if not chunk:
            raise StopIteration
        return chunk


class SyncLines:
    """Yields received data line by line."""

    __slots__ = ("_limit", "_stream")

    def __init__(self, stream: SyncStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        try:
            return self._stream.receive_until(b"\n", self._limit)
        except IncompleteRead as end:
            if not end.partial:
                raise StopIteration from None
            return end.partial
        except StreamClosed:
            raise StopIteration from None


def _take(unread: bytearray, count: int) -> bytes:
    taken = bytes(unread[:count])
    del unread[:count]
    return taken
