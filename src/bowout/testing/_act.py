"""The script language: what a peer can do, as calls on one object."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, Literal, get_args

from bowout._core.records import HEADER_SIZE, MAX_PLAINTEXT, RecordScanner
from bowout.ending import ALERT_NAMES, EventKind, Role
from bowout.testing import _records
from bowout.testing._records import ALERT, DATA, HANDSHAKE, LEGACY_VERSION
from bowout.testing._session import Stage
from bowout.testing._wire import Gone, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bowout.testing._session import Session
    from bowout.testing._wire import Signals, Wire
    from bowout.testing._witness import Witness

Level = Literal["warning", "fatal"]
Sight = Literal["close_notify", "fin", "rst", "alert", "end"]

_LEVELS: Final = {"warning": 1, "fatal": 2}
_CODES: Final = {name: code for code, name in ALERT_NAMES.items()}
_CLOSE_NOTIFY: Final = 0

_HELLO_REQUEST: Final = bytes(4)
_KEY_UPDATE: Final = b"\x18\0\0\1"


class ExpectationFailed(AssertionError):
    """The code under test did not do what the script expects. It is raised where the block of the `Peer` is left."""

    __module__ = "bowout.testing"  # where it is found, for who reads a traceback


class Act:
    """One connection, seen by the script that acts on it.

        def my_ending(act: Act) -> None:
            act.handshake()
            act.send(b"half of ")
            act.cut_record(b"a message", at=7)
            act.fin()

    Verbs that send return when the kernel has the bytes. Verbs that receive take note of all that comes: data, alerts,
    close_notify, FIN, RST. No verb waits longer than the peer's ``timeout``, or much longer than the test. A verb that
    cannot go on, since the other side has left or the time is over, ends the script; ``report.error`` says where.
    A script that returns leaves the connection open, and the peer reads on until the other side has left.

    Attributes:
        role: the part of this peer, ``"server"`` or ``"client"``.
        number: which of the peer's connections this is, from 0.
    """

    def __init__(
        self, session: Session, wire: Wire, witness: Witness, *, signals: Signals, role: Role, number: int
    ) -> None:
        self._session, self._wire, self._witness, self._signals = session, wire, witness, signals
        self._role = role
        self._scanner = RecordScanner()
        self._segment: bytearray | None = None
        self._reading = True
        self._begun = False
        self.role: Final = role.value
        self.number: Final = number

    # -- what is known ------------------------------------------------------------------------------------------

    @property
    def tls13(self) -> bool:
        """The handshake agreed on TLS 1.3."""
        return self._witness.version == "TLSv1.3"

    @property
    def left(self) -> bool:
        """The other side's FIN or RST was met, or the test is over. A script that only sends does not see a FIN."""
        return self._witness.left or self._signals.over.is_set()

    @property
    def close_notify_seen(self) -> bool:
        """The other side's close_notify was read."""
        return self._witness.close_notify > 0

    @property
    def reads(self) -> bool:
        """False after `stop_reading`."""
        return self._reading

    # -- the handshake ------------------------------------------------------------------------------------------

    def handshake(self, *, stop_at: Stage | None = None) -> None:
        """Shake hands, or stop on the way and go on with whatever the script does next.

        Args:
            stop_at: ``"hello"``: the ClientHello has passed, and nothing after it. ``"flight"``: the server's answer
                has passed too, and nothing after it.
        """
        if stop_at not in {None, *get_args(Stage)}:
            raise ValueError(f"stop_at={stop_at!r}: known are {_listed(get_args(Stage))}")
        if self._witness.version is not None:
            raise RuntimeError("handshake(): it is done already")
        self._begun = True
        self._session.handshake(stop_at)
        if stop_at is not None:
            self._witness.did(f"stops the handshake after the {'ClientHello' if stop_at == 'hello' else 'flight'}")

    # -- sending, as TLS has it ---------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send application data, in as many records as it takes."""
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
        level_number, code = _level(level), _code(name)
        self._emit(self._seal(ALERT, bytes([level_number, code])))
        self._witness.sent_alert(level_number, code)

    def key_update(self, *, request: bool = False) -> None:
        """Send a KeyUpdate, and go on with fresh keys (TLS 1.3, RFC 8446 section 4.6.3).

        Args:
            request: ask the other side to do the same.
        """
        self._emit(self._seal(HANDSHAKE, _KEY_UPDATE + bytes([request])))
        assert self._session.writer is not None, "sealed above"
        self._session.writer.update()
        self._witness.sent(EventKind.KEY_UPDATE, "requested of the other side, too" if request else "")

    def session_ticket(self) -> None:
        """Send a NewSessionTicket (TLS 1.3, RFC 8446 section 4.6.1); a server's verb."""
        lifetime, age_add, nonce, ticket = (7200).to_bytes(4), os.urandom(4), os.urandom(8), os.urandom(32)
        body = lifetime + age_add + bytes([len(nonce)]) + nonce + len(ticket).to_bytes(2) + ticket + bytes(2)
        self._emit(self._seal(HANDSHAKE, b"\x04" + len(body).to_bytes(3) + body))
        self._witness.sent(EventKind.TICKET)

    def renegotiate(self) -> None:
        """Ask for a new handshake (TLS 1.2): a server with a HelloRequest, a client with its ClientHello."""
        message = _HELLO_REQUEST if self._role is Role.SERVER else self._session.hello
        self._emit(self._seal(HANDSHAKE, message))
        self._witness.sent(EventKind.HANDSHAKE_MESSAGE, "HelloRequest" if self._role is Role.SERVER else "ClientHello")

    # -- sending, as TLS forbids it -----------------------------------------------------------------------------

    def record(self, content_type: int, payload: bytes, *, version: bytes = LEGACY_VERSION, padding: int = 0) -> None:
        """Send any record under the connection's keys; nothing checks that it is legal.

        Args:
            content_type: 20 to 23 are known, RFC 8446 section 5.1.
            payload: the plaintext.
            version: the two bytes in the header.
            padding: zero bytes after the plaintext, in TLS 1.3.
        """
        self._emit(self._seal(content_type, payload, version=version, padding=padding))
        self._witness.did(f"record of type {content_type}, {len(payload):,} B")

    def empty_record(self, count: int = 1) -> None:
        """Send records of application data with none in them (RFC 8446 section 5.1 allows it)."""
        for _ in range(count):
            self._emit(self._seal(DATA, b""))
        self._witness.did(f"{count:,} empty records")

    def split_alert(self, level: Level | int = "warning", name: str | int = "close_notify") -> None:
        """Send an alert in two records, which TLS 1.3 forbids (RFC 8446 section 5.1)."""
        level_number, code = _level(level), _code(name)
        self._emit(self._seal(ALERT, bytes([level_number])) + self._seal(ALERT, bytes([code])))
        self._witness.sent_alert(level_number, code, "in two records")

    def doubled_alert(self, level: Level | int = "warning", name: str | int = "close_notify") -> None:
        """Send an alert twice in one record, which TLS 1.3 forbids (RFC 8446 section 5.1)."""
        level_number, code = _level(level), _code(name)
        self._emit(self._seal(ALERT, bytes([level_number, code] * 2)))
        self._witness.sent_alert(level_number, code, "twice in one record")

    def empty_alert(self) -> None:
        """Send a record of type alert with nothing in it (RFC 8446 section 5.1 forbids it)."""
        self._emit(self._seal(ALERT, b""))
        self._witness.did("an alert record with no alert")

    def plaintext_close_notify(self) -> None:
        """Send a close_notify that is not encrypted, as somebody on the path could inject it."""
        self._emit(_records.header(ALERT, 2) + b"\1\0")
        self._witness.sent_alert(1, _CLOSE_NOTIFY, "not encrypted")

    def send_raw(self, data: bytes) -> None:
        """Send bytes on TCP as they are."""
        self._emit(data)
        self._witness.did(f"{len(data):,} B in plain")

    def cut_record(self, data: bytes, *, at: int | None = None) -> None:
        """Send the beginning of a record of application data, and never the rest.

        Args:
            data: what the record would carry.
            at: how many bytes of it to send: up to 4 are inside its header, a negative number leaves out so many;
                None for half of it.
        """
        self._cut(self._seal(DATA, data), at)

    def cut_close_notify(self, *, at: int | None = None) -> None:
        """Send the beginning of a close_notify; see `cut_record`."""
        self._cut(self._seal(ALERT, bytes([1, _CLOSE_NOTIFY])), at)

    # -- sending, in time and in pieces -------------------------------------------------------------------------

    @contextlib.contextmanager
    def one_segment(self) -> Iterator[None]:
        """Hand everything that the block sends to the kernel at once, so that it travels together.

        A `fin` or `rst` in it comes after what was sent before it.
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
        for byte in data:
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

    # -- receiving ----------------------------------------------------------------------------------------------

    def receive(self) -> bytes:
        """The next application data; ``b""`` at the other side's close_notify.

        A FIN or an RST before either ends the script.
        """
        self._read_while(lambda: not self._session.inbox and not self.close_notify_seen, "receive()")
        return self._take(len(self._session.inbox))

    def read_exactly(self, count: int) -> bytes:
        """The next `count` bytes of application data; its end before that ends the script."""
        self._read_while(
            lambda: len(self._session.inbox) < count and not self.close_notify_seen, f"read_exactly({count})"
        )
        if len(self._session.inbox) < count:
            raise Gone(f"close_notify came after {len(self._session.inbox)} of {count} bytes")
        return self._take(count)

    def read_until(self, separator: bytes) -> bytes:
        """Application data up to and with the next `separator`; its end before that ends the script."""
        inbox = self._session.inbox
        self._read_while(lambda: separator not in inbox and not self.close_notify_seen, f"read_until({separator!r})")
        found = inbox.find(separator)
        if found < 0:
            raise Gone(f"close_notify came before {separator!r}")
        return self._take(found + len(separator))

    def wait_for(self, sight: Sight) -> bool:
        """Read on until something is seen of the other side, now or before.

        Args:
            sight: ``"close_notify"``; ``"alert"``: any alert but that; ``"fin"``; ``"rst"``; ``"end"``: any end of its
                direction, with or without close_notify.

        Returns:
            False if it has left, or the test or the time was over, without it.
        """
        sights = self._sights()
        if sight not in sights:
            raise ValueError(f"there is no sight {sight!r}: known are {_listed(sights)}")
        seen = sights[sight]
        with contextlib.suppress(Gone, Stopped):
            while not seen():
                if self._witness.left or not self._session.read():
                    break
        return seen()

    def silence(self, seconds: float | None = None) -> None:
        """Say nothing.

        Args:
            seconds: None until the other side has reset the connection, or the test is over: after its FIN, too, the
                TCP connection stays open. What it sends is read, unless after `stop_reading`.
        """
        if seconds is not None:
            self._wire.pause(seconds)
        elif self._reading:
            self.wait_for("rst")
            self._wire.wait_gone()
        else:
            self._wire.wait_left()

    def stop_reading(self) -> None:
        """Read nothing from here on, so that the other side's sends block as soon as the kernels' buffers are full."""
        # The receive buffer stays as it is: under a window of less than a segment, the end could take seconds to come.
        self._reading = False
        self._witness.did("stops reading")

    def wait_for_arrival(self) -> None:
        """Wait until something of the other side has arrived, and leave it unread."""
        self._wire.wait_readable()

    # -- the test -----------------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Tell the test, which waits in `Peer.wait_ready`."""
        self._signals.ready.set()

    def wait_for_go(self) -> None:
        """Wait until the test calls `Peer.go`, or is over."""
        while not self._signals.go.wait(0.01) and not self._wire.pause(0.01):
            pass

    # -- expectations -------------------------------------------------------------------------------------------

    def expect_data(self, data: bytes) -> None:
        """Read as many bytes of application data, which must be these.

        Raises:
            ExpectationFailed: they are others, or fewer.
        """
        __tracebackhide__ = True
        with contextlib.suppress(Gone, Stopped):
            self._read_while(
                lambda: len(self._session.inbox) < len(data) and not self.close_notify_seen, "expect_data()"
            )
        got = self._take(min(len(data), len(self._session.inbox)))
        if got != data:
            raise ExpectationFailed(f"expected {_shown(data)}, and got {_shown(got)}")

    def expect_close_notify(self) -> None:
        """Read on to the other side's close_notify.

        Raises:
            ExpectationFailed: it did not come.
        """
        __tracebackhide__ = True
        if not self.wait_for("close_notify"):
            raise ExpectationFailed(f"expected close_notify, and {self._how_it_left()}")

    def expect_fin(self) -> None:
        """Read on to the other side's FIN.

        Raises:
            ExpectationFailed: it did not come.
        """
        __tracebackhide__ = True
        if not self.wait_for("fin"):
            raise ExpectationFailed(f"expected FIN, and {self._how_it_left()}")

    def expect_alert(self, name: str | int) -> None:
        """Read on until this alert has come, now or before.

        Raises:
            ExpectationFailed: it did not come.
        """
        __tracebackhide__ = True
        code = _code(name)
        with contextlib.suppress(Gone, Stopped):
            while not self._witness.left and all(alert.code != code for alert in self._witness.alerts):
                self._session.read()
        if all(alert.code != code for alert in self._witness.alerts):
            raise ExpectationFailed(f"expected the alert {name}, and {self._how_it_left()}")

    # -- how it is done -----------------------------------------------------------------------------------------

    def finish(self) -> None:
        """After the script: see how the other side leaves. The peer's own verb."""
        if self._wire.closed:
            return
        if not self._reading:
            self._wire.wait_left()
        with contextlib.suppress(Gone, Stopped):
            while not self._witness.rst and self._session.read():
                pass

    def _sights(self) -> dict[Sight, Callable[[], bool]]:
        witness = self._witness
        return {
            "close_notify": lambda: witness.close_notify > 0,
            "alert": lambda: any(alert.code != _CLOSE_NOTIFY for alert in witness.alerts),
            "fin": lambda: witness.fin,
            "rst": lambda: witness.rst,
            "end": lambda: witness.close_notify > 0 or witness.left,
        }

    def _how_it_left(self) -> str:
        if self._witness.rst:
            return "RST came"
        if self._witness.fin:
            return "FIN came"
        return "nothing came before the test or the time was over"

    def _read_while(self, wanting: Callable[[], bool], verb: str) -> None:
        self._needs_handshake(verb)
        while wanting():
            if self._witness.left or not self._session.read():
                raise Gone(f"the other side left, and the script was in {verb}")

    def _take(self, count: int) -> bytes:
        taken = bytes(self._session.inbox[:count])
        del self._session.inbox[:count]
        return taken

    def _seal(self, content_type: int, data: bytes, *, version: bytes = LEGACY_VERSION, padding: int = 0) -> bytes:
        self._needs_handshake("sending a record")
        writer = self._session.writer
        if writer is None:
            return _records.header(content_type, len(data), version) + data
        return writer.seal(content_type, data, version=version, padding=padding)

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

    def _needs_handshake(self, verb: str) -> None:
        """A script that forgets it would send records in plain, and read none."""
        if not self._begun:
            raise RuntimeError(f"{verb}: call handshake() first; send_raw() is there for bytes in plain")


def _level(level: Level | int) -> int:
    if isinstance(level, int):
        return level
    if level not in _LEVELS:
        raise ValueError(f"there is no level {level!r}: known are {_listed(_LEVELS)}, and numbers")
    return _LEVELS[level]


def _code(name: str | int) -> int:
    if isinstance(name, int):
        return name
    if name not in _CODES:
        raise ValueError(f"there is no alert {name!r} in RFC 8446; use its number")
    return _CODES[name]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _shown(data: bytes) -> str:
    return repr(data) if len(data) <= 60 else f"{data[:60]!r}… ({len(data):,} bytes)"
