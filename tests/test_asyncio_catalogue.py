"""Every entry of the catalogue, met by asyncio's protocol: it ends as a `Stream` does, and the application is told."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import pytest

import bowout
from bowout import Ending, How, Inbound, Outbound
from bowout.asyncio import Policy, connect_accepted_socket, create_connection
from bowout.testing import ENDINGS, Entry, Outcome, Peer, PeerRole, TLSVersion, You
from helpers.asyncio_apps import RecordingApp, ending_of
from helpers.meeting import LONG, MUCH, REPLY, SHORT, UPLOAD, Met, meeting
from helpers.runners import Runner

#: asyncio cannot take TLS away from a transport.
CASES: Final = [
    pytest.param(entry, tls, role, id=f"{entry.row}-{entry.name}-{tls}-{role}")
    for entry in ENDINGS.values()
    for tls, role, _ in entry.cases()
    if entry.you is not You.UNWRAP
]
_FLOOD_CAP: Final = 1 << 20
_OUTCOMES: Final = {
    bowout.Truncated: Outcome.TRUNCATED,
    bowout.Reset: Outcome.RESET,
    bowout.AlertReceived: Outcome.ALERT,
    bowout.ProtocolViolation: Outcome.VIOLATION,
}
_IN_TIME: Final = frozenset({You.BLOCKED_SEND, You.CLOSE_IN_TIME, You.DRAIN, You.LEAVE_HANDSHAKE})
_SENT: Final = frozenset({Outbound.CLOSE_NOTIFY_SENT, Outbound.FIN_SENT})

pytestmark = pytest.mark.backends("asyncio", "uvloop")


async def connect(peer: Peer, sock: socket.socket, entry: Entry, role: PeerRole, endings: list[Ending]) -> RecordingApp:
    flood = entry.name == "floods_after_close_notify"
    policy = Policy(on_ending=endings.append, linger_bytes=_FLOOD_CAP if flood else 16 << 20)
    timeout = SHORT if entry.you in _IN_TIME else LONG
    app = RecordingApp()
    sock.setblocking(False)
    mine = sock.dup()
    if role == "server":
        await create_connection(
            lambda: app,
            sock=mine,
            ssl=peer.client_context(),
            server_hostname="localhost",
            ssl_handshake_timeout=SHORT if entry.you is You.LEAVE_HANDSHAKE else LONG,
            ssl_shutdown_timeout=timeout,
            policy=policy,
        )
    else:
        await connect_accepted_socket(
            lambda: app,
            mine,
            ssl=peer.server_context(),
            ssl_handshake_timeout=SHORT if entry.you is You.LEAVE_HANDSHAKE else LONG,
            ssl_shutdown_timeout=timeout,
            policy=policy,
        )
    return app


async def meet(peer: Peer, sock: socket.socket, entry: Entry, role: PeerRole) -> Met:
    endings: list[Ending] = []
    try:
        app = await connect(peer, sock, entry, role, endings)
    except bowout.HandshakeError:
        return Met(endings[0], Outcome.HANDSHAKE_ERROR)
    finally:
        sock.close()
    met = await use(app, entry)
    assert endings == [met.ending]
    return met


async def use(app: RecordingApp, entry: Entry) -> Met:
    transport = app.transport
    if entry.you is You.UPLOAD:
        transport.write(UPLOAD)
        transport.close()
        lost = await app.lost
        return Met(ending_of(transport), Outcome.CLOSED if lost is None else Outcome.RESET, entry.sends)
    if entry.you in {You.READ, You.REPLY, You.HALF_CLOSE}:
        return await end_after_the_peer(app, entry.you)
    await app.receive_exactly(len(entry.sends))
    if entry.you is You.BLOCKED_SEND:
        transport.write(MUCH)
        assert app.told[-1] == "pause"
    transport.close()
    await app.lost
    return Met(ending_of(transport), Outcome.CLOSED, bytes(app.data[: len(entry.sends)]))


async def end_after_the_peer(app: RecordingApp, you: You) -> Met:
    transport = app.transport
    if you is You.HALF_CLOSE:
        transport.write_eof()
    await app.ended.wait()
    outcome = Outcome.EOF
    if you is You.REPLY:
        transport.write(REPLY)
    transport.close()
    error = await app.lost
    if "eof" not in app.told:
        assert isinstance(error, bowout.BowoutError)
        assert isinstance(error, ConnectionResetError)
        (outcome,) = [right for kind, right in _OUTCOMES.items() if isinstance(error, kind)]
        assert error.ending is ending_of(transport)
    return Met(ending_of(transport), outcome, bytes(app.data))


@pytest.mark.parametrize(("entry", "tls", "role"), CASES)
def test_the_protocol_meets_the_catalogue(entry: Entry, tls: TLSVersion, role: PeerRole, run: Runner) -> None:
    async def all_of(peer: Peer, socks: list[socket.socket]) -> list[Met]:
        return await asyncio.gather(*(meet(peer, sock, entry, role) for sock in socks))

    with meeting(entry, tls, role) as (peer, socks):
        if entry.you is You.CANCEL_CLOSE:  # There is nothing to cancel: the peer may answer at once.
            peer.go()
        mets = run(all_of, peer, socks)
    right = entry.expect(tls, role)
    for met in mets:
        ending, picture = met.ending, met.ending.ladder()
        assert ending.how in (frozenset({How.CLEAN}) if entry.row == 26 else right.how), picture
        assert (met.outcome, met.data) == (right.outcome, right.data), picture
        assert right.inbound in {None, ending.inbound}, picture
        assert ending.discarded >= right.discarded, picture
        assert (ending.alert and ending.alert.name) == right.alert or right.alert is None, picture
        assert not ending.deadline_hit or ending.inbound is Inbound.OPEN, picture
        if ending.how is How.CLEAN:
            assert (ending.inbound, ending.outbound in _SENT) == (Inbound.CLOSE_NOTIFY, True), picture
    for report in peer.reports:
        assert right.close_notify is None or report.close_notify in right.close_notify, str(report)
        assert report.close_notify <= 1
        assert (report.after_close_notify, report.undecryptable) == (0, 0), str(report)
        assert entry.you is not You.UPLOAD or report.data == UPLOAD
