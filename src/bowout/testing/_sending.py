"""The sending verbs of a script: what TLS defines, what it forbids, and in which pieces it is sent."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from bowout._core.records import HEADER_SIZE, MAX_PLAINTEXT
from bowout._scripted.records import VERSION_BYTES, header
from bowout._tls_numbers import (
    ALERT,
    APPLICATION_DATA,
    CLOSE_NOTIFY,
    HANDSHAKE,
    VERSION_NAMES,
    WARNING,
)
from bowout.ending import EventKind, Role
from bowout.testing._arguments import alert_code, alert_level, octets, one_byte
from bowout.testing._verbs import Verbs
from bowout.testing._wire import Gone, Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bowout.testing._arguments import Level
    from bowout.testing._identity import TLSVersion

_ANY_MESSAGE: Final = f"record({HANDSHAKE}, …) sends any message"


class Sending(Verbs):
    """The sending verbs: they return when the kernel has the bytes; inside `one_segment`, at once."""

    # -- sending, as TLS has it ---------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send application data, in as many records as it takes."""
        data = octets(data, "send()")
        for start in range(0, len(data), MAX_PLAINTEXT):
            piece = data[start : start + MAX_PLAINTEXT]
            self._emit(self._seal(APPLICATION_DATA, piece))
            self._recorder.sent_data(len(piece))

    def close_notify(self, level: Level = "warning") -> None:
        """Send close_notify, each time it is called."""
        self.alert(level, "close_notify")

    def alert(self, level: Level | int, name: str | int) -> None:
        """Send an alert; in plain text, as long as there are no keys.

        Args:
            level: ``"warning"``, ``"fatal"``, or any number.
            name: a name of RFC 8446 section 6, such as ``"internal_error"``; or any number.
        """
        level_number, code = alert_level(level), alert_code(name)
        self._emit(self._seal(ALERT, bytes([level_number, code])))
        self._recorder.sent_alert(level_number, code)

    def key_update(self, *, request: bool = False) -> None:
        """Send a KeyUpdate, and go on with new keys (TLS 1.3, RFC 8446 section 4.6.3).

        Args:
            request: ask the other side to do the same.

        Raises:
            RuntimeError: it would be illegal here; `record` can send it nevertheless.
        """
        self._needs_version("1.3", "key_update()")
        self._connection.queue_key_update(request=request)
        self._send_queued()
        self._recorder.sent(EventKind.KEY_UPDATE, "requested of the other side, too" if request else "")

    def session_ticket(self) -> None:
        """Send a NewSessionTicket (TLS 1.3, RFC 8446 section 4.6.1); a server's verb.

        Raises:
            RuntimeError: it would be illegal here; `record` can send it nevertheless.
        """
        self._needs_version("1.3", "session_ticket()")
        if self._role is not Role.SERVER:
            raise RuntimeError(f"session_ticket() is for a server, but this is a client; {_ANY_MESSAGE}")
        self._connection.queue_session_ticket()
        self._send_queued()
        self._recorder.sent(EventKind.TICKET)

    def renegotiate(self) -> None:
        """Ask for a new handshake (TLS 1.2): a server with a HelloRequest, a client with its ClientHello.

        Raises:
            RuntimeError: it would be illegal here; `record` can send it nevertheless.
        """
        self._needs_version("1.2", "renegotiate()")
        name = self._connection.queue_renegotiation()
        self._send_queued()
        self._recorder.sent(EventKind.HANDSHAKE_MESSAGE, name)

    # -- sending, as TLS forbids it -----------------------------------------------------------------------------

    def record(self, content_type: int, payload: bytes, *, version: bytes = VERSION_BYTES, padding: int = 0) -> None:
        """Send any record under the connection's keys; nothing checks that it is legal.

        Args:
            content_type: any byte; RFC 8446 section 5.1 defines 20 to 23.
            payload: the plaintext; limited only by the length field of the header, so it may be longer than TLS allows.
            version: the two bytes in the header.
            padding: zero bytes after the plaintext; TLS 1.2 has none.
        """
        payload, version = octets(payload, "record()"), octets(version, "record(version=…)")
        one_byte(content_type, "content type")
        if len(version) != len(VERSION_BYTES):
            raise ValueError(f"version={version!r}: it must be two bytes; send_raw() sends any other header")
        if padding < 0:
            raise ValueError(f"padding={padding}: it must be a number of bytes, 0 or more")
        if padding:
            self._needs_version("1.3", "padding")
        self._emit(self._seal(content_type, payload, version=version, padding=padding))
        self._recorder.did(f"record of type {content_type}, {len(payload):,} B")

    def empty_record(self, count: int = 1) -> None:
        """Send `count` empty records of application data (RFC 8446 section 5.1 allows them)."""
        for _ in range(count):
            self._emit(self._seal(APPLICATION_DATA, b""))
        self._recorder.did(f"{count:,} empty records")

    def split_alert(self, level: Level | int = "warning", name: str | int = "close_notify") -> None:
        """Send an alert in two records, which TLS 1.3 forbids (RFC 8446 section 5.1)."""
        level_number, code = alert_level(level), alert_code(name)
        self._emit(self._seal(ALERT, bytes([level_number])) + self._seal(ALERT, bytes([code])))
        self._recorder.sent_alert(level_number, code, "in two records")

    def doubled_alert(self, level: Level | int = "warning", name: str | int = "close_notify") -> None:
        """Send an alert twice in one record, which TLS 1.3 forbids (RFC 8446 section 5.1)."""
        level_number, code = alert_level(level), alert_code(name)
        self._emit(self._seal(ALERT, bytes([level_number, code] * 2)))
        self._recorder.sent_alert(level_number, code, "twice in one record")

    def empty_alert(self) -> None:
        """Send a record of type alert with nothing in it (RFC 8446 section 5.1 forbids it)."""
        self._emit(self._seal(ALERT, b""))
        self._recorder.did("an alert record with no alert")

    def plaintext_close_notify(self) -> None:
        """Send a close_notify that is not encrypted, as an attacker on the path could inject it."""
        self._emit(header(ALERT, 2) + bytes([WARNING, CLOSE_NOTIFY]))
        self._recorder.sent_alert(WARNING, CLOSE_NOTIFY, "not encrypted")

    def send_raw(self, data: bytes) -> None:
        """Send bytes on TCP as they are."""
        data = octets(data, "send_raw()")
        self._emit(data)
        self._recorder.did(f"{len(data):,} B in plain")

    def cut_record(self, data: bytes, *, at: int | None = None) -> None:
        """Send the beginning of a record of application data, and never the rest.

        Args:
            data: the plaintext of the whole record.
            at: the number of bytes of the record to send: up to 4 are inside its header, a negative number counts from
                its end; None for half of it.
        """
        self._cut(self._seal(APPLICATION_DATA, octets(data, "cut_record()")), at)

    def cut_close_notify(self, *, at: int | None = None) -> None:
        """Send the beginning of a close_notify; see `cut_record`."""
        self._cut(self._seal(ALERT, bytes([WARNING, CLOSE_NOTIFY])), at)

    # -- sending, in time and in pieces -------------------------------------------------------------------------

    @contextlib.contextmanager
    def one_segment(self) -> Iterator[None]:
        """Hand all data that the block sends to the kernel at once, so that it travels together.

        A `fin` or `rst` in the block comes after the data that was sent before it.

        Raises:
            RuntimeError: a verb in the block reads, or waits for the other side, which has received nothing yet.
        """
        if self._in_segment:  # inside another one, which sends it all
            yield
            return
        self._in_segment = True
        try:
            yield
            self._driver.send()
        finally:
            self._in_segment = False
            self._connection.drop_output()

    @contextlib.contextmanager
    def byte_by_byte(self) -> Iterator[None]:
        """Hand all data that the block sends to the kernel one byte at a time."""
        before, self._wire.byte_by_byte = self._wire.byte_by_byte, True
        try:
            yield
        finally:
            self._wire.byte_by_byte = before

    def drip(self, data: bytes, *, interval: float = 0.02) -> None:
        """Send application data with a record for each byte, until the other side has gone.

        Args:
            data: the bytes; each has its own record.
            interval: seconds between two records.
        """
        for byte in octets(data, "drip()"):
            self.send(bytes([byte]))
            if self._wire.pause(interval):
                return

    def flood(self, cap: int) -> int:
        """Send application data as fast as the kernel takes it, and read nothing, until the other side has gone.

        Args:
            cap: bytes of application data, at most.

        Returns:
            The number of bytes sent. A reset ends the flood, but not the script.
        """
        sent = 0
        whole, self._wire.byte_by_byte = self._wire.byte_by_byte, False
        try:
            while sent < cap and not self.left:
                self.send(bytes(min(4 * MAX_PLAINTEXT, cap - sent)))
                sent += min(4 * MAX_PLAINTEXT, cap - sent)
        except (Gone, Stopped):
            pass  # the flood ends here
        finally:
            self._wire.byte_by_byte = whole
        return sent

    # -- the ends of TCP ----------------------------------------------------------------------------------------

    def fin(self) -> None:
        """End our direction of TCP. Reading goes on."""
        self._driver.send()
        self._wire.fin()
        self._recorder.sent_fin(inside_record=self._connection.inside_record)

    def rst(self) -> None:
        """Reset the connection. It cannot be used after that."""
        self._driver.send()
        self._wire.rst()
        self._recorder.sent_rst()

    # -- how it is done -----------------------------------------------------------------------------------------

    def _seal(self, content_type: int, data: bytes, *, version: bytes = VERSION_BYTES, padding: int = 0) -> bytes:
        self._needs_handshake("sending a record")
        room = self._connection.room(padding)
        if len(data) > room:
            raise ValueError(
                f"a record cannot carry {len(data):,} B: the length in its header leaves room for {max(0, room):,} B"
                f"{f' beside {padding:,} B of padding' if padding else ''}; send() makes as many records as needed"
            )
        return self._connection.seal(content_type, data, version=version, padding=padding)

    def _needs_version(self, version: TLSVersion, verb: str) -> None:
        self._needs_handshake(verb)
        spoken = self._recorder.version
        if spoken is None:
            raise RuntimeError(f"{verb} needs a completed handshake; {_ANY_MESSAGE}")
        if spoken != VERSION_NAMES[version]:
            raise RuntimeError(f"{verb} needs TLS {version}, but this is {spoken}; {_ANY_MESSAGE}")

    def _cut(self, record: bytes, at: int | None) -> None:
        at = len(record) // 2 if at is None else at
        at += len(record) if at < 0 else 0
        if not 0 < at < len(record):
            raise ValueError(f"the record has {len(record)} bytes; it cannot be cut after {at}")
        self._emit(record[:at])
        where = "inside its header" if at < HEADER_SIZE else f"of {len(record)}"
        self._recorder.did(f"the first {at} B of a record, {where}")

    def _emit(self, data: bytes) -> None:
        self._connection.queue(data)
        self._send_queued()

    def _send_queued(self) -> None:
        """Send the queued data, except inside `one_segment`."""
        if not self._in_segment:
            self._driver.send()
