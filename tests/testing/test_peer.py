"""The peer beside a test: what it reports, and that it leaves nothing behind whatever the code under test does."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import pytest
import trustme

from bowout.ending import EventKind, How, Role, Side
from bowout.testing import GREETING, Act, ExpectationFailed, Peer, TLSVersion, default_ca, server_context
from helpers.peers import require_ipv6

BOTH: Final[tuple[TLSVersion, ...]] = ("1.2", "1.3")


def connected(peer: Peer, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
    sock = socket.create_connection(peer.address, timeout=30)
    try:
        return (context or peer.client_context()).wrap_socket(sock, server_hostname="localhost")
    except BaseException:
        sock.close()
        raise


def visit(peer: Peer) -> None:
    """Read the greeting, end both ways, and leave."""
    with connected(peer) as sock:
        assert sock.recv(100) == GREETING
        sock.unwrap()


def idle(act: Act) -> None:
    act.handshake()


# -- the report


@pytest.mark.parametrize("tls", BOTH)
def test_a_report_tells_the_whole_exchange_in_order(tls: TLSVersion) -> None:
    with Peer("answers_close_notify", tls=tls) as peer:
        visit(peer)
    report = peer.report
    assert [(event.kind, event.by) for event in report.events] == [
        (EventKind.CONNECTED, Side.WE),
        (EventKind.HANDSHAKE_DONE, Side.WE),
        (EventKind.DATA, Side.PEER),
        (EventKind.CLOSE_NOTIFY, Side.WE),
        (EventKind.CLOSE_NOTIFY, Side.PEER),
        (EventKind.FIN, Side.PEER),
        (EventKind.FIN, Side.WE),
    ]
    assert (report.close_notify, report.fin, report.rst, report.finished, report.error) == (1, True, False, True, None)
    assert (report.ending.how, report.ending.role, report.role) == (How.CLEAN, Role.CLIENT, Role.SERVER)


def test_a_report_is_one_line_and_json_and_a_ladder() -> None:
    with Peer("answers-close-notify") as peer:
        visit(peer)
    assert str(peer.report) == "answers_close_notify (server, TLSv1.3): handshake, 1 close_notify, FIN"
    assert json.loads(json.dumps(peer.report.to_dict()))["close_notify"] == 1
    assert "close_notify" in peer.report.ladder()
    assert peer.report.ladder_svg().startswith("<svg")


def test_a_report_has_the_data_up_to_a_cap_and_counts_the_rest() -> None:
    with Peer(idle, data_cap=4) as peer, connected(peer) as sock:
        sock.sendall(b"abcdefgh")
    assert (peer.report.data, peer.report.received) == (b"abcd", 8)


def test_a_reset_of_the_code_under_test_is_seen() -> None:
    def script(act: Act) -> None:
        act.handshake()
        act.send(GREETING)
        act.ready()

    with Peer(script) as peer, connected(peer):
        peer.wait_ready()  # and leave with the greeting unread
    assert (peer.report.rst, peer.report.close_notify) == (True, 0)
    assert str(peer.report).endswith("no close_notify, RST")


def test_alerts_of_the_code_under_test_are_seen() -> None:
    with Peer("plaintext_close_notify") as peer, connected(peer) as sock:
        assert sock.recv(100) == GREETING
        with pytest.raises(ssl.SSLError):
            sock.recv(100)
    assert [str(alert) for alert in peer.report.alerts] == ["fatal unexpected_message"]


@pytest.mark.parametrize("tls", BOTH)
def test_a_refused_certificate_is_told_by_its_alert(tls: TLSVersion) -> None:
    with Peer("fin_at_boundary", tls=tls) as peer, pytest.raises(ssl.SSLCertVerificationError):
        connected(peer, ssl.create_default_context())
    assert "unknown_ca" in str(peer.report)
    assert (peer.report.handshake, peer.report.finished) == (False, False)
    assert peer.report.ending.how is How.FAILED_HANDSHAKE


def test_what_comes_in_plain_after_tls_is_kept() -> None:
    def script(act: Act) -> None:
        act.handshake()
        act.close_notify()
        act.expect_close_notify()
        act.ready()

    with Peer(script) as peer, connected(peer) as sock:
        raw = sock.unwrap()
        peer.wait_ready()
        raw.sendall(b"plain")
    assert peer.report.plaintext == b"plain"
    assert peer.report.after_close_notify == 0


@pytest.mark.parametrize("tls", BOTH)
@pytest.mark.parametrize(
    ("name", "close_notify", "after"), [("data_after_close_notify", 1, 1), ("second_close_notify", 2, 1)]
)
def test_what_comes_after_close_notify_is_counted(name: str, close_notify: int, after: int, tls: TLSVersion) -> None:
    with Peer(idle, tls=tls) as seeing, Peer(name, tls=tls, role="client", connect_to=seeing.address):
        seeing.wait()
    assert (seeing.report.close_notify, seeing.report.after_close_notify) == (close_notify, after)


def test_a_reset_that_is_met_by_sending_is_no_fin() -> None:
    def script(act: Act) -> None:
        act.handshake()
        act.send(b"unread")
        act.ready()
        act.wait_for_go()
        act.flood(1 << 20)

    with Peer(script) as peer:
        with connected(peer):
            peer.wait_ready()
        peer.go()
        peer.wait()
    assert (peer.report.rst, peer.report.fin) == (True, False)


def test_no_report_before_the_end() -> None:
    with Peer("close_notify_tcp_open") as peer:
        with pytest.raises(RuntimeError, match="still running"):
            _ = peer.report
        with pytest.raises(TimeoutError):
            peer.wait(timeout=0)


def test_waiting_for_the_report_inside_the_block() -> None:
    with Peer("fin_at_boundary") as peer:
        connected(peer).close()
        assert peer.wait() is peer.report


# -- several connections


def test_each_connection_has_its_report() -> None:
    with Peer("answers_close_notify", connections=3) as peer:
        for _ in range(3):
            visit(peer)
        peer.wait()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(peer.address, timeout=30)
    assert [(report.number, report.close_notify) for report in peer.reports] == [(0, 1), (1, 1), (2, 1)]


def test_any_number_of_connections() -> None:
    with Peer("answers_close_notify", connections=None) as peer:
        for _ in range(5):
            visit(peer)
    assert len(peer.reports) == 5


# -- the other ways to a connection


def test_a_peer_over_a_socket_that_is_there() -> None:
    ours, theirs = socket.socketpair()
    peer = Peer("fin_at_boundary", sock=theirs)
    with peer, peer.client_context().wrap_socket(ours, server_hostname="localhost") as sock:
        assert sock.recv(100) == GREETING
    assert peer.report.handshake


def test_a_client_that_finds_nobody_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    with Peer("fin_at_boundary", role="client", connect_to=address) as peer:
        peer.wait()
    assert not peer.report.connected
    assert "refused" in str(peer.report)


def test_ipv6() -> None:
    require_ipv6()
    with Peer("answers_close_notify", host="::1") as peer:
        visit(peer)
    assert (peer.host, peer.report.close_notify) == ("::1", 1)


def test_a_context_and_an_authority_of_ones_own() -> None:
    ca = trustme.CA()
    context = server_context(ca)
    with Peer("answers_close_notify", context=context, tls=None, ca=ca) as peer:
        visit(peer)
    assert (peer.report.tls_version, peer.report.close_notify) == ("TLSv1.3", 1)
    assert context.keylog_filename is None


def test_the_authority_as_a_file() -> None:
    with Peer("answers_close_notify") as peer:
        context = ssl.create_default_context(cafile=peer.ca_file)
        with connected(peer, context) as sock:
            assert sock.recv(100) == GREETING
    assert peer.report.handshake
    assert not peer.ca_file.exists()


@pytest.mark.parametrize(
    "cipher", ["ECDHE+AES128+AESGCM", "ECDHE+AES256+AESGCM", "ECDHE+CHACHA20"], ids=["aes128", "aes256", "chacha20"]
)
def test_every_suite_of_tls12(cipher: str) -> None:
    def script(act: Act) -> None:
        act.handshake()
        act.send(GREETING)
        act.expect_data(b"hello yourself")
        act.expect_close_notify()
        act.close_notify()

    with Peer(script, tls="1.2") as peer:
        context = peer.client_context()
        context.set_ciphers(cipher)
        with connected(peer, context) as sock:
            assert sock.recv(100) == GREETING
            sock.sendall(b"hello yourself")
            sock.unwrap()
    assert peer.report.undecryptable == 0


# -- byte by byte


@pytest.mark.parametrize("tls", BOTH)
def test_a_peer_that_sends_one_byte_at_a_time(tls: TLSVersion) -> None:
    with Peer("answers_close_notify", tls=tls, byte_by_byte=True) as peer, connected(peer) as sock:
        data = b""
        while len(data) < len(GREETING):
            data += sock.recv(100)
        sock.unwrap()
    assert (data, peer.report.close_notify) == (GREETING, 1)


# -- whatever the code under test does


def test_nobody_comes() -> None:
    with Peer("close_notify_then_fin") as peer:
        pass
    assert str(peer.report) == "close_notify_then_fin (server): no client connected"


def test_nobody_comes_in_time() -> None:
    with Peer("close_notify_then_fin", timeout=0.05) as peer:
        assert peer.wait().error == "no client connected"


def test_somebody_comes_and_says_nothing() -> None:
    with Peer("close_notify_then_fin") as peer, socket.create_connection(peer.address):
        pass
    assert (peer.report.connected, peer.report.handshake) == (True, False)


def test_somebody_comes_and_does_not_speak_tls() -> None:
    with Peer("close_notify_then_fin") as peer, socket.create_connection(peer.address) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert (peer.report.error, peer.report.handshake) == ("the other side does not speak TLS", False)


def test_somebody_hangs_and_is_still_there_when_the_test_ends() -> None:
    with socket.socket() as sock, Peer("answers_close_notify") as peer:
        sock.connect(peer.address)
    assert str(peer.report).endswith("the script stopped: the test is over")


def test_somebody_hangs_longer_than_the_peer_waits() -> None:
    def script(act: Act) -> None:
        act.handshake()
        act.send(GREETING)
        assert 500 < act._wire.deadline - time.monotonic() <= 600
        act._wire.deadline = time.monotonic()  # no machine is too slow for its handshake then
        assert not act.wait_for("close_notify")

    with Peer(script, timeout=600) as peer, connected(peer) as sock:
        assert peer.wait().close_notify == 0
        assert sock.recv(100) == GREETING
    assert (peer.report.finished, peer.report.error) == (True, None)
    assert "still there" in str(peer.report)


def test_somebody_leaves_in_the_middle() -> None:
    def script(act: Act) -> None:
        act.handshake()
        act.read_until(b"never")

    with Peer(script) as peer, connected(peer) as sock:
        sock.sendall(b"half of it")
    assert (peer.report.finished, peer.report.received) == (False, 10)
    assert peer.report.error == "the other side left, and the script was in read_until(b'never')"


def test_an_error_of_the_test_is_not_replaced() -> None:
    def script(act: Act) -> None:
        act.handshake()
        act.expect_close_notify()

    with pytest.raises(KeyError, match="mine"), Peer(script):
        raise KeyError("mine")


def test_a_keyboard_interrupt_ends_at_once_with_nothing_left() -> None:
    with pytest.raises(KeyboardInterrupt), Peer("never_reads") as peer, connected(peer):
        raise KeyboardInterrupt


def test_ctrl_c_does_not_hang_the_interpreter() -> None:
    # It interrupts itself: a signal from outside that comes just before time.sleep would not wake it.
    program = """
import signal, socket
from bowout.testing import Peer
peer = Peer("silent_after_close_notify", timeout=600).__enter__()  # its block is never left
sock = socket.create_connection(peer.address)
signal.raise_signal(signal.SIGINT)
"""
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, stderr=subprocess.PIPE, timeout=60, check=False)
    assert b"KeyboardInterrupt" in done.stderr


# -- scripts that go wrong


def failing(act: Act) -> None:
    act.handshake()
    act.expect_close_notify()


def test_an_expectation_that_is_not_met_comes_out_of_the_block() -> None:
    with pytest.raises(ExpectationFailed, match="expected close_notify, and FIN came"), Peer(failing) as peer:
        connected(peer).close()
    assert peer.report.error == "expected close_notify, and FIN came"


def test_a_mistake_in_a_script_comes_out_of_the_block() -> None:
    def script(act: Act) -> None:
        act.alert("fatal", "no_such_alert")

    with pytest.raises(ValueError, match="no_such_alert"), Peer(script) as peer:
        socket.create_connection(peer.address).close()
    assert (peer.report.error or "").startswith("ValueError")


def test_a_script_that_blocks_by_itself_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bowout.testing._runner.LAST_CALL", -0.9)
    released = threading.Event()

    def script(act: Act) -> None:
        act.ready()
        released.wait(60)

    def meet() -> None:
        with Peer(script) as peer:
            socket.create_connection(peer.address).close()
            peer.wait_ready()

    with pytest.raises(RuntimeError, match="still runs after the end of its test"):
        meet()
    released.set()


# -- what cannot be


def no_address() -> Peer:
    return Peer("fin_at_boundary", role="client")


def address_of_a_server() -> Peer:
    return Peer("fin_at_boundary", connect_to=("127.0.0.1", 1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Peer("fin_at_bondary"), "did you mean fin_at_boundary"),
        (lambda: Peer("split_alert", tls="1.2"), "does not exist in TLS 1.2"),
        (no_address, "connect_to"),
        (address_of_a_server, "connect_to"),
    ],
)
def test_a_peer_that_cannot_be(make: Callable[[], Peer], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_peer_plays_once() -> None:
    peer = Peer("fin_at_boundary")
    with pytest.raises(RuntimeError, match="not entered"):
        peer.go()
    with peer:
        pass
    with pytest.raises(RuntimeError, match="once"), peer:
        pass


def test_the_keys_are_nobodys_business() -> None:
    with Peer("fin_at_boundary") as peer:
        folder = peer.ca_file.parent
        assert os.name == "nt" or folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_the_authority_is_one() -> None:
    assert default_ca() is default_ca()


# -- mistakes of the test


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"role": "sever"}, "role='sever': it must be 'server' or 'client'"),
        ({"tls": "1.1"}, "tls='1.1': it must be '1.2' or '1.3'"),
        ({"tls": 1.3}, r"tls=1\.3: it must be '1.2' or '1.3'"),
        ({"connections": 0}, "connections=0: it must be at least one"),
        ({"timeout": -1}, "timeout=-1: it must be more"),
        (
            {"context": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
            "the peer is a server, but its context is for PROTO",
        ),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused_at_once(arguments: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Peer("fin_at_boundary", **arguments)  # type: ignore[arg-type]


async def coroutine(act: Act) -> None:
    act.handshake()


def generator(act: Act) -> Iterator[None]:
    act.handshake()
    yield


@pytest.mark.parametrize("script", [123, None, coroutine, generator])
def test_what_cannot_be_a_script_is_refused_at_once(script: object) -> None:
    with pytest.raises(TypeError, match="a script is the name of an ending"):
        Peer(script)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="an opening is a function") if script is not None else nullcontext():
        Peer("fin_at_boundary", opening=script)  # type: ignore[arg-type]


# -- a context for several


def test_peers_share_a_context_whichever_ends_first() -> None:
    context = server_context(default_ca())
    outer = Peer("answers_close_notify", context=context, connections=2)
    with outer:
        with Peer("answers_close_notify", context=context) as inner:
            visit(inner)
            visit(outer)
        visit(outer)
        log = context.keylog_filename
        assert Path(log).exists()
    assert [report.close_notify for report in (inner.report, *outer.reports)] == [1, 1, 1]
    assert not Path(log).exists()
    assert context.keylog_filename is None


def test_the_first_of_two_peers_of_a_context_can_end_first() -> None:
    context = server_context(default_ca())
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Peer("answers_close_notify", context=context))
        with Peer("answers_close_notify", context=context) as second:
            visit(first)
            stack.close()
            visit(second)
    assert (first.report.close_notify, second.report.close_notify) == (1, 1)
    assert context.keylog_filename is None
