"""Every entry of the catalogue, met by blocking code: nothing of an ending is decided outside the core."""

from __future__ import annotations

import socket
from typing import Any, Final

import pytest

import bowout.blocking
from bowout import Ending, EventKind, How, Inbound, Outbound, Side
from bowout.blocking import SyncStream
from bowout.testing import ENDINGS, Entry, Expect, Outcome, Peer, PeerRole, TLSVersion, You
from helpers.meeting import LONG, MUCH, REPLY, SHORT, UPLOAD, Met, meeting

CASES: Final = [
    pytest.param(entry, tls, role, id=f"{entry.row}-{entry.name}-{tls}-{role}")
    for entry in ENDINGS.values()
    for tls, role, _ in entry.cases()
]
_FLOOD_CAP: Final = 1 << 20
_OUTCOMES: Final = {
    bowout.Truncated: Outcome.TRUNCATED,
    bowout.Reset: Outcome.RESET,
    bowout.AlertReceived: Outcome.ALERT,
    bowout.ProtocolViolation: Outcome.VIOLATION,
}
_SENT: Final = frozenset({Outbound.CLOSE_NOTIFY_SENT, Outbound.FIN_SENT})
#: Entries in which a close is to end at its deadline.
_IN_TIME: Final = frozenset({You.BLOCKED_SEND, You.CLOSE_IN_TIME, You.DRAIN})


def stream_for(peer: Peer, sock: socket.socket, entry: Entry, role: PeerRole) -> SyncStream:
    flood = entry.name == "floods_after_close_notify"
    options: dict[str, Any] = {
        "linger_bytes": _FLOOD_CAP if flood else 16 << 20,
        "handshake_timeout": SHORT if entry.you is You.LEAVE_HANDSHAKE else LONG,
        "close_timeout": LONG,
    }
    if role == "server":
        return bowout.blocking.wrap(sock, peer.client_context(), server_hostname="localhost", **options)
    return bowout.blocking.wrap(sock, peer.server_context(), server_side=True, **options)


def meet(stream: SyncStream, entry: Entry) -> Met:
    try:
        stream.handshake()
    except bowout.HandshakeError:
        return Met(stream.close(), Outcome.HANDSHAKE_ERROR)
    if entry.you is You.HANDSHAKE:
        return Met(stream.close(), Outcome.EOF)
    if entry.you is You.UPLOAD:
        stream.send(UPLOAD)
        return Met(stream.close(), Outcome.CLOSED, entry.sends)
    if entry.you in {You.READ, You.REPLY, You.HALF_CLOSE}:
        return end_after_the_peer(stream, entry.you)
    data = stream.receive_exactly(len(entry.sends))
    if entry.you is You.UNWRAP:
        return unwrap(stream, data, max(len(right.plaintext) for _, _, right in entry.cases()))
    return Met(end_first(stream, entry.you), Outcome.CLOSED, data)


def end_after_the_peer(stream: SyncStream, you: You) -> Met:
    if you is You.HALF_CLOSE:
        stream.send_eof()
    data, outcome = read_to_end(stream)
    if you is You.REPLY:
        stream.send(REPLY)
    return Met(stream.close(), outcome, data)


def read_to_end(stream: SyncStream) -> tuple[bytes, Outcome]:
    data = b""
    try:
        while chunk := stream.receive():
            data += chunk
    except bowout.PeerError as error:
        return data, _OUTCOMES[type(error)]
    return data, Outcome.EOF


def end_first(stream: SyncStream, you: You) -> Ending:
    if you in {You.BLOCKED_SEND, You.CANCEL_READ}:
        stream.timeout = SHORT
        with pytest.raises(bowout.TimedOut):
            stream.send(MUCH) if you is You.BLOCKED_SEND else stream.receive()
    return stream.close(SHORT if you in _IN_TIME else LONG)


def unwrap(stream: SyncStream, data: bytes, wanted: int) -> Met:
    sock, rest = stream.unwrap()
    ending = stream.ending
    assert ending is not None
    assert ending.unwrapped
    with sock:
        sock.settimeout(LONG)
        sock.sendall(REPLY)
        while len(rest) < wanted and (more := sock.recv(wanted)):
            rest += more
    return Met(ending, Outcome.EOF, data, rest)


def right_for(entry: Entry, tls: TLSVersion, role: PeerRole) -> frozenset[How]:
    if entry.row == 26:
        return frozenset({How.CLEAN})
    how = entry.expect(tls, role).how
    # A kernel may take what it had no room for when the send was given up: then the FIN can leave, too.
    return how | {How.ABORTED} if entry.you is You.BLOCKED_SEND else how


@pytest.mark.parametrize(("entry", "tls", "role"), CASES)
def test_blocking_code_meets_the_catalogue(entry: Entry, tls: TLSVersion, role: PeerRole) -> None:
    with meeting(entry, tls, role) as (peer, socks):
        if entry.you is You.CANCEL_CLOSE:  # There is nothing to cancel: the peer may answer at once.
            peer.go()
        mets = [meet(stream_for(peer, sock, entry, role), entry) for sock in socks]
    right = entry.expect(tls, role)
    for met in mets:
        picture = met.ending.ladder()
        assert met.ending.how in right_for(entry, tls, role), picture
        expect(met, right, picture)
    for report in peer.reports:
        assert right.close_notify is None or report.close_notify in right.close_notify, str(report)
        assert report.close_notify <= 1
        assert (report.after_close_notify, report.undecryptable) == (0, 0), str(report)
        assert entry.you is not You.UPLOAD or report.data == UPLOAD


def expect(met: Met, right: Expect, picture: str) -> None:
    ending = met.ending
    assert (met.outcome, met.data, met.plaintext) == (right.outcome, right.data, right.plaintext), picture
    assert right.inbound in {None, ending.inbound}, picture
    assert ending.discarded >= right.discarded, picture
    assert (ending.alert and ending.alert.name) == right.alert or right.alert is None, picture
    assert not ending.deadline_hit or ending.inbound is Inbound.OPEN, picture
    if ending.how is How.CLEAN:
        assert (ending.inbound, ending.outbound in _SENT) == (Inbound.CLOSE_NOTIFY, True), picture
    assert [event.kind for event in ending.events].count(EventKind.RELEASED) == 1
    assert ending.events[-1].by is Side.WE
