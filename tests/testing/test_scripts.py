"""The script language: each verb does on the wire what it says, and what is expected must come."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import pytest

from bowout._tls_numbers import APPLICATION_DATA, HANDSHAKE
from bowout.ending import EventKind
from bowout.testing import Act, ExpectationFailed, Peer, PeerReport, Script, TLSVersion

BOTH: Final[tuple[TLSVersion, ...]] = ("1.2", "1.3")


@contextmanager
def met(script: Script, *, tls: TLSVersion = "1.3") -> Iterator[tuple[Peer, ssl.SSLSocket]]:
    with Peer(script, tls=tls) as peer, socket.create_connection(peer.address, timeout=30) as raw:
        context = peer.client_context()
        with context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as sock:
            yield peer, sock


def drain(sock: ssl.SSLSocket) -> tuple[bytes, str]:
    """All that can be read, and the reason why that was all."""
    data = b""
    try:
        while chunk := sock.recv(1 << 16):
            data += chunk
    except (ssl.SSLError, ConnectionError) as error:
        return data, getattr(error, "reason", None) or type(error).__name__
    return data, ""


def after_handshake(*verbs: Callable[[Act], object]) -> Script:
    def script(act: Act) -> None:
        act.handshake()
        for verb in verbs:
            verb(act)

    return script


@pytest.mark.parametrize("tls", BOTH)
@pytest.mark.parametrize(
    ("verb", "data"),
    [
        (lambda act: act.send(b"x" * 40_000), b"x" * 40_000),
        (lambda act: act.record(APPLICATION_DATA, b"a record"), b"a record"),
        (lambda act: act.empty_record(3), b""),
        (lambda act: act.drip(b"drip", interval=0), b"drip"),
        (lambda act: act.flood(100_000), bytes(100_000)),
        (lambda act: act.silence(0), b""),
    ],
    ids=["send", "record", "empty_record", "drip", "flood", "silence"],
)
def test_what_is_sent_arrives_before_the_end(verb: Callable[[Act], object], data: bytes, tls: TLSVersion) -> None:
    with met(after_handshake(verb, Act.close_notify), tls=tls) as (_, sock):
        assert drain(sock) == (data, "")


def test_padding_is_not_data() -> None:
    with met(after_handshake(lambda act: act.record(APPLICATION_DATA, b"x", padding=100), Act.close_notify)) as (
        _,
        sock,
    ):
        assert drain(sock) == (b"x", "")


def test_data_goes_on_after_each_change_of_keys_on_both_sides() -> None:
    def script(act: Act) -> None:
        act.handshake()
        act.key_update(request=True)
        act.send(b"one")
        act.expect_data(b"answer")
        act.key_update()
        act.send(b"two")
        act.close_notify()

    with met(script) as (peer, sock):
        assert sock.recv(100) == b"one"
        sock.sendall(b"answer")  # OpenSSL answers the request first
        assert drain(sock) == (b"two", "")
    assert "key update" in [event.kind for event in peer.report.events if event.by == "we"]
    assert peer.report.undecryptable == 0


def test_a_ticket_is_a_ticket() -> None:
    with met(after_handshake(Act.session_ticket, lambda act: act.send(b"x"))) as (_, sock):
        assert sock.recv(10) == b"x"
        assert sock.session is not None
        assert sock.session.has_ticket


def test_one_segment_is_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []

    def script(act: Act) -> None:
        act.handshake()
        put = act._wire.put

        def count(data: bytes) -> None:
            written.append(len(data))
            put(data)

        monkeypatch.setattr(act._wire, "put", count)
        with act.one_segment():
            act.send(b"x")
            act.send(b"y")
            act.close_notify()

    with met(script) as (_, sock):
        assert drain(sock) == (b"xy", "")
    assert written == [23 + 23 + 24]


@pytest.mark.parametrize("at", [1, 4, 5, 21, None, -1])
def test_a_cut_record_is_cut_where_it_says(at: int | None) -> None:
    script = after_handshake(lambda act: act.cut_record(b"data", at=at), Act.fin)
    with met(script) as (peer, sock):
        assert drain(sock) == (b"", "UNEXPECTED_EOF_WHILE_READING")
    assert peer.report.ending.inbound == "truncated inside a record"


@pytest.mark.parametrize("at", [0, 26, -26])
def test_a_cut_has_to_be_inside(at: int) -> None:
    script = after_handshake(lambda act: act.cut_record(b"data", at=at))
    with pytest.raises(ValueError, match="cannot be cut"), met(script) as (_, sock):
        drain(sock)


def test_reading_in_pieces() -> None:
    got: list[bytes] = []

    def script(act: Act) -> None:
        act.handshake()
        got.append(act.read_until(b"\n"))
        got.append(act.read_exactly(3))
        while piece := act.receive():
            got.append(piece)
        act.close_notify()

    with met(script) as (peer, sock):
        sock.sendall(b"a line\nabcrest")
        sock.unwrap()
    assert (got, peer.report.error) == ([b"a line\n", b"abc", b"rest"], None)


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (lambda act: act.read_until(b"\n"), "close_notify came before b'\\n'"),
        (lambda act: act.read_exactly(9), "close_notify came after 1 of 9 bytes"),
    ],
)
def test_an_end_that_comes_early_ends_the_script(verb: Callable[[Act], object], words: str) -> None:
    with met(after_handshake(verb)) as (peer, sock):
        sock.sendall(b"x")
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.unwrap()
    assert peer.report.error == words


def leave_with_fin(sock: ssl.SSLSocket) -> None:
    sock.sendall(b"data")
    sock.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (lambda act: act.expect_data(b"other"), r"expected b'other', and got b'data'"),
        (lambda act: act.expect_data(b"x" * 100), r"expected b'xxx.*… \(100 bytes\), and got b'data'"),
        (Act.expect_close_notify, "expected close_notify, and FIN came"),
        (lambda act: act.expect_alert("unknown_ca"), "expected the alert unknown_ca, and FIN came"),
    ],
)
def test_what_is_expected_must_come(verb: Callable[[Act], object], words: str) -> None:
    with pytest.raises(ExpectationFailed, match=words), met(after_handshake(verb)) as (_, sock):
        leave_with_fin(sock)


def test_a_fin_that_is_expected_must_come() -> None:
    script = after_handshake(lambda act: act.send(b"unread"), Act.ready, Act.expect_fin)
    with pytest.raises(ExpectationFailed, match="expected FIN, and RST came"), met(script) as (peer, _):
        peer.wait_ready()


def sees_all(act: Act) -> None:
    act.handshake()
    act.expect_data(b"data")
    act.expect_fin()
    assert act.wait_for("end")
    assert not act.wait_for("close_notify")
    assert not act.wait_for("rst")
    assert act.left


def test_what_is_expected_and_comes_is_no_error() -> None:
    with met(sees_all) as (peer, sock):
        leave_with_fin(sock)
    assert (peer.report.finished, peer.report.error) == (True, None)


def test_an_alert_that_is_expected() -> None:
    script = after_handshake(Act.plaintext_close_notify, lambda act: act.expect_alert("unexpected_message"))
    with met(script) as (peer, sock):
        assert drain(sock)[1]
    assert peer.report.finished


def test_a_test_and_its_script_wait_for_each_other() -> None:
    order: list[str] = []

    def script(act: Act) -> None:
        act.handshake()
        act.ready()
        act.wait_for_go()
        order.append("script")
        act.close_notify()

    with met(script) as (peer, sock):
        peer.wait_ready()
        order.append("test")
        peer.go()
        assert drain(sock) == (b"", "")
    assert order == ["test", "script"]


def test_after_a_reset_a_script_can_do_no_more() -> None:
    with met(after_handshake(Act.rst, lambda act: act.send(b"x"))) as (peer, _):
        peer.wait()
    assert peer.report.error == "the script has reset the connection"


def test_arrival_is_not_reading() -> None:
    seen: list[PeerReport | int] = []

    def script(act: Act) -> None:
        act.handshake()
        act.wait_for_arrival()
        seen.append(act._recorder.received)
        act.close_notify()

    with met(script) as (peer, sock):
        sock.sendall(b"data")
        drain(sock)
    assert (seen, peer.report.received) == ([0], 4)


def test_a_server_that_stops_after_its_flight_reads_on_with_the_keys_of_the_client() -> None:
    def script(act: Act) -> None:
        act.handshake(stop_at="flight")
        act.send(b"early")  # RFC 8446 section 2: a server may, before the client's Finished
        act.expect_data(b"data")
        act.close_notify()
        act.expect_close_notify()

    with met(script) as (peer, sock):
        assert sock.recv(10) == b"early"
        sock.sendall(b"data")
        sock.unwrap()
    assert (peer.report.finished, peer.report.undecryptable) == (True, 0)


@pytest.mark.parametrize("tls", BOTH)
def test_a_server_that_stops_after_its_flight_can_end_there(tls: TLSVersion) -> None:
    def script(act: Act) -> None:
        act.handshake(stop_at="flight")
        act.alert("fatal", "handshake_failure")
        act.fin()

    def visit(peer: Peer) -> None:
        with (
            socket.create_connection(peer.address, timeout=30) as raw,
            peer.client_context().wrap_socket(raw, server_hostname="localhost") as sock,
        ):
            sock.recv(1)

    with Peer(script, tls=tls) as peer, pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
        visit(peer)
    assert peer.report.finished


# -- mistakes in a script


@pytest.mark.parametrize(
    ("mistake", "error", "told"),
    [
        (lambda act: act.send(b"x"), RuntimeError, "call handshake.. first; send_raw"),
        (lambda act: act.receive(), RuntimeError, "receive..: call handshake.. first"),
        (lambda act: act.expect_data(b"x"), RuntimeError, "expect_data..: call handshake.. first"),
        (lambda act: act.handshake(stop_at="helo"), ValueError, "stop_at='helo': it must be one of hello, flight"),
        (lambda act: (act.handshake(), act.handshake()), RuntimeError, "done already"),
        (
            lambda act: (act.handshake(), act.wait_for("closenotify")),
            ValueError,
            "sight='closenotify': it must be one of close_n",
        ),
        (
            lambda act: (act.handshake(), act.alert("fatel", 10)),
            ValueError,
            "level='fatel': it must be one of warning",
        ),
        (lambda act: (act.handshake(), act.alert("fatal", "internal")), ValueError, "no alert 'internal'"),
        (lambda act: (act.handshake(), act.alert(300, 0)), ValueError, "alert level 300: .* 0 to 255"),
        (lambda act: (act.handshake(), act.alert("fatal", -1)), ValueError, "alert -1: .* 0 to 255"),
        (lambda act: (act.handshake(), act.split_alert(1, 257)), ValueError, "alert 257: .* 0 to 255"),
        (lambda act: (act.handshake(), act.expect_alert(256)), ValueError, "alert 256: .* 0 to 255"),
        (lambda act: (act.handshake(), act.record(256, b"")), ValueError, "content type 256: .* 0 to 255"),
        (
            lambda act: (act.handshake(), act.record(APPLICATION_DATA, b"", version=b"\3")),
            ValueError,
            "two bytes; send_raw",
        ),
        (
            lambda act: (act.handshake(), act.record(APPLICATION_DATA, b"", padding=-1)),
            ValueError,
            "padding=-1: it must be a number of",
        ),
    ],
)
def test_a_mistake_is_told_of_and_says_what_there_is(
    mistake: Callable[[Act], object], error: type[Exception], told: str
) -> None:
    with (
        pytest.raises(error, match=told),
        Peer(mistake) as peer,
        suppress(OSError),
        socket.create_connection(peer.address, timeout=30) as raw,
    ):
        peer.client_context().wrap_socket(raw, server_hostname="localhost").close()
    assert peer.report.error is not None
    assert error.__name__ in peer.report.error


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        (lambda act: act.send("text"), "send"),
        (lambda act: act.send_raw("text"), "send_raw"),
        (lambda act: act.record(APPLICATION_DATA, "text"), "record"),
        (lambda act: act.cut_record("text"), "cut_record"),
        (lambda act: act.drip("text"), "drip"),
        (lambda act: act.read_until("text"), "read_until"),
        (lambda act: act.expect_data("text"), "expect_data"),
    ],
)
def test_text_is_to_be_encoded(verb: Callable[[Act], object], name: str) -> None:
    told = rf"^{name}\(\) takes bytes, not str: encode it first, as with data.encode\(\)$"
    with pytest.raises(TypeError, match=told), met(after_handshake(verb)) as (_, sock):
        drain(sock)


def test_what_is_neither_bytes_nor_text() -> None:
    script = after_handshake(lambda act: act.send(5))  # type: ignore[arg-type]
    with (
        pytest.raises(TypeError, match=r"send\(\) takes bytes, not int: give it bytes"),
        met(script) as (_, sock),
    ):
        drain(sock)


@pytest.mark.parametrize("data", [bytearray(b"data"), memoryview(b"data")])
def test_what_is_like_bytes_is_sent(data: bytes) -> None:
    with met(after_handshake(lambda act: act.send(data), Act.close_notify)) as (_, sock):
        assert drain(sock) == (b"data", "")


@pytest.mark.parametrize(
    ("tls", "padding", "told"),
    [
        ("1.3", 0, r"cannot carry 70,000 B: .* room for 65,518 B; send\(\) makes"),
        ("1.3", 100, r"room for 65,418 B beside 100 B of padding"),
        ("1.3", 70_000, r"room for 0 B beside 70,000 B of padding"),
        ("1.2", 0, r"cannot carry 70,000 B: .* room for 65,5(11|19) B; send\(\) makes"),
    ],
)
def test_a_record_that_is_too_much_for_one_says_how_much_is_not(tls: TLSVersion, padding: int, told: str) -> None:
    script = after_handshake(lambda act: act.record(APPLICATION_DATA, bytes(70_000), padding=padding))
    with pytest.raises(ValueError, match=told), met(script, tls=tls) as (_, sock):
        drain(sock)


def test_there_is_no_padding_in_tls12() -> None:
    script = after_handshake(lambda act: act.record(APPLICATION_DATA, b"x", padding=1))
    with pytest.raises(RuntimeError, match=r"padding needs TLS 1\.3"), met(script, tls="1.2") as (_, sock):
        drain(sock)


def test_a_record_in_plain_that_is_too_much_for_one() -> None:
    def script(act: Act) -> None:
        act.handshake(stop_at="hello")
        act.record(APPLICATION_DATA, bytes(0x10000))

    with (
        pytest.raises(ValueError, match=r"cannot carry 65,536 B: .* room for 65,535 B; send"),
        Peer(script) as peer,
        suppress(OSError),
        socket.create_connection(peer.address, timeout=30) as raw,
    ):
        peer.client_context().wrap_socket(raw, server_hostname="localhost").close()


# -- messages after the handshake


@pytest.mark.parametrize(
    ("tls", "verb", "told"),
    [
        ("1.2", Act.key_update, r"key_update\(\) needs TLS 1.3, but this is TLSv1.2; record\(22, …\)"),
        ("1.2", Act.session_ticket, r"session_ticket\(\) needs TLS 1.3, but this is TLSv1.2; record\(22, …\)"),
        ("1.3", Act.renegotiate, r"renegotiate\(\) needs TLS 1.2, but this is TLSv1.3; record\(22, …\)"),
    ],
)
def test_a_message_of_the_other_version_is_refused_and_not_sent(
    tls: TLSVersion, verb: Callable[[Act], object], told: str
) -> None:
    def script(act: Act) -> None:
        act.handshake()
        with pytest.raises(RuntimeError, match=told):
            verb(act)
        act.send(b"in order")
        act.close_notify()

    with met(script, tls=tls) as (_, sock):
        assert drain(sock) == (b"in order", "")


def test_a_ticket_of_a_client_is_refused_and_not_sent() -> None:
    def script(act: Act) -> None:
        act.handshake()
        with pytest.raises(RuntimeError, match=r"is for a server, but this is a client; record\(22, …\)"):
            act.session_ticket()
        act.send(b"in order")
        act.fin()

    sees = after_handshake(lambda act: act.expect_data(b"in order"), Act.expect_fin, Act.fin)
    with Peer(sees) as seeing, Peer(script, role="client", connect_to=seeing.address) as peer:
        peer.wait()
        seeing.wait()
    assert (peer.report.finished, seeing.report.finished) == (True, True)
    assert EventKind.TICKET not in [event.kind for event in seeing.report.events]


@pytest.mark.parametrize("verb", [Act.key_update, Act.session_ticket, Act.renegotiate])
@pytest.mark.parametrize("tls", BOTH)
def test_a_message_for_after_the_handshake_waits_for_its_end(verb: Callable[[Act], object], tls: TLSVersion) -> None:
    def script(act: Act) -> None:
        act.handshake(stop_at="hello")
        verb(act)

    with (
        pytest.raises(RuntimeError, match=r"needs a completed handshake; record\(22, …\)"),
        Peer(script, tls=tls) as peer,
        suppress(OSError),
        socket.create_connection(peer.address, timeout=30) as raw,
    ):
        peer.client_context().wrap_socket(raw, server_hostname="localhost").close()


def test_an_illegal_message_is_a_record_away() -> None:
    script = after_handshake(
        lambda act: act.record(HANDSHAKE, bytes(4)),  # a HelloRequest
        lambda act: act.expect_alert("unexpected_message"),
    )
    with met(script) as (peer, sock):
        assert drain(sock)[1]
    assert peer.report.finished


# -- segments


@pytest.mark.parametrize(
    ("verb", "name"),
    [
        (Act.receive, "receive()"),
        (lambda act: act.read_exactly(1), "read_exactly(1)"),
        (lambda act: act.read_until(b"x"), "read_until(b'x')"),
        (lambda act: act.wait_for("end"), "wait_for('end')"),
        (lambda act: act.expect_data(b"x"), "expect_data()"),
        (Act.expect_close_notify, "expect_close_notify()"),
        (Act.expect_fin, "expect_fin()"),
        (lambda act: act.expect_alert(0), "expect_alert()"),
        (Act.silence, "silence()"),
        (Act.wait_for_arrival, "wait_for_arrival()"),
    ],
)
def test_nothing_is_waited_for_while_a_segment_is_held_back(verb: Callable[[Act], object], name: str) -> None:
    def script(act: Act) -> None:
        act.handshake()
        with act.one_segment():
            act.send(b"a question")
            with pytest.raises(RuntimeError, match=re.escape(f"{name} in one_segment()") + ".* after it$"):
                verb(act)
            act.close_notify()

    with met(script) as (_, sock):
        assert drain(sock) == (b"a question", "")


def test_a_handshake_does_not_overtake_what_a_segment_holds_back() -> None:
    def script(act: Act) -> None:
        with act.one_segment():
            act.send_raw(b"in plain\r\n")
            with pytest.raises(RuntimeError, match=r"handshake\(\) in one_segment\(\)"):
                act.handshake()

    with Peer(script) as peer, socket.create_connection(peer.address, timeout=30) as raw:
        assert raw.recv(100) == b"in plain\r\n"


def test_a_pause_in_a_segment_holds_it_back() -> None:
    def script(act: Act) -> None:
        act.handshake()
        with act.one_segment():
            act.send(b"one ")
            act.silence(0)
            act.send(b"two")
        act.expect_data(b"answer")
        act.close_notify()

    with met(script) as (peer, sock):
        assert sock.recv(100) == b"one "
        sock.sendall(b"answer")
        assert drain(sock) == (b"two", "")
    assert peer.report.finished


def test_a_fin_in_a_segment_comes_after_its_data() -> None:
    def script(act: Act) -> None:
        act.handshake()
        with act.one_segment():
            act.send(b"all of it")
            act.close_notify()
            act.fin()

    with met(script) as (peer, tls):
        assert (tls.recv(100), tls.recv(100)) == (b"all of it", b"")
    assert peer.report.finished


def test_a_segment_within_a_segment_is_one_segment() -> None:
    def script(act: Act) -> None:
        act.handshake()
        with act.one_segment():
            with act.one_segment():
                act.send(b"one ")
            act.send(b"two")
            act.close_notify()

    with met(script) as (peer, tls):
        assert (tls.recv(100), tls.recv(100), tls.recv(100)) == (b"one ", b"two", b"")
    assert peer.report.finished
