"""The scripted connection without a socket: in memory, record by record, and on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import trustme

from bowout import connect
from bowout._scripted.connection import HandshakeFailed, HandshakeStage, HandshakeStep, ScriptedConnection
from bowout._scripted.events import (
    AlertSeen,
    DataSeen,
    EndSeen,
    HandshakeSeen,
    MessageSeen,
    PlaintextSeen,
    RecordSeen,
    ResetSeen,
    SealedSeen,
    Seen,
    UndecryptableSeen,
)
from bowout._scripted.keylog import KeyLog
from bowout._scripted.records import Direction, Record, Suite, tls12, tls13
from bowout._tls_numbers import ALERT, APPLICATION_DATA, CLOSE_NOTIFY, FATAL, VERSION_NAMES, WARNING
from bowout.ending import EventKind, Role
from bowout.errors import Truncated
from bowout.testing._identity import peer_context

BOTH: Final = ["1.2", "1.3"]


class ScriptedEnds:
    """A client and a server, and the bytes between them, which only the test moves."""

    def __init__(self, client: ScriptedConnection, server: ScriptedConnection) -> None:
        self.client, self.server = client, server

    def shake_hands(self, stop_at: HandshakeStage | None = None) -> None:
        """Shake hands; the server stops on the way, if it is to."""
        self.client.begin_handshake()
        self.server.begin_handshake(stop_at)
        steps = dict.fromkeys((self.client, self.server), HandshakeStep.SEND)
        while HandshakeStep.DONE not in steps.values() or (stop_at is None and len(set(steps.values())) > 1):
            for end in steps:
                if steps[end] is not HandshakeStep.DONE:
                    steps[end] = end.handshake_step()
                self.move(end)

    def move(self, source: ScriptedConnection) -> None:
        """Carry what `source` has queued to the other side."""
        if data := source.data_to_send():
            (self.server if source is self.client else self.client).receive_data(data)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=BOTH)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextlib.contextmanager
def scripted(ca: trustme.CA, role: Role, version: str, folder: Path) -> Iterator[ScriptedConnection]:
    context = peer_context(ca, role.value, "1.2" if version == "1.2" else "1.3")
    if role is Role.SERVER:
        context.num_tickets = 0
    log = KeyLog(context, folder / role.value)
    try:
        yield ScriptedConnection(context, role, server_hostname="localhost", secrets=log.secrets)
    finally:
        log.close()


@pytest.fixture
def ends(ca: trustme.CA, version: str, tmp_path: Path) -> Iterator[ScriptedEnds]:
    with (
        scripted(ca, Role.CLIENT, version, tmp_path) as client,
        scripted(ca, Role.SERVER, version, tmp_path) as server,
    ):
        yield ScriptedEnds(client, server)


@pytest.fixture
def talking(ends: ScriptedEnds) -> ScriptedEnds:
    """Two that have shaken hands."""
    ends.shake_hands()
    for end in (ends.client, ends.server):
        while end.read_record():
            pass
        end.take_events()
    return ends


def seen(end: ScriptedConnection) -> list[Seen]:
    """What was seen of all that was received, but for the records themselves."""
    while end.read_record():
        pass
    return [event for event in end.take_events() if not isinstance(event, RecordSeen)]


def test_both_agree_on_a_version(ends: ScriptedEnds, version: str) -> None:
    ends.shake_hands()
    for end in (ends.client, ends.server):
        (done,) = (event for event in end.take_events() if isinstance(event, HandshakeSeen))
        assert done.version == VERSION_NAMES[version]


def test_records_are_gone_through_one_at_a_time(talking: ScriptedEnds) -> None:
    client, server = talking.client, talking.server
    for data in (b"one", b"two"):
        client.queue(client.seal(APPLICATION_DATA, data))
    talking.move(client)
    assert server.take_events() == []
    assert server.read_record()
    assert [event for event in server.take_events() if isinstance(event, DataSeen)] == [DataSeen(b"one")]
    assert seen(server) == [DataSeen(b"two")]
    assert (bytes(server.inbox), server.read_record()) == (b"onetwo", False)


def test_an_alert_is_seen_with_its_level(talking: ScriptedEnds) -> None:
    talking.server.queue(talking.server.seal(ALERT, bytes([FATAL, 80, WARNING, CLOSE_NOTIFY])))
    talking.move(talking.server)
    assert seen(talking.client) == [AlertSeen(FATAL, 80), AlertSeen(WARNING, CLOSE_NOTIFY)]
    assert talking.client.close_notify == 1


def test_what_follows_close_notify_in_plain_is_plaintext(talking: ScriptedEnds) -> None:
    talking.server.queue(talking.server.seal(ALERT, bytes([WARNING, CLOSE_NOTIFY])))
    talking.server.queue(b"in plain")
    talking.move(talking.server)
    assert seen(talking.client) == [AlertSeen(WARNING, CLOSE_NOTIFY), PlaintextSeen(b"in plain")]
    talking.client.receive_data(b", and more")
    assert seen(talking.client) == [PlaintextSeen(b", and more")]


def test_a_cut_record_ends_inside(talking: ScriptedEnds) -> None:
    record = talking.server.seal(APPLICATION_DATA, b"half")
    talking.server.queue(record[:10])
    assert talking.server.inside_record
    talking.move(talking.server)
    talking.client.receive_eof()
    assert seen(talking.client) == [EndSeen()]


def test_a_record_out_of_its_place_cannot_be_decrypted(talking: ScriptedEnds) -> None:
    talking.server.seal(APPLICATION_DATA, b"never sent")
    talking.server.queue(talking.server.seal(APPLICATION_DATA, b"too late"))
    talking.move(talking.server)
    (event,) = seen(talking.client)
    assert isinstance(event, UndecryptableSeen)


def test_dropped_output_is_not_sent(talking: ScriptedEnds) -> None:
    talking.client.queue(b"never mind")
    talking.client.drop_output()
    assert talking.client.data_to_send() == b""


@pytest.mark.parametrize("version", ["1.3"], indirect=True)
def test_keys_change_in_both_directions(talking: ScriptedEnds) -> None:
    for here, there in ((talking.client, talking.server), (talking.server, talking.client)):
        here.queue_key_update(request=False)
        here.queue(here.seal(APPLICATION_DATA, b"with fresh keys"))
        talking.move(here)
        assert seen(there) == [MessageSeen(EventKind.KEY_UPDATE), DataSeen(b"with fresh keys")]


@pytest.mark.parametrize("version", ["1.3"], indirect=True)
def test_a_ticket_is_seen(talking: ScriptedEnds) -> None:
    talking.server.queue_session_ticket()
    talking.move(talking.server)
    assert seen(talking.client) == [MessageSeen(EventKind.TICKET)]


@pytest.mark.parametrize("version", ["1.2"], indirect=True)
def test_a_renegotiation_is_asked_for_by_either(talking: ScriptedEnds) -> None:
    assert talking.server.queue_renegotiation() == "HelloRequest"
    assert talking.client.queue_renegotiation() == "ClientHello"
    talking.move(talking.server)
    assert seen(talking.client) == [MessageSeen(EventKind.HANDSHAKE_MESSAGE, "HelloRequest")]


def test_a_handshake_stops_before_its_answer(ends: ScriptedEnds) -> None:
    ends.shake_hands("hello")
    assert ends.server.data_to_send() == b""
    assert ends.server.hello[0] == 1
    ends.server.queue(ends.server.seal(ALERT, bytes([FATAL, 40])))  # There are no keys: it goes in plain.
    ends.move(ends.server)
    with pytest.raises(HandshakeFailed, match="handshake failure"):
        ends.client.handshake_step()
    assert ends.client.take_events() == [AlertSeen(FATAL, 40)]


@pytest.mark.parametrize("version", ["1.3"], indirect=True)
def test_a_stopped_handshake_reads_on(ends: ScriptedEnds) -> None:
    ends.shake_hands("flight")
    while ends.client.handshake_step() is not HandshakeStep.DONE:
        ends.move(ends.client)
    ends.client.queue(ends.client.seal(APPLICATION_DATA, b"after Finished"))
    ends.move(ends.client)
    events = seen(ends.server)
    assert MessageSeen(EventKind.HANDSHAKE_MESSAGE, "Finished") in events
    assert events[-1] == DataSeen(b"after Finished")


def test_what_is_encrypted_with_unknown_keys_is_only_counted(ends: ScriptedEnds) -> None:
    ends.shake_hands("hello")
    ends.server.receive_data(bytes([APPLICATION_DATA, 3, 3, 0, 9]) + bytes(9))
    assert seen(ends.server) == [SealedSeen(9)]


@pytest.mark.parametrize(
    ("arrives", "words", "events"),
    [
        (lambda end: end.receive_data(b"HTTP/1.0 400"), "does not speak TLS", []),
        (lambda end: end.receive_eof(), "left in the handshake", [EndSeen()]),
        (lambda end: end.receive_reset("reset by peer"), "left in the handshake", [ResetSeen("reset by peer")]),
    ],
    ids=["plain text", "FIN", "RST"],
)
def test_a_handshake_fails(ends: ScriptedEnds, arrives: object, words: str, events: list[Seen]) -> None:
    assert callable(arrives)
    ends.server.begin_handshake()
    assert ends.server.handshake_step() is HandshakeStep.RECEIVE
    arrives(ends.server)
    with pytest.raises(HandshakeFailed, match=words):
        ends.server.handshake_step()
    assert ends.server.take_events() == events


def test_it_runs_on_an_event_loop(ca: trustme.CA, version: str, tmp_path: Path) -> None:
    """A server on plain asyncio streams cuts a record in half; bowout's client says so."""

    async def play(server: ScriptedConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.begin_handshake()
        while (step := server.handshake_step()) is not HandshakeStep.DONE:
            if step is HandshakeStep.SEND:
                writer.write(server.data_to_send())
            elif data := await reader.read(1 << 16):
                server.receive_data(data)
            else:
                server.receive_eof()
        server.queue(server.seal(APPLICATION_DATA, b"whole"))
        server.queue(server.seal(APPLICATION_DATA, b"half of it")[:-5])
        writer.write(server.data_to_send())
        writer.write_eof()
        while data := await reader.read(1 << 16):
            server.receive_data(data)
            while server.read_record():
                pass
        server.receive_eof()
        writer.close()
        await writer.wait_closed()

    async def main(server: ScriptedConnection) -> None:
        played: list[asyncio.Task[None]] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ca.configure_trust(context)
        listener = await asyncio.start_server(
            lambda reader, writer: played.append(asyncio.ensure_future(play(server, reader, writer))), "127.0.0.1"
        )
        async with listener:
            port = listener.sockets[0].getsockname()[1]
            async with connect("127.0.0.1", port, context=context) as stream:
                assert await stream.receive() == b"whole"
                with pytest.raises(Truncated, match="inside a TLS record"):
                    await stream.receive()
            await asyncio.gather(*played)

    with scripted(ca, Role.SERVER, version, tmp_path) as server:
        asyncio.run(main(server))
        assert [type(event) for event in seen(server)] == [HandshakeSeen, AlertSeen, EndSeen]
        assert server.close_notify == 1


# -- the protection of records -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
def test_what_is_sealed_opens_in_order_only(name: str) -> None:
    suite = Suite.of(name)
    writer, reader = tls13(suite, bytes(32)), tls13(suite, bytes(32))
    first, second = (writer.seal(APPLICATION_DATA, data) for data in (b"one", b"two"))
    assert reader.open(Record(first[0], first[1:3], first[5:])) == (APPLICATION_DATA, b"one")
    writer.update()
    reader.open(Record(second[0], second[1:3], second[5:]))
    reader.update()
    third = writer.seal(APPLICATION_DATA, b"three")
    assert reader.open(Record(third[0], third[1:3], third[5:])) == (APPLICATION_DATA, b"three")


@pytest.mark.parametrize(
    ("direction", "padding"),
    [
        (tls13(Suite.of("TLS_AES_128_GCM_SHA256"), bytes(32)), 0),
        (tls13(Suite.of("TLS_CHACHA20_POLY1305_SHA256"), bytes(32)), 1000),
        (tls12(Suite.of("ECDHE-ECDSA-AES128-GCM-SHA256"), bytes(48), bytes(32), bytes(32))[0], 0),
        (tls12(Suite.of("ECDHE-ECDSA-AES128-GCM-SHA256"), bytes(48), bytes(32), bytes(32))[1], 1000),  # has none
        (tls12(Suite.of("ECDHE-ECDSA-CHACHA20-POLY1305"), bytes(48), bytes(32), bytes(32))[0], 0),
    ],
)
def test_there_is_room_in_a_record_up_to_the_greatest_length_of_its_header(direction: Direction, padding: int) -> None:
    record = direction.seal(APPLICATION_DATA, bytes(direction.room(padding)), padding=padding)
    assert (record[3:5], len(record)) == (b"\xff\xff", 5 + 0xFFFF)


def test_a_suite_that_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="only AES-GCM and ChaCha20"):
        Suite.of("ECDHE-RSA-AES128-SHA")


def test_tls12_has_no_key_update() -> None:
    direction, _ = tls12(Suite.of("ECDHE-ECDSA-AES128-GCM-SHA256"), bytes(48), bytes(32), bytes(32))
    with pytest.raises(ValueError, match="no KeyUpdate"):
        direction.update()
