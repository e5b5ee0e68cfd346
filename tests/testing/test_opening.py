"""What a peer says in plain before TLS: STARTTLS and its like, for whatever ending comes after it."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
from typing import Final

import pytest

import bowout
from bowout.testing import GREETING, Act, Opening, Peer

REQUEST: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"  # PostgreSQL's SSLRequest: eight bytes, and one in answer


def smtp(opening: Opening) -> None:
    opening.send(b"220 peer.test\r\n")
    opening.read_until(b"\r\n")  # EHLO
    opening.send(b"250-peer.test\r\n250 STARTTLS\r\n")
    opening.read_until(b"\r\n")  # STARTTLS
    opening.send(b"220 go ahead\r\n")


def asks(opening: Opening) -> None:
    opening.send(REQUEST)
    assert opening.read_exactly(1) == b"S"


def answers(opening: Opening) -> None:
    assert opening.read_exactly(len(REQUEST)) == REQUEST
    opening.send(b"S")


def test_a_client_of_the_standard_library_comes_through_starttls() -> None:
    def says_goodbye(act: Act) -> None:
        act.handshake()
        act.read_until(b"QUIT\r\n")
        act.send(b"221 bye\r\n")
        act.close_notify()
        act.fin()

    with (
        Peer(says_goodbye, opening=smtp) as peer,
        smtplib.SMTP("localhost", peer.port, local_hostname="client.test", timeout=30) as client,
    ):
        client.starttls(context=peer.client_context())
        assert client.docmd("QUIT") == (221, b"bye")
    assert (peer.report.handshake, peer.report.finished, peer.report.error) == (True, True, None)
    assert "opened in plain: 58 B sent, 28 B received" in peer.report.ladder(width=120)


def test_an_ending_of_the_catalogue_comes_after_an_opening() -> None:
    async def read(peer: Peer) -> bytes:
        async with bowout.connect(*peer.address, context=peer.client_context(), starttls="smtp") as stream:
            return await stream.receive_exactly(len(GREETING) + 1)

    with Peer("fin_inside_record", opening=smtp) as peer, pytest.raises(bowout.Truncated):
        asyncio.run(read(peer))
    assert peer.report.handshake


def test_a_peer_that_is_a_client_opens_too_and_nothing_of_tls_is_taken_for_plain() -> None:
    ours, theirs = socket.socketpair()
    with Peer("close_notify_then_fin", role="client", sock=theirs, opening=asks) as peer, ours:
        ours.settimeout(10)
        assert ours.recv(100) == REQUEST
        ours.sendall(b"S")
        with peer.server_context().wrap_socket(ours, server_side=True) as tls:
            assert (tls.recv(100), tls.recv(100)) == (GREETING, b"")
    assert peer.report.finished


def test_what_comes_in_one_segment_with_the_opening_stays_for_tls() -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with Peer("fin_at_boundary", opening=answers) as peer, socket.create_connection(peer.address, timeout=30) as sock:
        tls = peer.client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        sock.sendall(REQUEST + outgoing.read())
        assert sock.recv(1) == b"S"
        while True:
            incoming.write(sock.recv(1 << 16))
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                pass
        sock.sendall(outgoing.read())
    assert peer.report.handshake


def test_who_leaves_in_the_opening_is_reported_and_the_script_does_not_begin() -> None:
    begun: list[Act] = []
    with Peer(begun.append, opening=smtp) as peer, socket.create_connection(peer.address, timeout=30) as sock:
        sock.recv(100)
    assert not begun
    assert peer.report.fin
    assert peer.report.error == "the other side left, and the opening was in read_until(b'\\r\\n')"


def test_an_opening_does_not_read_without_end() -> None:
    def short(opening: Opening) -> None:
        opening.read_until(b"\n", limit=4)

    with Peer("fin_at_boundary", opening=short) as peer, socket.create_connection(peer.address, timeout=30) as sock:
        sock.sendall(b"abcdefgh")
    assert peer.report.error == r"b'\n' did not come in 4 bytes of the opening"


def test_a_mistake_in_an_opening_comes_out_where_the_block_is_left() -> None:
    def wrong(opening: Opening) -> None:
        raise LookupError(opening.role)

    with (
        pytest.raises(LookupError, match="server"),
        Peer("fin_at_boundary", opening=wrong) as peer,
        socket.create_connection(peer.address, timeout=30),
    ):
        pass


@pytest.mark.parametrize("verb", ["send", "read_until"])
def test_text_in_an_opening_is_to_be_encoded(verb: str) -> None:
    with (
        pytest.raises(TypeError, match=rf"^{verb}\(\) takes bytes, not str: encode it first"),
        Peer("fin_at_boundary", opening=lambda opening: getattr(opening, verb)("text")) as peer,
        socket.create_connection(peer.address, timeout=30),
    ):
        pass
