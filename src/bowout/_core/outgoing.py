"""Our direction of a connection: plaintext in, ciphertext out, up to our close_notify."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from bowout._core.buffers import ChunkKind, OutputQueue, make_room
from bowout._core.records import FULL_RECORD, MAX_PLAINTEXT
from bowout._core.states import Signal
from bowout.ending import EventKind, Inbound, Outbound, Side
from bowout.errors import BowoutError, HandshakeError, PeerClosed, Reset, StreamClosed

if TYPE_CHECKING:
    from bowout._core.facts import Facts
    from bowout._core.openssl import OpenSSL

#: Maximum bytes of plaintext in one chunk of output: two full records, since a MemoryBIO never releases memory.
WRITE_SIZE: Final = 2 * MAX_PLAINTEXT
_NOTHING: Final = memoryview(b"")


class Outgoing:
    """What is to be sent, and how much of it was sent.

    Attributes:
        queue: ciphertext that waits for the kernel.
        unencrypted: the rest of a send in progress, in the sender's memory.
        interrupted: only a part of a message was sent, so that close_notify would be false.
        message_cut: the interruption was between two sends.
        shut: our close_notify was made: nothing that OpenSSL makes later is sent.
        owed: our close_notify is to be sent, but OpenSSL cannot make it before it has read the rest of a message.
    """

    __slots__ = (
        "_accepted",
        "_facts",
        "_messages",
        "_openssl",
        "_roomy",
        "_sent_in_part",
        "_unsent",
        "interrupted",
        "message_cut",
        "owed",
        "queue",
        "shut",
        "unencrypted",
    )

    def __init__(self, openssl: OpenSSL, facts: Facts) -> None:
        self._openssl = openssl
        self._facts = facts
        self.queue: OutputQueue = OutputQueue()
        self._roomy = False
        self._accepted = 0
        self._messages: list[int] = []
        self._sent_in_part = 0
        self._unsent = 0
        self.unencrypted: memoryview = _NOTHING
        self.interrupted: bool = False
        self.message_cut: bool = False
        self.shut: bool = False
        self.owed: bool = False

    # -- the transport's side ------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """The number of bytes that wait for the kernel; also more than 0 while close_notify is `owed`."""
        return self.queue.size or int(self.owed and self._facts.halves.inbound is Inbound.OPEN)

    def head(self) -> bytes | memoryview | None:
        """Return the next ciphertext to send, or None; it stays the same until `taken` reports it sent."""
        return self.queue.head()

    def taken(self, count: int) -> None:
        """Record that the kernel took `count` bytes of `head`."""
        done = self.queue.taken(count)
        if done is None:
            return
        kind, plaintext = done
        if kind is ChunkKind.DATA:
            self._facts.timeline.data(sent=plaintext)
        elif kind is ChunkKind.CLOSE_NOTIFY:
            self._facts.apply(Signal.CLOSE_NOTIFY_TAKEN)
            self._facts.send_close_notify()

    def append(self, data: bytes, kind: ChunkKind) -> None:
        """Queue `data` that OpenSSL has not made."""
        self.queue.append(data, kind)

    def collect(self, kind: ChunkKind) -> None:
        """Queue what OpenSSL has to send. Nothing may follow our close_notify, so after it this drops the output."""
        outgoing = self._openssl.outgoing
        if outgoing.pending:
            data = outgoing.read()
            if not self.shut:
                self.queue.append(data, kind)

    def drop(self) -> None:
        """Drop the queue: the transport accepts nothing more, or nothing may follow."""
        taken, unsent = self.queue.plaintext()
        self._sent_in_part += taken
        self._unsent += unsent
        self.queue.clear()
        self.owed = False

    # -- the application's side ----------------------------------------------------------------------------------

    def write(self, data: memoryview) -> int:
        """Encrypt and queue the first `WRITE_SIZE` bytes of `data`; the rest becomes `unencrypted`.

        Returns:
            The number of bytes; 0 if OpenSSL has only one half of a handshake message (a session ticket, for example)
            and needs the other half before it writes again: receive more, and call `Incoming.hold`.

        Raises:
            StreamClosed, PeerClosed: our direction has ended.
            BowoutError: the connection has failed; this is the error that ended it.
        """
        facts, openssl = self._facts, self._openssl
        if not facts.halves.writable:
            raise self.why_not_writable()
        if len(data) > MAX_PLAINTEXT and not self._roomy:
            self._roomy = True
            make_room(openssl.outgoing, WRITE_SIZE // MAX_PLAINTEXT * FULL_RECORD)
        chunk = data if len(data) <= WRITE_SIZE else data[:WRITE_SIZE]
        try:
            count: int = openssl.tls.write(chunk)
        except ssl.SSLError as error:
            failure = error
            failure.__traceback__ = None  # Break the reference cycle: its frame, this one, refers to the error.
        except BaseException as error:
            openssl.handed_on = error
            self.unencrypted = data  # It is unknown how much of it was encrypted.
            if openssl.outgoing.pending:  # It was encrypted nevertheless: what follows it must follow all of it.
                self.queue.append(openssl.outgoing.read(), ChunkKind.DATA, len(chunk))
            raise
        else:
            self.queue.append(openssl.outgoing.read(), ChunkKind.DATA, count)
            self.unencrypted = data[count:] if count < len(data) else _NOTHING  # An empty view would keep all of it.
            self._accepted += count
            if openssl.inbox.messages:
                openssl.hear()
            return count
        try:
            openssl.raise_what_came(failure)
        except BaseException:
            self.unencrypted = data
            raise
        if facts.halves.inbound is not Inbound.CLOSE_NOTIFY:
            return 0
        # No other half can come. Some versions of OpenSSL (3.6) write nothing more after user_canceled and
        # close_notify.
        raise PeerClosed("the peer sent close_notify in a way after which OpenSSL writes no more") from failure

    def take_over(self, rest: memoryview, count: int, chunks: list[tuple[bytes, int]], taken: int) -> None:
        """Go on with a send of the lane: `count` bytes were encrypted, and `rest` not.

        Args:
            rest: what is to be encrypted.
            count: the number of bytes that the lane encrypted.
            chunks: ciphertext that the lane has not counted as sent, each with the number of bytes encrypted in it;
                none, if it is a message of OpenSSL's own.
            taken: the number of bytes of them that the kernel has taken.
        """
        self._accepted += count
        self.unencrypted = rest or _NOTHING
        for data, plaintext in chunks:
            self.queue.append(data, ChunkKind.DATA if plaintext else ChunkKind.HANDSHAKE, plaintext)
        for data, _ in chunks:
            if taken:
                self.taken(min(taken, len(data)))
                taken -= min(taken, len(data))

    def write_more(self) -> int:
        """Encrypt the next chunk of `unencrypted`; return its size, 0 if none is left or OpenSSL cannot write."""
        try:
            return self.write(self.unencrypted) if self.unencrypted else 0
        except BowoutError:
            return 0

    def interrupt(self) -> None:
        """Give up the send in progress, if there is one: its remaining bytes were accepted and are not sent."""
        if self.unencrypted:
            self.interrupted = True
            self._unsent += len(self.unencrypted)
            self.unencrypted = _NOTHING

    def count_unsent(self, count: int) -> None:
        """Count bytes that were accepted and will not be sent, and are nowhere here."""
        self._unsent += count

    def why_not_writable(self) -> BowoutError:
        """Return the error to raise for a send that is impossible."""
        facts = self._facts
        failure = facts.ending.failure
        if failure is not None and facts.halves.outbound is not Outbound.OPEN:
            return failure
        match facts.halves.outbound:
            case Outbound.LOST:
                return Reset(facts.broken_off("while we were sending"))
            case Outbound.HANDSHAKE:
                return HandshakeError("the handshake is not done")
            case _ if facts.answering:
                return PeerClosed("the peer sent close_notify, which in TLS 1.2 ends both directions")
            case _:
                return StreamClosed("our direction of the stream has ended: close_notify was queued, or it was cut off")

    # -- messages of several sends -------------------------------------------------------------------------------

    def begin_message(self) -> int:
        """Begin a message: all that is sent from now on belongs to it; return the argument for `end_message`."""
        self._messages.append(self._accepted)
        return self._accepted

    def end_message(self, began: int, *, whole: bool) -> None:
        """End the message that `began` there. If it is not `whole`, it counts as interrupted."""
        self._messages.remove(began)
        if self._accepted > began and not whole:
            self.interrupted = self.message_cut = True

    @property
    def in_message(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._messages)

    @property
    def amid_message(self) -> bool:
        """Whether a part of a message was sent, and more is to follow."""
        return bool(self._messages) and self._accepted > min(self._messages)

    def give_up(self) -> None:
        """Give up at the end what is still to be sent: the rest of a send, and of a message."""
        self.interrupt()
        if self.amid_message:
            self.message_cut = True
        self._openssl.handed_on = None  # Break the reference cycle: the error's frames refer to this object.

    # -- close_notify --------------------------------------------------------------------------------------------

    @property
    def whole(self) -> bool:
        """Whether everything that was sent is complete, so that close_notify, which confirms it, would be true."""
        return not (self.interrupted or self.unencrypted or self.amid_message)

    def begin_close_notify(self) -> None:
        """Queue our close_notify, as soon as OpenSSL can make it."""
        self._facts.timeline.record(EventKind.CLOSE_NOTIFY_QUEUED, Side.WE)
        self.make_close_notify()

    def make_close_notify(self) -> None:
        """Have OpenSSL make our close_notify, if it can now."""
        error = self._openssl.call(self._openssl.tls.unwrap)
        # SSLWantReadError is the usual answer: our close_notify is in the BIO, the peer's is still to come. Any other
        # is SHUTDOWN_WHILE_IN_INIT: OpenSSL has one half of a handshake message, and can make it after the other half.
        self.owed = not (error is None or isinstance(error, ssl.SSLWantReadError))
        if not self.owed:
            self.collect(ChunkKind.CLOSE_NOTIFY)
            self.shut = True
        self._openssl.raise_what_came(error)

    # -- for the ending ------------------------------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """Number of plaintext bytes that were accepted and not sent."""
        return self._unsent + self.queue.plaintext()[1]

    @property
    def sent_in_part(self) -> int:
        """Number of plaintext bytes that were sent, of chunks that were sent only in part."""
        return self._sent_in_part + self.queue.plaintext()[0]
