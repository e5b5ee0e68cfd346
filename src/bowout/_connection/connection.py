"""One TLS connection: the operations of its tasks, from the handshake to the errors that end it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bowout._backends.lock import FifoLock
from bowout._backends.sockets import address_of
from bowout._connection.channel import CATCH_UPS, MIN_READ, SCRATCH_SIZE, Channel
from bowout._connection.closer import Closer
from bowout._core.engine import Engine
from bowout._core.timeline import Timeline
from bowout._core.winddown import ALERT_PATIENCE, OUTPUT_CAP
from bowout.ending import EventKind, Inbound, Outbound, Role, Side
from bowout.errors import BowoutError, HandshakeTimeout, MisuseError, SendInterrupted, StreamClosed, Truncated

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable

    from bowout._backends import Backend, Deadline, Transport
    from bowout._core.client_hello import HelloGate
    from bowout.ending import Event, TruncationPolicy

#: Operations after which a task lets others run: each operation may have succeeded without waiting.
_FAIR: Final = 32

#: Maximum reads of one look if none of them finds data.
_LOOKS: Final = 8

#: Seconds for what the peer has said, an alert for example, once we cannot send: no handshake can succeed then. With a
#: socket the kernel has it already; another carrier may deliver it later, or wait for a peer that waits for us.
_LAST_WORDS: Final = 1.0

#: States in which our direction cannot be used again.
_DEAD: Final = frozenset({Outbound.LOST, Outbound.FATAL_ALERT, Outbound.RESET})


class Connection:
    """The implementation under a `bowout.Stream`.

    Args:
        context: prepared for endings.
        linger_bytes: maximum number of bytes that a close reads and discards.
        notify_on_error: whether to send close_notify even after an interrupted send.

    Attributes:
        preface: coroutine function to run before the handshake, within its timeout.
        closer: ends the connection.
        scratch: memory for plaintext, shared by all connections of the thread; valid until the next await.
    """

    # A dictionary of more than 30 attributes would take 1.3 KiB more.
    __slots__ = (
        "__weakref__",
        "_channel",
        "_handshaking",
        "_operations",
        "_reading",
        "_sends",
        "_timeline",
        "_told_to_end",
        "_transport",
        "backend",
        "closer",
        "engine",
        "preface",
        "scratch",
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
        notify_on_error: bool,
        on_event: Callable[[Event], None] | None,
        gate: HelloGate | None = None,
    ) -> None:
        self.backend: Backend = backend
        self._transport = transport
        self._timeline = Timeline(backend.time, on_event)
        self.engine: Engine = Engine(
            context,
            role=role,
            server_hostname=server_hostname,
            session=session,
            timeline=self._timeline,
            truncation=truncation,
            gate=gate,
            notify_on_error=notify_on_error,
        )
        self.preface: Callable[[], Awaitable[None]] | None = None
        self._timeline.record(EventKind.CONNECTED, Side.WE if role is Role.CLIENT else Side.PEER, transport.peer)
        # A server sends nothing before the client has sent something.
        self._channel = Channel(self.engine, transport, dry=role is Role.CLIENT)
        self.scratch: memoryview = self._channel.scratch
        self._sends = FifoLock(backend)
        self._handshaking = FifoLock(backend)
        self.closer: Closer = Closer(backend, self._channel, self._sends, linger_bytes=linger_bytes)
        self._operations = 0
        self._reading = False
        self._told_to_end = False

    @property
    def peer(self) -> str:
        """The peer's name, for people."""
        return self._transport.peer

    @property
    def sock(self) -> socket.socket | None:
        """The socket under the connection; None if there is none, and after the end."""
        return self._transport.sock

    @property
    def local_address(self) -> Any:
        """The local address of the socket, a link-local one with its zone; None after the end."""
        sock = self.sock
        return self._transport.get_extra_info("sockname") if sock is None else address_of(sock.getsockname)

    @property
    def remote_address(self) -> Any:
        """The remote address of the socket, likewise."""
        sock = self.sock
        return self._transport.get_extra_info("peername") if sock is None else address_of(sock.getpeername)

    @property
    def quiet(self) -> bool:
        """Whether nothing was received since our last send."""
        return self._timeline.quiet

    @property
    def silent(self) -> bool:
        """Whether nothing at all was received."""
        return self._channel.received == 0

    @property
    def no_data_received(self) -> bool:
        """Whether no application data was received."""
        return self._timeline.received == 0

    @property
    def last_data_at(self) -> float:
        """Time at which application data last passed, in seconds on the loop's clock."""
        return self._timeline.last_data_at

    # -- moving bytes --------------------------------------------------------------------------------------------

    def take_received(self, data: bytes | memoryview) -> None:
        """Process ciphertext, `data`, that was read from the socket elsewhere, before any read here."""
        self._channel.take_received(data)

    def look(self) -> None:
        """Decrypt what has arrived, without waiting, and keep it for the reader: this may end `no_data_received`.

        A session ticket, for example, is decrypted and holds no data: what follows it is read, too.
        """
        for _ in range(_LOOKS):
            came = self._channel.receive(MIN_READ)
            self._channel.safely(self.engine.incoming.hold)
            if not came or self.engine.incoming.size:
                return

    async def _flush(self) -> None:
        """Pass all of the engine's output to the kernel."""
        while not self._channel.flush():
            await self._transport.wait_writable(self._channel.flush)
            self.closer.check_not_ended()

    async def _more_input(self) -> None:
        """Wait until the engine may have more to read, the reader is told to end, or the stream begins to close."""
        channel = self._channel
        while not channel.flush() and self.engine.outgoing.size > OUTPUT_CAP:
            await self._wait(read=False, write=True)
        if self._told_to_end and self.engine.handshake_done:
            return
        channel.begin_wait()
        if channel.flush():
            await self._transport.wait_readable(channel.receive_some)
            self.closer.check_staying()
        else:
            await self._wait(read=True, write=True)
            channel.receive_some()

    async def _wait(self, *, read: bool, write: bool) -> None:
        await self._transport.wait(read=read, write=write)
        self.closer.check_staying()
        if write:
            self._channel.flush()

    def overdue(self) -> bool:
        """Count an operation that may not have waited; return True when it is time for `let_others_run`."""
        self._operations += 1
        return self._operations >= _FAIR

    async def let_others_run(self) -> None:
        """Let other tasks run although there is work here. They may have changed the state."""
        self._operations = 0
        await self.backend.checkpoint()

    # -- the handshake -------------------------------------------------------------------------------------------

    async def handshake(self, timeout: float) -> None:
        """Perform the handshake once, for the first caller; after any failure the connection has ended."""
        if self.engine.handshake_done:
            return
        self.closer.check_staying()
        self.closer.check_loop()
        await self._handshaking.acquire()
        try:
            if not self.engine.handshake_done:
                self.closer.check_staying()
                await self._shake_hands(timeout)
        finally:
            self._handshaking.release()

    async def _shake_hands(self, timeout: float) -> None:
        try:
            async with self.backend.move_on_at(self.backend.time() + timeout) as scope:
                if self.preface is not None:
                    preface, self.preface = self.preface, None
                    await preface()
                await self._exchange(scope)
                await self._flush_handshake()
            if scope.expired and not await self._finish_handshake_now():
                self._give_up_handshake(timeout)
        except StreamClosed:
            raise
        except BowoutError as error:
            raise await self.fail(error)  # noqa: B904  (it is the same error, or carries its own cause)
        except BaseException:
            await self.closer.leave_soon("cancelled in the handshake", notify=False)
            raise
        if (failure := self.engine.failure) is not None:
            await self.closer.finish_soon(notify=False)
            raise self.closer.with_ending(failure)

    async def _exchange(self, scope: Deadline) -> None:
        """Move the messages of the handshake until it is done."""
        while not self.engine.handshake():
            if self.engine.outbound is Outbound.LOST:
                scope.tighten(self.backend.time() + _LAST_WORDS)
            if self._channel.dry or not self._channel.receive_some():
                await self._more_input()
            if self.overdue():
                await self.let_others_run()

    def _give_up_handshake(self, timeout: float) -> None:
        """Fail for want of an answer: within `timeout`, or to what could not be sent."""
        if self.engine.outbound is Outbound.LOST:
            self.engine.receive_reset()
            self.engine.handshake()  # This raises what that means.
        else:
            self.engine.give_up(lambda: HandshakeTimeout(f"the peer did not finish the handshake within {timeout:g} s"))

    async def _flush_handshake(self) -> None:
        """Pass the rest of the handshake on.

        A transport that does not act at once goes on with it by itself. We do not wait, since it may buffer nothing:
        then a server's tickets are taken only when the client reads, and that may be after the server's first answer.
        """
        if self._transport.acts_at_once:
            await self._flush()
        else:
            self._channel.flush()

    async def _finish_handshake_now(self) -> bool:
        """Try once more: the missing bytes may have come while the loop was blocked. Tell whether it is done."""
        looks = CATCH_UPS
        while not self.engine.handshake():
            if not self._channel.receive_some():
                self._channel.flush()
                looks -= 1
                if not looks or not await self._transport.catch_up():
                    return False
                self.closer.check_staying()
        return self._channel.flush() or not self._transport.acts_at_once

    # -- data ----------------------------------------------------------------------------------------------------

    async def read_into(self, view: memoryview) -> int:
        """Decrypt into `view`; return the number of bytes, 0 at the end of the peer's direction."""
        if self.overdue():
            await self.let_others_run()
        self._reading = True
        try:
            while True:
                if self.closer.leaving or self.closer.ending is not None:
                    self.closer.check_staying()
                try:
                    count = self._read_now(view)
                except BowoutError as error:
                    raise await self.fail(error)  # noqa: B904  (it is the same error)
                if self.engine.outgoing.size:
                    self._channel.flush()
                if count is not None or self._told_to_end:
                    self._told_to_end = False
                    return count or 0
                if self._channel.dry:
                    await self._more_input()
                else:
                    await self.let_others_run()  # A flood of records without data must not keep other tasks waiting.
        finally:
            self._reading = False

    def end_receive(self) -> None:
        """Make the waiting read return the end, after what has arrived by now."""
        self._told_to_end = True
        self._channel.dry = False
        self._transport.wake()

    def _read_now(self, view: memoryview) -> int | None:
        """Fill `view` from the engine and the kernel. An end or an error after data waits for the next read."""
        channel, total = self._channel, None
        try:
            total = self.engine.incoming.read_into(view)
            if total is None:
                if channel.dry and not channel.eager:
                    return None
            elif channel.dry or not 0 < total < len(view):
                return total
            room = view[total:] if total else view
            size = len(room)
            count = channel.receive_raw(MIN_READ if size < MIN_READ else min(size, SCRATCH_SIZE))
            if count is None or (total and not count):
                return total
            more = self.engine.receive_and_read(channel.ciphertext[:count], room)
        except BowoutError:
            if total:
                return total
            raise
        except BaseException as error:
            channel.tear(error)
            raise
        return (total or 0) + more if more else total or more

    async def send(self, view: memoryview) -> None:
        """Encrypt all of `view` and pass it to the kernel, after the earlier sends."""
        if self.overdue():
            await self.let_others_run()
        if not self._sends.acquire_nowait():
            await self._acquire_sends()
        try:
            if self.closer.leaving or self.closer.ending is not None:
                self.closer.check_staying()
            if self.engine.outgoing.interrupted and self.engine.outbound is Outbound.OPEN:
                raise SendInterrupted("an earlier send or message() was interrupted: later data would be garbled")
            if self.engine.outgoing.size:
                await self._flush()  # The rest of cancelled sends: so it does not pile up.
            await self._send_all(view)
        finally:
            self._release_sends()

    async def _send_all(self, view: memoryview) -> None:
        try:
            while view and not self._write(view):
                await self._receive_other_half()
            while True:
                if not self._channel.flush():
                    await self._flush_send()
                elif self.engine.outgoing.unencrypted and self.overdue():
                    await self.let_others_run()
                    self._check_sending()
                if not self.engine.outgoing.unencrypted:
                    break
                if not self._write(self.engine.outgoing.unencrypted):
                    await self._receive_other_half()
            if self.engine.outbound is Outbound.LOST:
                raise self.engine.outgoing.why_not_writable()
        except BowoutError as error:
            raise self.closer.with_ending(error)  # noqa: B904  (it is the same error)
        finally:
            self.engine.outgoing.interrupt()

    def _write(self, view: memoryview) -> int:
        try:
            return self.engine.outgoing.write(view)
        except BowoutError:
            raise
        except BaseException as error:
            self.engine.outgoing.unencrypted = view  # It is unknown how much of it was encrypted.
            self._channel.tear(error)
            raise

    async def _flush_send(self) -> None:
        while not self._channel.flush():
            await self._transport.wait_writable(self._channel.flush)
            self._check_sending()

    def _check_sending(self) -> None:
        """Raise if the connection has ended, unless the kernel has all of the send: the last step passed it on."""
        whole = not (self.engine.outgoing.interrupted or self.engine.outgoing.unencrypted or self.engine.outgoing.size)
        if not whole or self.engine.outbound in _DEAD:
            self.closer.check_not_ended()

    async def _receive_other_half(self) -> None:
        """Receive the other half of a handshake message of which OpenSSL has one half, so that it writes again."""
        if self.engine.input_ended:
            raise self.engine.failure or Truncated("the peer left within a handshake message", inside_record=False)
        self._channel.send_held_up = True
        await self._transport.wait(read=True, write=False)
        self.closer.check_not_ended()
        # The reader may have been woken for it after us, and will find it where it is held.
        if self._reading or self._channel.receive(MIN_READ) is not None:
            self._channel.safely(self.engine.incoming.hold)

    def check_whole(self) -> None:
        """Raise if close_notify would be false, after half a message."""
        if self.engine.outgoing.interrupted:
            raise SendInterrupted("a send or message() was interrupted: close_notify would mark it as complete")
        if self.engine.outgoing.amid_message:
            raise MisuseError("a message() is in progress: close_notify would mark it as complete")

    async def wait_writable(self) -> None:
        """Wait for the earlier sends, and until the kernel has all of the engine's output."""
        await self._acquire_sends()
        try:
            self.closer.check_staying()
            if self.engine.outbound is not Outbound.OPEN:
                raise self.closer.with_ending(self.engine.outgoing.why_not_writable())
            await self._flush()
        finally:
            self._release_sends()

    def is_idle(self) -> bool:
        """Process what has arrived; tell whether both directions are open, and nothing waits in either."""
        engine = self.engine
        if not engine.handshake_done or self._sends.locked:
            return False
        self.look()
        open_both_ways = engine.outbound is Outbound.OPEN and engine.inbound is Inbound.OPEN and not engine.input_ended
        return open_both_ways and not engine.incoming.size and self._channel.flush()

    async def send_eof(self) -> None:
        """Queue our close_notify after the earlier sends, and pass it to the kernel."""
        await self._acquire_sends()
        try:
            self.closer.check_staying()
            if self.engine.outbound is Outbound.OPEN:
                self.check_whole()
                self.engine.record_call("send_eof()", leaving=False)
                self._channel.safely(self.engine.queue_close_notify)
            await self._flush()
            if self.engine.outbound in _DEAD:
                raise self.closer.with_ending(self.engine.outgoing.why_not_writable())
        finally:
            self._release_sends()

    async def _acquire_sends(self) -> None:
        self.closer.check_loop()
        try:
            await self._sends.acquire()
        except BaseException:
            self._wake_closer()  # The lock may have been acquired and released already.
            raise

    def _release_sends(self) -> None:
        self._sends.release()
        self._wake_closer()

    def _wake_closer(self) -> None:
        """Wake a close that waits for the last sender."""
        if self.closer.leaving:
            self._transport.wake()

    # -- errors --------------------------------------------------------------------------------------------------

    async def fail(self, error: BowoutError) -> BowoutError:
        """Prepare `error` for being raised: let the peer read its alert, and end a connection that cannot go on."""
        beyond_repair = self.engine.outbound in _DEAD or not self.engine.handshake_done
        try:
            if self.closer.ending is None and self.engine.outgoing.size and self.backend.is_current():
                if self.engine.outbound is Outbound.FATAL_ALERT and not self.closer.leaving:
                    await self.closer.see_alert_off()
                else:
                    async with self.backend.move_on_at(self.backend.time() + ALERT_PATIENCE):
                        await self._flush()
        finally:
            if beyond_repair and not self.closer.leaving:
                await self.closer.finish_soon(notify=False)
            elif self.closer.ending is None:
                self._channel.flush()
        return self.closer.with_ending(error)
