"""The TLS of a peer: OpenSSL shakes hands, and then a record layer of our own takes over, both ways.

OpenSSL gets one record at a time, so that it never sees what comes after the handshake. From there on it is put aside,
and nothing can be written that it would refuse.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Final, Literal

from bowout._core.failures import alert_of_reason, words_of
from bowout._core.messages import HANDSHAKE_NAMES
from bowout._core.records import HEADER_SIZE, looks_like_tls
from bowout.ending import EventKind, Role
from bowout.testing import _records
from bowout.testing._records import ALERT, CHANGE_CIPHER_SPEC, DATA, HANDSHAKE, Direction, Record, Suite, Undecryptable
from bowout.testing._unfinished import RANDOM, Unfinished, is_server_hello, suite13
from bowout.testing._wire import Gone, Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bowout.testing._keylog import KeyLog
    from bowout.testing._wire import Wire
    from bowout.testing._witness import Witness

Stage = Literal["hello", "flight"]

_NEW_SESSION_TICKET: Final = 4
_CLOSE_NOTIFY: Final = 0
_WARNING: Final = 1
_KEY_UPDATE: Final = 24
_MESSAGE_HEADER: Final = 4


class HandshakeFailed(Exception):
    """No TLS connection came of it."""


class Session:
    """One connection's TLS.

    Attributes:
        inbox: application data that came and was not asked for yet.
        hello: our own or the other side's ClientHello, as a handshake message.
        writer: what seals our records; None while they go in plain.
    """

    def __init__(self, wire: Wire, witness: Witness, tls: TLS, *, keylog: KeyLog, role: Role) -> None:
        self._wire, self._witness, self._keylog, self._role = wire, witness, keylog, role
        self._tls = tls
        self._in = _records.RecordSplitter()
        self._messages = bytearray()
        self._client_hello = self._server_hello = b""
        self._reader: Direction | None = None
        self._unfinished: Unfinished | None = None
        self._plain = False
        self.inbox: bytearray = bytearray()
        self.writer: Direction | None = None

    @property
    def hello(self) -> bytes:
        """The ClientHello, as a handshake message without its record."""
        return self._client_hello[HEADER_SIZE:]

    # -- the handshake ------------------------------------------------------------------------------------------

    def handshake(self, stop_at: Stage | None) -> None:
        """Shake hands, or stop on the way.

        Raises:
            HandshakeFailed: OpenSSL gave up, or the other side left.
            Gone, Stopped: see `Wire`.
        """
        while True:
            done, flight = self._step()
            if self._role is Role.SERVER and stop_at == "hello" and self._client_hello:
                self._stop()
                return
            ours = self._note_hello(flight)
            if self._role is Role.CLIENT and stop_at == "flight" and self._server_hello and (done or flight):
                self._stop()
                return
            self._wire.put(flight)
            if done:
                self._take_over()
                return
            if self._stops_after(stop_at, ours):
                self._stop()
                return
            self._feed()

    def _step(self) -> tuple[bool, bytes]:
        """Let OpenSSL go on; whether it is done, and what it has to say."""
        try:
            self._tls.object.do_handshake()
        except ssl.SSLWantReadError:
            return False, self._tls.outgoing.read()
        except ssl.SSLZeroReturnError as error:
            if not self._witness.close_notify:  # it came encrypted, in TLS 1.3
                self._witness.saw_alert(_WARNING, _CLOSE_NOTIFY)
            raise HandshakeFailed("the handshake failed: close_notify came in it") from error
        except ssl.SSLError as error:
            with contextlib.suppress(Gone, Stopped):
                self._wire.put(self._tls.outgoing.read())
            alert = alert_of_reason(error.reason)
            if alert is not None and not self._witness.alerts:
                self._witness.saw_alert(alert.level, alert.code)
            raise HandshakeFailed(f"the handshake failed: {words_of(error)}") from error
        return True, self._tls.outgoing.read()

    def _note_hello(self, flight: bytes) -> bool:
        """Keep our Hello for its random; whether this was our flight, and no request to begin anew."""
        if self._role is Role.CLIENT:
            self._client_hello = self._client_hello or flight
            return bool(flight)
        if is_server_hello(flight):
            self._server_hello = self._server_hello or flight
            return True
        return False

    def _stops_after(self, stop_at: Stage | None, flight_is_out: bool) -> bool:  # noqa: FBT001  (private, one caller)
        wanted = "flight" if self._role is Role.SERVER else "hello"
        return stop_at == wanted and flight_is_out

    def _feed(self) -> None:
        """Give OpenSSL the next whole record."""
        while True:
            record = next(iter(self._in), None)
            if record is not None:
                break
            data = self._receive()
            if not data:
                raise HandshakeFailed("the other side left in the handshake")
            self._in.feed(data)
            if not looks_like_tls(self._in.rest):
                raise HandshakeFailed("the other side does not speak TLS")
        if self._role is Role.SERVER:
            self._client_hello = self._client_hello or record.raw
        elif is_server_hello(record.raw):
            self._server_hello = self._server_hello or record.raw
        if record.content_type == ALERT and len(record.body) == 2:
            self._witness.saw_alert(*record.body)
        self._tls.incoming.write(record.raw)

    # -- the keys -----------------------------------------------------------------------------------------------

    def _take_over(self) -> None:
        """From here on, all records are ours."""
        version, cipher = self._tls.object.version(), self._tls.object.cipher()
        assert version is not None, "the handshake is done"
        assert cipher is not None, "the handshake is done"
        self._witness.shook_hands(version, cipher[0])
        suite, secrets = Suite.of(cipher[0]), self._secrets()
        if version == "TLSv1.3":
            client = _records.tls13(suite, secrets["CLIENT_TRAFFIC_SECRET_0"])
            server = _records.tls13(suite, secrets["SERVER_TRAFFIC_SECRET_0"])
        else:
            randoms = self._client_hello[RANDOM], self._server_hello[RANDOM]
            client, server = _records.tls12(suite, secrets["CLIENT_RANDOM"], *randoms)
        self.writer, self._reader = (client, server) if self._role is Role.CLIENT else (server, client)

    def _stop(self) -> None:
        """Leave the handshake as it is, and go on to read what the other side sends.

        In TLS 1.3 we can write encrypted after the flight; in TLS 1.2 there are no keys before Finished.
        """
        secrets, hellos = self._secrets(), (self._client_hello, self._server_hello)
        self._unfinished = Unfinished(self._tls, secrets=self._secrets, role=self._role, hellos=hellos)
        # After its Finished a server writes with its application keys (RFC 8446 section 7.1).
        label = "CLIENT_HANDSHAKE_TRAFFIC_SECRET" if self._role is Role.CLIENT else "SERVER_TRAFFIC_SECRET_0"
        if self._server_hello and label in secrets:
            self.writer = _records.tls13(suite13(self._server_hello), secrets[label])

    def _secrets(self) -> dict[str, bytes]:
        return self._keylog.secrets(self._client_hello[RANDOM])

    # -- reading ------------------------------------------------------------------------------------------------

    def read(self) -> bool:
        """Take note of what comes next; False when the FIN came.

        Raises:
            Gone, Stopped: see `Wire`.
        """
        record = next(iter(self._in), None) if not self._plain else None
        if record is None:
            data = self._receive()
            if not data:
                return False
            self._take(data)
            return True
        self._on_record(record)
        return True

    def _receive(self) -> bytes:
        try:
            data = self._wire.get()
        except Gone as gone:
            self._witness.saw_rst(str(gone))
            raise
        if not data and self._wire.lost:
            self._witness.saw_rst()
        elif not data:
            self._witness.saw_fin()
        return data

    def _take(self, data: bytes) -> None:
        """After close_notify TLS has ended, and TCP may go on in plain."""
        if self._witness.close_notify and not self._in.rest:
            self._plain = self._plain or data[0] not in range(CHANGE_CIPHER_SPEC, DATA + 2)
        if self._plain:
            self._witness.saw_plaintext(data)
        else:
            self._in.feed(data)

    def _on_record(self, record: Record) -> None:
        self._witness.saw_record()
        opened = self._open(record)
        messages: tuple[int, ...] = ()
        if opened is not None:
            content_type, data = opened
            if content_type == DATA:
                self.inbox += data
                self._witness.saw_data(data)
            elif content_type == ALERT:
                for level, code in zip(data[::2], data[1::2], strict=False):
                    self._witness.saw_alert(level, code)
                    self._begin_plain()
            elif content_type == HANDSHAKE:
                messages = tuple(self._messages_in(data))
        if self._unfinished is not None and not self._unfinished.over:
            self._unfinished.follow(record, messages)

    def _open(self, record: Record) -> tuple[int, bytes] | None:
        """Its content type and its plaintext; None where it says nothing, or cannot be read."""
        if record.content_type == CHANGE_CIPHER_SPEC:
            return None
        unfinished = self._unfinished
        reader = self._reader if unfinished is None else unfinished.reader
        if reader is not None and (unfinished is None or not self._is_plain_alert(record)):
            try:
                return reader.open(record)
            except Undecryptable as error:
                self._witness.saw_undecryptable(str(error))
                return None
        if unfinished is not None and reader is None and unfinished.is_protected(record):
            self._witness.saw_sealed(len(record.body))
            return None
        return record.content_type, record.body

    def _begin_plain(self) -> None:
        """What stands behind a close_notify and is no record is in plain."""
        rest = self._in.rest
        if self._witness.close_notify and rest and rest[0] not in range(CHANGE_CIPHER_SPEC, DATA + 2):
            self._plain = True
            self._witness.saw_plaintext(self._in.take_rest())

    def _is_plain_alert(self, record: Record) -> bool:
        """Alerts may come in plain in a handshake, and after it no longer."""
        return record.content_type == ALERT and len(record.body) == 2

    def _messages_in(self, data: bytes) -> Iterator[int]:
        """Take note of the handshake messages that end in `data`; their types."""
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
        reader = self._reader if self._unfinished is None else self._unfinished.reader
        if kind == _NEW_SESSION_TICKET:
            self._witness.saw(EventKind.TICKET)
        elif kind == _KEY_UPDATE and reader is not None:
            self._witness.saw(EventKind.KEY_UPDATE)
            reader.update()
        else:
            self._witness.saw(EventKind.HANDSHAKE_MESSAGE, HANDSHAKE_NAMES.get(kind, f"message {kind}"))


class TLS:
    """OpenSSL over two MemoryBIOs, for the handshake."""

    def __init__(self, context: ssl.SSLContext, role: Role, server_hostname: str | None) -> None:
        self.incoming: ssl.MemoryBIO = ssl.MemoryBIO()
        self.outgoing: ssl.MemoryBIO = ssl.MemoryBIO()
        server = role is Role.SERVER
        name = None if server else server_hostname
        self.object: ssl.SSLObject = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server, server_hostname=name
        )
