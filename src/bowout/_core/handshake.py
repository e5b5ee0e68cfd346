"""The handshake of one connection, and the error if it fails."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from bowout._core.buffers import ChunkKind
from bowout._core.client_hello import Refusal
from bowout._core.openssl_errors import alert_of_reason, handshake_cut, handshake_failure
from bowout._core.records import looks_like_tls, record_header
from bowout._core.states import Signal
from bowout._tls_numbers import ALERT, FATAL
from bowout.ending import Side
from bowout.errors import HandshakeError, HandshakeReset, HandshakeTruncated

if TYPE_CHECKING:
    from bowout._core.client_hello import HelloGate
    from bowout._core.facts import Facts
    from bowout._core.incoming import Incoming
    from bowout._core.openssl import OpenSSL
    from bowout._core.outgoing import Outgoing

#: Number of the peer's first bytes that are kept for the error: they distinguish plain text from TLS.
_SAMPLE_SIZE: Final = 64


class Handshake:
    """The progress of one handshake.

    Args:
        openssl: performs the handshake.
        facts: records every event.
        incoming, outgoing: the two directions.
        gate: checks a client's first message before OpenSSL gets it; servers only.

    Attributes:
        done: whether the handshake is done, so that data may be sent and read.
    """

    __slots__ = ("_facts", "_gate", "_incoming", "_openssl", "_outgoing", "_sample", "done")

    def __init__(
        self, openssl: OpenSSL, facts: Facts, incoming: Incoming, outgoing: Outgoing, *, gate: HelloGate | None
    ) -> None:
        self._openssl = openssl
        self._facts = facts
        self._incoming = incoming
        self._outgoing = outgoing
        self._gate = gate
        self._sample = b""
        self.done: bool = False

    def receive(self, data: bytes | memoryview) -> None:
        """Process ciphertext, `data`, that came before the handshake was done."""
        if len(self._sample) < _SAMPLE_SIZE:
            self._sample += bytes(data[: _SAMPLE_SIZE - len(self._sample)])
        if self._facts.halves.inbound_ended:
            self._incoming.receive(data)
        elif self._facts.leaving or self._facts.failed:
            pass  # Nothing will read it.
        elif self._gate is not None:
            self._gate.add(data)
        else:
            self._incoming.receive(data)

    def advance(self) -> bool:
        """Continue as far as the received data allow; see `Engine.handshake`."""
        if self._gate is not None and not self._passes(self._gate):
            return False
        openssl, facts, queue = self._openssl, self._facts, self._incoming.queue
        openssl.report_every_message(every=facts.timeline.observed)
        while not facts.failed:
            queue.feed_all()
            error = openssl.call(openssl.tls.do_handshake)
            openssl.raise_what_came(error)
            if error is None:
                self._outgoing.collect(ChunkKind.HANDSHAKE)
                self._succeed()
                return True
            if isinstance(error, ssl.SSLWantReadError):
                self._outgoing.collect(ChunkKind.HANDSHAKE)
                if facts.input_ended is None:
                    return False
                self._cut()
            elif isinstance(error, ssl.SSLZeroReturnError):
                self._incoming.end()
                facts.fail(lambda: HandshakeTruncated("the peer sent close_notify during the handshake"))
            else:
                self._fail(error)
        raise facts.make_failure()

    def _passes(self, gate: HelloGate) -> bool:
        """Pass the client's first message to OpenSSL, or refuse it; return False if more of it must come."""
        verdict = gate.judge()
        if verdict is False and self._facts.input_ended is None:
            return False
        self._gate = None
        if isinstance(verdict, Refusal):
            self._refuse(verdict)
        else:
            self._incoming.queue.append(gate.release())
        return True

    def _refuse(self, refusal: Refusal) -> None:
        """Refuse the handshake as OpenSSL would, but before it has seen any of it: the first answer is plain text."""
        alert = bytes((FATAL, refusal.alert))
        self._outgoing.append(record_header(ALERT, len(alert)) + alert, ChunkKind.FATAL_ALERT)
        self._facts.on_message(outgoing=True, content_type=ALERT, data=alert)
        self._facts.apply(Signal.SEND_FATAL_ALERT)
        self._facts.fail(lambda: HandshakeError(f"the handshake was refused: {refusal.reason}"))

    def _succeed(self) -> None:
        self.done = True
        tls = self._openssl.tls
        # The peer's first records may have come together with its last handshake message.
        self._incoming.queue.has_read(rest=tls.pending() > 0)
        cipher = tls.cipher()
        self._facts.complete_handshake(tls.version() or "TLS", cipher[0] if cipher else "")
        self._facts.apply(Signal.HANDSHAKE_DONE)

    def _cut(self) -> None:
        facts = self._facts
        if facts.input_ended is Signal.RST:
            facts.apply(Signal.RST)
            text = facts.broken_off("during the handshake")
            facts.fail(lambda: HandshakeReset(text))
        else:
            facts.apply(Signal.FIN_INSIDE_RECORD if self._incoming.queue.inside_record else Signal.FIN_AT_BOUNDARY)
            sample = self._sample
            facts.fail(lambda: handshake_cut(sample))

    def _fail(self, error: ssl.SSLError) -> None:
        facts, sample = self._facts, self._sample
        alert = facts.ending.alert or alert_of_reason(error.reason)
        if alert is not None and alert.by is Side.PEER:
            facts.ending.fatal_alert(alert)
            facts.apply(Signal.FATAL_ALERT)
        else:
            answered = self._openssl.outgoing.pending > 0
            self._outgoing.collect(ChunkKind.FATAL_ALERT)
            # What the peer sent is readable, and is refused; or it is not TLS at all, and OpenSSL sends no answer.
            signal = Signal.SEND_FATAL_ALERT if looks_like_tls(sample) else Signal.BAD_RECORD
            facts.apply(signal, answered=answered)
        facts.fail(lambda: handshake_failure(error, alert, sample))
