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
from bowout.testing._wire import Gone, Stopped

if TYPE_CHECKING:
    from bowout.testing._keylog import KeyLog
    from bowout.testing._wire import Wire
    from bowout.testing._witness import Witness

Stage = Literal["hello", "flight"]

_HELLO_RETRY: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
#: Where a Hello's random begins in its record: after the record's header, the message's header and the version.
_RANDOM: Final = slice(11, 43)
_SUITES13: Final = {
    b"\x13\x01": "TLS_AES_128_GCM_SHA256",
    b"\x13\x02": "TLS_AES_256_GCM_SHA384",
    b"\x13\x03": "TLS_CHACHA20_POLY1305_SHA256",
}
_NEW_SESSION_TICKET: Final = 4
_FINISHED: Final = 20
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
        self._suite_after_finished: Suite | None = None
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
                return
            ours = self._note_hello(flight)
            if self._role is Role.CLIENT and stop_at == "flight" and self._server_hello and (done or flight):
                self._early_keys()
                return
            self._wire.put(flight)
            if done:
                self._take_over()
                return
            if self._stops_after(stop_at, ours):
                self._early_keys()
                return
            self._feed()

    def _step(self) -> tuple[bool, bytes]:
        """Let OpenSSL go on; whether it is done, and what it has to say."""
        try:
            self._tls.object.do_handshake()
        except ssl.SSLWantReadError:
            return False, self._tls.outgoing.read()
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
        if flight and flight[_RANDOM] != _HELLO_RETRY:
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
        elif record.content_type == HANDSHAKE and record.raw[_RANDOM] != _HELLO_RETRY:
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
            randoms = self._client_hello[_RANDOM], self._server_hello[_RANDOM]
            client, server = _records.tls12(suite, secrets["CLIENT_RANDOM"], *randoms)
        self.writer, self._reader = (client, server) if self._role is Role.CLIENT else (server, client)

    def _early_keys(self) -> None:
        """The keys of an unfinished handshake in TLS 1.3; in TLS 1.2 there are none before Finished."""
        secrets = self._secrets()
        if "CLIENT_HANDSHAKE_TRAFFIC_SECRET" not in secrets:
            return
        session_id = self._server_hello[43]
        suite = Suite.of(_SUITES13[self._server_hello[44 + session_id : 46 + session_id]])
        if self._role is Role.CLIENT:
            self.writer = _records.tls13(suite, secrets["CLIENT_HANDSHAKE_TRAFFIC_SECRET"])
            self._reader = _records.tls13(suite, secrets["SERVER_TRAFFIC_SECRET_0"])
        else:
            # After its Finished a server writes with its application keys (RFC 8446 section 7.1).
            self.writer = _records.tls13(suite, secrets["SERVER_TRAFFIC_SECRET_0"])
            self._reader = _records.tls13(suite, secrets["CLIENT_HANDSHAKE_TRAFFIC_SECRET"])
            self._suite_after_finished = suite

    def _keys_after_finished(self, suite: Suite) -> None:
        """OpenSSL tells a client's application keys only once it has read its Finished; what it answers is not sent."""
        with contextlib.suppress(ssl.SSLError):
            self._tls.object.do_handshake()
        self._tls.outgoing.read()
        secret = self._secrets().get("CLIENT_TRAFFIC_SECRET_0")
        if secret is not None:
            self._reader = _records.tls13(suite, secret)

    def _secrets(self) -> dict[str, bytes]:
        return self._keylog.secrets(self._client_hello[_RANDOM])

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
        if record.content_type == CHANGE_CIPHER_SPEC:
            return
        self._witness.saw_record()
        content_type, data = record.content_type, record.body
        if self._reader is not None and not self._is_plain_alert(record):
            try:
                content_type, data = self._reader.open(record)
            except Undecryptable as error:
                self._witness.saw_undecryptable(str(error))
                return
        if content_type == DATA:
            self.inbox += data
            self._witness.saw_data(data)
        elif content_type == ALERT:
            for level, code in zip(data[::2], data[1::2], strict=False):
                self._witness.saw_alert(level, code)
                self._begin_plain()
        elif content_type == HANDSHAKE:
            if self._suite_after_finished is not None:
                self._tls.incoming.write(record.raw)
            self._on_handshake(data)

    def _begin_plain(self) -> None:
        """What stands behind a close_notify and is no record is in plain."""
        rest = self._in.rest
        if self._witness.close_notify and rest and rest[0] not in range(CHANGE_CIPHER_SPEC, DATA + 2):
            self._plain = True
            self._witness.saw_plaintext(self._in.take_rest())

    def _is_plain_alert(self, record: Record) -> bool:
        """In the handshake, and of a broken connection, alerts come in plain."""
        return record.content_type == ALERT and len(record.body) == 2

    def _on_handshake(self, data: bytes) -> None:
        self._messages += data
        while len(self._messages) >= _MESSAGE_HEADER:
            end = _MESSAGE_HEADER + int.from_bytes(self._messages[1:_MESSAGE_HEADER])
            if len(self._messages) < end:
                return
            kind = self._messages[0]
            del self._messages[:end]
            self._on_message(kind)

    def _on_message(self, kind: int) -> None:
        if kind == _NEW_SESSION_TICKET:
            self._witness.saw(EventKind.TICKET)
        elif kind == _KEY_UPDATE and self._reader is not None:
            self._witness.saw(EventKind.KEY_UPDATE)
            self._reader.update()
        else:
            self._witness.saw(EventKind.HANDSHAKE_MESSAGE, HANDSHAKE_NAMES.get(kind, f"message {kind}"))
            if kind == _FINISHED and self._suite_after_finished is not None:
                self._keys_after_finished(self._suite_after_finished)
                self._suite_after_finished = None


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
