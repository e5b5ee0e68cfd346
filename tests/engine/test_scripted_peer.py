"""A peer that writes its own records: warnings, oddities, and messages in two halves."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from bowout._tls_numbers import ALERT, APPLICATION_DATA, HANDSHAKE
from bowout.ending import Alert, EventKind, How, Inbound, Outbound, Side
from bowout.errors import (
    AlertReceived,
    ProtocolViolation,
    Truncated,
)
from helpers.engines import (
    Scribe,
    close_notify,
    contexts,
    kinds,
    pair,
    read,
    read_all,
    read_out,
    scribe,
    send,
    take,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bowout._core.engine import Engine


@pytest.fixture
def scripted(ca: trustme.CA, version: str, tmp_path: Path) -> tuple[Engine, Scribe]:
    """A client, and the pen of its server."""
    return scribe(*contexts(ca, version), version, tmp_path / "keys")


def test_a_scribe_writes_what_the_client_reads(scripted: tuple[Engine, Scribe]) -> None:
    us, pen = scripted
    us.receive_data(pen.record(APPLICATION_DATA, b"hello") + pen.record(APPLICATION_DATA, b"") + pen.alert(1, 0))
    assert read_out(us) == (b"hello", None)


def test_user_canceled_then_close_notify_is_an_end(scripted: tuple[Engine, Scribe]) -> None:
    us, pen = scripted
    us.receive_data(pen.alert(1, 90) + pen.alert(1, 0))
    assert (read(us), us.inbound) == (b"", Inbound.CLOSE_NOTIFY)


@pytest.mark.parametrize(("code", "expected"), [(0, b""), (90, ProtocolViolation)], ids=["close_notify", "none"])
def test_an_end_of_input_that_openssl_makes_up_is_the_close_notify_that_it_met(
    ca: trustme.CA, tmp_path: Path, code: int, expected: object
) -> None:
    """OpenSSL 3.5 does so after user_canceled; of a real end it is never told."""
    us, pen = scribe(*contexts(ca, "1.3"), "1.3", tmp_path / "keys")
    us.receive_data(pen.record(APPLICATION_DATA, b"never read"))

    def made_up(*_: object) -> bytes:
        error = ssl.SSLEOFError(8, "EOF occurred in violation of protocol")
        error.reason = ""
        raise error

    us.facts.on_message(outgoing=False, content_type=ALERT, data=bytes([1, code]))
    us.tls.read = made_up  # type: ignore[assignment, method-assign]
    data, error = read_out(us)
    assert expected in (data, type(error))


def test_user_canceled_is_not_what_ended_it(scripted: tuple[Engine, Scribe]) -> None:
    us, pen = scripted
    us.receive_data(pen.alert(1, 90) + pen.alert(1, 0))
    read(us)
    assert us.build_ending().alert is None


def test_user_canceled_then_a_fin_is_a_truncation(scripted: tuple[Engine, Scribe]) -> None:
    us, pen = scripted
    us.receive_data(pen.alert(1, 90))
    us.receive_eof()
    assert isinstance(read_out(us)[1], Truncated)


@pytest.mark.parametrize("code", [80, 200])
def test_a_warning_is_a_note_in_tls12_and_fatal_in_tls13(
    scripted: tuple[Engine, Scribe], version: str, code: int
) -> None:
    us, pen = scripted
    us.receive_data(pen.alert(1, code))
    _, error = read_out(us)
    assert (type(error), kinds(us, EventKind.ALERT)) == (
        AlertReceived if version == "1.3" else type(None),
        [EventKind.ALERT],
    )


def test_an_error_does_not_call_fatal_what_the_ending_calls_a_warning(ca: trustme.CA, tmp_path: Path) -> None:
    us, pen = scribe(*contexts(ca, "1.3"), "1.3", tmp_path / "keys")
    us.receive_data(pen.alert(1, 100))
    _, error = read_out(us)
    assert (
        str(error) == "the peer ended the connection with an alert, which is fatal whatever its level: no_renegotiation"
    )
    assert str(us.build_ending().alert) == "warning no_renegotiation"


def test_an_unknown_fatal_alert_has_its_number(scripted: tuple[Engine, Scribe]) -> None:
    us, pen = scripted
    us.receive_data(pen.alert(2, 200))
    assert "unknown_alert_200" in str(read_out(us)[1])


def test_a_fatal_close_notify_is_an_alert_in_tls12(ca: trustme.CA, tmp_path: Path) -> None:
    us, pen = scribe(*contexts(ca, "1.2"), "1.2", tmp_path / "keys")
    us.receive_data(pen.alert(2, 0))
    with pytest.raises(AlertReceived, match="close_notify"):
        read(us)


def test_a_fatal_close_notify_is_clean_with_a_note_in_tls13(ca: trustme.CA, tmp_path: Path) -> None:
    us, pen = scribe(*contexts(ca, "1.3"), "1.3", tmp_path / "keys")
    us.receive_data(pen.alert(2, 0))
    assert (read(us), us.timeline.events()[-1].detail) == (b"", "at level fatal")


def test_two_alerts_in_a_record_are_a_violation(scripted: tuple[Engine, Scribe]) -> None:
    us, pen = scripted
    us.receive_data(pen.record(ALERT, b"\1\0\1\0"))
    assert isinstance(read_out(us)[1], ProtocolViolation)


def test_a_close_notify_in_plain_text_is_a_violation(scripted: tuple[Engine, Scribe]) -> None:
    us, _ = scripted
    us.receive_data(b"\x15\x03\x03\x00\x02\x01\x00")
    assert (type(read_out(us)[1]), us.verdict()) == (ProtocolViolation, How.ALERT)


def test_an_error_without_a_name_is_said_without_decoration(ca: trustme.CA, tmp_path: Path) -> None:
    us, _ = scribe(*contexts(ca, "1.2"), "1.2", tmp_path / "keys")
    us.receive_data(b"\x15\x03\x03\x00\x02\x01\x00")
    error = str(read_out(us)[1])
    assert error.startswith("the peer broke the TLS protocol: ")
    assert "_ssl.c" not in error
    assert "[" not in error


def test_a_renegotiation_is_refused_and_nothing_ends(ca: trustme.CA, tmp_path: Path) -> None:
    us, pen = scribe(*contexts(ca, "1.2"), "1.2", tmp_path / "keys")
    us.receive_data(pen.record(HANDSHAKE, bytes(4)))
    assert (read(us), us.timeline.events()[-1].alert) == (None, Alert(100, 1, Side.WE))
    assert us.outgoing.size > 0


REFUSED = "the peer had asked to renegotiate, which we refuse"


@pytest.mark.parametrize("code", [40, 100])
def test_an_alert_after_a_refused_renegotiation_says_so(ca: trustme.CA, tmp_path: Path, code: int) -> None:
    us, pen = scribe(*contexts(ca, "1.2"), "1.2", tmp_path / "keys")
    us.receive_data(pen.record(HANDSHAKE, bytes(4)))
    assert read(us) is None
    us.receive_data(pen.alert(2, code))
    _, error = read_out(us)
    assert isinstance(error, AlertReceived)
    assert REFUSED in str(error)
    assert us.build_ending().reason == REFUSED


@pytest.mark.parametrize(("end", "how"), [("receive_eof", How.TRUNCATED), ("receive_reset", How.RESET)])
def test_a_bare_end_after_a_refused_renegotiation_says_so(ca: trustme.CA, tmp_path: Path, end: str, how: How) -> None:
    us, pen = scribe(*contexts(ca, "1.2"), "1.2", tmp_path / "keys")
    us.receive_data(pen.record(HANDSHAKE, bytes(4)))
    assert read(us) is None
    getattr(us, end)()
    read_out(us)
    ending = us.build_ending()
    assert (ending.how, ending.reason) == (how, REFUSED)


def test_no_other_end_is_put_down_to_a_refused_renegotiation(ca: trustme.CA, tmp_path: Path) -> None:
    us, pen = scribe(*contexts(ca, "1.2"), "1.2", tmp_path / "keys")
    us.receive_data(pen.record(HANDSHAKE, bytes(4)))
    assert read(us) is None
    us.receive_data(pen.record(APPLICATION_DATA, b"not sealed by its key")[:-1] + b"\xff")
    assert isinstance(read_out(us)[1], ProtocolViolation)
    assert us.build_ending().reason == ""


def test_an_alert_alone_says_nothing_of_a_renegotiation(scripted: tuple[Engine, Scribe]) -> None:
    us, pen = scripted
    us.receive_data(pen.alert(2, 40))
    _, error = read_out(us)
    assert isinstance(error, AlertReceived)
    assert (REFUSED in str(error), us.build_ending().reason) == (False, "")


def test_a_renegotiation_after_our_close_notify_is_not_answered(ca: trustme.CA, tmp_path: Path) -> None:
    us, pen = scribe(*contexts(ca, "1.2"), "1.2", tmp_path / "keys")
    close_notify(us)
    us.receive_data(pen.record(HANDSHAKE, bytes(4)) + pen.alert(1, 0))
    assert (read(us), us.outgoing.size, us.verdict()) == (b"", 0, How.CLEAN)


def asked_for_a_certificate(ca: trustme.CA, *, closed: bool) -> Engine:
    """A client that was asked for its certificate after the handshake, and has read what came with that."""
    client, server = contexts(ca, "1.3")
    ca.issue_cert("client.example").configure_cert(client)
    client.post_handshake_auth = server.post_handshake_auth = True
    server.verify_mode = ssl.CERT_REQUIRED
    two = pair(client, server)
    two.shake_hands()
    read(two.client)
    if closed:
        close_notify(two.client)
    two.server.tls.verify_client_post_handshake()
    two.server.tls.do_handshake()
    send(two.server, b"who are you?")
    two.move(two.server)
    assert read(two.client) == b"who are you?"
    return two.client


def test_a_certificate_that_is_asked_for_is_given_at_once(ca: trustme.CA) -> None:
    assert asked_for_a_certificate(ca, closed=False).outgoing.head() is not None


def test_after_our_close_notify_no_certificate_leaves(ca: trustme.CA) -> None:
    assert asked_for_a_certificate(ca, closed=True).outgoing.head() is None


def key_update(ca: trustme.CA, keys: Path) -> Engine:
    us, pen = scribe(*contexts(ca, "1.3"), "1.3", keys)
    us.receive_data(pen.record(HANDSHAKE, b"\x18\0\0\1\1"))
    assert read(us) is None
    return us


def test_a_key_update_is_told_and_answered_with_the_next_write(ca: trustme.CA, tmp_path: Path) -> None:
    us = key_update(ca, tmp_path / "keys")
    send(us, b"x")
    updates = [event.by for event in us.timeline.events() if event.kind is EventKind.KEY_UPDATE]
    assert updates == [Side.PEER, Side.WE]


def test_after_our_close_notify_a_key_update_is_not_answered(ca: trustme.CA, tmp_path: Path) -> None:
    us = key_update(ca, tmp_path / "keys")
    close_notify(us)
    read(us)
    assert us.outgoing.head() is None


def half_a_ticket(ca: trustme.CA, keys: Path) -> tuple[Engine, Callable[..., bytes]]:
    """A client that has read one half of a session ticket, and what gives the other."""
    us, pen = scribe(*contexts(ca, "1.3"), "1.3", keys)
    body = (7200).to_bytes(4) + bytes(4) + b"\x08" + bytes(8) + (9).to_bytes(2) + bytes(9) + bytes(2)
    ticket = b"\x04" + len(body).to_bytes(3) + body
    us.receive_data(pen.record(HANDSHAKE, ticket[:20]))
    assert read(us) is None

    def rest(*data: bytes) -> bytes:
        return pen.record(HANDSHAKE, ticket[20:]) + b"".join(pen.record(APPLICATION_DATA, piece) for piece in data)

    return us, rest


def test_in_the_middle_of_a_handshake_message_nothing_can_be_written(ca: trustme.CA, tmp_path: Path) -> None:
    us, _ = half_a_ticket(ca, tmp_path / "keys")
    assert us.outgoing.write(memoryview(b"x")) == 0


def test_after_the_rest_of_the_message_writing_goes_on(ca: trustme.CA, tmp_path: Path) -> None:
    us, rest = half_a_ticket(ca, tmp_path / "keys")
    us.receive_data(rest())
    us.incoming.hold()
    assert us.outgoing.write(memoryview(b"x")) == 1


def test_data_that_is_held_for_a_write_reaches_the_reader_in_order(ca: trustme.CA, tmp_path: Path) -> None:
    us, rest = half_a_ticket(ca, tmp_path / "keys")
    us.receive_data(rest(bytes(16384), bytes(16384), b"and more"))
    us.incoming.hold()
    assert read_all(us) == bytes(32768) + b"and more"


def test_in_the_middle_of_a_handshake_message_close_notify_waits(ca: trustme.CA, tmp_path: Path) -> None:
    us, _ = half_a_ticket(ca, tmp_path / "keys")
    us.queue_close_notify()
    assert (us.outbound, us.outgoing.head(), us.outgoing.size) == (Outbound.CLOSE_NOTIFY_QUEUED, None, 1)


def test_after_the_rest_of_the_message_close_notify_leaves(ca: trustme.CA, tmp_path: Path) -> None:
    us, rest = half_a_ticket(ca, tmp_path / "keys")
    us.queue_close_notify()
    us.receive_data(rest())
    read(us)
    take(us)
    assert (us.outbound, us.outgoing.size) == (Outbound.CLOSE_NOTIFY_SENT, 0)


def test_it_is_queued_once_in_the_timeline(ca: trustme.CA, tmp_path: Path) -> None:
    us, rest = half_a_ticket(ca, tmp_path / "keys")
    us.queue_close_notify()
    us.receive_data(rest())
    read(us)
    assert kinds(us, EventKind.CLOSE_NOTIFY_QUEUED) == [EventKind.CLOSE_NOTIFY_QUEUED]


def test_a_close_notify_that_waited_is_not_made_for_a_lost_connection(ca: trustme.CA, tmp_path: Path) -> None:
    us, rest = half_a_ticket(ca, tmp_path / "keys")
    us.queue_close_notify()
    us.send_failed()
    us.receive_data(rest())
    read(us)
    assert (us.outgoing.size, us.outgoing.head(), us.outbound) == (0, None, Outbound.LOST)


def test_if_the_rest_never_comes_nothing_waits_any_more(ca: trustme.CA, tmp_path: Path) -> None:
    us, _ = half_a_ticket(ca, tmp_path / "keys")
    us.queue_close_notify()
    us.receive_eof()
    read_out(us)
    assert (us.outgoing.size, us.outbound) == (0, Outbound.CLOSE_NOTIFY_QUEUED)
