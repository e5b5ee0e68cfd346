"""The handshake, and every way in which it fails."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trustme

from bowout._tls_numbers import ALERT, APPLICATION_DATA, HANDSHAKE
from bowout.ending import Alert, EventKind, How, Inbound, Outbound, Role, Side
from bowout.errors import (
    AlertReceived,
    BowoutError,
    CertificateError,
    HandshakeAlert,
    HandshakeError,
    HandshakeReset,
    HandshakeTimeout,
    HandshakeTruncated,
    NotTLS,
)
from helpers.engines import (
    BUFFER,
    close_notify,
    contexts,
    engine,
    established,
    kinds,
    pair,
    refused,
    take,
)

if TYPE_CHECKING:
    from bowout._core.engine import Engine


def test_the_handshake_opens_both_directions(us: Engine) -> None:
    assert (us.outbound, us.inbound) == (Outbound.OPEN, Inbound.OPEN)


def test_the_handshake_is_in_the_timeline(us: Engine, version: str) -> None:
    done = next(event for event in us.timeline.events() if event.kind is EventKind.HANDSHAKE_DONE)
    assert done.detail.startswith(f"TLSv{version} ")


def test_a_long_handshake_message_is_fed_in_slices(ca: trustme.CA, version: str) -> None:
    client, server = contexts(ca, version)
    ca.issue_cert("peer.example", *(f"{n:050}.example" for n in range(500))).configure_cert(server)
    two = pair(client, server)
    two.shake_hands()
    assert two.client.handshake_done


def test_a_second_handshake_is_done_at_once(us: Engine) -> None:
    assert us.handshake()


def test_a_handshake_waits_for_the_transport(ca: trustme.CA) -> None:
    assert not engine(contexts(ca, "1.3")[0], Role.CLIENT).handshake()


def test_an_ending_knows_its_connection(us: Engine, version: str) -> None:
    end = us.build_ending(peer="somebody", began=7.0)
    assert (end.tls_version, end.peer, end.began, end.role) == (f"TLSv{version}", "somebody", 7.0, us.role)


def test_an_ending_knows_its_cipher(us: Engine) -> None:
    cipher = us.tls.cipher()
    assert cipher is not None
    assert us.build_ending().cipher == cipher[0]


def test_tickets_are_told(ca: trustme.CA) -> None:
    two = established(ca, "1.3")
    tickets = [event.count for event in two.client.timeline.events() if event.kind is EventKind.TICKET]
    assert tickets == [2]


def test_handshake_messages_are_shown_to_an_observer_only(ca: trustme.CA, version: str) -> None:
    two = pair(*contexts(ca, version))
    seen: list[str] = []
    two.client.timeline.observe(lambda event: seen.append(f"{event.by} {event.kind}: {event.detail}"))
    two.shake_hands()
    assert "peer handshake message: ServerHello" in seen
    assert EventKind.HANDSHAKE_MESSAGE not in kinds(two.client)


def test_an_unknown_handshake_message_has_its_number(us: Engine) -> None:
    seen: list[str] = []
    us.timeline.observe(lambda event: seen.append(event.detail))
    us.facts.on_message(outgoing=False, content_type=HANDSHAKE, data=b"\xfd")
    assert seen == ["message 253"]


@pytest.mark.parametrize(("content_type", "data"), [(HANDSHAKE, b""), (ALERT, b"\2"), (APPLICATION_DATA, b"\2\50")])
def test_a_message_that_makes_no_sense_is_no_event(us: Engine, content_type: int, data: bytes) -> None:
    before = us.timeline.events()
    us.facts.on_message(outgoing=False, content_type=content_type, data=data)
    assert us.timeline.events() == before


def test_before_the_handshake_nothing_can_be_sent(ca: trustme.CA) -> None:
    client = engine(contexts(ca, "1.3")[0], Role.CLIENT)
    with pytest.raises(HandshakeError, match="not done"):
        client.outgoing.write(memoryview(b"x"))


def test_before_the_handshake_close_notify_is_not_sent(ca: trustme.CA) -> None:
    client = engine(contexts(ca, "1.3")[0], Role.CLIENT)
    assert close_notify(client) == b""


def test_before_the_handshake_nothing_is_discarded(ca: trustme.CA) -> None:
    assert engine(contexts(ca, "1.3")[0], Role.CLIENT).discard(BUFFER) == 0


def failed(client: Engine, data: bytes = b"", *, then: str = "") -> tuple[BowoutError, Engine]:
    """A client's handshake that fails on `data`, and on how the transport ends."""
    client.handshake()
    take(client)
    if data:
        client.receive_data(data)
    if then == "FIN":
        client.receive_eof()
    if then == "RST":
        client.receive_reset("words of the system")
    with pytest.raises(HandshakeError) as caught:
        client.handshake()
    return caught.value, client


@pytest.fixture
def fresh(ca: trustme.CA, version: str) -> Engine:
    """A client that has not begun."""
    return engine(contexts(ca, version)[0], Role.CLIENT)


@pytest.mark.parametrize(
    ("sample", "guess"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        (b"<html><head>", "HTTP"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "SSH"),
        (b"220 mail.example ESMTP\r\n", "SMTP or FTP"),
        (b"* OK IMAP4rev1\r\n", "IMAP"),
        (b"+OK POP3\r\n", "POP3"),
    ],
)
def test_plain_text_is_not_tls(fresh: Engine, sample: bytes, guess: str) -> None:
    error, _ = failed(fresh, sample)
    assert isinstance(error, NotTLS)
    assert f"it looks like {guess}" in str(error)


def test_plain_text_without_a_known_look_is_shown(fresh: Engine) -> None:
    error, _ = failed(fresh, b"\x1b[2J hello there")
    assert "does not speak TLS here: it sent '\\x1b[2J hello" in str(error)


def test_the_sample_is_kept_as_it_came(fresh: Engine) -> None:
    error, _ = failed(fresh, b"SSH-2.0-x\r\n" + bytes(100))
    assert isinstance(error, NotTLS)
    assert error.sample == (b"SSH-2.0-x\r\n" + bytes(100))[:64]


def test_a_sample_is_gathered_from_pieces(fresh: Engine) -> None:
    fresh.handshake()
    fresh.receive_data(b"22")
    fresh.receive_data(b"0 x\r\n")
    with pytest.raises(NotTLS) as caught:
        fresh.handshake()
    assert caught.value.sample == b"220 x\r\n"


def test_plain_text_too_short_for_a_record_is_not_tls_either(fresh: Engine) -> None:
    error, _ = failed(fresh, b"no\n", then="FIN")
    assert isinstance(error, NotTLS)


def test_a_server_meets_plain_http(ca: trustme.CA, version: str) -> None:
    server = engine(contexts(ca, version)[1], Role.SERVER)
    server.receive_data(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(NotTLS, match="it looks like HTTP"):
        server.handshake()


def test_plain_text_is_an_undecryptable_end(fresh: Engine) -> None:
    _, client = failed(fresh, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert client.inbound is Inbound.UNDECRYPTABLE


def test_nobody_claims_an_answer_to_plain_text_that_was_not_given(fresh: Engine) -> None:
    _, client = failed(fresh, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    answer = take(client)  # OpenSSL 3.0 gives none
    client.sent_fin()
    ending = client.build_ending()
    assert ending.outbound is (Outbound.FATAL_ALERT if answer else Outbound.CUT)
    assert ("we " in str(ending).partition("(")[0]) == bool(answer)


def test_a_fin_in_the_handshake(fresh: Engine) -> None:
    error, client = failed(fresh, then="FIN")
    assert isinstance(error, HandshakeTruncated)
    assert client.inbound is Inbound.TRUNCATED_AT_BOUNDARY


def test_a_fin_inside_a_record_of_the_handshake(fresh: Engine) -> None:
    error, client = failed(fresh, b"\x16\x03\x03\x00", then="FIN")
    assert isinstance(error, HandshakeTruncated)
    assert client.inbound is Inbound.TRUNCATED_INSIDE_RECORD


def test_an_rst_in_the_handshake(fresh: Engine) -> None:
    error, client = failed(fresh, then="RST")
    assert isinstance(error, HandshakeReset)
    assert client.inbound is Inbound.RESET


def test_the_systems_words_are_in_the_timeline(fresh: Engine) -> None:
    _, client = failed(fresh, then="RST")
    assert [event.detail for event in client.timeline.events() if event.kind is EventKind.RST] == [
        "words of the system"
    ]


def test_a_close_notify_in_the_handshake(fresh: Engine) -> None:
    error, client = failed(fresh, b"\x15\x03\x03\x00\x02\x01\x00")
    assert isinstance(error, HandshakeTruncated)
    assert (client.outbound, client.inbound) == (Outbound.HANDSHAKE, Inbound.CLOSE_NOTIFY)


def test_a_fatal_alert_in_the_handshake(fresh: Engine) -> None:
    error, client = failed(fresh, b"\x15\x03\x03\x00\x02\x02\x28")
    assert isinstance(error, HandshakeAlert)
    assert error.alert == Alert(code=40, level=2, by=Side.PEER)
    assert client.build_ending().alert == error.alert


def test_an_alert_that_was_received_before_the_rst_counts(fresh: Engine) -> None:
    error, _ = failed(fresh, b"\x15\x03\x03\x00\x02\x02\x28", then="RST")
    assert isinstance(error, HandshakeAlert)


def test_a_warning_in_the_handshake_is_no_end(fresh: Engine) -> None:
    fresh.handshake()
    fresh.receive_data(b"\x15\x03\x03\x00\x02\x01\x70")
    assert not fresh.handshake()


@pytest.mark.parametrize("then", ["FIN", "RST"])
def test_a_failed_handshake_is_called_so(fresh: Engine, then: str) -> None:
    assert failed(fresh, then=then)[1].verdict() is How.FAILED_HANDSHAKE


def test_a_failed_handshake_has_its_reason(fresh: Engine) -> None:
    assert "closed the connection during the handshake" in failed(fresh, then="FIN")[1].build_ending().reason


def test_a_reason_that_is_given_comes_first(fresh: Engine) -> None:
    assert failed(fresh, then="FIN")[1].build_ending(reason="mine").reason == "mine"


def test_a_handshake_error_is_sticky(fresh: Engine) -> None:
    error, client = failed(fresh, then="FIN")
    with pytest.raises(type(error), match=str(error)):
        client.handshake()


def test_each_time_the_error_is_a_fresh_one(fresh: Engine) -> None:
    error, client = failed(fresh, then="FIN")
    assert client.failure is not error


def test_openssls_error_is_the_cause(fresh: Engine) -> None:
    error, _ = failed(fresh, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert isinstance(error.__cause__, ssl.SSLError)


def test_who_waits_no_longer_gives_up(fresh: Engine) -> None:
    fresh.handshake()
    fresh.give_up(lambda: HandshakeTimeout("too slow"))
    with pytest.raises(HandshakeTimeout, match="too slow"):
        fresh.handshake()


def test_giving_up_does_not_hide_the_first_failure(fresh: Engine) -> None:
    _, client = failed(fresh, then="FIN")
    client.give_up(lambda: HandshakeTimeout("too slow"))
    assert isinstance(client.failure, HandshakeTruncated)


def test_after_a_failed_handshake_input_is_dropped(fresh: Engine) -> None:
    _, client = failed(fresh, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    client.receive_data(bytes(1000))
    assert client.incoming.queue.size < 1000


def test_input_is_dropped_when_we_leave_in_the_handshake(fresh: Engine) -> None:
    fresh.handshake()
    fresh.record_call("close()", leaving=True)
    fresh.receive_data(b"\x16\x03\x03\x00\x02")
    assert fresh.incoming.queue.size == 0


def test_a_certificate_for_another_name(ca: trustme.CA, version: str) -> None:
    error, _, _ = refused(*contexts(ca, version), name="other.example")
    assert isinstance(error, CertificateError)
    assert (error.verify_code, "other.example" in error.verify_message) == (62, True)


def test_a_certificate_that_is_not_trusted(ca: trustme.CA, version: str) -> None:
    stranger, _ = contexts(trustme.CA(), version)
    error, _, _ = refused(stranger, contexts(ca, version)[1])
    assert isinstance(error, CertificateError)


def test_the_server_hears_that_its_certificate_was_refused(ca: trustme.CA, version: str) -> None:
    _, error, _ = refused(*contexts(ca, version), name="other.example")
    assert isinstance(error, HandshakeAlert)
    assert error.alert.name == "bad_certificate"


def test_to_refuse_a_certificate_is_our_alert_and_not_the_peers_end(ca: trustme.CA, version: str) -> None:
    *_, two = refused(*contexts(ca, version), name="other.example")
    assert (two.client.outbound, two.client.inbound) == (Outbound.FATAL_ALERT, Inbound.HANDSHAKE)


def test_what_comes_after_a_refusal_is_not_kept(ca: trustme.CA, version: str) -> None:
    *_, two = refused(*contexts(ca, version), name="other.example")
    before = two.client.incoming.queue.size
    two.client.receive_data(bytes(1000))
    assert two.client.incoming.queue.size == before


def test_no_version_in_common(ca: trustme.CA) -> None:
    error, other, _ = refused(contexts(ca, "1.2")[0], contexts(ca, "1.3")[1])
    assert isinstance(error, HandshakeAlert)
    assert (error.alert.name, str(other)) == ("protocol_version", "the handshake failed: unsupported protocol")


def test_no_cipher_in_common(ca: trustme.CA) -> None:
    client, server = contexts(ca, "1.2")
    client.set_ciphers("ECDHE+AES128")
    server.set_ciphers("ECDHE+AES256")
    error, other, _ = refused(client, server)
    assert isinstance(error, HandshakeAlert)
    assert (error.alert.name, str(other)) == ("handshake_failure", "the handshake failed: no shared cipher")


def test_a_client_certificate_that_is_missing_in_tls12(ca: trustme.CA) -> None:
    client, server = contexts(ca, "1.2")
    server.verify_mode = ssl.CERT_REQUIRED
    error, _, _ = refused(client, server)
    assert isinstance(error, HandshakeAlert)


def test_a_client_certificate_that_is_missing_in_tls13_is_heard_of_after_the_handshake(ca: trustme.CA) -> None:
    client, server = contexts(ca, "1.3")
    server.verify_mode = ssl.CERT_REQUIRED
    error, _, two = refused(client, server)
    assert isinstance(error, AlertReceived)
    assert (error.alert.name, two.client.verdict()) == ("certificate_required", How.ALERT)
