"""The TLS of a scripted connection: OpenSSL performs the handshake; then our own record layer takes over.

OpenSSL gets one record at a time, so that it never sees what comes after the handshake. After that it is not used, so
that it cannot refuse to write anything.
"""

from __future__ import annotations

import enum
import os
import ssl
from typing import TYPE_CHECKING, Final, Literal

from bowout._core.openssl_errors import alert_of_reason, words_of
from bowout._core.records import HEADER_SIZE, RecordScanner, looks_like_tls
from bowout._scripted.events import (
    AlertSeen,
    DataSeen,
    EndSeen,
    HandshakeSeen,
    MessageSeen,
    PlaintextSeen,
    RecordSeen,
    ResetSeen,
    SealedSeen,
    UndecryptableSeen,
)
from bowout._scripted.handshake import RANDOM, OpenSSLSide, Unfinished, is_server_hello, suite13
from bowout._scripted.records import (
    MAX_LENGTH,
    VERSION_BYTES,
    Direction,
    Record,
    RecordSplitter,
    Suite,
    Undecryptable,
    header,
    tls12,
    tls13,
)
from bowout._tls_numbers import (
    ALERT,
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC,
    CLOSE_NOTIFY,
    CONTENT_TYPES,
    HANDSHAKE,
    HANDSHAKE_NAMES,
    HELLO_REQUEST,
    KEY_UPDATE,
    NEW_SESSION_TICKET,
    TLS13_NAME,
    WARNING,
)
from bowout.ending import EventKind, Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bowout._scripted.events import Seen

HandshakeStage = Literal["hello", "flight"]

_MESSAGE_HEADER: Final = 4
_HELLO_REQUEST: Final = bytes([HELLO_REQUEST, 0, 0, 0])
#: The bytes of a KeyUpdate before its last byte.
_KEY_UPDATE: Final = bytes([KEY_UPDATE, 0, 0, 1])
#: Lifetime in our session tickets, in seconds.
_TICKET_LIFETIME: Final = 7200


class HandshakeFailed(Exception):
    """The handshake failed."""


class HandshakeStep(enum.Enum):
    """The next action that a handshake needs."""

    #: Send what `ScriptedConnection.data_to_send` returns.
    SEND = enum.auto()
    #: Receive something.
    RECEIVE = enum.auto()
    #: None: the handshake is done, or has stopped where it had to.
    DONE = enum.auto()


class ScriptedConnection:
    """One connection's TLS, without its transport: it does what a script says, legal or not.

    The driver has to do this:

    * Bytes that arrive go into `receive_data`, the end of input into `receive_eof`, a reset into `receive_reset`.
    * For the handshake, call `begin_handshake`, and then `handshake_step` until it returns DONE. After that,
      `read_record` processes what was received, one record at a time, so that a script can act between two. Receive
      more only when it has returned False: else the end would be seen before the data received before it.
    * After every call that queues something, pass `data_to_send` to the transport.
    * After every call, also one that raised, `take_events` returns what was seen.

    Args:
        context: the context for the handshake; its suites must be those that `Suite` supports.
        role: our role.
        server_hostname: the name that a client sends by SNI.
        secrets: returns the secrets, by label, that the key log of `context` has for the connection with this client
            random.

    Attributes:
        inbox: received application data that the script has not taken yet.
        close_notify: number of close_notify received.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        role: Role,
        *,
        server_hostname: str | None,
        secrets: Callable[[bytes], dict[str, bytes]],
    ) -> None:
        self._openssl = OpenSSLSide(context, role, server_hostname)
        self._role, self._log = role, secrets
        self._in = RecordSplitter()
        self._out = bytearray()
        self._scanner = RecordScanner()
        self._events: list[Seen] = []
        self._messages = bytearray()
        self._client_hello = self._server_hello = b""
        self._reader: Direction | None = None
        self._writer: Direction | None = None
        self._unfinished: Unfinished | None = None
        self._alerted = self._plain = False
        self._ended = self._shaking = self._not_tls = False
        self._stop_at: HandshakeStage | None = None
        self._needs_record = False
        self._conclude: Callable[[], None] | None = None
        self.inbox: bytearray = bytearray()
        self.close_notify: int = 0

    def take_events(self) -> list[Seen]:
        """Return what was seen since the last call, in order."""
        events, self._events = self._events, []
        return events

    # -- the transport's side -----------------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Process received bytes; there is at least one."""
        if self._shaking:
            self._in.feed(data)
            self._not_tls = not looks_like_tls(self._in.rest)
            return
        # After close_notify TLS has ended, and TCP may continue in plain text.
        if self.close_notify and not self._in.rest:
            self._plain = self._plain or data[0] not in CONTENT_TYPES
        if self._plain:
            self._see(PlaintextSeen(data))
        else:
            self._in.feed(data)

    def receive_eof(self) -> None:
        """Record that the transport's input has ended."""
        self._ended = True
        self._see(EndSeen())

    def receive_reset(self, detail: str = "") -> None:
        """Record that the transport was reset; `detail` is the system's error text."""
        self._ended = True
        self._see(ResetSeen(detail))

    def data_to_send(self) -> bytes:
        """Remove and return what is queued."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def drop_output(self) -> None:
        """Drop what is queued."""
        self._out.clear()

    # -- the handshake ------------------------------------------------------------------------------------------

    @property
    def hello(self) -> bytes:
        """The ClientHello, as a handshake message without its record."""
        return self._client_hello[HEADER_SIZE:]

    def begin_handshake(self, stop_at: HandshakeStage | None = None) -> None:
        """Begin the handshake.

        Args:
            stop_at: stop as soon as the ClientHello, or also the server's answer, has passed.
        """
        self._stop_at = stop_at
        self._shaking = True
        self._needs_record = False
        self._conclude = None

    def handshake_step(self) -> HandshakeStep:
        """Continue the handshake, and return what it needs next.

        Raises:
            HandshakeFailed: OpenSSL gave up, or the other side left. `data_to_send` may have an alert about it.
        """
        while self._conclude is None:
            if self._needs_record and not self._give_record():
                return HandshakeStep.RECEIVE
            done, flight = self._ask_openssl()
            self._needs_record = True
            if self._role is Role.SERVER and self._stop_at == "hello" and self._client_hello:
                self._conclude = self._stop
                break
            ours = self._keep_hello(flight)
            if self._role is Role.CLIENT and self._stop_at == "flight" and self._server_hello and (done or flight):
                self._conclude = self._stop
                break
            if done:
                self._conclude = self._take_over
            elif ours and self._stop_at == ("flight" if self._role is Role.SERVER else "hello"):
                self._conclude = self._stop
            if flight:
                self._out += flight
                return HandshakeStep.SEND
        self._conclude()
        self._conclude = None
        self._shaking = False
        return HandshakeStep.DONE

    def _ask_openssl(self) -> tuple[bool, bytes]:
        """Continue OpenSSL's handshake; return whether it is done, and OpenSSL's output."""
        try:
            self._openssl.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False, self._openssl.outgoing.read()
        except ssl.SSLZeroReturnError as error:
            if not self.close_notify:  # It came encrypted, in TLS 1.3.
                self._see_alert(WARNING, CLOSE_NOTIFY)
            raise HandshakeFailed("the handshake failed: close_notify came in it") from error
        except ssl.SSLError as error:
            self._out += self._openssl.outgoing.read()
            alert = alert_of_reason(error.reason)
            if alert is not None and not self._alerted:
                self._see_alert(alert.level, alert.code)
            raise HandshakeFailed(f"the handshake failed: {words_of(error)}") from error
        return True, self._openssl.outgoing.read()

    def _keep_hello(self, flight: bytes) -> bool:
        """Keep our Hello for its random; tell whether `flight` is ours and does not request another ClientHello."""
        if self._role is Role.CLIENT:
            self._client_hello = self._client_hello or flight
            return bool(flight)
        if is_server_hello(flight):
            self._server_hello = self._server_hello or flight
            return True
        return False

    def _give_record(self) -> bool:
        """Give OpenSSL the next complete record; return False if more must be received first."""
        if self._not_tls:
            raise HandshakeFailed("the other side does not speak TLS")
        record = next(iter(self._in), None)
        if record is None:
            if self._ended:
                raise HandshakeFailed("the other side left in the handshake")
            return False
        if self._role is Role.SERVER:
            self._client_hello = self._client_hello or record.raw
        elif is_server_hello(record.raw):
            self._server_hello = self._server_hello or record.raw
        if _is_plain_alert(record):
            self._see_alert(*record.body)
        self._openssl.incoming.write(record.raw)
        return True

    # -- the keys -----------------------------------------------------------------------------------------------

    def _take_over(self) -> None:
        """Switch to our own record layer, for all later records."""
        version, cipher = self._openssl.tls.version(), self._openssl.tls.cipher()
        assert version is not None, "the handshake is done"
        assert cipher is not None, "the handshake is done"
        self._see(HandshakeSeen(version, cipher[0]))
        suite, secrets = Suite.of(cipher[0]), self._secrets()
        if version == TLS13_NAME:
            client = tls13(suite, secrets["CLIENT_TRAFFIC_SECRET_0"])
            server = tls13(suite, secrets["SERVER_TRAFFIC_SECRET_0"])
        else:
            randoms = self._client_hello[RANDOM], self._server_hello[RANDOM]
            client, server = tls12(suite, secrets["CLIENT_RANDOM"], *randoms)
        self._writer, self._reader = (client, server) if self._role is Role.CLIENT else (server, client)

    def _stop(self) -> None:
        """Stop the handshake where it is, and continue to read what the other side sends.

        In TLS 1.3 we can write encrypted records after the flight; in TLS 1.2 there are no keys before Finished.
        """
        secrets, hellos = self._secrets(), (self._client_hello, self._server_hello)
        self._unfinished = Unfinished(self._openssl, secrets=self._secrets, role=self._role, hellos=hellos)
        # After its Finished a server writes with its application keys (RFC 8446 section 7.1).
        label = "CLIENT_HANDSHAKE_TRAFFIC_SECRET" if self._role is Role.CLIENT else "SERVER_TRAFFIC_SECRET_0"
        if self._server_hello and label in secrets:
            self._writer = tls13(suite13(self._server_hello), secrets[label])

    def _secrets(self) -> dict[str, bytes]:
        return self._log(self._client_hello[RANDOM])

    # -- sending: records, as long as there are no keys in plain -------------------------------------------------

    @property
    def inside_record(self) -> bool:
        """Whether the bytes queued so far end inside a record."""
        return self._scanner.inside_record

    def room(self, padding: int = 0) -> int:
        """Return the maximum plaintext, in bytes, that a record's header can express beside `padding` bytes."""
        return self._writer.room(padding) if self._writer is not None else MAX_LENGTH

    def seal(self, content_type: int, data: bytes, *, version: bytes = VERSION_BYTES, padding: int = 0) -> bytes:
        """Make the next record, and do not queue it; see `Direction.seal`."""
        if self._writer is None:
            return header(content_type, len(data), version) + data
        return self._writer.seal(content_type, data, version=version, padding=padding)

    def queue(self, data: bytes) -> None:
        """Queue `data` unchanged."""
        self._scanner.scan(data)
        self._out += data

    def queue_key_update(self, *, request: bool) -> None:
        """Queue a KeyUpdate, and use fresh keys from then on (TLS 1.3, RFC 8446 section 4.6.3)."""
        assert self._writer is not None, "the handshake is done"
        self.queue(self.seal(HANDSHAKE, _KEY_UPDATE + bytes([request])))
        self._writer.update()

    def queue_session_ticket(self) -> None:
        """Queue a NewSessionTicket (TLS 1.3, RFC 8446 section 4.6.1)."""
        lifetime, age_add, nonce, ticket = _TICKET_LIFETIME.to_bytes(4), os.urandom(4), os.urandom(8), os.urandom(32)
        body = lifetime + age_add + bytes([len(nonce)]) + nonce + len(ticket).to_bytes(2) + ticket + bytes(2)
        self.queue(self.seal(HANDSHAKE, bytes([NEW_SESSION_TICKET]) + len(body).to_bytes(3) + body))

    def queue_renegotiation(self) -> str:
        """Queue a request for a new handshake (TLS 1.2), a HelloRequest or a client's Hello; return its name."""
        message = _HELLO_REQUEST if self._role is Role.SERVER else self.hello
        self.queue(self.seal(HANDSHAKE, message))
        return HANDSHAKE_NAMES[message[0]]

    # -- reading ------------------------------------------------------------------------------------------------

    def read_record(self) -> bool:
        """Process the next received record; return False if more must be received first."""
        self._shaking = False
        record = next(iter(self._in), None) if not self._plain else None
        if record is None:
            return False
        self._see(RecordSeen(record.content_type, len(record.body)))
        opened = self._open(record)
        messages: tuple[int, ...] = ()
        if opened is not None:
            content_type, data = opened
            if content_type == APPLICATION_DATA:
                self.inbox += data
                self._see(DataSeen(data))
            elif content_type == ALERT:
                for level, code in zip(data[::2], data[1::2], strict=False):
                    self._see_alert(level, code)
                    self._begin_plain()
            elif content_type == HANDSHAKE:
                messages = tuple(self._messages_in(data))
        if self._unfinished is not None and not self._unfinished.over:
            self._unfinished.follow(record, messages)
        return True

    def _open(self, record: Record) -> tuple[int, bytes] | None:
        """Return its content type and plaintext; None if it has no content, or cannot be read."""
        if record.content_type == CHANGE_CIPHER_SPEC:
            return None
        unfinished, reader = self._unfinished, self._present_reader()
        # Alerts may be in plain text during a handshake, but not after it.
        if reader is not None and (unfinished is None or not _is_plain_alert(record)):
            try:
                return reader.open(record)
            except Undecryptable as error:
                self._see(UndecryptableSeen(str(error)))
                return None
        if unfinished is not None and reader is None and unfinished.is_protected(record):
            self._see(SealedSeen(len(record.body)))
            return None
        return record.content_type, record.body

    def _present_reader(self) -> Direction | None:
        return self._reader if self._unfinished is None else self._unfinished.reader

    def _begin_plain(self) -> None:
        """Switch to plain text: what follows a close_notify and is not a record is plain text."""
        rest = self._in.rest
        if self.close_notify and rest and rest[0] not in CONTENT_TYPES:
            self._plain = True
            self._see(PlaintextSeen(self._in.take_rest()))

    def _messages_in(self, data: bytes) -> Iterator[int]:
        """Yield the types of the handshake messages that end in `data`."""
        self._messages += data
        while len(self._messages) >= _MESSAGE_HEADER:
            end = _MESSAGE_HEADER + int.from_bytes(self._messages[1:_MESSAGE_HEADER])
            if len(self._messages) < end:
                return
            kind = self._messages[0]
            del self._messages[:end]
            self._on_message(kind)
            yield kind

    def _on_message(self, kind: int) -> None:
        reader = self._present_reader()
        if kind == NEW_SESSION_TICKET:
            self._see(MessageSeen(EventKind.TICKET))
        elif kind == KEY_UPDATE and reader is not None:
            self._see(MessageSeen(EventKind.KEY_UPDATE))
            reader.update()
        else:
            self._see(MessageSeen(EventKind.HANDSHAKE_MESSAGE, HANDSHAKE_NAMES.get(kind, f"message {kind}")))

    def _see_alert(self, level: int, code: int) -> None:
        seen = AlertSeen(level, code)
        self._alerted = True
        self.close_notify += seen.is_close_notify
        self._see(seen)

    def _see(self, event: Seen) -> None:
        self._events.append(event)


def _is_plain_alert(record: Record) -> bool:
    return record.content_type == ALERT and len(record.body) == 2
