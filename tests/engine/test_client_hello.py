"""A client's first message, looked at before OpenSSL has it: which are let pass, which are refused, and with what."""

from __future__ import annotations

import ssl
import struct
from typing import TYPE_CHECKING, Any, Final

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from bowout._core.client_hello import (
    LONGEST,
    HelloGate,
    Refusal,
    alpn_names,
    client_hello,
    extensions,
    first_message,
    server_names,
)
from bowout._core.engine import Engine
from bowout._core.timeline import Timeline
from bowout._tls_numbers import DECODE_ERROR, NO_APPLICATION_PROTOCOL, UNRECOGNIZED_NAME
from bowout.ending import EventKind, How, Inbound, Outbound, Role, Side
from bowout.errors import HandshakeError, HandshakeReset, HandshakeTruncated, NotTLS
from helpers.engines import NAME, Clock, EnginePair, contexts, engine, take

if TYPE_CHECKING:
    from collections.abc import Sequence


def hello(name: bytes | None = b"peer.example", alpn: Sequence[bytes] = ()) -> bytes:
    """A ClientHello as one record, with this server name and these protocols."""
    added = b""
    if name is not None:
        added += extension(0, sized(b"\0" + sized(name)))
    if alpn:
        added += extension(16, sized(b"".join(bytes((len(each),)) + each for each in alpn)))
    record = client_hello([0x1301, 0xC02B, 0xC02F], [0x0403, 0x0804], [23, 29], random=bytes(32))
    # The extensions are the end of the message: their length is the last before them.
    body = record[9:]
    at = 2 + 32 + 1 + 2 + 6 + 2
    return wrapped(body[:at] + sized(body[at + 2 :] + added))


def wrapped(body: bytes) -> bytes:
    """A ClientHello's body as one record."""
    message = b"\x01" + len(body).to_bytes(3) + body
    return b"\x16\x03\x01" + sized(message)


def sized(data: bytes) -> bytes:
    return len(data).to_bytes(2) + data


def extension(kind: int, body: bytes) -> bytes:
    return struct.pack(">H", kind) + sized(body)


def in_records(record: bytes, size: int) -> bytes:
    """The same message in records of `size` bytes each."""
    message = record[5:]
    return b"".join(b"\x16\x03\x01" + sized(message[at : at + size]) for at in range(0, len(message), size))


#: Records of a ClientHello that says it has 16 MB.
ENDLESS: Final = in_records(bytes(5) + b"\x01\xff\xff\xff" + bytes(2 * LONGEST), 16384)


def judged(data: bytes, protocols: Sequence[str] | None = None) -> Refusal | bool:
    gate = HelloGate(protocols)
    gate.add(data)
    return gate.judge()


def alert_of(verdict: Refusal | bool) -> int:
    assert isinstance(verdict, Refusal)
    return verdict.alert


class TestGate:
    def test_what_openssl_sends_is_understood(self, ca: trustme.CA, version: str) -> None:
        context, _ = contexts(ca, version)
        context.set_alpn_protocols(["h2", "http/1.1"])
        client = engine(context, Role.CLIENT)
        client.handshake()
        message = first_message(take(client))
        assert message is not None
        found = dict(extensions(message))
        assert list(server_names(found[0])) == [NAME.encode()]
        assert list(alpn_names(found[16])) == [b"h2", b"http/1.1"]

    @pytest.mark.parametrize("name", [None, b"peer.example", b"a_b.c-d.xn--fa-hia.de", b"127.0.0.1", b"[::1]", b""])
    def test_names_that_pass(self, name: bytes | None) -> None:
        assert judged(hello(name)) is True

    @pytest.mark.parametrize(
        "name", [b"\xff", "faß.de".encode(), b"a b", b"a\nERROR forged", b"\x1b[2J", b"a\0b", b"\x7f"]
    )
    def test_a_name_that_is_no_text_is_refused(self, name: bytes) -> None:
        assert alert_of(judged(hello(name))) == UNRECOGNIZED_NAME

    def test_the_second_of_two_names_is_looked_at_too(self) -> None:
        body = hello()[9:]
        at = 2 + 32 + 1 + 2 + 6 + 2
        twice = extension(0, sized(b"\0" + sized(b"a") + b"\0" + sized(b"\xff")))
        assert alert_of(judged(wrapped(body[:at] + sized(body[at + 2 :] + twice)))) == UNRECOGNIZED_NAME

    @pytest.mark.parametrize("offered", [[], [b"h2"], [b"x", b"h2"]])
    def test_a_protocol_in_common_or_none_offered_passes(self, offered: list[bytes]) -> None:
        assert judged(hello(alpn=offered), ["h2", "http/1.1"]) is True

    @pytest.mark.parametrize("offered", [[b"x"], [b"H2"], [b"\xff"], [b"h2 "]])
    def test_none_in_common_is_refused(self, offered: list[bytes]) -> None:
        assert alert_of(judged(hello(alpn=offered), ["h2", "http/1.1"])) == NO_APPLICATION_PROTOCOL

    def test_a_server_without_protocols_heeds_none(self) -> None:
        assert judged(hello(alpn=[b"x"])) is True

    @pytest.mark.parametrize(
        "data", [b"G", b"GET / HTTP/1.1\r\n\r\n", b"\x15\x03\x01\0\x02\x02\x28", b"\x80\x2e\x01\x03\x01"]
    )
    def test_what_is_no_handshake_is_left_to_openssl(self, data: bytes) -> None:
        assert judged(data) is True

    @pytest.mark.parametrize(
        "data",
        [
            b"\x16\x03\x01\0\0",
            b"\x16\x03\x01\x40\x01",
            b"\x16\x03\x01\0\x01\x02",
            hello()[:5] + b"\x02" + hello()[6:],
        ],
        ids=["an empty record", "a record too long", "another message", "a ServerHello"],
    )
    def test_so_is_what_is_no_client_hello(self, data: bytes) -> None:
        assert judged(data) in {True, False}

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100])
    def test_a_message_in_many_records_is_one(self, size: int) -> None:
        assert alert_of(judged(in_records(hello(b"\xff"), size))) == UNRECOGNIZED_NAME

    @given(st.data(), st.sampled_from([b"peer.example", b"\xff"]), st.integers(1, 300))
    def test_in_whatever_pieces_it_comes(self, data: st.DataObject, name: bytes, size: int) -> None:
        whole = in_records(hello(name), size)
        cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=8)))
        gate = HelloGate()
        for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
            assert gate.judge() is False
            gate.add(whole[start:end])
        assert (gate.judge() is True) == (name == b"peer.example")
        assert gate.release() == whole
        assert gate.release() == b""

    @given(st.binary(max_size=600))
    def test_whatever_a_message_says_it_is_read_to_its_end(self, body: bytes) -> None:
        assert judged(wrapped(body), ["h2"]) is not False

    def test_no_more_is_held_than_any_hello_has(self) -> None:
        assert judged(ENDLESS[:LONGEST]) is False
        assert alert_of(judged(ENDLESS[: LONGEST + 1])) == DECODE_ERROR


def server(ca: trustme.CA, version: str, protocols: Sequence[str] | None = None) -> Engine:
    """A server's engine with a gate."""
    _, context = contexts(ca, version)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return Engine(context, role=Role.SERVER, timeline=Timeline(Clock()), gate=HelloGate(protocols))


#: A fatal alert in plain text, before anything was agreed on.
ALERT: Final = b"\x15\x03\x03\x00\x02\x02"


class TestEngine:
    def test_a_hello_that_passes_shakes_hands(self, ca: trustme.CA, version: str) -> None:
        context, _ = contexts(ca, version)
        context.set_alpn_protocols(["x", "h2"])
        two = EnginePair(engine(context, Role.CLIENT), server(ca, version, ["h2"]))
        two.shake_hands()
        assert two.client.tls.selected_alpn_protocol() == "h2"

    def test_byte_by_byte_it_does_too(self, ca: trustme.CA, version: str) -> None:
        context, _ = contexts(ca, version)
        client, there = engine(context, Role.CLIENT), server(ca, version)
        while not (client.handshake() & there.handshake()):
            for byte in take(client):
                there.receive_data(bytes((byte,)))
                there.handshake()
            client.receive_data(take(there))
        assert there.handshake_done

    @pytest.mark.parametrize(
        ("data", "code", "words"),
        [
            (hello(b"\xff"), UNRECOGNIZED_NAME, "not a host name"),
            (hello(alpn=[b"x"]), NO_APPLICATION_PROTOCOL, "only protocols"),
            (ENDLESS, DECODE_ERROR, "longer than"),
        ],
        ids=["name", "protocols", "length"],
    )
    def test_a_refusal_is_an_alert_and_an_ending(self, ca: trustme.CA, data: bytes, code: int, words: str) -> None:
        there = server(ca, "1.3", ["h2"])
        there.receive_data(data)
        with pytest.raises(HandshakeError, match=words):
            there.handshake()
        assert take(there) == ALERT + bytes((code,))
        ending = there.build_ending()
        assert (ending.how, ending.outbound) == (How.FAILED_HANDSHAKE, Outbound.FATAL_ALERT)
        assert ending.alert is not None
        assert (ending.alert.code, ending.alert.by, ending.started_by) == (code, Side.WE, Side.WE)
        assert words in ending.reason
        assert [event.kind for event in ending.events if event.alert] == [EventKind.ALERT]

    def test_what_comes_after_a_refusal_is_nobodys(self, ca: trustme.CA) -> None:
        there = server(ca, "1.3")
        there.receive_data(hello(b"\xff"))
        for _ in range(2):
            with pytest.raises(HandshakeError):
                there.handshake()
            there.receive_data(hello())

    @pytest.mark.parametrize(
        ("count", "inbound"), [(0, Inbound.TRUNCATED_AT_BOUNDARY), (20, Inbound.TRUNCATED_INSIDE_RECORD)]
    )
    def test_a_fin_in_the_middle_of_it(self, ca: trustme.CA, count: int, inbound: Inbound) -> None:
        there = server(ca, "1.3")
        there.receive_data(hello()[:count])
        assert not there.handshake()
        there.receive_eof()
        with pytest.raises(HandshakeTruncated):
            there.handshake()
        assert there.inbound is inbound

    def test_an_rst_in_the_middle_of_it(self, ca: trustme.CA) -> None:
        there = server(ca, "1.3")
        there.receive_data(hello()[:20])
        there.receive_reset()
        with pytest.raises(HandshakeReset):
            there.handshake()

    def test_plain_text_is_told_as_ever(self, ca: trustme.CA) -> None:
        there = server(ca, "1.3")
        there.receive_data(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(NotTLS, match="HTTP"):
            there.handshake()


def test_a_made_hello_is_one_to_openssl(ca: trustme.CA) -> None:
    """Without a key share, TLS 1.3 asks for another."""

    def on_name(*arguments: Any) -> None:
        asked.append(arguments[1])

    asked: list[str | None] = []
    _, context = contexts(ca, "1.3")
    context.sni_callback = on_name
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(client_hello([0x1301], [0x0403, 0x0804], [23, 29], random=bytes(32)))
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    assert outgoing.read()[:1] == b"\x16"
    assert asked == [None]
