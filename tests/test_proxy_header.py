"""The PROXY protocol's header: what it says, in whatever pieces it comes, and what is none."""

from __future__ import annotations

import socket
import struct
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowout._server.proxy_protocol import LONGEST_V1, LONGEST_V2, BadProxyHeader, ProxyHeaderReader, crc32c

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
IPV4: Final = socket.inet_aton("192.0.2.7") + socket.inet_aton("198.51.100.1") + struct.pack(">HH", 4711, 443)
IPV6: Final = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + struct.pack(">HH", 4711, 443)
)
UNIX: Final = b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")


def v2(body: bytes = b"", *, command: int = 0x21, family: int = 0x11) -> bytes:
    """A header of version 2."""
    return SIGNATURE + struct.pack(">BBH", command, family, len(body)) + body


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack(">BH", kind, len(value)) + value


def checked(body: bytes, after: bytes = b"") -> bytes:
    """The same with its checksum."""
    header = v2(body + tlv(3, bytes(4)) + after)
    at = len(header) - len(after) - 4
    return header[:at] + crc32c(header).to_bytes(4) + header[at + 4 :]


def read(data: bytes, sizes: list[int] | None = None) -> tuple[str | None, bytes]:
    """The peer that the header at the front of `data` names, and what comes after it.

    Args:
        sizes: at most so many bytes come at once, in turn; then as many as are wanted.
    """
    reader = ProxyHeaderReader()
    while reader.header is None:
        count = min(reader.wanted, sizes.pop(0) if sizes else len(data))
        assert data, "it wants more than there is"
        reader.feed(data[:count])
        data = data[count:]
    assert reader.wanted == 0
    return reader.header.peer, data


LONG_PEER: Final = "[" + "ffff:" * 7 + "ffff]:65535"
GOOD: Final = {
    "v1 IPv4": (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", "192.0.2.7:4711"),
    "v1 IPv6": (b"PROXY TCP6 2001:DB8:0::7 2001:db8::1 4711 443\r\n", "[2001:db8::7]:4711"),
    "v1 mapped": (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 65535 0\r\n", "[::ffff:192.0.2.7]:65535"),
    "v1 longest": (b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2 + [b"65535"] * 2) + b"\r\n", LONG_PEER),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None),
    "v1 unknown and more": (b"PROXY UNKNOWN ffff:f...f:ffff 65535 \xff\r\n", None),
    "v2 IPv4": (v2(IPV4), "192.0.2.7:4711"),
    "v2 IPv6": (v2(IPV6, family=0x21), "[2001:db8::7]:4711"),
    "v2 Unix": (v2(UNIX, family=0x31), "/run/client"),
    "v2 Unix without a name": (v2(bytes(216), family=0x31), None),
    "v2 Unix, forged": (v2(b"/a\nERROR\x1b[2J\xff".ljust(216, b"\0"), family=0x31), "/a\\nERROR\\x1b[2J\\udcff"),
    "v2 datagrams": (v2(IPV4, family=0x12), "192.0.2.7:4711"),
    "v2 local": (v2(command=0x20, family=0), None),
    "v2 local with an address": (v2(IPV4, command=0x20), None),
    "v2 local of a family unknown": (v2(b"abc", command=0x20, family=0x77), None),
    "v2 unspecified": (v2(family=0), None),
    "v2 with fields": (v2(IPV4 + tlv(2, b"a.test") + tlv(4, bytes(50)) + tlv(0xE0, b"")), "192.0.2.7:4711"),
    "v2 with a checksum": (checked(IPV4), "192.0.2.7:4711"),
    "v2 with a checksum amid fields": (checked(IPV4 + tlv(2, b"a.test"), tlv(5, b"id")), "192.0.2.7:4711"),
    "v2 longest": (v2(IPV4 + tlv(4, bytes(LONGEST_V2 - 16 - 12 - 3))), "192.0.2.7:4711"),
}
good = pytest.mark.parametrize(("header", "peer"), GOOD.values(), ids=GOOD)

BAD: Final = {
    "TLS": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03abcdef", "began with TLS"),
    "HTTP": (b"GET / HTTP/1.1\r\n\r\n", r"began with 'GET / HTTP/1\.1"),
    "control characters": (b"\x1b[2J" + bytes(20), r"began with '\\x1b\[2J"),
    "v1 in small letters": (b"proxy TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", "began with"),
    "v1 of nothing": (b"PROXY \r\n" + bytes(20), "says"),
    "v1 without ports": (b"PROXY TCP4 192.0.2.7 198.51.100.1\r\n", "says"),
    "v1 with one port": (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n", "says"),
    "v1 with three": (b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443 1\r\n", "says"),
    "v1 with two spaces": (b"PROXY  TCP4 192.0.2.7 198.51.100.1 4711 443\r\n", "says"),
    "v1 with a tab": (b"PROXY TCP4\t192.0.2.7 198.51.100.1 4711 443\r\n", "says"),
    "v1 of another protocol": (b"PROXY UDP4 192.0.2.7 198.51.100.1 4711 443\r\n", "says"),
    "v1 with the wrong family": (b"PROXY TCP4 2001:db8::7 198.51.100.1 4711 443\r\n", "says"),
    "v1 with a name": (b"PROXY TCP4 localhost 198.51.100.1 4711 443\r\n", "says"),
    "v1 with half an address": (b"PROXY TCP4 192.0.2 198.51.100.1 4711 443\r\n", "says"),
    "v1 with a zone": (b"PROXY TCP6 fe80::1%eth0 ::1 4711 443\r\n", "says"),
    "v1 with a port too large": (b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 443\r\n", "says"),
    "v1 with a port less than nothing": (b"PROXY TCP4 192.0.2.7 198.51.100.1 -1 443\r\n", "says"),
    "v1 with zeros": (b"PROXY TCP4 192.0.2.7 198.51.100.1 0443 443\r\n", "says"),
    "v1 with other digits": ("PROXY TCP4 192.0.2.7 198.51.100.1 ¹ 443\r\n".encode(), "says"),
    "v1 that never ends": (b"PROXY UNKNOWN " + b"x" * LONGEST_V1, "longer than 107"),
    "v1 that ends too soon": (b"PROXY A\r\n" + bytes(20), "says"),
    "v2 of version 3": (v2(IPV4, command=0x31), "0x31"),
    "v2 of another command": (v2(IPV4, command=0x22), "0x22"),
    "v2 of another family": (v2(IPV4, family=0x41), "0x41"),
    "v2 of another transport": (v2(IPV4, family=0x13), "0x13"),
    "v2 without an address": (v2(IPV4[:-1]), "take 12 bytes"),
    "v2 with half a field": (v2(IPV4 + b"\x02\0"), "incomplete"),
    "v2 with a field too long": (v2(IPV4 + b"\x02\0\x05abcd"), "incomplete"),
    "v2 with a wrong checksum": (checked(IPV4)[:-1] + b"?", "checksum"),
    "v2 changed after its checksum": (checked(IPV4).replace(IPV4[:4], b"\x01\x02\x03\x04"), "checksum"),
    "v2 with a checksum of two bytes": (v2(IPV4 + tlv(3, b"ab")), "checksum"),
    "v2 too long": (v2(bytes(LONGEST_V2 - 15)), "longer than"),
}
bad = pytest.mark.parametrize(("data", "words"), BAD.values(), ids=BAD)


@good
def test_it_names_the_peer(header: bytes, peer: str | None) -> None:
    assert read(header) == (peer, b"")


@good
def test_what_follows_is_not_touched(header: bytes, peer: str | None) -> None:
    assert read(header + b"\x16\x03\x01\r\nPROXY")[1] == b"\x16\x03\x01\r\nPROXY"


@given(st.sampled_from(sorted(GOOD)), st.lists(st.integers(1, 20)))
def test_in_whatever_pieces_it_comes_it_is_the_same(name: str, sizes: list[int]) -> None:
    header, _ = GOOD[name]
    assert read(header + b"rest", sizes) == read(header + b"rest")


@bad
def test_what_is_no_header_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(BadProxyHeader, match=words):
        read(data)


@given(st.sampled_from(sorted(BAD)), st.lists(st.integers(1, 20)))
def test_in_whatever_pieces_it_comes_it_is_refused(name: str, sizes: list[int]) -> None:
    with pytest.raises(BadProxyHeader):
        read(BAD[name][0], sizes)


@given(
    st.binary(min_size=1, max_size=300),
    st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21"]),
)
def test_whatever_comes_it_is_a_header_or_refused_and_bounded(data: bytes, start: bytes) -> None:
    reader, data = ProxyHeaderReader(), start + data
    taken = 0
    try:
        while taken < len(data) and reader.header is None:
            assert 0 < reader.wanted <= LONGEST_V2
            piece = data[taken : taken + reader.wanted]
            reader.feed(piece)
            taken += len(piece)
    except BadProxyHeader as error:
        assert str(error).isprintable()  # noqa: PT017  (either outcome is right)


def test_it_takes_no_more_than_it_wants() -> None:
    with pytest.raises(AssertionError):
        ProxyHeaderReader().feed(bytes(16))


def test_the_checksum_is_the_one_of_rfc_3720() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(b"123456789") == 0xE3069283
