"""The engine of one TLS connection: ciphertext, end of input and reset in; ciphertext, plaintext and events out.

It drives an `ssl.SSLObject` over two MemoryBIOs and uses nothing else: no socket, no task, and no clock but the one it
is given. The caller has to:

* after every call, send what ``outgoing.head()`` returns, and report it with ``outgoing.taken()``;
* call `receive_data` only when a read returned None, for then everything before is decrypted; if the buffer of the read
  is available, `receive_and_read` does both with one copy less;
* call `receive_eof` or `receive_reset` once, when the transport reports it, and continue to read: held data are
  delivered first, and then the end.

OpenSSL is never told of the end of input. It would answer a truncation with a fatal alert of its own, and could not
tell afterwards where the truncation was; the record headers can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bowout._core.facts import Facts
from bowout._core.handshake import Handshake
from bowout._core.incoming import Incoming
from bowout._core.openssl import OpenSSL
from bowout._core.outgoing import Outgoing
from bowout._core.states import Signal
from bowout.ending import Ending, EventKind, How, Inbound, Outbound, Role, Side, TruncationPolicy

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from bowout._core.client_hello import HelloGate
    from bowout._core.timeline import Timeline
    from bowout.errors import BowoutError


class Engine:
    """One connection's TLS, without its transport.

    Args:
        context: already `prepared <bowout._core.hook.prepare>`.
        role: our part in the handshake.
        server_hostname: the name for SNI and for checking the certificate; clients only.
        session: the session of an earlier connection with this context, to resume; clients only.
        timeline: records every event.
        truncation: the result of a read when the peer's FIN comes at a record boundary without close_notify.
        gate: checks a client's first message before OpenSSL gets it; servers only.
        notify_on_error: whether to send close_notify even after an interrupted send.

    Attributes:
        facts: what both directions know; only the engine changes it.
        outgoing: our direction.
        incoming: the peer's direction.
        timeline: records every event.
        handshake_done: whether data may be sent and read.
        fin_sent: whether our FIN was sent, or cannot be.
        torn: the kind of exception that tore the connection (see `tear`), or "".
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
        notify_on_error: bool = False,
    ) -> None:
        self.facts: Facts = Facts(timeline, role)
        facts = self.facts
        self._halves = facts.halves
        self._openssl = openssl = OpenSSL(
            context, role=role, server_hostname=server_hostname, session=session, on_message=facts.on_message
        )
        self.outgoing: Outgoing = Outgoing(openssl, facts)
        self.incoming: Incoming = Incoming(openssl, facts, self.outgoing, truncation=truncation)
        self._handshake: Handshake | None = Handshake(openssl, facts, self.incoming, self.outgoing, gate=gate)
        self.timeline: Timeline = timeline
        self.role: Role = role
        self.notify_on_error: bool = notify_on_error
        self.handshake_done: bool = False
        self.fin_sent: bool = False
        self.torn: str = ""

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def tls(self) -> ssl.SSLObject:
        """The standard library's object, for its information; never read, write or unwrap it."""
        return self._openssl.tls

    @property
    def outbound(self) -> Outbound:
        """The progress of ending our direction."""
        return self._halves.outbound

    @property
    def inbound(self) -> Inbound:
        """How the peer's direction ended, or ``open``."""
        return self._halves.inbound

    @property
    def failure(self) -> BowoutError | None:
        """A fresh copy of the first error that ended the connection, or None."""
        return self.facts.ending.failure

    @property
    def input_ended(self) -> bool:
        """Whether the transport has nothing more for us: FIN or RST was seen."""
        return self.facts.input_ended is not None

    # -- the transport's side ------------------------------------------------------------------------------------

    def receive_data(self, data: bytes | memoryview) -> None:
        """Process ciphertext, `data`. Its memory may be reused as soon as this returns."""
        if self._handshake is None:
            self.incoming.receive(data)
        else:
            self._handshake.receive(data)

    def receive_and_read(self, data: bytes | memoryview, buffer: memoryview) -> int | None:
        """Call `receive_data`, then ``incoming.read_into``: what fits into `buffer` is copied once less."""
        incoming = self.incoming
        if not self.handshake_done or self._halves.inbound is not Inbound.OPEN:
            self.receive_data(data)
            return incoming.read_into(buffer)
        incoming.queue.borrow(data)
        try:
            return incoming.read_into(buffer)
        finally:
            incoming.queue.copy_rest()

    def receive_eof(self) -> None:
        """Record the peer's FIN."""
        facts = self.facts
        if facts.connection_lost:
            self.receive_reset()  # After a failed send, only a FIN is left of the event that made it fail.
        elif facts.input_ended is None:
            facts.input_ended = Signal.FIN_AT_BOUNDARY
            facts.ending.ended_by(Side.PEER)
            self.timeline.record(EventKind.FIN, Side.PEER)

    def receive_reset(self, detail: str = "", *, loss: str = "") -> None:
        """Record the peer's RST, or the loss of the network. What was received before is still delivered first.

        Args:
            detail: the system's error text for the RST.
            loss: the system's error text if it was not an RST, but a timeout or a lost network.
        """
        self.send_failed(loss=loss)
        facts = self.facts
        if facts.input_ended is None:
            facts.input_ended = Signal.RST
            if not facts.ending.loss:
                self.timeline.record(EventKind.RST, Side.PEER, detail)
                facts.ending.ended_by(Side.PEER)

    def send_failed(self, *, loss: str = "") -> None:
        """Record that the kernel accepts nothing more from us: the peer has reset the connection, or see `loss`."""
        self.facts.lose(loss)
        self.outgoing.drop()
        self.facts.apply(Signal.LOSE)

    # -- the lane ------------------------------------------------------------------------------------------------

    @property
    def has_lane(self) -> bool:
        """Whether there is a lane in C for this connection."""
        return self._openssl.lane is not None

    def forget_wait(self) -> None:
        """Let the lane, which there is, keep what a wait for it got that ended by an exception."""
        self._openssl.lane.forget_wait()

    def lane_to_enter(self) -> Any:
        """Return the lane in C if data may pass through it, and nothing unusual is under way; otherwise None."""
        outgoing = self.outgoing
        usual = (
            self._openssl.lane is not None
            and self.handshake_done
            and self._halves.outbound is Outbound.OPEN
            and not (self.timeline.observed or outgoing.interrupted or outgoing.in_message or self.torn)
            and self.incoming.is_usual
        )
        return self._openssl.lane if usual else None

    # -- the application's side ----------------------------------------------------------------------------------

    def handshake(self) -> bool:
        """Continue the handshake; return True when it is done, False when the transport must move bytes first.

        Raises:
            HandshakeError: it failed. An alert about it may be queued: send it before you report the error.
        """
        handshake = self._handshake
        if handshake is None:
            return True
        try:
            return handshake.advance()
        finally:
            if handshake.done:
                self.handshake_done = True
                self._handshake = None  # It is not needed again, and connections live long.

    # -- the ending ----------------------------------------------------------------------------------------------

    def record_call(self, verb: str, *, leaving: bool) -> None:
        """Record that the application called `verb`, which ends our direction, or both if `leaving`."""
        self.facts.record_call(verb, leaving=leaving)

    def queue_close_notify(self) -> None:
        """Queue our close_notify, if our direction is open; what was decrypted before stays readable."""
        if self._halves.outbound is Outbound.OPEN:
            self.incoming.hold()  # An unwrap before that would fail and lose the data (cpython#125981).
        if self._halves.outbound is Outbound.OPEN:
            self.facts.ending.ended_by(Side.WE)
            self.facts.apply(Signal.QUEUE_CLOSE_NOTIFY)
            self.outgoing.begin_close_notify()

    def say_goodbye(self) -> None:
        """Queue our close_notify if it is true: it confirms that everything before it is complete."""
        if (self.outgoing.whole or self.notify_on_error) and not self.torn:
            self.queue_close_notify()

    def discard(self, scratch: memoryview) -> int | None:
        """Read once like ``incoming.read_into``, and discard it: a failure is recorded and not raised, 0 is any end."""
        return self.incoming.discard(scratch) if self.handshake_done else 0

    def sent_fin(self, detail: str = "") -> None:
        """Record that our FIN was sent; `detail`: how, if not by a FIN alone."""
        self.fin_sent = True
        self.facts.ending.ended_by(Side.WE)
        self.facts.apply(Signal.SEND_FIN)
        self.timeline.record(EventKind.FIN, Side.WE, detail)

    def skip_fin(self) -> None:
        """Go on without a FIN: the transport cannot end our direction alone."""
        self.fin_sent = True

    def sent_rst(self) -> None:
        """Record that we reset the connection."""
        self.facts.ending.ended_by(Side.WE)
        self.facts.apply(Signal.SEND_RST)
        self.timeline.record(EventKind.RST, Side.WE)

    def tear(self, error: BaseException) -> bool:
        """Stop moving bytes if `error`, from a signal handler for example, interrupted a move.

        Some may then be lost, or would be sent twice: the connection is *torn*, and can only end with a FIN.

        Returns:
            False if the engine itself has raised `error`, with its state consistent.
        """
        handed_on, self._openssl.handed_on = self._openssl.handed_on, None  # The error's frames refer to this engine.
        if error is handed_on:
            return False
        self.torn = type(error).__name__
        self.outgoing.drop()
        self._halves.stop()
        return True

    def hand_on(self, error: BaseException) -> None:
        """Let `error` pass: the application raised it between two steps, and nothing is torn by it."""
        self._openssl.handed_on = error

    def give_up(self, failure: Callable[[], BowoutError]) -> None:
        """Fail for a reason of the caller, such as a deadline; an earlier failure remains the first."""
        self.facts.fail(failure)

    def verdict(self) -> How:
        """Return the verdict that the ending would have if it ended now."""
        outgoing = self.outgoing
        return self.facts.ending.verdict(unsent=outgoing.message_cut or outgoing.unsent > 0)

    def build_ending(self, *, unwrapped: bool = False, **known: Any) -> Ending:
        """Build the ending as far as it is known; this may be called before the end, too.

        Args:
            unwrapped: whether the transport stays open without TLS.
            known: facts that the engine does not know; see `EndingBuilder.build`.
        """
        outgoing, incoming = self.outgoing, self.incoming
        return self.facts.ending.build(
            sent_in_part=outgoing.sent_in_part,
            unsent=outgoing.unsent,
            message_cut=outgoing.message_cut,
            discarded=incoming.discarded + len(incoming.held),
            ignored=incoming.ignored(unwrapped=unwrapped),
            unwrapped=unwrapped,
            **known,
        )
