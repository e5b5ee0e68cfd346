"""One TLS connection and its ways to end: close, unwrap, abort, and leaving at once."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from bowout._backends.sockets import is_unix
from bowout._core.closing import Step, next_step
from bowout._core.states import INBOUND_SAID_ALL
from bowout._pump import ALERT_PATIENCE, LAST_LOOK, SCRATCH_SIZE, Pump
from bowout.ending import Ending, EventKind, How, Inbound, Outbound, Role, Side
from bowout.errors import BowoutError, MisuseError, NoCloseNotify, StreamClosed, Truncated

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from bowout._backends import Backend, Deadline, Transport
    from bowout._backends import Event as LoopEvent
    from bowout._core.client_hello import HelloGate
    from bowout.ending import Event, TruncationPolicy

#: A close reads so much before it lets others run.
_DRAIN_SLICE: Final = 1 << 20
#: How often a close looks whether the peer's kernel has everything, where nothing else will tell it; in seconds.
_ARRIVAL_TICK: Final = 0.01
#: Where that cannot be asked, a peer that has sent close_notify gets so long for its FIN, in seconds.
_FIN_PATIENCE: Final = 0.5

#: A FIN in these tells the peer that something is missing, as it should.
_UNNOTIFIED: Final = frozenset({Outbound.HANDSHAKE, Outbound.OPEN})
#: In these the kernel goes on delivering what it has taken after the descriptor is closed.
_DELIVERING: Final = frozenset({Outbound.CLOSE_NOTIFY_SENT, Outbound.FIN_SENT, Outbound.CUT})


class Connection(Pump):
    """The machinery under a `bowout.Stream`.

    Args:
        context: prepared for endings.
        linger_bytes: how much a close reads and discards before it gives up.
        vouch_anyway: send close_notify even where a send was cut short.
    """

    __slots__ = (
        "_began",
        "_cap_hit",
        "_close_scope",
        "_deadline_hit",
        "_drained",
        "_ended",
        "_fin_patience_ends",
        "_late",
        "_linger_bytes",
        "_may_vouch",
        "_unacknowledged",
        "vouch_anyway",
    )

    def __init__(
        self,
        backend: Backend,
        transport: Transport,
        context: ssl.SSLContext,
        *,
        role: Role,
        server_hostname: str | None,
        session: ssl.SSLSession | None = None,
        truncation: TruncationPolicy,
        linger_bytes: int,
        vouch_anyway: bool,
        on_event: Callable[[Event], None] | None,
        gate: HelloGate | None = None,
    ) -> None:
        super().__init__(
            backend,
            transport,
            context,
            role=role,
            server_hostname=server_hostname,
            session=session,
            truncation=truncation,
            on_event=on_event,
            gate=gate,
        )
        self._began = time.time()
        self._linger_bytes = linger_bytes
        self._drained = 0
        self._close_scope: Deadline | None = None
        self._fin_patience_ends: float | None = None
        self._deadline_hit = False
        self._cap_hit = False
        self._unacknowledged: int | None = None
        self._may_vouch = True
        self.vouch_anyway: bool = vouch_anyway
        self._ended: LoopEvent | None = None
        self._late: Callable[[bytes], object] | None = None

    # -- leaving -------------------------------------------------------------------------------------------------

    def begin_leaving(self, verb: str) -> None:
        """From now on nothing new is received or sent; whoever waits is told."""
        self.leaving = True
        self.engine.call(verb, leaving=True)
        self._transport.wake()

    async def close(
        self,
        verb: str,
        deadline: float,
        *,
        notify: bool,
        late: Callable[[bytes], object] | None = None,
        held: bytes = b"",
    ) -> None:
        """End both directions, by `deadline`. However this is left, the descriptor is closed and there is an ending.

        `late` gets what is `held` for the reader, and what still arrives.
        """
        self._may_vouch = notify
        try:
            self.begin_leaving(verb)
            if late is not None and held:
                late(held)
            self._late = late
            async with self.backend.move_on_at(deadline) as scope:
                self._close_scope = scope
                await self._wind_down(notify=notify)
            if scope.expired:
                self._take_last_look(notify=notify)
        except BaseException as error:
            by = f"cut short by {type(error).__name__}" if isinstance(error, Exception) else "cancelled"
            self.note_reason(f"the close was {by}")
            self._finish_without_waiting(notify=notify)
            raise
        self._release()

    def hurry(self, deadline: float) -> None:
        """Another close came: the earlier deadline counts."""
        assert self._close_scope is not None, "whoever is leaving, and has not left, is in it"
        self._close_scope.tighten(deadline)

    def leave_at_once(self, verb: str, *, notify: bool) -> None:
        """End without an await: for a task that is being cancelled."""
        if self.ending is None:
            self.note_reason(verb)
            try:
                if not self.leaving:
                    self.begin_leaving(verb)
            finally:
                # A close that was to send no close_notify may be under way: hurrying it must not vouch after all.
                self._finish_without_waiting(notify=notify and self._may_vouch)

    def leave_from_elsewhere(self, verb: str) -> None:
        """End without an await where another event loop, or none, runs the caller.

        Raises:
            MisuseError: the stream's own loop is running: only there it can be ended.
        """
        if self.ending is None:
            self._check_thread(verb)
            self.leave_at_once(f"{verb} when its event loop was over", notify=True)

    def _check_thread(self, verb: str) -> None:
        if not self.backend.is_current() and self.backend.is_running():
            raise MisuseError(
                f"{verb} was called outside the thread of this stream's event loop, which is running: "
                "call it there, by asyncio's run_coroutine_threadsafe() or call_soon_threadsafe(), or trio.from_thread"
            )

    def drop(self) -> None:
        """Close the descriptor of a connection that was forgotten: the peer sees no close_notify."""
        self._transport.drop()

    def abort(self) -> None:
        """End with an RST, now."""
        if self.ending is None:
            self._check_thread("abort()")
            try:
                self.begin_leaving("abort()")
                self.engine.sent_rst()
            finally:
                self._transport.reset()
                self._release()

    async def unwrap(self, deadline: float) -> tuple[socket.socket, bytes]:
        """End TLS both ways, by `deadline`, and give the transport away."""
        try:
            self.begin_leaving("unwrap()")
            async with self.backend.move_on_at(deadline) as scope:
                self._close_scope = scope
                await self._queue_last_words(notify=True, to_close_notify=True)
                await self._exchange_close_notify()
            if scope.expired and not self._exchange_close_notify_now():
                self._note_deadline()
        except BaseException:
            self._finish_without_waiting(notify=True)
            raise
        if self.ending is not None:
            raise self._with_ending(StreamClosed("the stream was ended while unwrap() waited"))
        if self.engine.verdict() is not How.CLEAN:
            self._release()
            raise self._with_ending(self._why_not_unwrapped())
        leftover = self.engine.leftover()
        sock = self._transport.detach()
        self._release(unwrapped=True)
        return sock, leftover

    def _why_not_unwrapped(self) -> BowoutError:
        if self._deadline_hit or self._cap_hit:
            return NoCloseNotify("the peer did not end TLS with its close_notify in time")
        if self.engine.inbound is Inbound.CLOSE_NOTIFY:
            return StreamClosed("the peer ended TLS before all that we sent had left")
        return self.engine.failure or Truncated("the peer left without close_notify", inside_record=False)

    async def wait_ended(self) -> None:
        """Wait until there is an ending."""
        if self.ending is not None:
            if self.backend.is_current():
                await self.backend.checkpoint()
            return
        self.check_loop()
        if self._ended is None:
            self._ended = self.backend.event()
        await self._ended.wait()

    # -- the close, step by step ---------------------------------------------------------------------------------

    async def _wind_down(self, *, notify: bool) -> None:
        if not self.engine.handshake_done:
            self._finish_without_waiting(notify=False)
            return
        await self._queue_last_words(notify=notify)
        await self._see_off()

    async def _see_off(self) -> None:
        while True:
            await self._drain()
            if self.ending is not None:
                return
            step = self._go_on()
            if step is Step.RELEASE or self._cap_hit:
                return
            if step is Step.FLUSH:
                # A close_notify that waits for the rest of a handshake message has nothing to write yet.
                writable = self.engine.output() is not None
                await self._transport.wait(read=not self.engine.input_ended, write=writable)
            else:
                await self._linger()

    def _go_on(self) -> Step:
        """Do what can be done without waiting, and give the step that has to wait, or RELEASE."""
        self.try_flush()
        step = self._next_step()
        if step is Step.FIN:
            self._send_fin()
            step = self._next_step()
        return step

    def _take_last_look(self, *, notify: bool) -> None:
        """Do what can be done without waiting: the deadline may have passed while nothing here could run."""
        if self.ending is not None:
            return
        self.push_send()
        self._drain_now()
        self._queue_close_notify(notify=notify)
        self.try_flush()
        cut = self._unencrypted or self._cap_hit  # The end of the descriptor tells the peer that something is missing.
        if cut or self._go_on() is not Step.RELEASE:
            self._note_deadline()

    def _winding_down(self) -> bool:
        """Nobody has ended it more abruptly meanwhile, and there is room below the cap."""
        return self.ending is None and not self._cap_hit

    def _waiting_for_send(self) -> bool:
        return self._sends.busy and self._winding_down()

    async def _queue_last_words(self, *, notify: bool, to_close_notify: bool = False) -> None:
        """Let the send in flight finish, reading meanwhile: a peer that writes before it reads must not block us."""
        while self._waiting_for_send():
            await self._drain(to_close_notify=to_close_notify)
            if self._waiting_for_send():  # The send may have ended, or everything, while others had a turn.
                await self._transport.wait(read=not self._input_done(to_close_notify=to_close_notify), write=False)
        self._queue_close_notify(notify=notify)

    def _queue_close_notify(self, *, notify: bool) -> None:
        """Queue it where it is wanted and true: it vouches for everything before it, so not after half a message."""
        cut = self.cut_short or self._unencrypted or (self._messages and self._amid_message())
        if notify and (not cut or self.vouch_anyway):
            self._safely(self.engine.queue_close_notify)

    async def _exchange_close_notify(self) -> None:
        """Send ours and read up to the peer's, and no further than the kernel gave with it."""
        while self._winding_down():
            await self._drain(to_close_notify=True)
            if self.ending is not None:
                return
            if self._is_exchanged() or self._cap_hit:
                return
            waiting = self.engine.inbound is Inbound.OPEN
            await self._transport.wait(read=waiting, write=self.engine.output() is not None)

    def _is_exchanged(self) -> bool:
        """Hand over what is queued; tell whether both close_notify are through."""
        return self.try_flush() and self.engine.inbound is not Inbound.OPEN

    def _exchange_close_notify_now(self) -> bool:
        """Take a last look, as `_take_last_look` does; tell whether both close_notify are through."""
        if self.ending is not None:
            return True
        self.push_send()
        self._drain_now(to_close_notify=True)
        self._queue_close_notify(notify=True)
        return self._is_exchanged() and not self._unencrypted

    def _next_step(self) -> Step:
        return next_step(
            self.engine.outbound,
            self.engine.inbound,
            output_queued=self.engine.output_size > 0,
            fin_sent=self.engine.fin_sent,
            fin_received=self.engine.input_ended,
            all_arrived=self._all_arrived(),
        )

    def _all_arrived(self) -> bool:
        if self.engine.inbound not in INBOUND_SAID_ALL or not self.engine.fin_sent or self.engine.input_ended:
            return False  # or it does not matter any more
        if self.engine.outbound is Outbound.FATAL_ALERT:
            # Our alert has arrived, and is not read yet: the RST for what the peer still sends would destroy it.
            return self._has_been_patient(ALERT_PATIENCE)
        unacknowledged = self._transport.unacknowledged()
        if unacknowledged is not None:
            return unacknowledged == 0
        return self._has_been_patient(_FIN_PATIENCE)

    def _has_been_patient(self, seconds: float) -> bool:
        """Tell whether the peer has had `seconds` for its FIN, since this was asked first."""
        now = self.backend.time()
        if self._fin_patience_ends is None:
            self._fin_patience_ends = now + seconds
        return now >= self._fin_patience_ends

    async def _linger(self) -> None:
        if self.engine.inbound not in INBOUND_SAID_ALL:
            await self._transport.wait_to_take(self._take_to_discard)
            return
        async with self.backend.move_on_at(self.backend.time() + _ARRIVAL_TICK):
            await self._transport.wait(read=True, write=False)

    def _take_to_discard(self) -> bool:
        """Have the engine take what has just arrived; tell whether there was anything."""
        count = self._receive(min(SCRATCH_SIZE, self._linger_bytes - self._drained))
        self._drained += count or 0
        return count is not None

    async def _drain(self, *, to_close_notify: bool = False) -> None:
        """Read and discard what is there, within the byte cap."""
        while self.ending is None and self._drain_slice(to_close_notify=to_close_notify):
            await self.backend.checkpoint()

    def _drain_now(self, *, to_close_notify: bool = False) -> None:
        """Read and discard what had arrived: a peer that sends as fast as we read must not keep us from ending."""
        before = self._drained
        while self._drained - before < LAST_LOOK and self._drain_slice(to_close_notify=to_close_notify):
            pass

    def _drain_slice(self, *, to_close_notify: bool = False) -> bool:
        """Read and discard what is there; True when it was so much that others should have a turn first."""
        before = self._drained
        while True:
            while self._discard():
                pass
            if self._input_done(to_close_notify=to_close_notify):
                return False
            room = self._linger_bytes - self._drained
            if room <= 0:
                self._note_cap()
                return False
            if self._drained - before >= _DRAIN_SLICE:
                return True
            count = self._receive(min(SCRATCH_SIZE, room))
            if count is None:
                return False
            self._drained += count

    def _discard(self) -> bool:
        """Decrypt once, for nobody or for who has asked for what comes late; tell whether there was something."""
        count = self._safely(partial(self.engine.discard, self.scratch))
        if count and (late := self._late) is not None:
            self._late = None  # Should it raise, it is not asked again.
            self.engine.count_discarded(-count)
            late(bytes(self.scratch[:count]))
            self._late = late
        return bool(count)

    def _input_done(self, *, to_close_notify: bool) -> bool:
        """Nothing more will come, or what comes next is for the caller of `unwrap`."""
        return self.engine.input_ended or (to_close_notify and self.engine.inbound is not Inbound.OPEN)

    def _finish_without_waiting(self, *, notify: bool) -> None:
        """Do as much of a close as can be done at once, and release the descriptor."""
        if self.ending is not None:
            return
        try:
            if self.torn:
                self._transport.send_fin()  # Whatever else was sent could be garbled.
                if not self.engine.fin_sent:
                    self.engine.sent_fin()
                self._pass_over()
            else:
                self._finish_now(notify=notify)
        finally:
            self._release()

    def _pass_over(self) -> None:
        """Read what nobody can decrypt any more: unread, it would make the kernel send RST instead of FIN."""
        passed_over = 0
        with contextlib.suppress(OSError):
            while passed_over < _DRAIN_SLICE and (count := self._transport.receive_into(self.scratch)):
                passed_over += count

    def _finish_now(self, *, notify: bool) -> None:
        self.push_send()
        self._queue_close_notify(notify=notify)
        flushed = self.try_flush()
        self._drain_slice()
        if not self.engine.fin_sent and (flushed or self.engine.outbound in _UNNOTIFIED):
            self._send_fin()

    def _send_fin(self) -> None:
        self._transport.send_fin()
        self.engine.sent_fin()

    def _note_deadline(self) -> None:
        self._deadline_hit = True
        self._timeline.record(EventKind.DEADLINE, Side.WE)

    def _note_cap(self) -> None:
        if not self._cap_hit:
            self._cap_hit = True
            self._timeline.record(EventKind.CAP, Side.WE)

    def _release(self, *, unwrapped: bool = False) -> None:
        """Close the descriptor, draw up the ending, and tell everybody."""
        if self.ending is not None:
            return
        if self.engine.outbound in _DELIVERING:
            count = self._transport.unacknowledged()
            self._unacknowledged = None if count and is_unix(self.sock) else count
        self._transport.close()
        self._count_unencrypted()
        self.engine.handed_on = None  # Its frames hold all that is here.
        if self._messages and self._amid_message():
            self.engine.message_cut = True
        try:
            self._timeline.record(EventKind.RELEASED, Side.WE, "the TCP connection goes on" if unwrapped else "")
        finally:  # An observer may raise what no observer should, a cancellation for example.
            self._note_ending(self._draw_up(unwrapped=unwrapped))
            if self._ended is not None:
                self._ended.set()

    def _draw_up(self, *, unwrapped: bool = False) -> Ending:
        return self.engine.finish(
            peer=self.peer,
            began=self._began,
            reason=self.reason,
            deadline_hit=self._deadline_hit,
            cap_hit=self._cap_hit,
            unacknowledged=self._unacknowledged,
            unwrapped=unwrapped,
        )
