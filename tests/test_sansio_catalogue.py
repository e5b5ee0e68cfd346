"""Every entry of the catalogue, met by drivers of `bowout.sansio`: nothing of an ending is decided outside the core."""

from __future__ import annotations

import socket
from typing import Final

import pytest

import bowout
from bowout import Ending, EventKind, How, Inbound, Outbound, Role, Side
from bowout.sansio import SansIOConnection
from bowout.testing import ENDINGS, Entry, Expect, Outcome, Peer, PeerRole, TLSVersion, You
from helpers.drivers import CalledBack, Driver, WaitingDriver
from helpers.meeting import LONG, MUCH, REPLY, SHORT, UPLOAD, Met, meeting

CASES: Final = [
    pytest.param(entry, tls, role, id=f"{entry.row}-{entry.name}-{tls}-{role}")
    for entry in ENDINGS.values()
    for tls, role, _ in entry.cases()
]
DRIVERS: Final = (WaitingDriver, CalledBack)
_FLOOD_CAP: Final = 1 << 20
_OUTCOMES: Final = {
    bowout.Truncated: Outcome.TRUNCATED,
    bowout.Reset: Outcome.RESET,
    bowout.AlertReceived: Outcome.ALERT,
    bowout.ProtocolViolation: Outcome.VIOLATION,
}
_SENT: Final = frozenset({Outbound.CLOSE_NOTIFY_SENT, Outbound.FIN_SENT})


def connection(peer: Peer, sock: socket.socket, entry: Entry, role: PeerRole) -> SansIOConnection:
    flood = entry.name == "floods_after_close_notify"
    linger_bytes = _FLOOD_CAP if flood else 16 << 20
    if role == "server":
        return SansIOConnection(peer.client_context(), server_hostname="localhost", linger_bytes=linger_bytes)
    return SansIOConnection(peer.server_context(), role=Role.SERVER, linger_bytes=linger_bytes)


def close(driver: Driver, timeout: float = LONG) -> Ending:
    driver.tls.begin_close(timeout=timeout)
    driver.tls.begin_close(timeout=LONG)  # It changes nothing.
    driver.end()
    return driver.release()


def receive_exactly(driver: Driver, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += driver.receive()
    return data


def read_to_end(driver: Driver) -> tuple[bytes, Outcome]:
    data = b""
    try:
        while chunk := driver.receive():
            data += chunk
    except bowout.PeerError as error:
        return data, _OUTCOMES[type(error)]
    return data, Outcome.EOF


def meet(driver: Driver, entry: Entry) -> Met:
    try:
        driver.handshake(SHORT if entry.you is You.LEAVE_HANDSHAKE else None)
    except bowout.HandshakeError:
        return Met(close(driver), Outcome.HANDSHAKE_ERROR)
    except TimeoutError:
        driver.tls.leave()
        driver.end()
        return Met(driver.release(), Outcome.HANDSHAKE_ERROR)
    if entry.you is You.HANDSHAKE:
        return Met(close(driver), Outcome.EOF)
    if entry.you is You.UPLOAD:
        driver.send(UPLOAD)
        return Met(close(driver), Outcome.CLOSED, entry.sends)
    if entry.you in {You.READ, You.REPLY, You.HALF_CLOSE}:
        return end_after_the_peer(driver, entry.you)
    data = receive_exactly(driver, len(entry.sends))
    if entry.you is You.UNWRAP:
        return unwrap(driver, data, max(len(right.plaintext) for _, _, right in entry.cases()))
    return Met(end_first(driver, entry.you), Outcome.CLOSED, data)


def end_after_the_peer(driver: Driver, you: You) -> Met:
    if you is You.HALF_CLOSE:
        driver.tls.write_eof()
    data, outcome = read_to_end(driver)
    if you is You.REPLY:
        driver.send(REPLY)
    return Met(close(driver), outcome, data)


def end_first(driver: Driver, you: You) -> Ending:
    if you is You.BLOCKED_SEND:
        with pytest.raises(TimeoutError):
            driver.send(MUCH, SHORT)
    if you is You.CANCEL_READ:
        with pytest.raises(TimeoutError):
            driver.receive(0)
    return close(driver, SHORT if you in {You.BLOCKED_SEND, You.CLOSE_IN_TIME, You.DRAIN} else LONG)


def unwrap(driver: Driver, data: bytes, wanted: int) -> Met:
    driver.tls.begin_unwrap(timeout=LONG)
    driver.end()
    rest = driver.tls.unwrapped()
    ending = driver.tls.ending
    assert ending is not None
    assert ending.unwrapped
    with driver.sock as sock:
        sock.settimeout(LONG)
        sock.sendall(REPLY)
        while len(rest) < wanted and (more := sock.recv(wanted)):
            rest += more
    return Met(ending, Outcome.EOF, data, rest)


def right_for(entry: Entry, tls: TLSVersion, role: PeerRole) -> frozenset[How]:
    right = entry.expect(tls, role)
    return frozenset({How.CLEAN}) if entry.row == 26 else right.how


@pytest.mark.parametrize("kind", DRIVERS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("entry", "tls", "role"), CASES)
def test_a_driver_meets_the_catalogue(entry: Entry, tls: TLSVersion, role: PeerRole, kind: type[Driver]) -> None:
    with meeting(entry, tls, role) as (peer, socks):
        if entry.you is You.CANCEL_CLOSE:  # There is nothing to cancel: the peer may answer at once.
            peer.go()
        mets = [meet(kind(sock, connection(peer, sock, entry, role)), entry) for sock in socks]
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
