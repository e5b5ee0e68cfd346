"""The stream that users hold: the verbs of a TLS connection, and what leaving a block means."""

from __future__ import annotations

import contextlib
import ssl
import sys
import warnings
from typing import TYPE_CHECKING, Any, Final, Self

from bowout import _sessions
from bowout._arguments import check_callable, check_choice, checked_count, checked_timeout
from bowout.ending import Role
from bowout.errors import BusyError, IncompleteRead, LimitExceeded, StreamClosed

if TYPE_CHECKING:
    import socket as sockets  # `Stream.socket` hides the name
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import FrameType, TracebackType

    from bowout._backends import Event
    from bowout._connection import Connection
    from bowout.ending import Ending

BytesLike = bytes | bytearray | memoryview

_CHUNK: Final = 1 << 16
#: Leaving a block by an error waits at most so long for the peer, in seconds: the error wants to be heard.
_ERROR_PATIENCE: Final = 1.0
#: These end a program or a task from outside, like a cancellation.
_INTERRUPTIONS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)


class Stream:
    r"""A TLS connection whose ending is right. `bowout.connect` and `bowout.wrap` make it.

        async with bowout.connect("example.org", 443) as stream:
            await stream.send(b"GET / HTTP/1.0\r\nHost: example.org\r\n\r\n")
            async for chunk in stream:
                print(chunk)
        print(stream.ending)

    One task may send while another receives and a third closes. Leaving the block ends the connection: normally with
    `close`; by a cancellation with close_notify, tried at once; by any other error, or with a send cut short, with a
    FIN alone, so that half a message never passes for a whole one (``on_error`` changes that).
    """

    def __init__(
        self, connection: Connection, *, handshake_timeout: float, close_timeout: float, draining: Event | None = None
    ) -> None:
        self._connection = connection
        self._draining = draining
        self._handshake_timeout = handshake_timeout
        self._close_timeout = close_timeout
        self._buffer = bytearray()
        self._receiving = False
        self._made_at = _caller()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        connection = getattr(self, "_connection", None)
        if connection is not None and connection.ending is None:
            try:
                _warn(f"{self!r} was never closed; it was made at {self._made_at}", ResourceWarning, source=self)
            finally:
                connection.drop()

    def __repr__(self) -> str:
        state = str(self.ending) if self.ending else self._connection.engine.outbound.value
        return f"<bowout.Stream {self._connection.engine.role.value} {self.peer or '?'}: {state}>"

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def peer(self) -> str:
        """Who is at the other end, for people: ``host:port``, or the path of a Unix socket."""
        return self._connection.peer

    @property
    def ending(self) -> Ending | None:
        """How the connection ended; None while it has not."""
        return self._connection.ending

    @property
    def draining(self) -> Event:
        """Set when our server drains: poll it with ``is_set()``, or await its ``wait()``. A client's is never set."""
        if self._draining is None:
            self._draining = self._connection.backend.event()
        return self._draining

    @property
    def tls_version(self) -> str | None:
        """``TLSv1.3``, ``TLSv1.2``…; None before the handshake."""
        return self._connection.engine.tls.version()

    @property
    def cipher(self) -> str | None:
        """The name of the cipher suite; None before the handshake."""
        cipher = self._connection.engine.tls.cipher()
        return cipher[0] if cipher else None

    @property
    def alpn(self) -> str | None:
        """The protocol that was agreed on by ALPN (RFC 7301), or None."""
        return self._connection.engine.tls.selected_alpn_protocol()

    @property
    def role(self) -> Role:
        """Our part in TLS: ``Role.CLIENT`` or ``Role.SERVER``."""
        return self._connection.engine.role

    @property
    def session(self) -> ssl.SSLSession | None:
        """A client's TLS session: give it to `connect` or `wrap` as ``session``, and the next handshake resumes it.

            control = await bowout.connect("ftp.example.org", 21, context=context, starttls="ftp")
            ...
            data = bowout.wrap(sock, context, server_hostname="ftp.example.org", session=control.session)

        None where there is none to resume: on a server, before the handshake, where the server gives none. In TLS 1.3
        it arrives after the handshake, as a ticket, and is there when something was received: ask when you need it. A
        server may give several; this is the last, and it is better not used twice (RFC 8446 appendix C.4).

        A session belongs to the context of its stream, and to the name that its server was checked for, since a resumed
        connection checks no certificate again: with another one, ``session`` is a ValueError.
        """
        tls = self._connection.engine.tls
        done = self.role is Role.CLIENT and self._connection.engine.handshake_done
        session = tls.session if done else None  # OpenSSL cannot describe one that is half agreed on.
        if session is None or not (session.has_ticket or session.id):
            return None
        checked = tls.server_hostname if tls.context.check_hostname else None
        _sessions.remember(tls.context, session, checked or "")
        return session

    @property
    def resumed(self) -> bool:
        """Whether the handshake resumed an earlier session; False before it."""
        return bool(self._connection.engine.tls.session_reused)

    # -- what is underneath --------------------------------------------------------------------------------------

    @property
    def ssl_object(self) -> ssl.SSLObject:
        """The standard library's object, for what it tells. Not to read, write or unwrap, nor to be changed."""
        return self._connection.engine.tls

    @property
    def socket(self) -> sockets.socket | None:
        """The socket, for its options. Not to read, write, shut down or close. None when the connection has ended."""
        return self._connection.sock

    @property
    def local_address(self) -> Any:
        """Our end, as ``socket.getsockname`` gives it, a link-local host with its zone; None after the end."""
        return self._connection.local_address

    @property
    def remote_address(self) -> Any:
        """The other end, as ``socket.getpeername`` gives it, likewise. `peer` is for people, and stays."""
        return self._connection.remote_address

    def channel_binding(self, kind: str = "tls-unique") -> bytes | None:
        """What binds an authentication above TLS (SCRAM-…-PLUS, GSS-API) to this connection (RFC 5056).

        Args:
            kind: one of ``ssl.CHANNEL_BINDING_TYPES``; that is ``"tls-unique"`` alone up to CPython 3.14.

        Returns:
            The bytes, which both ends share; None before the handshake, and where this connection has none:
            ``"tls-unique"`` is not defined for TLS 1.3 (RFC 9266 section 3).

        Raises:
            TypeError, ValueError: the ssl module does not know this kind.
        """
        check_choice("kind", kind, ssl.CHANNEL_BINDING_TYPES)
        if kind == "tls-unique" and self.tls_version == "TLSv1.3":
            return None
        return self._connection.engine.tls.get_channel_binding(kind)

    def peer_certificate(self) -> bytes | None:
        """The peer's certificate as DER, or None where it sent none, and before the handshake."""
        engine = self._connection.engine
        return engine.tls.getpeercert(binary_form=True) if engine.handshake_done else None

    def peer_certificate_fields(self) -> dict[str, Any] | None:
        """The peer's certificate as `ssl.SSLSocket.getpeercert` gives it: empty where it was not verified.

        None where it sent none, and before the handshake.
        """
        engine = self._connection.engine
        return engine.tls.getpeercert() if engine.handshake_done else None

    # -- receiving -----------------------------------------------------------------------------------------------

    async def receive(self, max_bytes: int = _CHUNK) -> bytes:
        """Receive up to `max_bytes` bytes, as soon as there are any.

        Returns:
            The bytes; ``b""`` at the peer's close_notify, and only then (or at a FIN that ``truncation="tolerate"``
            lets pass).

        Raises:
            Truncated, Reset, AlertReceived, ProtocolViolation: the peer ended badly; every later call repeats it.
            StreamClosed: we closed, before or while this waited.
            BusyError: another task is receiving.

        Cancelling it loses no byte: the next call, or `close`, carries on.
        """
        if max_bytes.__class__ is not int or max_bytes < 1:
            max_bytes = checked_count("max_bytes", max_bytes, least=1)
        self._begin_receiving()
        try:
            if self._buffer and await self._look_into_buffer():
                return self._take(min(max_bytes, len(self._buffer)))
            connection = self._connection
            if not connection.engine.handshake_done:
                await self.handshake()
            scratch = connection.scratch
            count = await connection.read_into(scratch[:max_bytes])
            return bytes(scratch[:count])
        finally:
            self._receiving = False

    async def receive_into(self, buffer: bytearray | memoryview) -> int:
        """Receive into `buffer`, as many records as are there and fit; otherwise like `receive`.

        Returns:
            How many bytes; 0 where `receive` gives ``b""``.
        """
        view = memoryview(buffer).cast("B")
        if not len(view) or view.readonly:
            raise ValueError(f"the buffer to receive into is {'empty' if not len(view) else 'read-only'}")
        self._begin_receiving()
        try:
            if self._buffer and await self._look_into_buffer():
                count = min(len(view), len(self._buffer))
                view[:count] = self._take(count)
                return count
            if not self._connection.engine.handshake_done:
                await self.handshake()
            return await self._connection.read_into(view)
        finally:
            self._receiving = False

    async def receive_exactly(self, count: int) -> bytes:
        """Receive exactly `count` bytes.

        Raises:
            IncompleteRead: the peer ended cleanly before that; what came is in its ``partial``.
            As `receive`: what came before a bad end stays readable, and is read before the error is met again.

        Cancelling it loses no byte.
        """
        if count.__class__ is not int or count < 0:
            count = checked_count("count", count, least=0)
        self._begin_receiving()
        try:
            if self._buffer or not count:
                await self._look_into_buffer()
            while len(self._buffer) < count:
                came = await self._read_some()
                if len(came) == count and not self._buffer:
                    return bytes(came)
                self._buffer += came
                if not came:
                    partial = self._take(len(self._buffer))
                    raise IncompleteRead(
                        f"the peer ended the stream after {len(partial)} of {count} bytes",
                        partial=partial,
                        expected=count,
                    )
            return self._take(count)
        finally:
            self._receiving = False

    async def receive_until(self, separator: bytes, limit: int = _CHUNK) -> bytes:
        """Receive up to and with the next `separator`.

        Args:
            separator: not empty.
            limit: the most bytes to hold while looking for it, the separator included.

        Raises:
            LimitExceeded: the first `limit` bytes hold no separator; they stay readable.
            IncompleteRead: the peer ended cleanly before the separator; what came is in its ``partial``.
            As `receive`: what came before a bad end stays readable, and is read before the error is met again.

        Cancelling it loses no byte.
        """
        _check_separator(separator, limit)
        self._begin_receiving()
        try:
            await self._look_into_buffer()
            searched = 0
            while (found := self._buffer.find(separator, searched, limit)) < 0:
                if len(self._buffer) >= limit:
                    raise LimitExceeded(f"no {separator!r} within {limit} bytes")
                searched = max(0, len(self._buffer) - len(separator) + 1)
                came = await self._read_some()
                self._buffer += came
                if not came:
                    partial = self._take(len(self._buffer))
                    raise IncompleteRead(
                        f"the peer ended the stream before {separator!r}", partial=partial, expected=None
                    )
            return self._take(found + len(separator))
        finally:
            self._receiving = False

    def lines(self, limit: int = _CHUNK) -> AsyncIterator[bytes]:
        r"""Iterate over lines, each with its ``\n``; a last line without one is given too.

        It stops at the peer's close_notify and when we close, and raises like `receive_until` otherwise.
        """
        return _Lines(self, limit)

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over what is received, in chunks as they come; it stops as `lines` does."""
        return _Chunks(self)

    def _begin_receiving(self) -> None:
        if self._receiving:
            raise BusyError("another task is receiving from this stream: one at a time")
        self._receiving = True

    async def _look_into_buffer(self) -> bool:
        """Whether something is there already. It is readable after the peer's bad end, too, but not after ours."""
        if self._buffer and self._connection.overdue():
            await self._connection.let_others_run()
        if self._connection.leaving:
            self._connection.check_staying()
        return bool(self._buffer)

    async def _read_some(self) -> memoryview:
        """Read into the shared scratch memory: what this gives is to be used before the next await."""
        connection = self._connection
        if not connection.engine.handshake_done:
            await self.handshake()
        scratch = connection.scratch
        return scratch[: await connection.read_into(scratch[:_CHUNK])]

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    # -- sending -------------------------------------------------------------------------------------------------

    async def send(self, data: BytesLike) -> None:
        """Send all of `data`: it returns when the kernel has every byte, so a slow peer slows us down.

        Sends of several tasks go out one after the other, never interleaved.

        Raises:
            StreamClosed: our direction has ended.
            Reset, AlertReceived, ProtocolViolation: the connection has.
            SendInterrupted: an earlier send or message() was cut short.

        Cancelled before its turn, nothing was sent. Cancelled when all of `data` was encrypted, the rest of it leaves
        with whatever is done next. Cancelled halfway, part of `data` has left: then no close_notify can vouch for the
        stream any more, later sends fail, and `close` cuts it off (unless ``on_error="close"``).
        """
        view = memoryview(data).cast("B")
        if not self._connection.engine.handshake_done:
            await self.handshake()
        await self._connection.send(view)

    @contextlib.contextmanager
    def message(self) -> Iterator[None]:
        """Mark what is sent within the block as one message, so that no close_notify vouches for half of it.

            with stream.message():
                await stream.send(head)
                await stream.send(body)

        A send that is cut short has no close_notify after it. Between two sends nobody but the caller knows that more
        belongs to them; there a cancellation, another task's `close` and the drain of a server are told by this.
        Blocks may stand within each other, and each task may have its own. Nothing is held back: each send leaves.
        Whatever is sent meanwhile counts, by any task: enter the block right before the first send.

        Left by an exception after something was sent, the message counts as a send that was cancelled halfway. Until
        the block is left, `send_eof` and `unwrap` raise MisuseError, and `close` sends a FIN alone.
        """
        began = self._connection.begin_message()
        whole = False
        try:
            yield
            whole = True
        finally:
            self._connection.end_message(began, whole=whole)

    async def send_eof(self) -> None:
        """Half-close: send close_notify, and go on receiving (RFC 8446 section 6.1).

        Dependable in TLS 1.3. In TLS 1.2 the peer has to answer at once and may drop what it still had to send
        (RFC 5246 section 7.2.1).

        Raises:
            SendInterrupted: an earlier send or message() was cut short.
            As `send`. A second call does nothing.

        Cancelled, the close_notify stays queued, and leaves with whatever is done next.
        """
        await self.handshake()
        await self._connection.send_eof()

    # -- ending --------------------------------------------------------------------------------------------------

    async def handshake(self) -> None:
        """Shake hands, within ``handshake_timeout``. Every other verb does it first where it was not done.

        Raises:
            HandshakeError: one of its kinds says why; the descriptor is closed then.

        Cancelled, the descriptor is closed.
        """
        await self._connection.handshake(self._handshake_timeout)

    async def close(self, timeout: float | None = None, *, late: Callable[[bytes], object] | None = None) -> Ending:
        """End the connection gracefully, both ways, from any task, at any time, in any state.

        Wait for the send in flight, send close_notify, then FIN, then read and discard until the peer has ended too,
        so that no RST destroys what was sent last. Whoever is receiving gets `StreamClosed`. Bounded by `timeout` and
        by ``linger_bytes``; concurrent calls share one ending, and the earliest deadline counts.

        Args:
            timeout: seconds for all of it; None for the stream's ``close_timeout``, 0 for what can be done at once.
            late: called with the application data that is unread or still comes, in order, instead of discarding it.
                It must not block. What it raises cuts the close short. Of concurrent calls, the first one's counts.

        Returns:
            The ending. It tells of everything that a peer can do wrong; nothing of that is raised.

        Raises:
            TypeError, ValueError: `timeout` is no number of seconds, or `late` no function.
            MisuseError: this is another event loop than the stream's. Where the stream's has ended, the connection is
                ended first, without waiting.

        Cancelling it sends close_notify if that is possible at once, closes the descriptor, draws up the ending, and
        then propagates.
        """
        timeout = self._close_timeout if timeout is None else checked_timeout("timeout", timeout)
        check_callable("late", late)
        return await self._close("close()", timeout, notify=True, late=late)

    aclose = close

    def abort(self) -> Ending:
        """End the connection now, with an RST: the peer sees an error. Nothing is waited for.

        Where another process holds a copy of the descriptor (by ``fork``, or sent to it), the kernel sends the RST only
        when the last copy is closed; a FIN, as every other way to end sends it, ends the connection for all of them.
        """
        self._drop_buffer()
        self._connection.abort()
        return self._ended()

    async def unwrap(self, timeout: float | None = None) -> tuple[sockets.socket, bytes]:
        """End TLS both ways, and keep the TCP connection.

        Args:
            timeout: seconds for all of it; None for the stream's ``close_timeout``.

        Returns:
            The non-blocking socket, which is the caller's from now on, and the bytes that followed the peer's
            close_notify. Application data that was unread is discarded and counted in the ending.

        Raises:
            NoCloseNotify: the peer did not answer in time. The connection is closed then, and after every other error.
            SendInterrupted: a send or message() was cut short; the stream can only be closed.
            StreamClosed, PeerError, HandshakeError.

        Cancelling it closes the connection like a cancelled `close`.
        """
        timeout = self._close_timeout if timeout is None else checked_timeout("timeout", timeout)
        await self.handshake()
        self._connection.check_staying()
        self._connection.check_loop()
        self._connection.check_whole()
        self._drop_buffer()
        return await self._connection.unwrap(self._connection.backend.time() + timeout)

    async def wait_ended(self) -> Ending:
        """Wait until the connection has ended, whoever ends it. It has no deadline of its own and ends nothing."""
        await self._connection.wait_ended()
        return self._ended()

    async def __aenter__(self) -> Self:
        await self.handshake()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or (self._connection.leaving and consists_of(error, (StreamClosed,))):
            await self.close()
        elif consists_of(error, (*self._connection.backend.cancellations, *_INTERRUPTIONS)):
            self._leave("left by a cancellation")
        else:
            self._connection.note_reason(f"left by {type(error).__name__}")
            timeout = min(self._close_timeout, _ERROR_PATIENCE)
            await self._close("left by an error", timeout, notify=self._connection.vouch_anyway)

    async def _close(
        self, verb: str, timeout: float, *, notify: bool, late: Callable[[bytes], object] | None = None
    ) -> Ending:
        connection = self._connection
        if not connection.backend.is_current():
            connection.leave_from_elsewhere(verb)
            return self._ended()
        deadline = connection.backend.time() + timeout
        if connection.ending is not None:
            await connection.backend.checkpoint()
        elif connection.leaving:
            connection.hurry(deadline)
            await connection.wait_ended()
        else:
            held = self._take(len(self._buffer)) if late is not None else b""
            self._drop_buffer()
            await connection.close(verb, deadline, notify=notify, late=late, held=held)
        return self._ended()

    def _leave(self, reason: str) -> Ending:
        """End the connection at once, without an await: close_notify is tried where it is true."""
        self._drop_buffer()
        self._connection.leave_at_once(reason, notify=True)
        return self._ended()

    def _drop_buffer(self) -> None:
        if self._connection.ending is None:  # After a bad end, what came before it stays readable.
            self._connection.engine.count_discarded(len(self._buffer))
            self._buffer.clear()

    def _ended(self) -> Ending:
        ending = self._connection.ending
        if ending is None:  # pragma: no cover  (every way here has released the connection)
            raise RuntimeError("the connection has not ended")
        return ending


def _check_separator(separator: bytes, limit: int) -> None:
    if not isinstance(separator, bytes | bytearray):
        raise TypeError(f"separator must be bytes, not {type(separator).__name__}")
    if not separator:
        raise ValueError("the separator is empty")
    checked_count("limit", limit, least=len(separator))


class _Chunks:
    """An iterator, and no generator: leaving a loop early leaves nothing behind that had to be closed."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._stream.receive()
        except StreamClosed:
            raise StopAsyncIteration from None
        if not chunk:
            raise StopAsyncIteration
        return chunk


class _Lines:
    """The same for lines."""

    __slots__ = ("_limit", "_stream")

    def __init__(self, stream: Stream, limit: int) -> None:
        self._stream = stream
        self._limit = limit

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._stream.receive_until(b"\n", self._limit)
        except IncompleteRead as end:
            if not end.partial:
                raise StopAsyncIteration from None
            return end.partial
        except StreamClosed:
            raise StopAsyncIteration from None


def _caller() -> str:
    """Say where the code is that called this package: the file and the line."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001  (the documented way to the caller)
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "bowout":
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "?"


def consists_of(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Whether `error` is one of these kinds, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(consists_of(inner, kinds) for inner in error.exceptions)
    return isinstance(error, kinds)
