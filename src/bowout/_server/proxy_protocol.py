"""The PROXY protocol's header, versions 1 and 2: in it a load balancer names the client of a connection.

The specification is HAProxy's doc/proxy-protocol.txt. The header comes before everything else on a connection, in plain
text. The reader tells how many bytes it can use, and never asks for a byte after the header.
"""

from __future__ import annotations

import functools
import os
import socket
import struct
from dataclasses import dataclass
from typing import Final

from bowout._arguments import MAX_PORT
from bowout._names import host_port
from bowout._text import escape
from bowout._tls_numbers import HANDSHAKE

#: Maximum length of a version 1 header, its line end included, in bytes (section 2.1).
LONGEST_V1: Final = 107
#: Maximum length of an accepted version 2 header, in bytes. One with the client's certificate has a few thousand bytes.
LONGEST_V2: Final = 1 << 14

_SIGNATURE_V1: Final = b"PROXY "
_SIGNATURE_V2: Final = b"\r\n\r\n\0\r\nQUIT\n"
#: Length of ``PROXY UNKNOWN``, the shortest line, in bytes: the bytes that can be requested at once for either version.
_SHORTEST: Final = 15
_FIXED_V2: Final = 16
_LINE_END: Final = b"\r\n"

_LOCAL, _PROXY = 0x20, 0x21
_CRC32C: Final = 0x03
_TLV_HEADER: Final = struct.Struct(">BH")

#: Address families of version 2, by the upper half of a byte; the lower half is the transport.
_UNSPECIFIED, _IPV4, _IPV6, _UNIX = range(4)
_TRANSPORTS: Final = range(3)
#: Size of each family's addresses, in bytes: source and destination, then the ports.
_SIZES: Final = {_UNSPECIFIED: 0, _IPV4: 12, _IPV6: 36, _UNIX: 216}


class BadProxyHeader(ValueError):
    """The received bytes are not a header of the PROXY protocol."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """The content of a header.

    Attributes:
        peer: the client, for people: ``host:port``, or the path of a Unix socket. None if the proxy connects for itself
            (LOCAL: a health check), or does not know the client (UNKNOWN).
    """

    peer: str | None


class ProxyHeaderReader:
    """Reads one header, in pieces of any size.

    Attributes:
        header: its content, as soon as it is complete.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self.header: ProxyHeader | None = None

    @property
    def wanted(self) -> int:
        """The number of bytes that `feed` may be given next; 0 when the header is complete."""
        data = self._data
        if self.header is not None:
            return 0
        if len(data) < _SHORTEST:
            return _SHORTEST - len(data)
        if data.startswith(_SIGNATURE_V2):
            if len(data) < _FIXED_V2:
                return _FIXED_V2 - len(data)
            return _FIXED_V2 + int.from_bytes(data[14:16]) - len(data)
        return 1 if data.endswith(b"\r") else len(_LINE_END)

    def feed(self, data: bytes | memoryview) -> None:
        """Process the next bytes, at most `wanted` of them.

        Raises:
            BadProxyHeader: the bytes cannot become a valid header.
        """
        assert 0 < len(data) <= self.wanted, "more than was asked for may belong to what follows"
        self._data += data
        if self._data.startswith(_SIGNATURE_V2[: len(self._data)]):
            self._look_at_v2()
        elif self._data.startswith(_SIGNATURE_V1[: len(self._data)]):
            self._look_at_v1()
        else:
            raise BadProxyHeader(_no_header(bytes(self._data)))

    def _look_at_v1(self) -> None:
        line, end, rest = self._data.partition(_LINE_END)
        if rest:
            raise BadProxyHeader(f"its line says '{escape(bytes(line))}'")
        if end:
            self.header = ProxyHeader(_peer_of_line(bytes(line)))
        elif len(self._data) >= LONGEST_V1:
            raise BadProxyHeader(f"its line is longer than {LONGEST_V1} bytes")

    def _look_at_v2(self) -> None:
        data = self._data
        if len(data) < _FIXED_V2:
            return
        command, family, length = struct.unpack_from(">BBH", data, len(_SIGNATURE_V2))
        if command not in {_LOCAL, _PROXY}:
            raise BadProxyHeader(f"version and command {command:#04x} are unknown")
        if _FIXED_V2 + length > LONGEST_V2:
            raise BadProxyHeader(f"it is longer than {LONGEST_V2} bytes")
        if len(data) == _FIXED_V2 + length:
            self.header = ProxyHeader(_peer_of_v2(bytes(data), command, family))


def _no_header(start: bytes) -> str:
    if start[0] == HANDSHAKE:
        return "the connection began with TLS: it bypassed the proxy, or the proxy sends no header"
    return f"the connection began with '{escape(start)}'"


# -- version 1 ---------------------------------------------------------------------------------------------------------


def _peer_of_line(line: bytes) -> str | None:
    fields = line.decode("latin-1").split(" ")
    if fields[1] == "UNKNOWN":
        return None  # The rest of the line has no meaning (section 2.1).
    try:
        _, protocol, source, destination, *ports = fields
        family = {"TCP4": socket.AF_INET, "TCP6": socket.AF_INET6}[protocol]
        port, _ = (_port(text) for text in ports)
        address, _ = (socket.inet_ntop(family, socket.inet_pton(family, text)) for text in (source, destination))
    except (KeyError, OSError, ValueError):
        raise BadProxyHeader(f"its line says '{escape(line)}'") from None
    return host_port(address, port)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or (text.startswith("0") and text != "0") or int(text) > MAX_PORT:
        raise ValueError(text)
    return int(text)


# -- version 2 ---------------------------------------------------------------------------------------------------------


def _peer_of_v2(header: bytes, command: int, family_and_transport: int) -> str | None:
    family, transport = divmod(family_and_transport, 16)
    body = header[_FIXED_V2:]
    if command == _LOCAL:
        return None  # The rest has no meaning (section 2.2).
    if family not in _SIZES or transport not in _TRANSPORTS:
        raise BadProxyHeader(f"address family and protocol {family_and_transport:#04x} are unknown")
    size = _SIZES[family]
    if len(body) < size:
        raise BadProxyHeader(f"its addresses take {size} bytes, and it has {len(body)}")
    _check_options(header, body[size:])
    match family:
        case 1:
            return host_port(socket.inet_ntop(socket.AF_INET, body[:4]), int.from_bytes(body[8:10]))
        case 2:
            return host_port(socket.inet_ntop(socket.AF_INET6, body[:16]), int.from_bytes(body[32:34]))
        case 3:
            return escape(os.fsdecode(body[:108].partition(b"\0")[0])) or None
        case _:
            return None


def _check_options(header: bytes, options: bytes) -> None:
    """Check the type-length-value fields; only a checksum matters (section 2.2.4)."""
    at = len(header) - len(options)
    while at < len(header):
        start = at + _TLV_HEADER.size
        if start > len(header):
            raise BadProxyHeader("its last field is incomplete")
        kind, size = _TLV_HEADER.unpack_from(header, at)
        at = start + size
        if at > len(header):
            raise BadProxyHeader("its last field is incomplete")
        if kind == _CRC32C:
            without = header[:start] + bytes(size) + header[at:]
            if size != 4 or crc32c(without) != int.from_bytes(header[start:at]):
                raise BadProxyHeader("its checksum is wrong")


def crc32c(data: bytes) -> int:
    """Compute the checksum of RFC 3309: the standard library has only one with another polynomial."""
    table, value = _crc_table(), 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


@functools.cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901  (its lowest bit is shifted out)
        table.append(value)
    return tuple(table)
