"""The peer's direction of a connection: ciphertext in, plaintext out, up to its close_notify or another end."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from bowout._core.buffers import ChunkKind, InputQueue
from bowout._core.openssl_errors import alert_of_reason, words_of
from bowout._core.records import MAX_PLAINTEXT
from bowout._core.states import Signal
from bowout._tls_numbers import FATAL
from bowout.ending import Inbound, Side
from bowout.errors import AlertReceived, BowoutError, ProtocolViolation, ReceiveInterrupted, Reset, Truncated

if TYPE_CHECKING:
    from bowout._core.facts import Facts
    from bowout._core.openssl import OpenSSL
    from bowout._core.outgoing import Outgoing
    from bowout.ending import TruncationPolicy

#: Maximum bytes after the peer's close_notify that are kept for `leftover`; more are only counted.
_LEFTOVER_CAP: Final = 1 << 18
#: Maximum bytes of input that OpenSSL is given at once while it is discarded: its MemoryBIO does not grow for them.
_FEW_RECORDS: Final = 1 << 12


class Incoming:
    """What was received, and how much of it was read.

    Args:
        openssl: decrypts the records.
        facts: records every event.
        outgoing: gets what OpenSSL answers while it reads.
        truncation: the result of a read when the peer's FIN comes at a record boundary without close_notify.

    Attributes:
        queue: ciphertext that OpenSSL has not been given.
        held: plaintext that is kept for the reader.
        discarded: bytes of plaintext that were read, but not by the application.
    """

    __slots__ = (
        "_facts",
        "_ignored",
        "_openssl",
        "_outgoing",
        "_record_lost",
        "_truncation",
        "discarded",
        "held",
        "queue",
    )

    def __init__(self, openssl: OpenSSL, facts: Facts, outgoing: Outgoing, *, truncation: TruncationPolicy) -> None:
        self._openssl = openssl
        self._facts = facts
        self._outgoing = outgoing
        self._truncation = truncation
        self._record_lost = False
        self._ignored = 0
        self.queue: InputQueue = InputQueue(openssl.incoming)
        self.held: bytearray = bytearray()
        self.discarded: int = 0

    # -- ciphertext ----------------------------------------------------------------------------------------------

    def receive(self, data: bytes | memoryview) -> None:
        """Process ciphertext, `data`, during or after the handshake."""
        if self._facts.halves.inbound_ended:
            self._take_late(data)
        elif self._facts.leaving and len(data) <= _FEW_RECORDS:
            self.queue.borrow(data)
            self.queue.feed_all()  # They are discarded: tickets and close_notify in one call of OpenSSL.
        else:
            self.queue.borrow(data)
            self.queue.copy_rest()

    def _take_late(self, data: bytes | memoryview) -> None:
        """Keep what follows the peer's close_notify, up to a limit: `leftover` may need it."""
        if self._facts.halves.inbound is not Inbound.CLOSE_NOTIFY:
            return
        if self._facts.leaving:
            self._ignored += len(data)
            return
        room = max(0, _LEFTOVER_CAP - self.queue.size)
        self.queue.append(data[:room])
        self._ignored += max(0, len(data) - room)

    def leftover(self) -> bytes:
        """Return what followed the peer's close_notify, for the code that continues in plain text there."""
        return self.queue.rest()

    @property
    def size(self) -> int:
        """The number of bytes that were received and not read."""
        return self.queue.size + len(self.held)

    def ignored(self, *, unwrapped: bool) -> int:
        """Count the unused bytes after the peer's close_notify; `unwrapped`: the kept ones are used."""
        late = self._facts.halves.inbound is Inbound.CLOSE_NOTIFY and not unwrapped
        return self._ignored + (self.queue.size if late else 0)

    # -- the lane ------------------------------------------------------------------------------------------------

    @property
    def is_usual(self) -> bool:
        """Whether everything that was received was read, but for a record that has begun: the lane may be entered."""
        facts = self._facts
        return (
            facts.halves.inbound is Inbound.OPEN
            and facts.input_ended is None
            and self.queue.can_hand_over
            and not (self.held or facts.failed or self._record_lost)
        )

    def resume(self, raw: bytes, held: bytes, *, rest: bool, ended: bool) -> None:
        """Go on where the lane was left.

        Args:
            raw: ciphertext that was received and not decrypted; it begins with a record.
            held: plaintext that was not read.
            rest: whether OpenSSL has decrypted more.
            ended: whether OpenSSL met the end of the connection, which its next read, here and now, meets again.
        """
        self.held += held
        if ended:
            self.queue.ready = True
            self._decrypt(memoryview(bytearray(1)))
        else:
            if self._openssl.inbox.messages:
                self._openssl.hear()
            self._after_read()
            self.queue.ready = rest
        if raw:
            self.receive(raw)

    # -- plaintext -----------------------------------------------------------------------------------------------

    def read_into(self, buffer: memoryview) -> int | None:
        """Decrypt into `buffer`, which is not empty, as many available records as fit.

        Returns:
            The number of bytes, 0 at the end, None when more input is needed. An end or an error that follows data
            waits for the next call.

        Raises:
            PeerError: the peer's direction ended without close_notify; every later call raises the same again.
            ReceiveInterrupted: an exception interrupted the decryption of a record, which is lost.
        """
        if self._record_lost and not self._facts.leaving:
            raise ReceiveInterrupted("an exception interrupted the decryption of a record, which is lost")
        if self.held:
            return self._read_held(buffer)
        return self.read_available(buffer) or self.read_end()

    def read_available(self, buffer: memoryview) -> int:
        """Decrypt into `buffer` as many available records as fit; return the number of bytes, whatever follows."""
        total, size, queue = 0, len(buffer), self.queue
        while (queue.ready or queue.raw) and total < size and self._more_to_decrypt():
            total += self._decrypt(buffer[total:], more=True) if total else self._decrypt(buffer)
        return total

    @property
    def is_waiting(self) -> bool:
        """Whether a read would find nothing, and no end either, before more is received: a cheap look."""
        queue, facts = self.queue, self._facts
        return not (queue.ready or queue.raw or self.held or facts.input_ended or facts.failed) and not (
            facts.halves.inbound_ended
        )

    @property
    def has_news(self) -> bool:
        """Whether a read would find data, or an end that was not found before: a cheap look."""
        facts, queue = self._facts, self.queue
        if self.held:
            return True
        if facts.halves.inbound_ended or facts.failed:
            return False
        return queue.ready or bool(queue.raw) or facts.input_ended is not None

    def _read_held(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self.held))
        buffer[:count] = self.held[:count]
        del self.held[:count]
        return count

    def read_end(self) -> int | None:
        """Tell, after everything was decrypted, whether that is the end: 0 if it is, otherwise None; or raise.

        Raises:
            PeerError: the peer's direction ended without close_notify.
        """
        facts = self._facts
        if not (facts.halves.inbound_ended or facts.failed):
            if facts.input_ended is None:
                return None
            self.input_exhausted()
        if facts.failed:
            raise facts.make_failure()
        return 0

    def hold(self) -> None:
        """Decrypt what was received, and keep it for the reader."""
        if not self._more_to_decrypt():
            return
        scratch = memoryview(bytearray(MAX_PLAINTEXT))
        while self._more_to_decrypt():
            self.held += scratch[: self._decrypt(scratch)]

    def discard(self, scratch: memoryview) -> int | None:
        """Read once like `read_into`, and discard it: a failure is recorded and not raised, 0 is any end."""
        try:
            count = self.read_into(scratch)
        except BowoutError:
            return 0
        self.discarded += count or 0
        return count

    def count_discarded(self, count: int) -> None:
        """Count application bytes that the application did not read; negative: it got them after all."""
        self.discarded += count

    def _more_to_decrypt(self) -> bool:
        """Give OpenSSL a record, if it needs one and one is queued; tell whether it may have something to decrypt."""
        if self._facts.halves.inbound_ended or self._facts.failed:
            return False
        return self.queue.ready or self.queue.feed()

    def _decrypt(self, buffer: memoryview, *, more: bool = False) -> int:
        """Read one record; return its number of bytes, 0 if it held no data or the peer's direction just ended.

        Args:
            buffer: not empty.
            more: whether another record was read just before.
        """
        openssl = self._openssl
        error: ssl.SSLError | None = None
        try:
            count: int = openssl.tls.read(len(buffer), buffer)  # type: ignore[assignment]  # A count, with a buffer.
        except ssl.SSLError as met:
            error, count = met, 0
            error.__traceback__ = None  # Break the reference cycle: its frame, this one, refers to the error.
        except BaseException as struck:
            self._record_lost = True
            openssl.handed_on = struck
            raise
        if openssl.inbox.messages:
            openssl.hear()
        if error is not None:
            return self._nothing_read(error)
        if openssl.outgoing.pending or self._outgoing.owed:
            self._after_read()
        if count:
            # A record that fits is read completely.
            self.queue.has_read(rest=count == len(buffer) and openssl.tls.pending() > 0)
            if more:
                self._facts.timeline.more_data(count)
            else:
                self._facts.timeline.data(received=count)
        else:
            self.end()
        return count

    def _nothing_read(self, error: ssl.SSLError) -> int:
        """Handle the `error` of a read that returned nothing; the result is that of `_decrypt`."""
        if isinstance(error, ssl.SSLWantReadError):
            self.queue.ready = False
            self._after_read()
        # OpenSSL 3.5 reports a close_notify that follows user_canceled as an unexpected end of input, although no end
        # of input was ever reported to it.
        elif isinstance(error, ssl.SSLZeroReturnError) or (
            isinstance(error, ssl.SSLEOFError) and self._facts.close_notify_seen
        ):
            self._after_read()
            self.end()
        else:
            self._break(error)
        self._openssl.raise_what_came(error)
        return 0

    def _after_read(self) -> None:
        """Queue what OpenSSL answered while it read, and the close_notify that it could not make before."""
        if self._openssl.outgoing.pending:
            self._outgoing.collect(ChunkKind.HANDSHAKE)
        if self._outgoing.owed:
            self._outgoing.make_close_notify()

    # -- the end of it -------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Record the peer's close_notify; in TLS 1.2 answer it."""
        facts = self._facts
        facts.receive_close_notify()
        was = facts.halves.outbound
        facts.apply(Signal.CLOSE_NOTIFY)
        if facts.halves.outbound is not was:
            self._outgoing.begin_close_notify()

    def input_exhausted(self) -> None:
        """Record how the peer's direction ended: the transport has ended, and everything received was read."""
        facts = self._facts
        if facts.input_ended is Signal.RST:
            facts.apply(Signal.RST)
            text = facts.broken_off("before close_notify came")
            facts.fail(lambda: Reset(text))
            return
        inside = self.queue.inside_record
        facts.cut(Signal.FIN_INSIDE_RECORD if inside else Signal.FIN_AT_BOUNDARY)
        if inside:
            facts.fail(
                lambda: Truncated("the peer's FIN came inside a TLS record: bytes are missing", inside_record=True)
            )
        elif self._truncation == "raise":
            facts.fail(
                lambda: Truncated(
                    "the peer's FIN came without close_notify: what was received may not be all", inside_record=False
                )
            )

    def _break(self, error: ssl.SSLError) -> None:
        """Record that OpenSSL gave up the connection: a fatal alert came, or the input made us send one."""
        facts = self._facts
        alert = facts.ending.alert or alert_of_reason(error.reason)
        if alert is not None and alert.by is Side.PEER:
            facts.ending.fatal_alert(alert)
            facts.ending.ended_by(Side.PEER)
            facts.apply(Signal.FATAL_ALERT)
            self._outgoing.drop()  # Nothing may follow (RFC 8446 section 6.2).
            refused = f" ({facts.ending.refused})" if facts.ending.refused else ""
            kind = "a fatal alert" if alert.level == FATAL else "an alert, which is fatal whatever its level"
            text = f"the peer ended the connection with {kind}: {alert.name}{refused}"
            facts.fail(lambda: AlertReceived(text, alert=alert))
        else:
            self._outgoing.collect(ChunkKind.FATAL_ALERT)
            facts.ending.ended_by(Side.WE)
            facts.apply(Signal.BAD_RECORD)
            said = f" (we answered with {alert.name})" if alert else ""
            text = f"the peer broke the TLS protocol: {words_of(error)}{said}"
            facts.fail(lambda: ProtocolViolation(text, alert=alert))
