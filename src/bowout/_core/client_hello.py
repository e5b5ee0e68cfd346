"""The first message of a client (RFC 8446 section 4.1.2), as far as a server must know it before OpenSSL does.

The standard library's ssl cannot refuse two things that a client may say in it:

* a server name that is no text: it writes an "unraisable" traceback to stderr before any callback of ours could run;
* protocols for ALPN of which the server has none: it goes on as if the client had offered none, where RFC 7301
  section 3.2 demands a fatal alert.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bowout._core.records import HEADER_SIZE, MAX_PLAINTEXT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Alert codes (RFC 8446 section 6; RFC 7301 section 3.2).
DECODE_ERROR: Final = 50
UNRECOGNIZED_NAME: Final = 112
NO_APPLICATION_PROTOCOL: Final = 120

#: The longest ClientHello that a gate holds, with its record headers, in bytes. Real ones have less than 8 KiB.
LONGEST: Final = 1 << 16

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_MESSAGE_HEADER: Final = 4
_BEFORE_SESSION_ID: Final = 2 + 32
_SERVER_NAME: Final = 0
_ALPN: Final = 16
#: From the first to the last printable ASCII character but the space.
_PRINTABLE: Final = range(0x21, 0x7F)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a ClientHello is refused.

    Attributes:
        alert: the code of the fatal alert to send.
        reason: the same in words.
    """

    alert: int
    reason: str


class HelloGate:
    """Holds what a client sends until its ClientHello is whole and has been looked at.

    Args:
        protocols: the server's protocols for ALPN; None where it has none, or nobody knows them.
    """

    __slots__ = ("_held", "_protocols")

    def __init__(self, protocols: Sequence[str] | None = None) -> None:
        self._held = bytearray()
        self._protocols = None if protocols is None else frozenset(name.encode("ascii") for name in protocols)

    def add(self, data: bytes | memoryview) -> None:
        """Hold `data`, which came from the client."""
        self._held += data

    def release(self) -> bytes:
        """Give away all that is held."""
        held = bytes(self._held)
        self._held.clear()
        return held

    def judge(self) -> Refusal | bool:
        """Look at what is held: True: OpenSSL may have it. False: more must come before that can be said.

        What is no ClientHello, or a malformed one, is for OpenSSL to refuse.
        """
        message = first_message(self._held)
        if message is None:
            if len(self._held) <= LONGEST:
                return False
            return Refusal(DECODE_ERROR, f"the client's first message is longer than {LONGEST} bytes")
        for kind, body in extensions(message):
            if kind == _SERVER_NAME and not all(byte in _PRINTABLE for name in server_names(body) for byte in name):
                return Refusal(UNRECOGNIZED_NAME, "the server name that the client asks for is no host name")
            if kind == _ALPN and self._protocols is not None and self._protocols.isdisjoint(alpn_names(body)):
                return Refusal(NO_APPLICATION_PROTOCOL, "the client offers only protocols that this server has not")
        return True


def first_message(data: bytes | bytearray) -> bytes | None:
    """Find the body of the ClientHello that a client's stream begins with.

    Returns:
        None as long as more must come; ``b""`` where the stream begins with something else.
    """
    message, at = bytearray(), 0
    while True:
        header = bytes(data[at : at + HEADER_SIZE])
        if len(header) < HEADER_SIZE:
            return None if header[:1] in {b"", bytes((_HANDSHAKE,))} else b""
        length = int.from_bytes(header[3:])
        if header[0] != _HANDSHAKE or not 0 < length <= MAX_PLAINTEXT:
            return b""
        at += HEADER_SIZE
        message += data[at : at + length]
        if message and message[0] != _CLIENT_HELLO:
            return b""
        end = _MESSAGE_HEADER + int.from_bytes(message[1:_MESSAGE_HEADER])
        if _MESSAGE_HEADER <= len(message) >= end:
            return bytes(message[_MESSAGE_HEADER:end])
        at += length


def extensions(hello: bytes) -> Iterator[tuple[int, bytes]]:
    """Give the type and the body of each extension; fewer where the message is malformed."""
    reader = _Reader(hello)
    reader.take(_BEFORE_SESSION_ID)
    reader.vector(1)  # the session's id
    reader.vector(2)  # cipher suites
    reader.vector(1)  # compression methods
    inner = _Reader(reader.vector(2))
    while inner.rest:
        kind = int.from_bytes(inner.take(2))
        yield kind, inner.vector(2)


def server_names(extension: bytes) -> Iterator[bytes]:
    """Give the names in a server_name extension (RFC 6066 section 3)."""
    names = _Reader(_Reader(extension).vector(2))
    while names.rest:
        names.take(1)  # the kind of the name: there is only one
        yield names.vector(2)


def alpn_names(extension: bytes) -> Iterator[bytes]:
    """Give the names in an ALPN extension (RFC 7301 section 3.1)."""
    names = _Reader(_Reader(extension).vector(2))
    while names.rest:
        yield names.vector(1)


class _Reader:
    """Takes a message apart; past its end it gives what there is."""

    def __init__(self, data: bytes) -> None:
        self.rest = data

    def take(self, count: int) -> bytes:
        taken, self.rest = self.rest[:count], self.rest[count:]
        return taken

    def vector(self, size: int) -> bytes:
        return self.take(int.from_bytes(self.take(size)))


def client_hello(
    cipher_suites: Sequence[int], signature_algorithms: Sequence[int], groups: Sequence[int], *, random: bytes
) -> bytes:
    """Make the record with a ClientHello that offers TLS 1.3 to 1.0 and these, and no key share.

    It asks a server what it would choose, and cannot go on from there.

    Args:
        cipher_suites: their numbers, at least one.
        signature_algorithms: likewise; they decide which certificates the server may show.
        groups: likewise, for the key exchange.
        random: 32 bytes.
    """
    body = b"".join(
        (
            b"\x03\x03",
            random,
            b"\0",  # no session
            _numbers(cipher_suites),
            b"\x01\0",  # no compression
            _sized(
                b"".join(
                    (
                        _extension(43, b"\x08\x03\x04\x03\x03\x03\x02\x03\x01"),  # supported_versions
                        _extension(10, _numbers(groups)),  # supported_groups
                        _extension(13, _numbers(signature_algorithms)),  # signature_algorithms
                        _extension(51, b"\0\0"),  # key_share
                        _extension(11, b"\x01\0"),  # ec_point_formats: uncompressed
                    )
                )
            ),
        )
    )
    message = bytes((_CLIENT_HELLO,)) + len(body).to_bytes(3) + body
    return struct.pack(">BHH", _HANDSHAKE, 0x0301, len(message)) + message


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2) + data


def _numbers(numbers: Sequence[int]) -> bytes:
    return _sized(b"".join(number.to_bytes(2) for number in numbers))


def _extension(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2) + _sized(body)
