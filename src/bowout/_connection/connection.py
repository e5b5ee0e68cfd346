"""One TLS connection: the operations of its tasks, from the handshake to the errors that end it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bowout._backends.lock import FifoLock
from bowout._backends.sockets import address_of, belongs_elsewhere
from bowout._connection.channel import CATCH_UPS, MIN_READ, SCRATCH_SIZE, Channel
from bowout._connection.closer import Closer
from bowout._connection.sender import DEAD, StreamSender
from bowout._core.engine import Engine
from bowout._core.timeline import Timeline
from bowout._core.winddown import ALERT_PATIENCE, OUTPUT_CAP
from bowout.ending import EventKind, Inbound, Outbound, Role, Side
from bowout.errors import BowoutError, HandshakeTimeout, StreamClosed

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable

    from bowout._backends import Backend, Deadline, Transport
    from bowout._core.client_hello import HelloGate
    from bowout.ending import Event, TruncationPolicy

#: Maximum reads of one look if none of them finds data.
_LOOKS: Final = 8

#: Seconds for what the peer has said, an alert for example, once we cannot send: no handshake can succeed then. With a
#: socket the kernel has it already; another carrier may deliver it later, or wait for a peer that waits for us.
_LAST_WORDS: Final = 1.0


class Connection:
    """The implementation under a `bowout.Stream`.

    Args:
        context: prepared for endings.
        linger_bytes: maximum number of bytes that a close reads and discards.
        notify_on_error: whether to send close_notify even after an interrupted send.

    Attributes:
        channel: moves the bytes.
        preface: coroutine function to run before the handshake, within its timeout.
        closer: ends the connection.
        sender: sends.
        scratch: memory for plaintext, shared by all connections of the thread; valid until the next await.
    """

    # A dictionary of more than 30 attributes would take 1.3 KiB more.
    __slots__ = (
        "__weakref__",
        "_handshaking",
        "_timeline",
        "_transport",
        "backend",
        "channel",
        "closer",
        "engine",
        "preface",
        "scratch",
        "sender",
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
        self.channel: Channel = Channel(self.engine, transport, dry=role is Role.CLIENT)
        self.scratch: memoryview = self.channel.scratch
        sends = FifoLock(backend)
        self._handshaking = FifoLock(backend)
        self.closer: Closer = Closer(backend, self.channel, sends, linger_bytes=linger_bytes)
        self.sender: StreamSender = StreamSender(backend, self.channel, self.closer, sends)

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
        self._timeline.settle()
        return self._timeline.quiet

    @property
    def silent(self) -> bool:
        """Whether nothing at all was received."""
        return self.channel.received == 0

    @property
    def no_data_received(self) -> bool:
        """Whether no application data was received."""
        self._timeline.settle()
        return self._timeline.received == 0

    @property
    def last_data_at(self) -> float:
        """Time at which application data last passed, in seconds on the loop's clock."""
        self._timeline.settle()
        return self._timeline.last_data_at

    # -- moving bytes --------------------------------------------------------------------------------------------

    def take_received(self, data: bytes | memoryview) -> None:
        """Process ciphertext, `data`, that was read from the socket elsewhere, before any read here."""
        self.channel.take_received(data)

    def off_lane(self, rest: memoryview) -> int:
        """Leave the lane, which returned its last data; return how many more bytes there are, in `rest`."""
        channel, engine = self.channel, self.engine
        channel.leave_lane()
        more = channel.safely(lambda: engine.incoming.read_available(rest)) if rest else 0
        if engine.outgoing.size:
            channel.flush()  # An answer of OpenSSL. Without data, the engine's reader sends it, or an alert.
        return more

    def forget_wait(self, error: BaseException) -> None:
        """Keep what a wait for the lane got, which ended by `error`."""
        self.engine.forget_wait()  # Its lane may have been left meanwhile, and may be entered again.
        if isinstance(error, RuntimeError):  # from asyncio: the waiting task belongs to another loop
            raise belongs_elsewhere(running=self.backend.is_running()) from error

    def look(self) -> None:
        """Decrypt what has arrived, without waiting, and keep it for the reader: this may end `no_data_received`.

        A session ticket, for example, is decrypted and holds no data: what follows it is read, too.
        """
        for _ in range(_LOOKS):
            came = self.channel.receive(MIN_READ)
            self.channel.safely(self.engine.incoming.hold)
            if not came or self.engine.incoming.size:
                return

    async def _more_input(self) -> None:
        """Wait until the engine may have more to read, the reader is told to end, or the stream begins to close."""
        channel = self.channel
        while not channel.flush() and self.engine.outgoing.size > OUTPUT_CAP:
            await self._wait(read=False, write=True)
        if self.channel.told_to_end and self.engine.handshake_done:
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
            self.channel.flush()

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
            if self.channel.dry or not self.channel.receive_some():
                await self._more_input()
            if self.channel.overdue():
                await self.channel.let_others_run(self.backend)

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
            await self.sender.flush()
        else:
            self.channel.flush()

    async def _finish_handshake_now(self) -> bool:
        """Try once more: the missing bytes may have come while the loop was blocked. Tell whether it is done."""
        looks = CATCH_UPS
        while not self.engine.handshake():
            if not self.channel.receive_some():
                self.channel.flush()
                looks -= 1
                if not looks or not await self._transport.catch_up():
                    return False
                self.closer.check_staying()
        return self.channel.flush() or not self._transport.acts_at_once

    # -- data ----------------------------------------------------------------------------------------------------

    async def read_into(self, view: memoryview) -> int:
        """Decrypt into `view`; return the number of bytes, 0 at the end of the peer's direction."""
        self.channel.leave_lane()
        if self.channel.overdue():
            await self.channel.let_others_run(self.backend)
        self.channel.reading = True
        try:
            while True:
                if self.closer.leaving or self.closer.ending is not None:
                    self.closer.check_staying()
                try:
                    count = self._read_now(view)
                except BowoutError as error:
                    raise await self.fail(error)  # noqa: B904  (it is the same error)
                if self.engine.outgoing.size:
                    self.channel.flush()
                if count:
                    self.channel.reading = False
                    self.sender.enter_lane()
                if count is not None or self.channel.told_to_end:
                    self.channel.told_to_end = False
                    return count or 0
                if self.channel.dry:
                    await self._more_input()
                else:
                    await self.channel.let_others_run(
                        self.backend
                    )  # A flood of records without data must not keep other tasks waiting.
        finally:
            self.channel.reading = False

    def end_receive(self) -> None:
        """Make the waiting read return the end, after what has arrived by now."""
        self.channel.leave_lane()
        self.channel.told_to_end = True
        self.channel.dry = False
        self._transport.wake()

    def _read_now(self, view: memoryview) -> int | None:
        """Fill `view` from the engine and the kernel. An end or an error after data waits for the next read."""
        channel, total = self.channel, None
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

    def is_idle(self) -> bool:
        """Process what has arrived; tell whether both directions are open, and nothing waits in either."""
        engine = self.engine
        if not engine.handshake_done or self.sender.busy:
            return False
        self.channel.leave_lane()
        self.look()
        open_both_ways = engine.outbound is Outbound.OPEN and engine.inbound is Inbound.OPEN and not engine.input_ended
        return open_both_ways and not engine.incoming.size and self.channel.flush()

    # -- errors --------------------------------------------------------------------------------------------------

    async def fail(self, error: BowoutError) -> BowoutError:
        """Prepare `error` for being raised: let the peer read its alert, and end a connection that cannot go on."""
        beyond_repair = self.engine.outbound in DEAD or not self.engine.handshake_done
        try:
            if self.closer.ending is None and self.engine.outgoing.size and self.backend.is_current():
                if self.engine.outbound is Outbound.FATAL_ALERT and not self.closer.leaving:
                    await self.closer.see_alert_off()
                else:
                    async with self.backend.move_on_at(self.backend.time() + ALERT_PATIENCE):
                        await self.sender.flush()
        finally:
            if beyond_repair and not self.closer.leaving:
                await self.closer.finish_soon(notify=False)
            elif self.closer.ending is None:
                self.channel.flush()
        return self.closer.with_ending(error)
