"""Every entry of the catalogue, met by the standard library's blocking ssl: a peer is no peer of bowout alone."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Final

import pytest

from bowout.testing import ENDINGS, Entry, Outcome, Peer, PeerRole, TLSVersion, You
from helpers.meeting import LONG, MUCH, SHORT, UPLOAD, meeting

CASES: Final = [
    pytest.param(entry, tls, role, id=f"{entry.row}-{entry.name}-{tls}-{role}")
    for entry in ENDINGS.values()
    for tls, role, _ in entry.cases()
]
_READS: Final = frozenset({You.READ, You.REPLY})
_HANDSHAKES: Final = frozenset({You.HANDSHAKE, You.LEAVE_HANDSHAKE})
#: `SSLSocket` has one error for an alert and a violation, and takes a reset for an end of file.
_SAME: Final = {Outcome.ALERT: Outcome.VIOLATION, Outcome.RESET: Outcome.TRUNCATED}
#: Where the peer leaves us waiting for the end, which is no more than this then.
_IN_TIME: Final = frozenset({You.CLOSE_IN_TIME, You.BLOCKED_SEND, You.DRAIN})


def secure(peer: Peer, sock: socket.socket, role: PeerRole) -> ssl.SSLSocket:
    if role == "server":
        context = peer.client_context()
        return context.wrap_socket(sock, server_hostname="localhost", suppress_ragged_eofs=False)
    return peer.server_context().wrap_socket(sock, server_side=True, suppress_ragged_eofs=False)


def read_to_end(sock: ssl.SSLSocket) -> tuple[bytes, Outcome]:
    data = b""
    try:
        while chunk := sock.recv(1 << 16):
            data += chunk
    except ssl.SSLEOFError:
        return data, Outcome.TRUNCATED
    except ssl.SSLError:
        return data, Outcome.VIOLATION
    except ConnectionResetError:
        return data, Outcome.TRUNCATED
    return data, Outcome.EOF


def read_exactly(sock: ssl.SSLSocket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += sock.recv(count - len(data))
    return data


def act_upon(sock: ssl.SSLSocket, entry: Entry) -> tuple[bytes, Outcome]:
    if entry.you in _READS:
        data, outcome = read_to_end(sock)
    else:
        data, outcome = read_exactly(sock, len(entry.sends)), Outcome.CLOSED
    if entry.you in _IN_TIME:
        sock.settimeout(SHORT)
    with contextlib.suppress(OSError):
        if entry.you is You.BLOCKED_SEND:
            sock.sendall(MUCH)
    if entry.you is You.UPLOAD:
        sock.sendall(UPLOAD)
    if entry.you is not You.BLOCKED_SEND:
        with contextlib.suppress(OSError, ValueError):
            sock.unwrap()
    return data, outcome


def meet(peer: Peer, sock: socket.socket, entry: Entry, role: PeerRole) -> tuple[bytes, Outcome]:
    sock.settimeout(SHORT if entry.you is You.LEAVE_HANDSHAKE else LONG)
    try:
        secured = secure(peer, sock, role)
    except OSError:
        return b"", Outcome.HANDSHAKE_ERROR
    with secured:
        return act_upon(secured, entry)


def newer_openssl(entry: Entry) -> set[Outcome]:
    """OpenSSL 3.5 takes a close_notify after user_canceled for an end of file."""
    quirk = entry.name == "user_canceled_then_close_notify" and ssl.OPENSSL_VERSION_INFO >= (3, 1)
    return {Outcome.TRUNCATED} if quirk else set()


@pytest.mark.parametrize(("entry", "tls", "role"), CASES)
def test_the_peer_plays_its_part(entry: Entry, tls: TLSVersion, role: PeerRole) -> None:
    right = entry.expect(tls, role)
    with meeting(entry, tls, role) as (peer, socks):
        peer.go()
        for sock in socks:
            data, outcome = meet(peer, sock, entry, role)
            assert data[: len(right.data)] == right.data[: len(data)]
            if entry.you in _READS | _HANDSHAKES:
                assert data == right.data
                assert outcome in {_SAME.get(right.outcome, right.outcome), *newer_openssl(entry)}
    for report in peer.reports:
        assert report.handshake == (entry.you not in _HANDSHAKES), report.ladder()
        assert report.close_notify <= 1
        if entry.you is You.UPLOAD:  # with input unread, the kernel destroys the last flight
            assert report.rst, report.ladder()
        if entry.you in {You.CLOSE, You.REPLY, You.CLOSE_IN_READ, You.CANCEL_READ, You.CLOSE_IN_TIME}:
            assert report.close_notify == 1, report.ladder()
