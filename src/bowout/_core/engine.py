"""The engine of one TLS connection: ciphertext, end of input and reset in; ciphertext, plaintext and events out.

It drives an `ssl.SSLObject` over two MemoryBIOs and touches nothing else: no socket, no task, and no clock but the one
it is given. What the caller owes it:

* after every call, send what `output` gives, and report it with `output_taken`;
* call `receive_data` only when a read gave None, for then everything before is decrypted; where the read's buffer is
  at hand, `receive_and_read` does both with a copy less;
* call `receive_eof` or `receive_reset` once, when the transport says so, and go on reading: what was held is delivered
  first, and then the end.

OpenSSL is never told of the end of input. It would answer a truncation with a fatal alert of its own, and could not say
afterwards where the cut was; the record headers can.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from bowout._core import messages
from bowout._core.client_hello import Refusal
from bowout._core.evidence import Evidence
from bowout._core.failures import alert_of_reason, handshake_cut, handshake_failure, words_of
from bowout._core.input import InputQueue, make_room
from bowout._core.output import Cargo, OutputQueue
from bowout._core.records import FULL_RECORD, MAX_PLAINTEXT, looks_like_tls
from bowout._core.states import Signal
from bowout.ending import Ending, EventKind, How, Inbound, Outbound, Role, Side, TruncationPolicy
from bowout.errors import (
    AlertReceived,
    BowoutError,
    HandshakeError,
    HandshakeReset,
    HandshakeTruncated,
    ProtocolViolation,
    ReceiveInterrupted,
    Reset,
    StreamClosed,
    Truncated,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout._core.client_hello import HelloGate
    from bowout._core.timeline import Timeline

#: So much plaintext becomes one chunk of output: two full records, for a MemoryBIO never gives memory back.
WRITE_SIZE: Final = 2 * MAX_PLAINTEXT
#: Bytes after the peer's close_notify that are kept for `leftover`; more are only counted.
_LEFTOVER_CAP: Final = 1 << 18
_SAMPLE_SIZE: Final = 64
#: The level of an alert (RFC 8446 section 6).
_FATAL: Final = 2
#: So little input is given to OpenSSL at once where it is discarded: its MemoryBIO is no larger for it.
_FEW_RECORDS: Final = 1 << 12


class Engine:
    """One connection's TLS, without its transport.

    Args:
        context: already `prepared <bowout._core.messages.prepare>`.
        role: our part in the handshake.
        server_hostname: for SNI and for checking the certificate; clients only.
        session: of an earlier connection with this context, to resume; clients only.
        timeline: where everything is recorded.
        truncation: what a reader meets when the peer's FIN comes at a record boundary without close_notify.
        gate: looks at a client's first message before OpenSSL does; servers only.

    Attributes:
        message_cut: only a part of a message was sent, though no send was cut.
        handed_on: the last exception, raised by a signal handler for example, after which all that is here still fits
            together; any other that came out of a call may have struck anywhere.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        role: Role,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
        timeline: Timeline,
        truncation: TruncationPolicy = "raise",
        gate: HelloGate | None = None,
    ) -> None:
        incoming = ssl.MemoryBIO()
        self._input = InputQueue(incoming)
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            incoming,
            self._outgoing,
            server_side=role is Role.SERVER,
            server_hostname=server_hostname,
            session=session,
        )
        self._timeline = timeline
        self._evidence = Evidence(timeline, role)
        self._halves = self._evidence.halves
        self._inbox = messages.attach(self._tls)
        self.role = role
        self._truncation = truncation
        self._gate = gate
        self._queue = OutputQueue()
        self._held = bytearray()
        self._roomy = False
        self._sample = b""
        self._close_notify_owed = False
        self._record_lost = False
        self._ignored = 0
        self._discarded = 0
        self._unsent = 0
        self._sent_in_part = 0
        self.handshake_done: bool = False
        self.fin_sent: bool = False
        self.message_cut: bool = False
        self.handed_on: BaseException | None = None

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def tls(self) -> ssl.SSLObject:
        """For what the standard library tells of a connection; never to read, write or unwrap."""
        return self._tls

    @property
    def timeline(self) -> Timeline:
        """Where everything is recorded."""
        return self._timeline

    @property
    def outbound(self) -> Outbound:
        """How far the ending of our direction has come."""
        return self._halves.outbound

    @property
    def inbound(self) -> Inbound:
        """How the peer's direction ended, or ``open``."""
        return self._halves.inbound

    @property
    def failure(self) -> BowoutError | None:
        """A fresh copy of the first error that ended the connection, or None."""
        return self._evidence.failure

    @property
    def output_size(self) -> int:
        """How many bytes wait for the kernel; not 0, too, while close_notify waits for a message's rest."""
        return self._queue.size or int(self._close_notify_owed and self._halves.inbound is Inbound.OPEN)

    @property
    def input_ended(self) -> bool:
        """The transport has nothing more for us: FIN or RST was seen."""
        return self._evidence.input_ended is not None

    # -- the transport's side ------------------------------------------------------------------------------------

    def receive_data(self, data: bytes | memoryview) -> None:
        """Take ciphertext. The memory of `data` may be used again as soon as this returns."""
        if not self.handshake_done and len(self._sample) < _SAMPLE_SIZE:
            self._sample += bytes(data[: _SAMPLE_SIZE - len(self._sample)])
        if self._halves.inbound_ended:
            self._take_late(data)
        elif not self.handshake_done and (self._evidence.leaving or self._evidence.failed):
            pass  # There is nobody to read it.
        elif self._gate is not None:
            self._gate.add(data)
        elif self._evidence.leaving and len(data) <= _FEW_RECORDS:
            self._input.lend(data)
            self._input.feed_all()  # They are discarded: tickets and close_notify in one call of OpenSSL.
        else:
            self._input.lend(data)
            self._input.keep()

    def receive_and_read(self, data: bytes | memoryview, buffer: memoryview) -> int | None:
        """`receive_data`, then `read_into`: what fits into `buffer` is copied once less."""
        if not self.handshake_done or self._halves.inbound is not Inbound.OPEN:
            self.receive_data(data)
            return self.read_into(buffer)
        self._input.lend(data)
        try:
            return self.read_into(buffer)
        finally:
            self._input.keep()

    def receive_eof(self) -> None:
        """Take note of the peer's FIN."""
        if self._evidence.connection_lost:
            self.receive_reset()  # After a failed send a FIN is what is left to see of what made it fail.
        elif self._evidence.input_ended is None:
            self._evidence.input_ended = Signal.FIN_AT_BOUNDARY
            self._evidence.blame(Side.PEER)
            self.timeline.record(EventKind.FIN, Side.PEER)

    def receive_reset(self, detail: str = "", *, loss: str = "") -> None:
        """Take note of the peer's RST, or that the network gave up. What was received before is still delivered first.

        Args:
            detail: the system's words for the RST.
            loss: the system's words where it was no RST, but a timeout or a network that is gone.
        """
        self.send_failed(loss=loss)
        if self._evidence.input_ended is None:
            self._evidence.input_ended = Signal.RST
            if not self._evidence.loss:
                self.timeline.record(EventKind.RST, Side.PEER, detail)
                self._evidence.blame(Side.PEER)

    def send_failed(self, *, loss: str = "") -> None:
        """Take note that the kernel takes nothing more from us: the peer has reset the connection, or see `loss`."""
        self._evidence.lose(loss)
        self._drop_output()
        self._evidence.apply(Signal.LOSE)

    def output(self) -> bytes | memoryview | None:
        """The next ciphertext to send, or None; the same bytes until `output_taken` reports them gone."""
        return self._queue.head()

    def output_taken(self, count: int) -> None:
        """Take note that the kernel took `count` bytes of `output`."""
        done = self._queue.taken(count)
        if done is None:
            return
        cargo, plaintext = done
        if cargo is Cargo.DATA:
            self._timeline.data(sent=plaintext)
        elif cargo is Cargo.CLOSE_NOTIFY:
            self._evidence.apply(Signal.CLOSE_NOTIFY_TAKEN)
            self._evidence.sent_close_notify()

    # -- the application's side ----------------------------------------------------------------------------------

    def handshake(self) -> bool:
        """Go on with the handshake; True when it is done, False when the transport must move first.

        Raises:
            HandshakeError: it failed. An alert that says so may be queued: send it before you tell anybody.
        """
        if self.handshake_done:
            return True
        if self._gate is not None and not self._passes(self._gate):
            return False
        self._inbox.every = self._timeline.observed
        while not self._evidence.failed:
            self._input.feed_all()
            error = self._call(self._tls.do_handshake)
            self._raise_what_came(error)
            if error is None:
                self._collect(Cargo.HANDSHAKE)
                self._handshake_succeeded()
                return True
            if isinstance(error, ssl.SSLWantReadError):
                self._collect(Cargo.HANDSHAKE)
                if self._evidence.input_ended is None:
                    return False
                self._handshake_cut()
            elif isinstance(error, ssl.SSLZeroReturnError):
                self._handshake_closed()
            else:
                self._handshake_failed(error)
        raise self._evidence.make_failure()

    def read_into(self, buffer: memoryview) -> int | None:
        """Decrypt into `buffer`, which is not empty, as many records as are there and fit.

        Returns:
            A count of bytes, 0 at the end, None when more input is needed. An end or an error that follows data waits
            for the next call.

        Raises:
            PeerError: the peer's direction ended badly; the same again at every later call.
        """
        if self._record_lost and not self._evidence.leaving:
            raise ReceiveInterrupted("an exception interrupted the decryption of a record, which is lost")
        if self._held:
            return self._read_held(buffer)
        total, size = 0, len(buffer)
        while (self._input.ready or self._input.raw) and total < size and self._more_to_decrypt():
            total += self._decrypt(buffer[total:], more=True) if total else self._decrypt(buffer)
        return total or self._read_end()

    def _read_end(self) -> int | None:
        """Everything was read: tell whether that is the end."""
        if not (self._halves.inbound_ended or self._evidence.failed):
            if self._evidence.input_ended is None:
                return None
            self._input_exhausted()
        if self._evidence.failed:
            raise self._evidence.make_failure()
        return 0

    def write(self, data: memoryview) -> int:
        """Encrypt and queue the first `WRITE_SIZE` bytes of `data`; tell how many that were.

        Returns:
            The count; 0 where OpenSSL has one half of a handshake message (a session ticket, say) and has to have the
            other half before it writes again: receive more, and call `hold`.

        Raises:
            StreamClosed: our direction has ended.
            BowoutError: the connection has failed; the error that ended it.
        """
        if not self._halves.writable:
            raise self.why_not_writable()
        if len(data) > MAX_PLAINTEXT and not self._roomy:
            self._roomy = True
            make_room(self._outgoing, WRITE_SIZE // MAX_PLAINTEXT * FULL_RECORD)
        chunk = data if len(data) <= WRITE_SIZE else data[:WRITE_SIZE]
        try:
            count: int = self._tls.write(chunk)
        except ssl.SSLError as error:
            failure = error
            failure.__traceback__ = None  # Likewise.
        except BaseException as error:
            self.handed_on = error
            if self._outgoing.pending:  # Encrypted all the same: what follows it must follow all of it.
                self._queue.append(self._outgoing.read(), Cargo.DATA, len(chunk))
            raise
        else:
            self._queue.append(self._outgoing.read(), Cargo.DATA, count)
            if self._inbox.messages:
                self._hear()
            return count
        self._raise_what_came(failure)
        if self._halves.inbound is not Inbound.CLOSE_NOTIFY:
            return 0
        # No other half can come. Some versions of OpenSSL (3.6) write no more after user_canceled and close_notify.
        raise StreamClosed("the peer sent close_notify in a way after which OpenSSL writes no more") from failure

    def hold(self) -> None:
        """Decrypt what was received, and keep it for the reader."""
        if not self._more_to_decrypt():
            return
        scratch = memoryview(bytearray(MAX_PLAINTEXT))
        while self._more_to_decrypt():
            self._held += scratch[: self._decrypt(scratch)]

    def why_not_writable(self) -> BowoutError:
        """The error to raise for a send that cannot be."""
        failure = self._evidence.failure
        if failure is not None and self._halves.outbound is not Outbound.OPEN:
            return failure
        match self._halves.outbound:
            case Outbound.LOST:
                return Reset(self._evidence.broken_off("while we were sending"))
            case Outbound.HANDSHAKE:
                return HandshakeError("the handshake is not done")
            case _ if self._evidence.answering:
                return StreamClosed("the peer sent close_notify, which in TLS 1.2 ends both directions")
            case _:
                return StreamClosed("our direction of the stream has ended: close_notify was queued, or it was cut off")

    # -- the ending ----------------------------------------------------------------------------------------------

    def call(self, verb: str, *, leaving: bool) -> None:
        """Take note that somebody here called a verb that ends the connection."""
        self._evidence.call(verb, leaving=leaving)

    def queue_close_notify(self) -> None:
        """Queue our close_notify, if our direction is open; what is decrypted by then stays readable."""
        if self._halves.outbound is Outbound.OPEN:
            self.hold()  # An unwrap before that would fail and lose it (cpython#125981).
        if self._halves.outbound is Outbound.OPEN:
            self._evidence.blame(Side.WE)
            self._evidence.apply(Signal.QUEUE_CLOSE_NOTIFY)
            self._begin_close_notify()

    def discard(self, scratch: memoryview) -> int | None:
        """Read once like `read_into`, for nobody: a failure is recorded and not raised, 0 is any end."""
        if not self.handshake_done:
            return 0
        try:
            count = self.read_into(scratch)
        except BowoutError:
            return 0
        self._discarded += count or 0
        return count

    def count_discarded(self, count: int) -> None:
        """Count application bytes that were read, but not by the application."""
        self._discarded += count

    def count_unsent(self, count: int) -> None:
        """Count application bytes that a send accepted and never came to encrypt."""
        self._unsent += count

    def sent_fin(self) -> None:
        """Take note that our FIN was sent."""
        self.fin_sent = True
        self._evidence.blame(Side.WE)
        self._evidence.apply(Signal.SEND_FIN)
        self.timeline.record(EventKind.FIN, Side.WE)

    def sent_rst(self) -> None:
        """Take note that we reset the connection."""
        self._evidence.blame(Side.WE)
        self._evidence.apply(Signal.SEND_RST)
        self.timeline.record(EventKind.RST, Side.WE)

    def leftover(self) -> bytes:
        """What followed the peer's close_notify on the transport: for whoever goes on in plain text there."""
        return self._input.rest()

    def give_up(self, failure: Callable[[], BowoutError]) -> None:
        """Fail for a reason of the caller's, such as a deadline; an earlier failure stays the first."""
        self._evidence.fail(failure)

    def verdict(self) -> How:
        """What this ending would be called if it ended now."""
        return self._evidence.verdict(unsent=self.message_cut or self._all_unsent() > 0)

    def _all_unsent(self) -> int:
        return self._unsent + self._queue.plaintext()[1]

    def finish(
        self,
        *,
        peer: str = "",
        began: float = 0.0,
        reason: str = "",
        deadline_hit: bool = False,
        cap_hit: bool = False,
        unacknowledged: int | None = None,
        unwrapped: bool = False,
    ) -> Ending:
        """Draw up the `Ending`. The engine keeps its state, so that this can be asked for before the end, too."""
        late = 0
        if not unwrapped and self._halves.inbound is Inbound.CLOSE_NOTIFY:
            late = self._input.size
        return self._evidence.draw_up(
            sent_in_part=self._sent_in_part + self._queue.plaintext()[0],
            unsent=self._all_unsent(),
            message_cut=self.message_cut,
            unacknowledged=unacknowledged,
            discarded=self._discarded + len(self._held),
            ignored=self._ignored + late,
            peer=peer,
            began=began,
            reason=reason,
            deadline_hit=deadline_hit,
            cap_hit=cap_hit,
            unwrapped=unwrapped,
        )

    # -- the inside ----------------------------------------------------------------------------------------------

    def _more_to_decrypt(self) -> bool:
        """Give OpenSSL a record, if it needs one and there is one; tell whether it may have something to decrypt."""
        if self._halves.inbound_ended or self._evidence.failed:
            return False
        return self._input.ready or self._input.feed()

    def _take_late(self, data: bytes | memoryview) -> None:
        """Keep what follows the peer's close_notify, within bounds: `unwrap` may want it."""
        if self._halves.inbound is Inbound.CLOSE_NOTIFY and not self._evidence.leaving:
            room = max(0, _LEFTOVER_CAP - self._input.size)
            self._input.append(data[:room])
            self._ignored += max(0, len(data) - room)
        elif self._halves.inbound is Inbound.CLOSE_NOTIFY:
            self._ignored += len(data)

    def _collect(self, cargo: Cargo) -> None:
        """Queue what OpenSSL has for the wire. After our close_notify nothing may follow it, so it is dropped."""
        if self._outgoing.pending:
            data = self._outgoing.read()
            if not self._evidence.output_shut:
                self._queue.append(data, cargo)

    def _decrypt(self, buffer: memoryview, *, more: bool = False) -> int:
        """Read one record: a count of bytes; 0 where it held no data, or where the peer's direction just ended.

        Args:
            buffer: is not empty.
            more: another record was read just now.
        """
        error: ssl.SSLError | None = None
        try:
            count: int = self._tls.read(len(buffer), buffer)  # type: ignore[assignment]  # It is a count, with a buffer.
        except ssl.SSLError as met:
            error, count = met, 0
            error.__traceback__ = None  # Its frame is this one, which holds the error: a cycle for the collector.
        except BaseException as struck:
            self._record_lost = True
            self.handed_on = struck
            raise
        if self._inbox.messages:
            self._hear()
        if error is not None:
            return self._nothing_read(error)
        if self._outgoing.pending or self._close_notify_owed:
            self._after_read()
        if count:
            # A record that fits is read whole.
            self._input.has_read(rest=count == len(buffer) and self._tls.pending() > 0)
            if more:
                self._timeline.more_data(count)
            else:
                self._timeline.data(received=count)
        else:
            self._peer_closed()
        return count

    def _nothing_read(self, error: ssl.SSLError) -> int:
        """Draw the conclusion of a read that gave nothing; the result is that of `_decrypt`."""
        if isinstance(error, ssl.SSLWantReadError):
            self._input.ready = False
            self._after_read()
        # OpenSSL 3.5 calls a close_notify that follows user_canceled an unexpected end of input, of which it was never
        # told.
        elif isinstance(error, ssl.SSLZeroReturnError) or (
            isinstance(error, ssl.SSLEOFError) and self._evidence.close_notify_seen
        ):
            self._after_read()
            self._peer_closed()
        else:
            self._broken(error)
        self._raise_what_came(error)
        return 0

    def _read_held(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._held))
        buffer[:count] = self._held[:count]
        del self._held[:count]
        return count

    def _begin_close_notify(self) -> None:
        self.timeline.record(EventKind.CLOSE_NOTIFY_QUEUED, Side.WE)
        self._make_close_notify()

    def _make_close_notify(self) -> None:
        error = self._call(self._tls.unwrap)
        # SSLWantReadError is the usual answer: ours is in the BIO, the peer's is still to come. Any other is
        # SHUTDOWN_WHILE_IN_INIT: OpenSSL has one half of a handshake message. After the other half it will do it.
        self._close_notify_owed = not (error is None or isinstance(error, ssl.SSLWantReadError))
        if not self._close_notify_owed:
            self._collect(Cargo.CLOSE_NOTIFY)
            self._evidence.output_shut = True
        self._raise_what_came(error)

    def _call(self, call: Callable[[], object]) -> ssl.SSLError | None:
        """Have OpenSSL do something, and hear what it reports meanwhile; return its error, if any.

        What a signal handler or a callback raised meanwhile is kept for `_raise_what_came`: what OpenSSL did is done.
        """
        error: ssl.SSLError | None = None
        try:
            call()
        except ssl.SSLError as met:
            error = met
            error.__traceback__ = None  # Likewise.
        except BaseException as met:  # noqa: BLE001  (see above)
            self._inbox.raised = met
        if self._inbox.messages:
            self._hear()
        return error

    def _hear(self) -> None:
        while self._inbox.messages:
            outgoing, content_type, data = self._inbox.messages.pop(0)
            self._evidence.on_message(outgoing=outgoing, content_type=content_type, data=data)

    def _raise_what_came(self, error: ssl.SSLError | None) -> None:
        """Raise what a signal handler or a callback raised while OpenSSL ran, when all else is done about `error`."""
        raised, self._inbox.raised = self._inbox.raised, None
        if raised is None and error is not None:
            raised = messages.raised_within(error)
        if raised is not None:
            self.handed_on = raised
            raise raised

    def _after_read(self) -> None:
        """Queue what reading made OpenSSL answer, and the close_notify that it could not make before."""
        if self._outgoing.pending:
            self._collect(Cargo.HANDSHAKE)
        if self._close_notify_owed:
            self._make_close_notify()

    def _drop_output(self) -> None:
        taken, unsent = self._queue.plaintext()
        self._sent_in_part += taken
        self._unsent += unsent
        self._queue.clear()
        self._close_notify_owed = False

    def _peer_closed(self) -> None:
        self._evidence.received_close_notify()
        was = self._halves.outbound
        self._evidence.apply(Signal.CLOSE_NOTIFY)
        if self._halves.outbound is not was:
            self._begin_close_notify()

    def _input_exhausted(self) -> None:
        """The transport has ended, and so has what it had brought: draw the conclusion."""
        if self._evidence.input_ended is Signal.RST:
            self._evidence.apply(Signal.RST)
            text = self._evidence.broken_off("before close_notify came")
            self._evidence.fail(lambda: Reset(text))
            return
        inside = self._input.inside_record
        self._evidence.cut(Signal.FIN_INSIDE_RECORD if inside else Signal.FIN_AT_BOUNDARY)
        if inside:
            self._evidence.fail(
                lambda: Truncated("the peer's FIN came inside a TLS record: bytes are missing", inside_record=True)
            )
        elif self._truncation == "raise":
            self._evidence.fail(
                lambda: Truncated(
                    "the peer's FIN came without close_notify: what was received may not be all", inside_record=False
                )
            )

    def _broken(self, error: ssl.SSLError) -> None:
        """OpenSSL gave the connection up: a fatal alert came, or what came made us send one."""
        alert = self._evidence.alert or alert_of_reason(error.reason)
        if alert is not None and alert.by is Side.PEER:
            self._evidence.alert = alert
            self._evidence.blame(Side.PEER)
            self._evidence.apply(Signal.FATAL_ALERT)
            self._drop_output()  # Nothing may follow (RFC 8446 section 6.2).
            refused = f" ({self._evidence.refused})" if self._evidence.refused else ""
            text = f"the peer ended the connection with a fatal alert: {alert.name}{refused}"
            self._evidence.fail(lambda: AlertReceived(text, alert=alert))
        else:
            self._collect(Cargo.FATAL_ALERT)
            self._evidence.blame(Side.WE)
            self._evidence.apply(Signal.BAD_RECORD)
            said = f" (we answered with {alert.name})" if alert else ""
            text = f"the peer broke the TLS protocol: {words_of(error)}{said}"
            self._evidence.fail(lambda: ProtocolViolation(text, alert=alert))

    def _passes(self, gate: HelloGate) -> bool:
        """Let OpenSSL have the client's first message, or refuse that; False while more of it must come."""
        verdict = gate.judge()
        if verdict is False and self._evidence.input_ended is None:
            return False
        self._gate = None
        if isinstance(verdict, Refusal):
            self._refuse(verdict)
        else:
            self._input.append(gate.release())
        return True

    def _refuse(self, refusal: Refusal) -> None:
        """Refuse the handshake as OpenSSL would, before it has seen any of it: its first answer is in plain text."""
        alert = bytes((_FATAL, refusal.alert))
        self._queue.append(bytes((messages.ALERT, 3, 3, 0, len(alert))) + alert, Cargo.FATAL_ALERT)
        self._evidence.on_message(outgoing=True, content_type=messages.ALERT, data=alert)
        self._evidence.apply(Signal.SEND_FATAL_ALERT)
        self._evidence.fail(lambda: HandshakeError(f"the handshake was refused: {refusal.reason}"))

    def _handshake_succeeded(self) -> None:
        self.handshake_done = True
        # The peer's first records may have come with its last handshake message.
        self._input.has_read(rest=self._tls.pending() > 0)
        cipher = self._tls.cipher()
        self._evidence.shook_hands(self._tls.version() or "TLS", cipher[0] if cipher else "")
        self._evidence.apply(Signal.HANDSHAKE_DONE)

    def _handshake_closed(self) -> None:
        self._peer_closed()
        self._evidence.fail(lambda: HandshakeTruncated("the peer sent close_notify during the handshake"))

    def _handshake_cut(self) -> None:
        if self._evidence.input_ended is Signal.RST:
            self._evidence.apply(Signal.RST)
            text = self._evidence.broken_off("during the handshake")
            self._evidence.fail(lambda: HandshakeReset(text))
        else:
            inside = self._input.inside_record
            self._evidence.apply(Signal.FIN_INSIDE_RECORD if inside else Signal.FIN_AT_BOUNDARY)
            sample = self._sample
            self._evidence.fail(lambda: handshake_cut(sample))

    def _handshake_failed(self, error: ssl.SSLError) -> None:
        alert = self._evidence.alert or alert_of_reason(error.reason)
        if alert is not None and alert.by is Side.PEER:
            self._evidence.alert = alert
            self._evidence.apply(Signal.FATAL_ALERT)
        else:
            answered = self._outgoing.pending > 0
            self._collect(Cargo.FATAL_ALERT)
            # What the peer sent can be read, and is refused; or it is no TLS at all, and OpenSSL says nothing to it.
            signal = Signal.SEND_FATAL_ALERT if looks_like_tls(self._sample) else Signal.BAD_RECORD
            self._evidence.apply(signal, answered=answered)
        sample = self._sample
        self._evidence.fail(lambda: handshake_failure(error, alert, sample))
