"""The pump of one TLS connection: it moves bytes between the engine, the transport and the tasks that want them.

The invariant of every loop here, and in `bowout._connection`: touch the engine without an await in between, hand its
output to the kernel, then await exactly one thing and look at everything anew. So no lock guards the engine, and a
cancelled wait loses nothing.
"""

from __future__ import annotations

import abc
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar

from bowout._backends.sockets import address_of, belongs_elsewhere
from bowout._core.engine import Engine
from bowout._core.timeline import Timeline
from bowout._turn import Turns
from bowout.ending import EventKind, Outbound, Role, Side
from bowout.errors import (
    BowoutError,
    HandshakeTimeout,
    MisuseError,
    SendInterrupted,
    StreamClosed,
    Truncated,
)

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable

    from bowout._backends import Backend, Transport
    from bowout._core.client_hello import HelloGate
    from bowout.ending import Ending, Event, TruncationPolicy

T = TypeVar("T")

SCRATCH_SIZE: Final = 1 << 18
#: A read is at least this large: a full record and its frame.
_MIN_READ: Final = 17 << 10
#: Answers that reading makes (to key updates, say) may wait for the kernel up to here; then reading waits for them.
#: It is more than a send ever has in the queue: two peers that both send must not both stop reading.
_OUTPUT_CAP: Final = 1 << 17
#: Every so many operations the task lets others run, for each may have succeeded without waiting.
_FAIR: Final = 32
#: After so many waits it is tried whether the peer's next message is there without one.
_PROBE: Final = 4
#: Before an error is raised, the alert that goes with it gets so long to leave and to be read, in seconds.
ALERT_PATIENCE: Final = 1.0
#: The most bytes that a last look hands to the kernel, and takes from it: more than any socket buffer holds. A peer
#: that reads as fast as we send, or sends as fast as we read, must not keep us from ending.
LAST_LOOK: Final = 1 << 24
_NOTHING: Final = memoryview(b"")
_TORN: Final = "the stream was ended: an exception had interrupted it between two of its steps"

#: Our direction cannot be used again in these.
_DEAD: Final = frozenset({Outbound.LOST, Outbound.FATAL_ALERT, Outbound.RESET})

_scratch = threading.local()


def _loss(error: OSError) -> str:
    """The system's words for why there is no connection any more, where that was no RST of the peer."""
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return ""
    return error.strerror or type(error).__name__


def _shared_scratch() -> tuple[memoryview, memoryview]:
    """Memory for every connection of a thread, one for ciphertext and one for plaintext: used between two awaits."""
    try:
        return _scratch.views  # type: ignore[no-any-return]
    except AttributeError:
        _scratch.views = (memoryview(bytearray(SCRATCH_SIZE)), memoryview(bytearray(SCRATCH_SIZE)))
        return _scratch.views  # type: ignore[no-any-return]


class Pump(abc.ABC):
    """Everything that a connection does before it ends.

    Args:
        context: prepared for endings.

    Attributes:
        leaving: a verb was called that ends the connection: nothing new is received or sent.
        preface: what is to be done before the handshake, in its time.
        ending: how it ended, when the descriptor is closed.
        cut_short: half a message was sent, so that close_notify would vouch for too much.
        torn: an exception, from a signal handler for example, struck while bytes went from hand to hand, which has
            ended the connection: what is sent after it could be garbled, and what is received.
        reason: for the ending, where somebody knows one.
        scratch: memory for plaintext that anybody may use between two awaits.
    """

    # More than 30 attributes in a dictionary would weigh 1.3 KiB more.
    __slots__ = (
        "__weakref__",
        "_accepted",
        "_ciphertext",
        "_eager",
        "_handshaking",
        "_kernel_dry",
        "_messages",
        "_operations",
        "_reading",
        "_received",
        "_send_held_up",
        "_sends",
        "_timeline",
        "_told_to_end",
        "_transport",
        "_unencrypted",
        "_waits",
        "backend",
        "cut_short",
        "ending",
        "engine",
        "leaving",
        "preface",
        "reason",
        "scratch",
        "torn",
    )

    def __init__(
        self,
        backend: Backend,
        transport: Transport,
        context: ssl.SSLContext,
        *,
        role: Role,
        server_hostname: str | None,
        session: ssl.SSLSession | None,
        truncation: TruncationPolicy,
        on_event: Callable[[Event], None] | None,
        gate: HelloGate | None,
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
        )
        self.preface: Callable[[], Awaitable[None]] | None = None
        self._timeline.record(EventKind.CONNECTED, Side.WE if role is Role.CLIENT else Side.PEER, transport.peer)
        self.scratch: memoryview
        self._ciphertext, self.scratch = _shared_scratch()
        self._sends = Turns(backend)
        self._handshaking = Turns(backend)
        self._received = 0
        self._unencrypted = _NOTHING
        self._operations = 0
        self._kernel_dry = role is Role.CLIENT  # A server speaks only when it was spoken to.
        self._eager = False
        self._waits = 0
        self._reading = False
        self._send_held_up = False
        self._told_to_end = False
        self.cut_short: bool = False
        self._accepted = 0
        self._messages: list[int] = []
        self.torn: bool = False
        self.reason: str = ""
        self.leaving: bool = False
        self.ending: Ending | None = None

    @property
    def peer(self) -> str:
        """The peer's name, for people."""
        return self._transport.peer

    @property
    def sock(self) -> socket.socket | None:
        """The socket underneath; None where there is none, and after the end."""
        return self._transport.sock

    @property
    def local_address(self) -> Any:
        """The address of our end of the socket, a link-local one with its zone; None after the end."""
        sock = self.sock
        return None if sock is None else address_of(sock.getsockname)

    @property
    def remote_address(self) -> Any:
        """The address of the socket's other end, likewise."""
        sock = self.sock
        return None if sock is None else address_of(sock.getpeername)

    @property
    def quiet(self) -> bool:
        """Nothing was received since we last sent."""
        return self._timeline.quiet

    @property
    def silent(self) -> bool:
        """Nothing at all was received."""
        return self._received == 0

    @property
    def silent_above(self) -> bool:
        """No application data was received."""
        return self._timeline.received == 0

    @property
    def last_data_at(self) -> float:
        """When application data last passed, on the loop's clock."""
        return self._timeline.last_data_at

    def note_reason(self, reason: str) -> None:
        """Say for the ending why it ended; the first reason counts."""
        self.reason = self.reason or reason

    def _note_ending(self, ending: Ending) -> None:
        self.ending = ending

    # -- moving bytes --------------------------------------------------------------------------------------------

    def take_received(self, data: bytes | memoryview) -> None:
        """Take ciphertext that somebody else has read from the socket, before anything is read here."""
        self._received += len(data)
        self.engine.receive_data(data)

    def try_flush(self) -> bool:
        """Hand the kernel what it takes of the engine's output; True when nothing is left of it."""
        while (head := self.engine.output()) is not None:
            try:
                try:
                    count = self._transport.send(head)
                except OSError as error:
                    self.engine.send_failed(loss=_loss(error))
                    break
                if count is None:
                    return False
                self.engine.output_taken(count)
            except BaseException as error:
                self._tear(error)  # Nobody knows whether these bytes have left.
                raise
        return True

    def check_loop(self) -> None:
        """Raise where another event loop than the stream's own runs the caller: it can wait for nothing here."""
        if not self.backend.is_current():
            raise belongs_elsewhere(running=self.backend.is_running())

    async def flush(self) -> None:
        """Hand the kernel all of the engine's output."""
        while not self.try_flush():
            await self._transport.wait_to_give(self.try_flush)
            self._check_not_ended()

    def _receive(self, limit: int) -> int | None:
        """Move what the kernel has into the engine: a count, 0 at the end of input, None if nothing is there."""
        try:
            count = self._receive_raw(limit)
            if count:
                self.engine.receive_data(self._ciphertext[:count])
        except BaseException as error:
            self._tear(error)
            raise
        return count

    def _safely(self, call: Callable[[], T]) -> T:
        """Have the engine do something; `_tear` what an exception strikes in it."""
        try:
            return call()
        except BowoutError:
            raise
        except BaseException as error:
            self._tear(error)
            raise

    def _tear(self, error: BaseException) -> None:
        """End the connection where `error` struck while bytes went from hand to hand: some may be lost, or sent twice.

        Whoever waits is told by that. What the engine has handed on has struck where nothing is lost.
        """
        handed_on, self.engine.handed_on = self.engine.handed_on, None  # Its frames hold all that is here.
        if error is not handed_on and self.ending is None:
            self.torn = True
            self.note_reason(f"torn by {type(error).__name__}")
            self._finish_without_waiting(notify=False)

    def _receive_raw(self, limit: int) -> int | None:
        """Receive up to `limit` bytes of ciphertext; like `_receive`, but they are still to be given to the engine."""
        try:
            count = self._transport.receive_into(self._ciphertext[:limit])
        except OSError as error:
            self.engine.receive_reset(error.strerror or "", loss=_loss(error))
            return 0
        if count is None:
            self._kernel_dry, self._eager = True, False
            return None
        # Less than there was room for: that was all. Whatever comes next ends a wait.
        self._kernel_dry = 0 < count < limit
        self._received += count
        if not count:
            self.engine.receive_eof()
        if self._send_held_up:
            self._send_held_up = False
            self._transport.wake()  # Whoever receives it, the sender waits for it, too.
        return count

    def look(self) -> None:
        """Decrypt what has arrived, without waiting, and keep it for the reader: `silent_above` may end by that."""
        self._receive(_MIN_READ)
        self._safely(self.engine.hold)

    def _take_input(self) -> bool:
        """Have the engine take what has just arrived; tell whether there was anything."""
        return self._receive(_MIN_READ) is not None

    async def _more_input(self) -> None:
        """Wait until the engine may have more to read, or who reads is told to end, or the stream begins to close."""
        while not self.try_flush() and self.engine.output_size > _OUTPUT_CAP:
            await self._wait(read=False, write=True)
        if self._told_to_end and self.engine.handshake_done:
            return
        self._waits += 1
        self._eager = self._waits % _PROBE == 0
        if self.try_flush():
            await self._transport.wait_to_take(self._take_input)
            self.check_staying()
        else:
            await self._wait(read=True, write=True)
            self._take_input()

    async def _wait(self, *, read: bool, write: bool) -> None:
        await self._transport.wait(read=read, write=write)
        self.check_staying()
        if write:
            self.try_flush()

    def overdue(self) -> bool:
        """Count an operation, which need not wait; True when it is time for `let_others_run`."""
        self._operations += 1
        return self._operations >= _FAIR

    async def let_others_run(self) -> None:
        """Let others run, though there is something to do here. Much may have changed then."""
        self._operations = 0
        await self.backend.checkpoint()

    # -- the handshake -------------------------------------------------------------------------------------------

    async def handshake(self, timeout: float) -> None:
        """Shake hands, once, whoever asks first; on any failure the connection is over."""
        if self.engine.handshake_done:
            return
        self.check_staying()
        self.check_loop()
        await self._handshaking.take()
        try:
            if not self.engine.handshake_done:
                self.check_staying()
                await self._shake_hands(timeout)
        finally:
            self._handshaking.give()

    async def _shake_hands(self, timeout: float) -> None:
        try:
            async with self.backend.move_on_at(self.backend.time() + timeout) as scope:
                if self.preface is not None:
                    preface, self.preface = self.preface, None
                    await preface()
                while not self.engine.handshake():
                    if self._kernel_dry or not self._take_input():
                        await self._more_input()
                    if self.overdue():
                        await self.let_others_run()
                await self.flush()
            if scope.expired and not self._finish_handshake_now():
                self.engine.give_up(
                    lambda: HandshakeTimeout(f"the peer did not finish the handshake within {timeout:g} s")
                )
        except StreamClosed:
            raise
        except BowoutError as error:
            raise await self.die(error)  # noqa: B904  (it is the same error, or carries its own cause)
        except BaseException:
            self.leave_at_once("cancelled in the handshake", notify=False)
            raise
        if (failure := self.engine.failure) is not None:
            self._finish_without_waiting(notify=False)
            raise self._with_ending(failure)

    def _finish_handshake_now(self) -> bool:
        """Take a last look: what is missing may have come while the loop was blocked. Tell whether it is done."""
        while not self.engine.handshake():
            if not self._take_input():
                return False
        return self.try_flush()

    # -- data ----------------------------------------------------------------------------------------------------

    async def read_into(self, view: memoryview) -> int:
        """Decrypt into `view`; 0 at the end of the peer's direction."""
        if self.overdue():
            await self.let_others_run()
        self._reading = True
        try:
            while True:
                if self.leaving or self.ending is not None:
                    self.check_staying()
                try:
                    count = self._read_now(view)
                except BowoutError as error:
                    raise await self.die(error)  # noqa: B904  (it is the same error)
                if self.engine.output_size:
                    self.try_flush()
                if count is not None or self._told_to_end:
                    self._told_to_end = False
                    return count or 0
                if self._kernel_dry:
                    await self._more_input()
                else:
                    await self.let_others_run()  # A flood of records without data must not keep others waiting.
        finally:
            self._reading = False

    def end_receive(self) -> None:
        """Have the read that is waiting give the end, after what has come by now."""
        self._told_to_end = True
        self._kernel_dry = False
        self._transport.wake()

    def _read_now(self, view: memoryview) -> int | None:
        """Fill `view` from the engine and the kernel. An end or an error after data waits for the next read."""
        total: int | None = None
        try:
            total = self.engine.read_into(view)
            if total is None:
                if self._kernel_dry and not self._eager:
                    return None
            elif self._kernel_dry or not 0 < total < len(view):
                return total
            room = view[total:] if total else view
            size = len(room)
            count = self._receive_raw(_MIN_READ if size < _MIN_READ else min(size, SCRATCH_SIZE))
            if count is None or (total and not count):
                return total
            more = self.engine.receive_and_read(self._ciphertext[:count], room)
        except BowoutError:
            if total:
                return total
            raise
        except BaseException as error:
            self._tear(error)
            raise
        return (total or 0) + more if more else total or more

    async def send(self, view: memoryview) -> None:
        """Encrypt and hand over all of `view`, after the sends that came before."""
        if self.overdue():
            await self.let_others_run()
        if not self._sends.take_free():
            await self._take_send_turn()
        try:
            if self.leaving or self.ending is not None:
                self.check_staying()
            if self.cut_short and self.engine.outbound is Outbound.OPEN:
                raise SendInterrupted("an earlier send or message() was cut short; what is sent now would be garbled")
            if self.engine.output_size:
                await self.flush()  # What a cancelled send left behind: so cancelled sends do not pile up.
            await self._send_all(view)
        finally:
            self._give_send_turn()

    async def _send_all(self, view: memoryview) -> None:
        try:
            while view and not self._encrypt(view):
                await self._receive_other_half()
            while True:
                if not self.try_flush():
                    await self._flush_send()
                elif self._unencrypted and self.overdue():
                    await self.let_others_run()
                    self._check_sending()
                if not self._unencrypted:
                    break
                if not self._encrypt(self._unencrypted):
                    await self._receive_other_half()
            if self.engine.outbound is Outbound.LOST:
                raise self.engine.why_not_writable()
        except BowoutError as error:
            raise self._with_ending(error)  # noqa: B904  (it is the same error)
        finally:
            self._count_unencrypted()

    def _encrypt(self, view: memoryview) -> int:
        """Encrypt the beginning of `view`, which is all that is left of a send; what is refused cuts nothing."""
        try:
            count = self.engine.write(view)
        except BowoutError:
            raise
        except BaseException as error:
            self._unencrypted = view  # How much of it was encrypted is not known.
            self._tear(error)
            raise
        if count:
            self._unencrypted = view[count:]
            self._accepted += count
        return count

    async def _flush_send(self) -> None:
        while not self.try_flush():
            await self._transport.wait_to_give(self.try_flush)
            self._check_sending()

    def _check_sending(self) -> None:
        """Raise where the connection has ended, unless the kernel has all of the send: a last look handed it over."""
        whole = not (self.cut_short or self._unencrypted or self.engine.output_size)
        if not whole or self.engine.outbound in _DEAD:
            self._check_not_ended()

    def push_send(self) -> None:
        """Hand the kernel what it takes now of the send in flight, without waiting."""
        pushed = 0
        while self._unencrypted and pushed < LAST_LOOK and self.try_flush():
            try:
                count = self._encrypt(self._unencrypted)
            except BowoutError:
                return
            if not count:
                return
            pushed += count

    async def _receive_other_half(self) -> None:
        """OpenSSL has one half of a handshake message, and writes again when it has the other: see that it comes."""
        if self.engine.input_ended:
            raise self.engine.failure or Truncated("the peer left within a handshake message", inside_record=False)
        self._send_held_up = True
        await self._transport.wait(read=True, write=False)
        self._check_not_ended()
        # Whoever reads may have been woken for it after us, and will find it where it is held.
        if self._reading or self._receive(_MIN_READ) is not None:
            self._safely(self.engine.hold)

    def _count_unencrypted(self) -> None:
        """If there is a send in flight, it is cut here: the rest of it was accepted and is not sent."""
        if self._unencrypted:
            self.cut_short = True
            self.engine.count_unsent(len(self._unencrypted))
            self._unencrypted = _NOTHING

    def begin_message(self) -> int:
        """From now on all that is sent belongs together; give what `end_message` wants to know."""
        self._messages.append(self._accepted)
        return self._accepted

    def end_message(self, began: int, *, whole: bool) -> None:
        """It was sent, or, where it is not `whole`, it is cut here."""
        self._messages.remove(began)
        if self._accepted > began and not whole:
            self.cut_short = self.engine.message_cut = True

    def _amid_message(self) -> bool:
        """Some of a message was sent, and more belongs to it."""
        return self._accepted > min(self._messages)

    def check_whole(self) -> None:
        """Raise where close_notify would vouch for half a message."""
        if self.cut_short:
            raise SendInterrupted("a send or message() was cut short: close_notify would vouch for half of it")
        if self._messages and self._amid_message():
            raise MisuseError("a message() is under way: close_notify would vouch for half of it")

    async def send_eof(self) -> None:
        """Queue our close_notify after the sends that came before, and hand it over."""
        await self._take_send_turn()
        try:
            self.check_staying()
            if self.engine.outbound is Outbound.OPEN:
                self.check_whole()
                self.engine.call("send_eof()", leaving=False)
                self._safely(self.engine.queue_close_notify)
            await self.flush()
            if self.engine.outbound in _DEAD:
                raise self._with_ending(self.engine.why_not_writable())
        finally:
            self._give_send_turn()

    async def _take_send_turn(self) -> None:
        self.check_loop()
        try:
            await self._sends.take()
        except BaseException:
            self._wake_closer()  # The turn may have come, and gone to nobody.
            raise

    def _give_send_turn(self) -> None:
        self._sends.give()
        self._wake_closer()

    def _wake_closer(self) -> None:
        """A close may be waiting for the last sender."""
        if self.leaving:
            self._transport.wake()

    # -- errors --------------------------------------------------------------------------------------------------

    async def die(self, error: BowoutError) -> BowoutError:
        """Prepare `error` for being raised: let its alert be read first, and end the connection if it cannot go on."""
        beyond_repair = self.engine.outbound in _DEAD or not self.engine.handshake_done
        try:
            if self.ending is None and self.engine.output_size and self.backend.is_current():
                async with self.backend.move_on_at(self.backend.time() + ALERT_PATIENCE):
                    await self.flush()
                    if self.engine.outbound is Outbound.FATAL_ALERT:
                        await self._see_off()
        finally:
            if beyond_repair and not self.leaving:
                self._finish_without_waiting(notify=False)
            elif self.ending is None:
                self.try_flush()
        return self._with_ending(error)

    def _with_ending(self, error: BowoutError) -> BowoutError:
        error.ending = self.ending or self._draw_up()
        return error

    def check_staying(self) -> None:
        """Raise if we are leaving, or have left."""
        if self.leaving:
            closed = StreamClosed("we closed this stream")
            closed.ending = self.ending  # While the peer may still answer, every verdict would be a guess.
            raise closed
        self._check_not_ended()

    def _check_not_ended(self) -> None:
        if self.ending is not None:
            failure = self.engine.failure if not self.leaving else None
            text = _TORN if self.torn else "the stream was closed before the kernel had everything"
            raise self._with_ending(failure or StreamClosed(text))

    # -- what the connection adds --------------------------------------------------------------------------------

    @abc.abstractmethod
    def leave_at_once(self, verb: str, *, notify: bool) -> None:
        """End without an await."""

    @abc.abstractmethod
    def _finish_without_waiting(self, *, notify: bool) -> None:
        """Do as much of a close as can be done at once, and release the descriptor."""

    @abc.abstractmethod
    async def _see_off(self) -> None:
        """When all is said, send FIN, and read what still comes: unread, it would make the kernel send RST."""

    @abc.abstractmethod
    def _draw_up(self) -> Ending:
        """The ending, as far as it is known."""
