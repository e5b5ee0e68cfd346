"""One TLS connection for blocking code: the operations of its threads, from the handshake to the errors that end it."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from bowout._backends.sockets import address_of
from bowout._connection.channel import MIN_READ, SCRATCH_SIZE, Channel
from bowout._core.engine import Engine
from bowout._core.timeline import Timeline
from bowout._core.winddown import ALERT_PATIENCE
from bowout._exception_groups import consists_of
from bowout._stream import ERROR_PATIENCE, INTERRUPTIONS
from bowout.blocking._closer import BlockingCloser
from bowout.blocking._limit import Limit
from bowout.blocking._monitor import Monitor, Token, Turn
from bowout.blocking._sender import DEAD, BlockingSender
from bowout.blocking._steps import MAX_PIECES, Steps
from bowout.blocking._transport import PolledTransport
from bowout.ending import EventKind, Inbound, Outbound, Role, Side
from bowout.errors import (
    BowoutError,
    BusyError,
    HandshakeTimeout,
    StreamClosed,
    TimedOut,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from bowout._options import StreamOptions

    #: Looks for something in the unread data, and removes and returns it, or returns the error to be raised. If it is
    #: called with True, no more data come, and it must return one of them.
    Find = Callable[[bytearray, bool], bytes | BowoutError | None]

T = TypeVar("T")


class BlockingConnection:
    """The implementation under a `bowout.blocking.SyncStream` and a `bowout.blocking.TLSSocket`.

    Args:
        sock: the socket, which never blocks by itself.
        peer: the peer's name, for people; "" for the address of `sock`.
        options: of the stream; already checked.
        exact: read no byte from the kernel after the current record. Then a selector, which sees only the kernel, is as
            right about this connection as about an `ssl.SSLSocket`, and what follows TLS stays for the plain socket.

    Attributes:
        engine: the connection's TLS.
        closer: ends the connection.
        receives: the right of the receiving thread.
        sender: our direction.
        tolerated: whether a tolerated truncation was logged.
        unread: data that was received, and found not to be all that the reader asked for.
    """

    __slots__ = (
        "__weakref__",
        "_channel",
        "_exact",
        "_handshakes",
        "_monitor",
        "_receive_shut",
        "_steps",
        "_transport",
        "closer",
        "engine",
        "receives",
        "sender",
        "tolerated",
        "unread",
    )

    def __init__(self, sock: socket.socket, peer: str, options: StreamOptions, *, exact: bool) -> None:
        self._monitor = Monitor()
        self._transport = PolledTransport(sock, peer, self._monitor)
        options.apply(sock)
        timeline = Timeline(time.monotonic, options.observer())
        self.engine: Engine = Engine(
            options.context,
            role=options.role,
            server_hostname=options.server_hostname,
            session=options.session,
            timeline=timeline,
            truncation=options.truncation,
            gate=options.gate(),
            notify_on_error=options.on_error == "close",
        )
        client = options.role is Role.CLIENT
        timeline.record(EventKind.CONNECTED, Side.WE if client else Side.PEER, self._transport.peer)
        self._channel = Channel(self.engine, _as_transport(self._transport), dry=client)
        self._exact = exact
        sends = Turn()
        self._handshakes = Turn()
        self.receives: Turn = Turn()
        self.closer: BlockingCloser = BlockingCloser(
            self._channel, self._transport, self._monitor, sends, linger_bytes=options.linger_bytes, exact=exact
        )
        self.unread: bytearray = self.closer.unread
        self.tolerated: bool = False
        self._receive_shut = False
        self._steps = Steps(self._channel, self._transport, self._monitor, self.closer, exact=exact)
        self.sender: BlockingSender = BlockingSender(self._steps, self._channel, self.closer, sends)

    # -- what is known -------------------------------------------------------------------------------------------

    @property
    def peer(self) -> str:
        """The peer's name, for people."""
        return self._transport.peer

    @property
    def sock(self) -> socket.socket | None:
        """The socket under the connection; None after the end."""
        return self._transport.sock

    @property
    def local_address(self) -> Any:
        """The local address of the socket, a link-local one with its zone; None after the end."""
        sock = self.sock
        return None if sock is None else address_of(sock.getsockname)

    @property
    def remote_address(self) -> Any:
        """The remote address of the socket, likewise."""
        sock = self.sock
        return None if sock is None else address_of(sock.getpeername)

    def take_received(self, data: bytes | memoryview) -> None:
        """Process ciphertext, `data`, that was read from the socket elsewhere, before any read here."""
        self._steps.run(lambda: self._channel.take_received(data))

    # -- the handshake -------------------------------------------------------------------------------------------

    def handshake(self, limit: Limit, *, resumable: bool = False) -> None:
        """Perform the handshake once, for the first caller.

        Args:
            limit: the time for all of it.
            resumable: whether it goes on with the next call after TimedOut; otherwise any failure ends the connection.
        """
        if self.engine.handshake_done:
            return
        self.closer.check_staying()
        token = Token()
        try:
            self._steps.take_turn(self._handshakes, token, limit)
            if not self.engine.handshake_done:
                self.closer.check_staying()
                self._shake_hands(limit, resumable=resumable)
        finally:
            self._steps.give_back(self._handshakes, token)

    def _shake_hands(self, limit: Limit, *, resumable: bool) -> None:
        try:
            try:
                self._carry_out_handshake(limit)
            except TimedOut as error:
                if resumable:
                    raise
                self.engine.give_up(
                    lambda: HandshakeTimeout(f"the peer did not finish the handshake within {limit.seconds:g} s")
                )
                raise self.engine.failure or error from None
        except (StreamClosed, TimedOut):
            raise
        except BowoutError as error:
            raise self.fail(error, limit)  # noqa: B904  (it is the same error, or carries its own cause)
        except BaseException:
            self.closer.leave_at_once("interrupted in the handshake", notify=False)
            raise

    def _carry_out_handshake(self, limit: Limit) -> None:
        while True:
            seen = self._steps.generation
            if self._steps.run(self._advance_handshake):
                return
            write = self.engine.outgoing.head() is not None
            self._steps.wait(seen, limit, read=not self.engine.handshake_done, write=write)

    def _advance_handshake(self) -> bool:
        """Go on without waiting; tell whether the handshake is done, and the kernel has our part of it."""
        self.closer.check_staying()
        while not self.engine.handshake():
            self._channel.flush()
            if self._channel.receive(self.engine.incoming.queue.wanted if self._exact else MIN_READ) is None:
                return False
        return self._channel.flush()

    # -- receiving -----------------------------------------------------------------------------------------------

    def read_into(self, view: memoryview, limit: Limit) -> int:
        """Decrypt into `view`; return the number of bytes, 0 at the end of the peer's direction."""
        return self._receive(partial(self._read_into, view), limit)

    def read(self, size: int, limit: Limit) -> bytes:
        """Return up to `size` decrypted bytes; b"" at the end of the peer's direction."""
        return self._receive(partial(self._read, size), limit)

    def read_until(self, find: Find, limit: Limit) -> bytes | BowoutError:
        """Receive until `find` finds what it looks for in the unread data.

        Args:
            find: what looks for it.
            limit: the time for each wait.
        """
        read: Callable[[], Any] = partial(self._read_until, find)
        found: bytes | BowoutError = self._receive(read, limit)
        return found

    def _receive(self, read: Callable[[], T | None], limit: Limit) -> T:
        while True:
            seen = self._steps.generation
            before = self._channel.received
            try:
                result = self._steps.run(read)
            except StreamClosed:
                raise
            except BowoutError as error:
                raise self.fail(error, limit)  # noqa: B904  (it is the same error)
            if result is not None:
                return result
            if self._channel.received != before:  # Part of a record is progress, too.
                limit.restart()
            write = self.engine.outgoing.head() is not None
            self._steps.wait(seen, limit, read=self._steps.wanted() > 0, write=write)

    def _check_receiving(self) -> None:
        """Raise if nothing more is received; after an error of the peer, what came before it stays readable."""
        if self.closer.leaving or (self.closer.ending is not None and not self.unread):
            self.closer.check_staying()
        if self._receive_shut:
            raise StreamClosed("receiving was shut down")

    def _read(self, size: int) -> bytes | None:
        view = self._channel.scratch[:size]
        count = self._read_into(view)
        return None if count is None else bytes(view[:count])

    def _read_into(self, view: memoryview) -> int | None:
        """Read without waiting; None: nothing has arrived."""
        self._check_receiving()
        if self.unread:
            return _take(self.unread, view)
        engine, channel = self.engine, self._channel
        count = engine.incoming.read_into(view)
        for _ in range(MAX_PIECES):
            if count is not None or not (wanted := self._steps.wanted()):
                break
            if not self._exact:
                wanted = min(max(len(view), MIN_READ), SCRATCH_SIZE)
            came = channel.receive_raw(wanted)
            if came is None:
                break
            count = engine.receive_and_read(channel.ciphertext[:came], view)
        if engine.outgoing.size:
            channel.flush()
        return count

    def _read_until(self, find: Find) -> bytes | BowoutError | None:
        """Read and look without waiting; None: not found in what has arrived."""
        self._check_receiving()
        incoming = self.engine.incoming
        result = find(self.unread, False)  # noqa: FBT003  (its type is positional)
        for _ in range(MAX_PIECES):
            if result is not None:
                break
            self.closer.check_not_ended()
            incoming.hold()
            self.unread += incoming.held
            incoming.held.clear()
            result = find(self.unread, False)  # noqa: FBT003
            if result is None and incoming.read_end() is not None:
                result = find(self.unread, True)  # noqa: FBT003
            if result is None and (not self._steps.wanted() or self._channel.receive(MIN_READ) is None):
                break
        if self.closer.ending is None:
            self._channel.flush()
        return result

    def shut_receiving(self) -> None:
        """Let every receive, of now and of later, raise StreamClosed."""
        self._receive_shut = True
        self._steps.wake()

    def check_only_receiver(self, token: Token) -> None:
        """Take the right to receive for `token`.

        Raises:
            BusyError: another thread has it.
        """
        if not self.receives.take(token):
            raise BusyError("another thread is receiving from this stream: one at a time")

    # -- the ending ----------------------------------------------------------------------------------------------

    def is_idle(self) -> bool:
        """Process what has arrived; tell whether both directions are open, and nothing waits in either."""
        if not self.engine.handshake_done or self.sender.turn.holder is not None or self.receives.holder is not None:
            return False
        return not self.closer.leaving and self.closer.ending is None and self._steps.run(self._look)

    def _look(self) -> bool:
        engine = self.engine
        for _ in range(MAX_PIECES):
            came = self._channel.receive(self._steps.wanted() or MIN_READ)
            engine.incoming.hold()
            if not came or engine.incoming.held:
                break
        open_both_ways = engine.outbound is Outbound.OPEN and engine.inbound is Inbound.OPEN and not engine.input_ended
        return open_both_ways and not engine.incoming.size and self._channel.flush()

    def unwrap(self, limit: Limit, *, wait: bool = True) -> bytes:
        """End TLS in both directions; the socket stays open. Return the bytes that followed TLS.

        Args:
            limit: time after which the connection is closed instead.
            wait: whether to wait; without it, TimedOut is raised instead, and the next call goes on.
        """
        self.sender.check_whole()
        return self.closer.unwrap(limit.ends, wait=wait)

    def detach(self) -> socket.socket:
        """Return the socket, open, after `unwrap`."""
        return self._transport.hand_over()

    def leave_block(self, error: BaseException, timeout: float) -> None:
        """End the connection because `error` leaves the block that uses it; `timeout` is for a close."""
        if self.closer.leaving and consists_of(error, (StreamClosed,)):
            self.closer.close("close()", time.monotonic() + timeout, notify=True)
        elif consists_of(error, INTERRUPTIONS):
            self.closer.leave_at_once(f"left by an exception: {type(error).__name__}", notify=True)
        else:
            self.closer.note_reason(f"left by an exception: {type(error).__name__}")
            deadline = time.monotonic() + min(timeout, ERROR_PATIENCE)
            self.closer.close("left by an error", deadline, notify=self.engine.notify_on_error)

    # -- errors --------------------------------------------------------------------------------------------------

    def fail(self, error: BowoutError, limit: Limit) -> BowoutError:
        """Prepare `error` for being raised: let the peer read its alert, and end a connection that cannot go on."""
        closer, engine = self.closer, self.engine
        beyond_repair = engine.outbound in DEAD or not engine.handshake_done
        try:
            if closer.ending is None and engine.outgoing.size and limit.seconds != 0:
                if engine.outbound is Outbound.FATAL_ALERT and not closer.leaving:
                    closer.see_alert_off()
                else:
                    with contextlib.suppress(BowoutError):
                        self._steps.flush(Limit(ALERT_PATIENCE))
        finally:
            if beyond_repair and not closer.leaving:
                closer.finish_now()
            elif closer.ending is None:
                self._steps.run(self._channel.flush)
        return closer.with_ending(error)


def _take(unread: bytearray, view: memoryview) -> int:
    """Move the first bytes of `unread` to `view`; return their number."""
    count = min(len(unread), len(view))
    view[:count] = unread[:count]
    del unread[:count]
    return count


def _as_transport(transport: PolledTransport) -> Any:
    """Return `transport` as the type that a `Channel` wants: a channel makes only the calls that do not wait."""
    return transport
