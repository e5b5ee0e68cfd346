"""The verbs of a script that send: what TLS has, what it forbids, and in which pieces that travels."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from bowout._core.records import HEADER_SIZE, MAX_PLAINTEXT
from bowout.ending import EventKind, Role
from bowout.testing import _records
from bowout.testing._arguments import CLOSE_NOTIFY, alert_code, alert_level, octets, one_byte
from bowout.testing._records import ALERT, DATA, HANDSHAKE, LEGACY_VERSION, MAX_LENGTH
from bowout.testing._verbs import Verbs
from bowout.testing._wire import Gone, Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bowout.testing._arguments import Level
    from bowout.testing._identity import TLSVersion

_HELLO_REQUEST: Final = bytes(4)
_ANY_MESSAGE: Final = f"record({HANDSHAKE}, …) sends any message"
_KEY_UPDATE: Final = b"\x18\0\0\1"


class Sending(Verbs):
    """They return when the kernel has the bytes, or at the end of the segment that they belong to."""

    # -- sending, as TLS has it ---------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send application data, in as many records as it takes."""
        data = octets(data, "send()")
        for start in range(0, len(data), MAX_PLAINTEXT):
            piece = data[start : start + MAX_PLAINTEXT]
            self._emit(self._seal(DATA, piece))
            self._witness.sent_data(len(piece))

    def close_notify(self, level: Level = "warning") -> None:
        """Send close_notify. As often as it is called: that is the script's business."""
        self.alert(level, "close_notify")

    def alert(self, level: Level | int, name: str | int) -> None:
        """Send an alert, in plain as long as there are no keys.

        Args:
            level: ``"warning"``, ``"fatal"``, or any number.
            name: as in RFC 8446 section 6, such as ``"internal_error"``; or any number.
        """
        level_number, code = alert_level(level), alert_code(name)
        self._emit(self._seal(ALERT, bytes([level_number, code])))
        self._witness.sent_alert(level_number, code)

    def key_update(self, *, request: bool = False) -> None:
        """Send a KeyUpdate, and go on with fresh keys (TLS 1.3, RFC 8446 section 4.6.3).

        Args:
            request: ask the other side to do the same.

        Raises:
            RuntimeError: it would be illegal here, as `record` can send it.
        """
        self._needs_version("1.3", "key_update()")
        self._emit(self._seal(HANDSHAKE, _KEY_UPDATE + bytes([request])))
        assert self._session.writer is not None, "sealed above"
        self._session.writer.update()
        self._witness.sent(EventKind.KEY_UPDATE, "requested of the other side, too" if request else "")

    def session_ticket(self) -> None:
        """Send a NewSessionTicket (TLS 1.3, RFC 8446 section 4.6.1); a server's verb.

        Raises:
            RuntimeError: it would be illegal here, as `record` can send it.
        """
        self._needs_version("1.3", "session_ticket()")
        if self._role is not Role.SERVER:
            raise RuntimeError(f"session_ticket() is for a server, and this is a client; {_ANY_MESSAGE}")
        lifetime, age_add, nonce, ticket = (7200).to_bytes(4), os.urandom(4), os.urandom(8), os.urandom(32)
        body = lifetime + age_add + bytes([len(nonce)]) + nonce + len(ticket).to_bytes(2) + ticket + bytes(2)
        self._emit(self._seal(HANDSHAKE, b"\x04" + len(body).to_bytes(3) + body))
        self._witness.sent(EventKind.TICKET)

    def renegotiate(self) -> None:
        """Ask for a new handshake (TLS 1.2): a server with a HelloRequest, a client with its ClientHello.

        Raises:
            RuntimeError: it would be illegal here, as `record` can send it.
        """
        self._needs_version("1.2", "renegotiate()")
        message = _HELLO_REQUEST if self._role is Role.SERVER else self._session.hello
        self._emit(self._seal(HANDSHAKE, message))
        self._witness.sent(EventKind.HANDSHAKE_MESSAGE, "HelloRequest" if self._role is Role.SERVER else "ClientHello")

    # -- sending, as TLS forbids it -----------------------------------------------------------------------------

    def record(self, content_type: int, payload: bytes, *, version: bytes = LEGACY_VERSION, padding: int = 0) -> None:
        """Send any record under the connection's keys; nothing checks that it is legal.

        Args:
            content_type: 20 to 23 are known, RFC 8446 section 5.1; or any other byte.
            payload: the plaintext; as much as the length in the header can say, which is more than TLS allows.
            version: the two bytes in the header.
            padding: zero bytes after the plaintext; TLS 1.2 has none.
        """
        payload, version = octets(payload, "record()"), octets(version, "record(version=…)")
        one_byte(content_type, "content type")
        if len(version) != len(LEGACY_VERSION):
            raise ValueError(f"version={version!r}: it has two bytes; send_raw() is there for a header that is none")
        if padding < 0:
            raise ValueError(f"padding={padding}: it is a number of bytes")
        if padding:
            self._needs_version("1.3", "padding")
        self._emit(self._seal(content_type, payload, version=version, padding=padding))
        self._witness.did(f"record of type {content_type}, {len(payload):,} B")

    def empty_record(self, count: int = 1) -> None:
        """Send records of application data with none in them (RFC 8446 section 5.1 allows it)."""
        for _ in range(count):
            self._emit(self._seal(DATA, b""))
        self._witness.did(f"{count:,} empty records")

    def split_alert(self, level: Level | int = "warning", name: str | int = "close_notify") -> None:
        """Send an alert in two records, which TLS 1.3 forbids (RFC 8446 section 5.1)."""
        level_number, code = alert_level(level), alert_code(name)
        self._emit(self._seal(ALERT, bytes([level_number])) + self._seal(ALERT, bytes([code])))
        self._witness.sent_alert(level_number, code, "in two records")

    def doubled_alert(self, level: Level | int = "warning", name: str | int = "close_notify") -> None:
        """Send an alert twice in one record, which TLS 1.3 forbids (RFC 8446 section 5.1)."""
        level_number, code = alert_level(level), alert_code(name)
        self._emit(self._seal(ALERT, bytes([level_number, code] * 2)))
        self._witness.sent_alert(level_number, code, "twice in one record")

    def empty_alert(self) -> None:
        """Send a record of type alert with nothing in it (RFC 8446 section 5.1 forbids it)."""
        self._emit(self._seal(ALERT, b""))
        self._witness.did("an alert record with no alert")

    def plaintext_close_notify(self) -> None:
        """Send a close_notify that is not encrypted, as somebody on the path could inject it."""
        self._emit(_records.header(ALERT, 2) + b"\1\0")
        self._witness.sent_alert(1, CLOSE_NOTIFY, "not encrypted")

    def send_raw(self, data: bytes) -> None:
        """Send bytes on TCP as they are."""
        data = octets(data, "send_raw()")
        self._emit(data)
        self._witness.did(f"{len(data):,} B in plain")

    def cut_record(self, data: bytes, *, at: int | None = None) -> None:
        """Send the beginning of a record of application data, and never the rest.

        Args:
            data: what the record would carry.
            at: how many bytes of it to send: up to 4 are inside its header, a negative number leaves out so many;
                None for half of it.
        """
        self._cut(self._seal(DATA, octets(data, "cut_record()")), at)

    def cut_close_notify(self, *, at: int | None = None) -> None:
        """Send the beginning of a close_notify; see `cut_record`."""
        self._cut(self._seal(ALERT, bytes([1, CLOSE_NOTIFY])), at)

    # -- sending, in time and in pieces -------------------------------------------------------------------------

    @contextlib.contextmanager
    def one_segment(self) -> Iterator[None]:
        """Hand everything that the block sends to the kernel at once, so that it travels together.

        A `fin` or `rst` in it comes after what was sent before it.

        Raises:
            RuntimeError: a verb in the block reads, or waits for the other side, which has nothing to answer yet.
        """
        if self._segment is not None:  # inside another one, which sends it all
            yield
            return
        self._segment = bytearray()
        try:
            yield
            self._flush()
        finally:
            self._segment = None

    @contextlib.contextmanager
    def byte_by_byte(self) -> Iterator[None]:
        """Hand everything that the block sends to the kernel one byte at a time."""
        before, self._wire.byte_by_byte = self._wire.byte_by_byte, True
        try:
            yield
        finally:
            self._wire.byte_by_byte = before

    def drip(self, data: bytes, *, interval: float = 0.02) -> None:
        """Send application data with a record for each byte, until the other side has gone.

        Args:
            data: every byte of it has its own record.
            interval: seconds between two.
        """
        for byte in octets(data, "drip()"):
            self.send(bytes([byte]))
            if self._wire.pause(interval):
                return

    def flood(self, cap: int) -> int:
        """Send application data as fast as it is taken, and read nothing, until the other side has gone.

        Args:
            cap: bytes of application data, at most.

        Returns:
            How many bytes were sent. A reset ends the flood, and not the script.
        """
        sent = 0
        whole, self._wire.byte_by_byte = self._wire.byte_by_byte, False
        try:
            while sent < cap and not self.left:
                self.send(bytes(min(4 * MAX_PLAINTEXT, cap - sent)))
                sent += min(4 * MAX_PLAINTEXT, cap - sent)
        except (Gone, Stopped):
            pass  # that is where a flood ends
        finally:
            self._wire.byte_by_byte = whole
        return sent

    # -- the ends of TCP ----------------------------------------------------------------------------------------

    def fin(self) -> None:
        """End our direction of TCP. Reading goes on."""
        self._flush()
        self._wire.fin()
        self._witness.sent_fin(inside_record=self._scanner.inside_record)

    def rst(self) -> None:
        """Reset the connection. Nothing can be done on it after that."""
        self._flush()
        self._wire.rst()
        self._witness.sent_rst()

    # -- how it is done -----------------------------------------------------------------------------------------

    def _seal(self, content_type: int, data: bytes, *, version: bytes = LEGACY_VERSION, padding: int = 0) -> bytes:
        self._needs_handshake("sending a record")
        writer = self._session.writer
        room = writer.room(padding) if writer is not None else MAX_LENGTH
        if len(data) > room:
            raise ValueError(
                f"a record cannot carry {len(data):,} B: the length in its header leaves room for {max(0, room):,} B"
                f"{f' beside {padding:,} B of padding' if padding else ''}; send() makes as many records as it takes"
            )
        if writer is None:
            return _records.header(content_type, len(data), version) + data
        return writer.seal(content_type, data, version=version, padding=padding)

    def _needs_version(self, version: TLSVersion, verb: str) -> None:
        self._needs_handshake(verb)
        spoken = self._witness.version
        if spoken is None:
            raise RuntimeError(f"{verb} is for after the handshake, which is not done; {_ANY_MESSAGE}")
        if spoken != f"TLSv{version}":
            raise RuntimeError(f"{verb} is of TLS {version}, and this is {spoken}; {_ANY_MESSAGE}")

    def _cut(self, record: bytes, at: int | None) -> None:
        at = len(record) // 2 if at is None else at
        at += len(record) if at < 0 else 0
        if not 0 < at < len(record):
            raise ValueError(f"the record has {len(record)} bytes, and cannot be cut after {at}")
        self._emit(record[:at])
        where = "inside its header" if at < HEADER_SIZE else f"of {len(record)}"
        self._witness.did(f"the first {at} B of a record, {where}")

    def _emit(self, data: bytes) -> None:
        self._scanner.scan(data)
        if self._segment is not None:
            self._segment += data
        else:
            self._wire.put(data)

    def _flush(self) -> None:
        """Let go what a segment holds back."""
        if self._segment:
            held, self._segment = bytes(self._segment), bytearray()
            self._wire.put(held)
