"""TLS as an asyncio protocol: the core driven by callbacks over any asyncio transport, without a task."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from bowout._arguments import checked_server_hostname
from bowout._connection.channel import shared_scratch
from bowout._core import hook
from bowout._core.engine import Engine
from bowout._core.timeline import Timeline
from bowout._lane import HEADROOM
from bowout._tls_numbers import TLS13_NAME
from bowout.asyncio._application import Application
from bowout.asyncio._arguments import client_context, facts_of, gate_of, positive
from bowout.asyncio._closer import CallbackCloser
from bowout.asyncio._errors import WriteAfterEOF, as_connection_error, loss_of, lost_data
from bowout.asyncio._handshake import HANDSHAKE_TIMEOUT, CallbackHandshake
from bowout.asyncio._lane import CallbackLane
from bowout.asyncio._policy import DEFAULT_POLICY, log_tolerated
from bowout.asyncio._receiver import Receiver
from bowout.asyncio._sender import Sender
from bowout.asyncio._transport import TLSTransport
from bowout.asyncio._underlying import UnderlyingTransport
from bowout.ending import EventKind, Inbound, Outbound, Role, Side
from bowout.errors import BowoutError, StreamClosed

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from bowout.asyncio._policy import Policy
    from bowout.ending import Ending
    from bowout.errors import HandshakeTimeout

#: Size of a connection's own memory for ciphertext, in bytes, where the shared one cannot be used.
_OWN_MEMORY: Final = 1 << 16
#: States in which our direction cannot be used again.
_DEAD: Final = frozenset({Outbound.LOST, Outbound.FATAL_ALERT, Outbound.RESET})
#: States of the peer's direction in which it has ended without close_notify.
_CUT: Final = frozenset({Inbound.TRUNCATED_AT_BOUNDARY, Inbound.TRUNCATED_INSIDE_RECORD})


class TLSProtocol(asyncio.BufferedProtocol):
    """TLS over an asyncio transport, of which this is the protocol. It takes the arguments of asyncio's own class.

    Args:
        loop: the event loop.
        app_protocol: the application's protocol, over TLS.
        sslcontext: the TLS configuration; None for a client's default.
        waiter: future for the result of the handshake; None: nobody waits for it.
        server_side: whether we are the server.
        server_hostname: a client's name for SNI and for checking the certificate.
        call_connection_made: whether to call the application's ``connection_made`` after the handshake.
        ssl_handshake_timeout: seconds for the handshake.
        ssl_shutdown_timeout: seconds for a close; None: the policy says.
        policy: how the connection ends.
    """

    # The name `_app_transport` is asyncio's: its loops, and aiosmtpd, read it.
    __slots__ = (
        "__weakref__",
        "_app",
        "_app_transport",
        "_began",
        "_buffer",
        "_closer",
        "_engine",
        "_eof_delivered",
        "_error",
        "_extra",
        "_handshake",
        "_host",
        "_lane",
        "_loop",
        "_lost",
        "_memory",
        "_policy",
        "_reason",
        "_receiver",
        "_scratch",
        "_sender",
        "_shutdown_timeout",
        "_timeline",
        "_underlying",
        "ending",
    )

    def __init__(  # noqa: PLR0917  (asyncio calls it like this)
        self,
        loop: asyncio.AbstractEventLoop,
        app_protocol: asyncio.BaseProtocol,
        sslcontext: ssl.SSLContext | None,
        waiter: asyncio.Future[None] | None,
        server_side: bool = False,  # noqa: FBT001, FBT002
        server_hostname: str | None = None,
        call_connection_made: bool = True,  # noqa: FBT001, FBT002
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        *,
        policy: Policy = DEFAULT_POLICY,
    ) -> None:
        handshake_timeout = positive("ssl_handshake_timeout", ssl_handshake_timeout, HANDSHAKE_TIMEOUT)
        self._shutdown_timeout = positive("ssl_shutdown_timeout", ssl_shutdown_timeout, policy.close_timeout)
        if server_side and not sslcontext:
            raise ValueError("a server needs an SSLContext with its certificate")
        self._host = checked_server_hostname(server_hostname) if server_hostname and not server_side else None
        context = sslcontext or client_context(self._host)
        hook.prepare(context)
        self._loop = loop
        self._policy = policy
        self._timeline = Timeline(loop.time)
        self._engine = Engine(
            context,
            role=Role.SERVER if server_side else Role.CLIENT,
            server_hostname=self._host,
            timeline=self._timeline,
            truncation=policy.truncation_for(self._host),
            gate=gate_of(context) if server_side else None,
        )
        self._extra: dict[str, Any] = {"sslcontext": context}
        self._app = Application(
            loop, app_protocol, made=not call_connection_made, failed=self._fail, interrupted=self._engine.hand_on
        )
        self._lane = CallbackLane(self._engine)
        self._app_transport: TLSTransport | None = TLSTransport(self, self._app, self._lane)
        self._sender = Sender(loop, self._engine, self._app, self._lane, go_on=partial(self._guarded, self._go_on))
        self._handshake = CallbackHandshake(
            loop, self._engine, self._sender, waiter, timeout=handshake_timeout, expired=self._expire
        )
        self._memory, self._scratch = shared_scratch()
        self._buffer = self._memory[HEADROOM:]
        self._receiver = Receiver(
            self._engine, self._app, self._lane, arrivals=self._buffer, scratch=self._scratch, ended=self._end_of_input
        )
        self._began = time.time()
        self._underlying: UnderlyingTransport | None = None
        self._closer: CallbackCloser | None = None
        self._error: BaseException | None = None
        self._lost: asyncio.Future[None] | None = None
        self._eof_delivered = False
        self._reason = ""
        self.ending: Ending | None = None

    def __repr__(self) -> str:
        state = str(self.ending) if self.ending else self._engine.outbound.value
        peer = self._underlying.peer if self._underlying is not None else ""
        return f"<bowout.asyncio.TLSProtocol {self._engine.role.value} {peer or '?'}: {state}>"

    @property
    def transport(self) -> TLSTransport:
        """The application's transport, until the end."""
        assert self._app_transport is not None, "not asked for after the end"
        return self._app_transport

    @property
    def connected(self) -> bool:
        """Whether there is a transport under TLS, and it has not ended."""
        return self._underlying is not None and not self._underlying.lost

    @property
    def can_half_close(self) -> bool:
        """Whether the peer may go on sending after our close_notify."""
        return self._engine.tls.version() in {None, TLS13_NAME}

    @property
    def closing(self) -> bool:
        """Whether the connection is ending, or has ended."""
        return self._closer is not None or (self._underlying is not None and self._underlying.lost)

    @property
    def waiting_bytes(self) -> int:
        """Number of bytes that were written and have not left."""
        return self._sender.waiting_bytes

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return a fact about TLS, about its ending, or about the transport under it."""
        if name == "ending":
            return self.ending
        if name in self._extra:
            return self._extra[name]
        return default if self._underlying is None else self._underlying.get_extra_info(name, default)

    async def wait_lost(self) -> None:
        """Wait until the transport under TLS has ended."""
        if self.connected:
            if self._lost is None:
                self._lost = self._loop.create_future()
            await asyncio.shield(self._lost)

    # -- what the transport under TLS calls ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._underlying = underlying = UnderlyingTransport(self._loop, transport)  # type: ignore[arg-type]
        self._sender.underlying = underlying
        if not underlying.is_socket:
            self._memory = memoryview(bytearray(_OWN_MEMORY))  # It may be filled while others use the shared one.
            self._buffer = self._receiver.arrivals = self._memory[HEADROOM:]
        by = Side.WE if self._engine.role is Role.CLIENT else Side.PEER
        self._timeline.record(EventKind.CONNECTED, by, underlying.peer)
        self._handshake.begin()
        self._guarded(self._go_on)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  (asyncio calls it like this)
        """Return memory for ciphertext."""
        if self._closer is None:
            return self._buffer
        return self._buffer[: max(1, min(len(self._buffer), self._closer.winddown.room()))]

    def buffer_updated(self, nbytes: int) -> None:
        """Process received ciphertext."""
        try:
            if self._lane.entered is None or self._receiver.delivering or self._app.reading_paused:
                self._receive(self._buffer[:nbytes])
            elif not self._receiver.deliver_in_lane(nbytes):
                self._go_on()
        except BaseException as error:
            self._interrupted_by(error)
            raise

    def eof_received(self) -> bool:
        """Process the peer's FIN. The transport stays open: it is closed when the connection has ended."""
        self._guarded(self._receive_end)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Process the end of the transport."""
        if self._underlying is not None:
            self._underlying.lost = self._receiver.lost = True
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(None)
        if self._underlying is None or (self._closer is not None and self._closer.over):
            self._finish()
        else:
            self._guarded(self._lose, exc)

    def pause_writing(self) -> None:
        """Do nothing: how much the transport has passed on is asked after each write."""

    def resume_writing(self) -> None:
        """Write on: the transport has passed on all that it had."""
        underlying = self._underlying
        self._sender.taken()
        if self._closer is not None or underlying is None:
            self._loop.call_soon(self._guarded, self._go_on)
            return
        underlying.resuming = True
        try:
            self._guarded(self._go_on)
        finally:
            underlying.resuming = False

    def _guarded(self, call: Callable[..., object], *args: Any) -> None:
        """Run `call`; end the connection if an exception, of a signal handler for example, interrupts it."""
        try:
            call(*args)
        except BaseException as error:
            self._interrupted_by(error)
            raise

    def _interrupted_by(self, error: BaseException) -> None:
        if self._engine.tear(error):
            self._fail(error)

    def _receive(self, data: memoryview) -> None:
        engine = self._engine
        if self._lane.entered is not None:
            self._lane.leave()
        if self._closer is not None:
            engine.receive_data(data)
            self._closer.received(len(data))
        elif engine.handshake_done and not self._app.reading_paused and not self._receiver.delivering:
            self._receiver.deliver(data)
            if engine.outgoing.size:  # An answer of OpenSSL, or what could not be sent before.
                self._sender.run()
            self._enter_lane()
        else:
            engine.receive_data(data)
            self._go_on()

    def _receive_end(self) -> None:
        self._lane.leave()
        self._engine.receive_eof()
        if self._closer is not None:
            self._closer.received(0)
        else:
            self._go_on()

    def _lose(self, exc: Exception | None) -> None:
        self._lane.leave()
        loss = "the transport under TLS was closed" if exc is None else loss_of(exc)
        self._engine.receive_reset(str(exc or ""), loss=loss)
        if self._closer is None:
            self._sender.give_up()  # An application that waits for it to leave is asked to resume.
        self._receive_end()
        if self._closer is None and self._eof_delivered:  # No read will tell it.
            self._error = self._engine.outgoing.why_not_writable()
            self._close("")

    def _go_on(self) -> None:
        """Do what has become possible."""
        was_open = self._engine.handshake_done
        if self._closer is not None:
            self._closer.run()
        elif was_open or self._shake_hands():
            self._receiver.deliver()
            self._sender.run()
            self._regulate()
            if was_open:  # Many a connection carries nothing.
                self._enter_lane()

    def _enter_lane(self) -> None:
        """Let data pass through the lane from now on, if that is possible."""
        if not self._lane.possible or self._lane.entered is not None or self._underlying is None:
            return
        receiver = self._receiver
        if not (receiver.over or receiver.delivering or self._app.reading_paused):
            self._lane.enter(self._underlying, self._memory, self._scratch)
            self._sender.allow_lane()

    # -- the handshake -------------------------------------------------------------------------------------------

    def _shake_hands(self) -> bool:
        """Continue the handshake; tell whether it is done and data may pass."""
        try:
            done = self._handshake.step()
        except BowoutError as error:
            self._error = error
            self._close("")
            return False
        if not done:
            return False
        self._extra.update(facts_of(self._engine.tls))
        upgraded = self._app.made
        if not self._app.connection_made(self.transport):
            return False
        self._handshake.wake(None)
        if upgraded:  # start_tls() must have returned before the first data come.
            self._loop.call_soon(self._guarded, self._go_on)
        return not upgraded

    def _expire(self, error: HandshakeTimeout) -> None:
        """End: the handshake took too long."""
        self._guarded(self._fail, error, "")

    # -- the peer's direction ------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Deliver nothing until `resume_reading`; then the peer is slowed down, too."""
        self._app.reading_paused = True
        self._regulate()

    def resume_reading(self) -> None:
        """Deliver again."""
        if self._app.reading_paused:
            self._app.reading_paused = False
            self._regulate()
            self._loop.call_soon(self._guarded, self._go_on)

    def _regulate(self) -> None:
        """Receive, unless the application has paused."""
        if self._underlying is not None and self._closer is None:
            self._underlying.read(on=self._sender.starved or not self._app.reading_paused)

    def _end_of_input(self, error: BowoutError | None) -> None:
        if error is None:
            self._deliver_eof()
        else:
            self._error = error
            self._close("" if self._engine.outbound in _DEAD else "close()")

    def _deliver_eof(self) -> None:
        self._eof_delivered = True
        if self._engine.inbound in _CUT:
            log_tolerated(self._underlying.peer if self._underlying is not None else "", self._host)
        goes_on = self._app.eof_received()
        if goes_on is not None and not (goes_on and self._engine.outbound is Outbound.OPEN):
            self._close("close()")

    # -- our direction -------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> bool:
        """Send `data` as soon as the transport takes it; return False if the connection has ended."""
        if self.closing:
            return False
        if self._sender.eof_wanted:
            raise WriteAfterEOF("write() after write_eof(): our direction has ended")
        self._guarded(self._write, data)
        return True

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        if self._lane.possible and self._lane.entered is None:
            self._enter_lane()
        self._sender.write(data)

    def write_in_lane(self, lane: Any, data: bytes) -> None:
        """Send `data` through `lane`, for nothing waits before them."""
        try:
            if (written := lane.write(data)) is not None:
                self._sender.finish_write(data, written)
        except BaseException as error:
            self._interrupted_by(error)
            raise

    def write_eof(self) -> None:
        """Send close_notify after everything written; the peer may go on sending."""
        if self._closer is None and not self._sender.eof_wanted:
            self._engine.record_call("write_eof()", leaving=False)
            self._guarded(self._sender.write_eof)

    # -- the ending ----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End gracefully, after everything written."""
        self._close("close()")

    def abort(self, error: BaseException | None = None) -> None:
        """End at once with an RST; ``connection_lost`` gets `error`."""
        if self.ending is None and (closer := self._begin_to_close()) is not None:
            self._error = self._error or error
            closer.abort()

    def _close(self, verb: str) -> None:
        """End gracefully; `verb` is what the application called, "" if it was nothing."""
        if self._closer is None and (closer := self._begin_to_close()) is not None:
            if self._underlying is not None and self._underlying.resuming:
                # asyncio's transport, which is calling us, must not be ended by us now.
                self._loop.call_soon(self._guarded, closer.close, verb, self._shutdown_timeout)
            else:
                self._guarded(closer.close, verb, self._shutdown_timeout)

    def _fail(self, error: BaseException, verb: str = "left by an error") -> None:
        """End at once, after `error` in a callback or a step of ours: the peer sees that something is missing."""
        if self.ending is None and (closer := self._begin_to_close()) is not None:
            self._error = self._error or error
            if verb:
                self._reason = f"left by an exception: {type(error).__name__}"
            closer.leave(verb)

    def _begin_to_close(self) -> CallbackCloser | None:
        """Return what carries out the end; None if TLS has not begun."""
        self._handshake.stop_timer()
        self._lane.leave()
        self._sender.eof_wanted = False  # The end has a close_notify of its own.
        if self._closer is None and self._underlying is not None:
            self._receiver.over = True
            self._closer = CallbackCloser(
                self._loop,
                self._engine,
                self._underlying,
                linger_bytes=self._policy.linger_bytes,
                scratch=self._scratch,
                write=self._sender.run,
                release=self._release,
                go_on=partial(self._guarded, self._go_on),
            )
        return self._closer

    def _release(self) -> None:
        """Build the ending, report it, and close the transport, whatever the application's callback raises."""
        closer, underlying = self._closer, self._underlying
        assert closer is not None and underlying is not None, "the closer calls this"  # noqa: PT018
        try:
            self._sender.give_up()
            winddown = closer.winddown
            winddown.release(counts_bytes=underlying.counts_bytes)
            winddown.released()
            self.ending = winddown.build_ending(peer=underlying.peer, began=self._began, reason=self._reason)
            self._policy.report(self.ending)
        finally:
            if underlying.lost:
                self._finish()
            elif self._engine.outbound is Outbound.RESET:
                underlying.reset()
            else:
                underlying.close()

    def _finish(self) -> None:
        """Tell the application and the waiter of the end: the transport is closed."""
        error, self._error = self._error, None
        if error is None:
            error = lost_data(self.ending, self._engine)
        if isinstance(error, BowoutError):
            error.ending = self.ending
            error = as_connection_error(error)
        self._app.connection_lost(error)
        self._app_transport = None  # Break the reference cycles, so that all is freed at once.
        for part in (self._app, self._receiver, self._sender, self._handshake, self._closer):
            if part is not None:
                part.forget()
        self._handshake.wake(error or StreamClosed("the connection was closed in the handshake"))
