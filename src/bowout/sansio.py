"""TLS connections without a transport, for your own driver: a selector loop, threads, another event loop.

A `SansIOConnection` decides everything about TLS and about the ending. The driver moves bytes and tells the time.
``examples/blocking_client.py`` is a whole driver, over a blocking socket.

At every moment a driver does this, and nothing else:

1. Read at most `room` bytes, and give them to `receive_data`; the end of input to `receive_eof`; a reset, in reading or
   in writing, to `receive_reset`.
2. Pass what `data_to_send` returns to the transport, and report with `data_sent` how many bytes it took.

To end the connection, call `begin_close`, and repeat until `Step.RELEASE`:

1. Ask `next_step`. At `Step.FIN`, end our direction of the transport, and call `fin_sent`.
2. At any other step wait until bytes can be moved, for `timeout` seconds at most, and move all that can be moved.

Then close the transport, and call `released` for the `bowout.Ending`.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from typing import TYPE_CHECKING, Final

from bowout._arguments import (
    check_callable,
    check_choice,
    check_flag,
    checked_bytes,
    checked_count,
    checked_server_hostname,
    checked_timeout,
)
from bowout._core import hook
from bowout._core.engine import Engine
from bowout._core.timeline import Timeline
from bowout._core.winddown import OUTPUT_CAP, Goal, Step, WindDown
from bowout.ending import EventKind, How, Outbound, Role, Side
from bowout.errors import BowoutError, MisuseError, StreamClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bowout.ending import Ending, Event, TruncationPolicy

__all__ = ["SansIOConnection", "Step"]

#: Default limit of the bytes that a close reads and discards.
_LINGER_BYTES: Final = 16 << 20
#: Maximum bytes of plaintext that one `read` returns, and of ciphertext that one `room` asks for.
_READ_SIZE: Final = 1 << 16
#: Limit of received, unread bytes: above it `room` is 0, since the application reads more slowly than the peer writes.
_INPUT_CAP: Final = 1 << 20


def _unknown() -> int | None:
    return None


class SansIOConnection:
    """One TLS connection without I/O: bytes, the end of input and the time in; bytes, events and the ending out.

    Args:
        context: an `ssl.SSLContext`; it is prepared for endings, as `bowout.connect` does.
        role: our part in the handshake.
        server_hostname: the name for SNI and for checking the certificate; clients only.
        session: the session of an earlier connection with this context, to resume; clients only.
        truncation: ``"raise"``: `read` raises at an end without close_notify; ``"tolerate"``: it is the end of the
            stream.
        notify_on_error: whether to send close_notify even after an interrupted write.
        linger_bytes: maximum number of bytes that a close reads and discards.
        peer: the peer's name, for the ending.
        clock: returns the time in seconds, and never goes back.
        unacknowledged: returns how many sent bytes the peer has not acknowledged; None if unknown.
        on_event: called with every `bowout.Event`.

    Raises:
        TypeError, ValueError: an argument is wrong; nothing was begun.

    Nothing here blocks, waits or starts a thread. All calls must come from one thread at a time.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        role: Role = Role.CLIENT,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
        truncation: TruncationPolicy = "raise",
        notify_on_error: bool = False,
        linger_bytes: int = _LINGER_BYTES,
        peer: str = "",
        clock: Callable[[], float] = time.monotonic,
        unacknowledged: Callable[[], int | None] = _unknown,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        if not isinstance(context, ssl.SSLContext):
            raise TypeError(f"context must be an ssl.SSLContext, not {type(context).__name__}")
        check_choice("role", role, tuple(Role))
        check_choice("truncation", truncation, ("raise", "tolerate"))
        check_flag("notify_on_error", notify_on_error)
        checked_count("linger_bytes", linger_bytes, least=0)
        for name, call in (("clock", clock), ("unacknowledged", unacknowledged)):
            if not callable(call):
                raise TypeError(f"{name} must be a function, not {type(call).__name__}")
        check_callable("on_event", on_event)
        role = Role(role)
        if server_hostname is not None:
            server_hostname = checked_server_hostname(server_hostname)
        hook.prepare(context)
        self._clock = clock
        self._peer = peer
        self._began = time.time()
        self._timeline = Timeline(clock, on_event)
        self._timeline.record(EventKind.CONNECTED, Side.WE if role is Role.CLIENT else Side.PEER, peer)
        self._engine = Engine(
            context,
            role=role,
            server_hostname=server_hostname,
            session=session,
            timeline=self._timeline,
            truncation=truncation,
            notify_on_error=notify_on_error,
        )
        self._scratch = memoryview(bytearray(_READ_SIZE))
        self._winddown = WindDown(
            self._engine, linger_bytes=linger_bytes, scratch=self._scratch, unacknowledged=unacknowledged
        )
        self._waits = False
        self._ending: Ending | None = None

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def ssl_object(self) -> ssl.SSLObject:
        """The standard library's object, for certificate, cipher, ALPN and the like. Never read, write or unwrap it."""
        return self._engine.tls

    @property
    def verdict(self) -> How:
        """The verdict that the ending would have if the transport were closed now."""
        return self._engine.verdict()

    @property
    def ending(self) -> Ending | None:
        """How the connection ended; None before `released` or `unwrapped`."""
        return self._ending

    # -- the transport -------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """Number of bytes to read next; 0: none for the moment. Ask again after you have moved bytes, or read."""
        if self._winddown.leaving:
            return self._winddown.room()
        full = self._engine.incoming.size > _INPUT_CAP or self._engine.outgoing.size > OUTPUT_CAP
        return 0 if full or self._engine.input_ended else _READ_SIZE

    def receive_data(self, data: bytes | memoryview) -> None:
        """Process received bytes, `data`; its memory may be reused when this returns.

        After this call you must continue the call that needed input: `handshake`, `read`, or `next_step`.
        """
        self._engine.receive_data(data)
        self._count_received(len(data))

    def receive_eof(self) -> None:
        """Record the peer's FIN. What was received before it can still be read.

        After this call you must continue as after `receive_data`: that call shows what the FIN means.
        """
        self._engine.receive_eof()
        self._count_received(0)

    def receive_reset(self, detail: str = "", *, loss: str = "") -> None:
        """Record that the connection is lost: the transport reported it, in a read or a write.

        Args:
            detail: the system's error text for the reset.
            loss: the system's error text if it was not a reset, but a timeout or a lost network.

        After this call you must continue as after `receive_data`: what was received before can still be read.
        """
        self._engine.receive_reset(detail, loss=loss)
        self._count_received(0)

    def _count_received(self, count: int) -> None:
        if self._winddown.leaving:
            self._winddown.received(count)
            self._winddown.discard()

    def data_to_send(self) -> bytes | memoryview | None:
        """Return the next bytes for the transport, or None. They stay the same until `data_sent` reports them sent.

        After this call you must pass them to the transport, as many as it takes, and call `data_sent`.
        """
        head = self._engine.outgoing.head()
        if head is None and self._engine.outgoing.unencrypted:
            if not self._winddown.leaving:
                self._engine.incoming.hold()  # OpenSSL may have to read the rest of a handshake message first.
            if self._winddown.write_more() if self._winddown.leaving else self._engine.outgoing.write_more():
                head = self._engine.outgoing.head()
        return head

    def data_sent(self, count: int) -> None:
        """Record that the transport took `count` of the bytes that `data_to_send` returned.

        Raises:
            TypeError, ValueError: `count` is not a number from 0 to theirs.
        """
        queued = len(self._engine.outgoing.head() or b"")
        if checked_count("count", count, least=0) > queued:
            raise ValueError(f"count={count}: data_to_send() has returned {queued} bytes")
        if count:
            self._engine.outgoing.taken(count)

    def tear(self, error: BaseException) -> None:
        """Record that `error`, from a signal handler for example, interrupted a call here, or came between two calls.

        Bytes may then be lost, or would be sent twice. If so, nothing more is sent.

        After this call you must end the connection with `leave`.
        """
        self._engine.tear(error)

    # -- the application -----------------------------------------------------------------------------------------

    def handshake(self) -> bool:
        """Continue the handshake.

        Returns:
            True when it is done; False: something must be received first.

        After this call you must send what `data_to_send` returns, also after an error: it may have queued an alert, and
        `begin_close` makes sure that it is sent.

        Raises:
            HandshakeError: it failed; the subclass says why.
        """
        try:
            return self._engine.handshake()
        except BowoutError as error:
            raise self._with_ending(error)  # noqa: B904  (it is the same error)

    def read(self, size: int = _READ_SIZE) -> bytes | None:
        """Return up to `size` bytes of the peer's application data.

        Returns:
            The bytes; b"" at the peer's close_notify; None: something must be received first.

        After this call you must send what `data_to_send` returns: reading may have queued an answer.

        Raises:
            Truncated, Reset, AlertReceived, ProtocolViolation: the peer's direction ended without close_notify.
            ReceiveInterrupted: an exception interrupted the decryption of a record, which is lost.
            StreamClosed: `begin_close` or `leave` was called.
            ValueError: `size` is not positive.
        """
        checked_count("size", size, least=1)
        self._check_staying()
        buffer = self._scratch[:size]
        try:
            count = self._engine.incoming.read_into(buffer)
        except BowoutError as error:
            raise self._with_ending(error)  # noqa: B904  (it is the same error)
        return None if count is None else bytes(buffer[:count])

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue `data`, which must not change until all of it was sent: it is encrypted piece by piece.

        After this call you must send until `data_to_send` returns None.

        Raises:
            TypeError: `data` is not bytes-like.
            MisuseError: not all of an earlier write was sent.
            StreamClosed, PeerClosed: we have ended our direction, or the peer has.
            BowoutError: the connection has ended; this is the error that ended it.
        """
        self._check_staying()
        if self._engine.outgoing.unencrypted:
            raise MisuseError("not all of an earlier write was sent: send until data_to_send() gives None")
        view = checked_bytes("data", data)
        try:
            if view and not self._engine.outgoing.write(view):
                self._engine.outgoing.unencrypted = view
        except BowoutError as error:
            raise self._with_ending(error)  # noqa: B904  (it is the same error)

    def write_eof(self) -> None:
        """Queue our close_notify; reading goes on (RFC 8446 section 6.1). A second call does nothing.

        After this call you must send what `data_to_send` returns.

        Raises:
            MisuseError: not all of an earlier write was sent, or a `message` is in progress.
            StreamClosed: `begin_close` or `leave` was called.
        """
        self._check_staying()
        if self._engine.outgoing.unencrypted or self._engine.outgoing.amid_message:
            raise MisuseError("not all was sent: close_notify would mark it as complete")
        if self._engine.outbound is Outbound.OPEN:
            self._engine.record_call("write_eof()", leaving=False)
            self._engine.queue_close_notify()

    @contextlib.contextmanager
    def message(self) -> Iterator[None]:
        """Mark what is written in the block as one message: if only a part of it was written, no close_notify follows.

        See `bowout.Stream.message`.
        """
        began = self._engine.outgoing.begin_message()
        whole = False
        try:
            yield
            whole = True
        finally:
            self._engine.outgoing.end_message(began, whole=whole)

    def _check_staying(self) -> None:
        if self._winddown.leaving:
            raise StreamClosed("we closed this connection")

    def _with_ending(self, error: BowoutError) -> BowoutError:
        error.ending = self._ending or self._build_ending()
        return error

    # -- the ending ----------------------------------------------------------------------------------------------

    def begin_close(self, *, timeout: float = 5.0, late: Callable[[bytes], object] | None = None) -> None:
        """End both directions: send what was written, then our close_notify, and wait for the peer's.

        Args:
            timeout: seconds after which the close is over, whatever the peer does. A second call can only shorten it.
            late: called with the application data that still arrives; without it, the data are discarded and counted.

        After this call you must do what `next_step` says, until it says `Step.RELEASE`.
        """
        deadline = self._clock() + checked_timeout("timeout", timeout)
        check_callable("late", late)
        if self._winddown.leaving:
            self._winddown.shorten_deadline(deadline)
            return
        self._winddown.leave("close()")
        self._winddown.late = late
        self._winddown.begin_close(self._clock(), deadline)

    def begin_unwrap(self, *, timeout: float = 5.0) -> None:
        """End TLS in both directions, within `timeout` seconds, and keep the transport open.

        After this call you must do what `next_step` says, until it says `Step.RELEASE`. Then call `unwrapped` if the
        verdict is `How.CLEAN`; close the transport and call `released` if it is not.
        """
        deadline = self._clock() + checked_timeout("timeout", timeout)
        if not self._winddown.leaving:
            self._winddown.leave("unwrap()")
            self._winddown.begin(Goal.UNWRAP, deadline=deadline)

    def leave(self, *, notify: bool = True) -> None:
        """End without waiting for the peer; send close_notify if it is true and `notify` allows it.

        After this call you must do what `next_step` says, until it says `Step.RELEASE`. No step waits.
        """
        if not self._winddown.leaving:
            self._winddown.leave("leave()")
        self._winddown.notify(allowed=notify)
        self._winddown.begin(Goal.LEAVE)

    def abort(self) -> None:
        """End with a reset.

        After this call you must reset the transport, and call `released`.
        """
        if not self._winddown.leaving:
            self._winddown.leave("abort()")
        self._engine.sent_rst()

    def next_step(self) -> Step:
        """Return the next step of the close that was begun.

        After this call you must do what the step says:

        * `Step.FIN`: end our direction of the transport, and call `fin_sent`.
        * `Step.RELEASE`: close the transport, and call `released`.
        * Any other: wait until bytes can be moved, for `timeout` seconds at most, and move all that can be moved.
        """
        step = self._winddown.next_step(self._clock())
        self._waits = step in {Step.FLUSH, Step.LINGER}
        return step

    @property
    def timeout(self) -> float:
        """Maximum duration of this step's wait, in seconds; 0 if the step does not wait."""
        return max(0.0, self._winddown.until - self._clock()) if self._waits else 0.0

    def fin_sent(self) -> None:
        """Record that our direction of the transport was ended by a FIN.

        After this call you must ask `next_step` again.
        """
        self._engine.sent_fin()

    def unwrapped(self) -> bytes:
        """Record that TLS has ended and the transport stays open; return the bytes after the peer's close_notify.

        Raises:
            MisuseError: TLS has not ended cleanly, or `begin_unwrap` was not called.
        """
        if self._winddown.goal is not Goal.UNWRAP or self._engine.verdict() is not How.CLEAN:
            raise MisuseError("TLS has not ended cleanly: call begin_unwrap() first, and carry out its steps")
        leftover = self._engine.incoming.leftover()
        self._end(unwrapped=True)
        return leftover

    def released(self) -> Ending:
        """Record that the transport was closed; return the ending. A second call returns it again."""
        if self._ending is None:
            self._end()
        assert self._ending is not None
        return self._ending

    def _end(self, *, unwrapped: bool = False) -> None:
        self._winddown.release()
        try:
            self._winddown.released(unwrapped=unwrapped)
        finally:  # An observer may raise.
            self._ending = self._build_ending(unwrapped=unwrapped)

    def _build_ending(self, *, unwrapped: bool = False) -> Ending:
        return self._winddown.build_ending(peer=self._peer, began=self._began, reason="", unwrapped=unwrapped)
