"""What a report counts, and as what: application data is what the application sent, whatever else is encrypted."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Final, Literal

import pytest

from bowout._tls_numbers import ALERT, APPLICATION_DATA
from bowout.ending import EventKind, Side
from bowout.testing import Act, Peer, PeerReport, Script, TLSVersion

BOTH: Final[tuple[TLSVersion, ...]] = ("1.2", "1.3")
PATIENCE: Final = 30.0


def server_report(script: Script, tls: TLSVersion, client: Callable[[ssl.SSLSocket], object]) -> PeerReport:
    """What a server with this script sees of a client that may fail."""
    with (
        Peer(script, tls=tls) as peer,
        socket.create_connection(peer.address, timeout=PATIENCE) as raw,
        contextlib.suppress(OSError),
        peer.client_context().wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as sock,
    ):
        client(sock)
    return peer.report


def client_report(script: Script, tls: TLSVersion) -> PeerReport:
    """What a client with this script sees of an echo server of the standard library, which may fail."""
    context = Peer("answers_close_notify", tls=tls).server_context()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = Peer(script, role="client", tls=tls, connect_to=listener.getsockname())

        def serve() -> None:
            with listener.accept()[0] as raw, contextlib.suppress(OSError):
                raw.settimeout(PATIENCE)
                with context.wrap_socket(raw, server_side=True) as sock:
                    while data := sock.recv(1 << 16):
                        sock.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        with peer:
            peer.wait(PATIENCE)
        thread.join(PATIENCE)
    return peer.report


def stopping(stop_at: Literal["hello", "flight"]) -> Callable[[Act], None]:
    def script(act: Act) -> None:
        act.handshake(stop_at=stop_at)
        act.fin()
        act.wait_for("end")

    return script


def expect_no_data(report: PeerReport) -> None:
    assert (report.received, report.data, report.undecryptable) == (0, b"", 0), report
    assert [event for event in report.events if event.kind is EventKind.DATA and event.by is Side.WE] == []
    assert report.ending.sent == 0


@pytest.mark.parametrize("tls", BOTH)
@pytest.mark.parametrize("stop_at", ["hello", "flight"])
class TestAStoppedHandshake:
    def test_of_a_client_is_no_data(self, stop_at: Literal["hello", "flight"], tls: TLSVersion) -> None:
        report = client_report(stopping(stop_at), tls)
        expect_no_data(report)
        assert report.close_notify == 0

    def test_of_a_server_is_no_data(self, stop_at: Literal["hello", "flight"], tls: TLSVersion) -> None:
        report = server_report(stopping(stop_at), tls, lambda sock: sock.recv(1))
        expect_no_data(report)


def test_the_messages_of_an_encrypted_flight_are_named() -> None:
    report = client_report(stopping("hello"), "1.3")
    messages = [event.detail for event in report.events if event.kind is EventKind.HANDSHAKE_MESSAGE]
    assert messages == ["ServerHello", "EncryptedExtensions", "Certificate", "CertificateVerify", "Finished"]


def test_what_a_server_sends_after_its_flight_is_data() -> None:
    """RFC 8446 section 4.4.4: it may, before the client's Finished."""

    def early(act: Act) -> None:
        act.handshake(stop_at="flight")
        act.send(b"early")
        act.close_notify()
        act.wait_for("end")

    def hears(act: Act) -> None:
        act.handshake(stop_at="hello")
        act.wait_for("close_notify")
        act.fin()

    with Peer(early) as server, Peer(hears, role="client", connect_to=server.address) as client:
        client.wait(PATIENCE)
    assert (client.report.data, client.report.close_notify, client.report.undecryptable) == (b"early", 1, 0)


@pytest.mark.parametrize("tls", BOTH)
def test_an_alert_of_a_client_that_is_done_is_one_alert(tls: TLSVersion) -> None:
    """The client has sent its Finished, and so its alert is encrypted, though the server never sent its own."""

    def breaks(act: Act) -> None:
        act.handshake(stop_at="flight")
        act.wait_for_arrival()
        act.record(APPLICATION_DATA if tls == "1.2" else ALERT, b"!")  # what nobody says then
        act.wait_for("alert")

    report = server_report(breaks, tls, lambda sock: sock.recv(1))
    assert [alert.level for alert in report.alerts] == [2], report
    expect_no_data(report)


def test_a_close_notify_inside_a_handshake_is_counted() -> None:
    def leaves(act: Act) -> None:
        act.handshake(stop_at="flight")
        act.close_notify()  # with the keys of the handshake
        act.fin()

    def shakes(act: Act) -> None:
        act.handshake()

    with Peer(shakes) as server, Peer(leaves, role="client", connect_to=server.address) as client:
        server.wait(PATIENCE)
        client.wait(PATIENCE)
    assert (server.report.close_notify, server.report.handshake) == (1, False)
    assert [alert.name for alert in server.report.alerts] == ["close_notify"]


@contextlib.contextmanager
def met(script: Script, tls: TLSVersion) -> Iterator[tuple[Peer, socket.socket, ssl.MemoryBIO]]:
    """A client of ours on which any bytes can follow."""
    with Peer(script, tls=tls) as peer, socket.create_connection(peer.address, timeout=PATIENCE) as raw:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = peer.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                incoming.write(raw.recv(1 << 16))
            else:
                break
        raw.sendall(outgoing.read())
        with contextlib.suppress(ssl.SSLWantReadError):
            client.unwrap()
        yield peer, raw, outgoing


def reads_on(act: Act) -> None:
    act.handshake()
    act.expect_fin()


@pytest.mark.parametrize("tls", BOTH)
def test_every_record_after_close_notify_is_counted(tls: TLSVersion) -> None:
    with met(reads_on, tls) as (peer, raw, outgoing):
        raw.sendall(outgoing.read())
        raw.sendall(b"\x14\x03\x03\x00\x01\x01")
        raw.shutdown(socket.SHUT_WR)
        peer.wait(PATIENCE)
    assert (peer.report.close_notify, peer.report.after_close_notify) == (1, 1)


@pytest.mark.parametrize("tls", BOTH)
def test_a_close_notify_in_plain_is_none(tls: TLSVersion) -> None:
    """Anybody on the way could have sent it."""
    with met(reads_on, tls) as (peer, raw, _):
        raw.sendall(b"\x15\x03\x03\x00\x02\x01\x00")
        raw.shutdown(socket.SHUT_WR)
        peer.wait(PATIENCE)
    assert (peer.report.close_notify, peer.report.alerts, peer.report.undecryptable) == (0, (), 1)


@pytest.mark.parametrize("stop_at", [None, "flight"])
def test_a_resumed_session_is_counted_alike(stop_at: Literal["flight"] | None) -> None:
    """The handshake of TLS 1.2 is another one then: the server says Finished first."""

    def script(act: Act) -> None:
        act.handshake(stop_at=stop_at if act.number else None)
        act.expect_data(b"hello")
        act.expect_close_notify()
        act.fin()

    with Peer(script, tls="1.2", connections=2) as peer:
        context = peer.client_context()
        session: ssl.SSLSession | None = None
        for _ in range(2):
            with (
                socket.create_connection(peer.address, timeout=PATIENCE) as raw,
                context.wrap_socket(raw, server_hostname="localhost", session=session) as sock,
            ):
                assert sock.session_reused == (session is not None)
                session = sock.session
                sock.sendall(b"hello")
                with contextlib.suppress(OSError):
                    sock.unwrap()
        peer.wait(PATIENCE)
    for report in peer.reports:
        assert (report.data, report.close_notify, report.undecryptable, report.error) == (b"hello", 1, 0, None)


@pytest.mark.parametrize("tls", BOTH)
def test_tickets_and_key_updates_are_no_data(tls: TLSVersion) -> None:
    def script(act: Act) -> None:
        act.handshake()
        if tls == "1.3":
            act.key_update(request=True)
        act.send(b"echo")
        act.expect_data(b"echo")
        act.close_notify()
        act.wait_for("end")

    report = client_report(script, tls)
    assert (report.received, report.data, report.undecryptable) == (4, b"echo", 0)
    kinds = [event.kind for event in report.events if event.by is Side.WE]
    assert (EventKind.TICKET in kinds, EventKind.KEY_UPDATE in kinds) == (tls == "1.3", tls == "1.3")
