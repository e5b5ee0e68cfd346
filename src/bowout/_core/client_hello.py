"""The first message of a client (RFC 8446 section 4.1.2), as far as a server must check it before OpenSSL does.

The standard library's ssl cannot refuse two contents of it:

* a server name that is not text: ssl writes an "unraisable" traceback to stderr before any callback of ours can run;
* protocols for ALPN of which the server supports none: ssl continues as if the client had offered none, although RFC
  7301 section 3.2 demands a fatal alert.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bowout._core.records import HEADER_SIZE, MAX_PLAINTEXT, record_header
from bowout._tls_numbers import (
    CLIENT_HELLO,
    DECODE_ERROR,
    HANDSHAKE,
    LEGACY_VERSION,
    NO_APPLICATION_PROTOCOL,
    TLS10,
    TLS11,
    TLS12,
    TLS13,
    UNRECOGNIZED_NAME,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Maximum size of a ClientHello that a gate holds, with its record headers, in bytes. Real ones have less than 8 KiB.
LONGEST: Final = 1 << 16

_MESSAGE_HEADER: Final = 4
_BEFORE_SESSION_ID: Final = 2 + 32
#: TLS versions that `client_hello` offers.
_OFFERED: Final = (TLS13, TLS12, TLS11, TLS10)
_SERVER_NAME: Final = 0
_ALPN: Final = 16
#: Codes of the printable ASCII characters, except for the space.
_PRINTABLE: Final = range(0x21, 0x7F)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a ClientHello is refused.

    Attributes:
        alert: code of the fatal alert to send.
        reason: the reason in words.
    """

    alert: int
    reason: str


class HelloGate:
    """Holds what a client sends until its ClientHello is complete and checked.

    Args:
        protocols: the server's protocols for ALPN; None if it has none, or if they are unknown.
    """

    __slots__ = ("_held", "_protocols")

    def __init__(self, protocols: Sequence[str] | None = None) -> None:
        self._held = bytearray()
        self._protocols = None if protocols is None else frozenset(name.encode("ascii") for name in protocols)

    def add(self, data: bytes | memoryview) -> None:
        """Hold `data`, received from the client."""
        self._held += data

    def release(self) -> bytes:
        """Return everything that is held, and hold it no longer."""
        held = bytes(self._held)
        self._held.clear()
        return held

    def judge(self) -> Refusal | bool:
        """Check what is held. True: pass it to OpenSSL. False: more bytes are needed for the check.

        OpenSSL itself refuses a malformed ClientHello, and anything else than a ClientHello.
        """
        message = first_message(self._held)
        if message is None:
            if len(self._held) <= LONGEST:
                return False
            return Refusal(DECODE_ERROR, f"the client's first message is longer than {LONGEST} bytes")
        for kind, body in extensions(message):
            if kind == _SERVER_NAME and not all(byte in _PRINTABLE for name in server_names(body) for byte in name):
                return Refusal(UNRECOGNIZED_NAME, "the server name that the client asks for is not a host name")
            if kind == _ALPN and self._protocols is not None and self._protocols.isdisjoint(alpn_names(body)):
                return Refusal(
                    NO_APPLICATION_PROTOCOL, "the client offers only protocols that this server does not support"
                )
        return True


def first_message(data: bytes | bytearray) -> bytes | None:
    """Find the body of the ClientHello at the beginning of a client's stream, `data`.

    Returns:
        The body; None if more bytes are needed; ``b""`` if the stream begins with something else.
    """
    message, at = bytearray(), 0
    while True:
        header = bytes(data[at : at + HEADER_SIZE])
        if len(header) < HEADER_SIZE:
            return None if header[:1] in {b"", bytes((HANDSHAKE,))} else b""
        length = int.from_bytes(header[3:])
        if header[0] != HANDSHAKE or not 0 < length <= MAX_PLAINTEXT:
            return b""
        at += HEADER_SIZE
        message += data[at : at + length]
        if message and message[0] != CLIENT_HELLO:
            return b""
        end = _MESSAGE_HEADER + int.from_bytes(message[1:_MESSAGE_HEADER])
        if _MESSAGE_HEADER <= len(message) >= end:
            return bytes(message[_MESSAGE_HEADER:end])
        at += length


def extensions(hello: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the body of each extension; fewer if the message is malformed."""
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
    """Yield the names in a server_name extension (RFC 6066 section 3)."""
    names = _Reader(_Reader(extension).vector(2))
    while names.rest:
        names.take(1)  # the type of the name: only one is defined
        yield names.vector(2)


def alpn_names(extension: bytes) -> Iterator[bytes]:
    """Yield the names in an ALPN extension (RFC 7301 section 3.1)."""
    names = _Reader(_Reader(extension).vector(2))
    while names.rest:
        yield names.vector(1)


class _Reader:
    """Parses a message; past its end it returns what there is."""

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
    """Make the record with a ClientHello that offers TLS 1.3 to 1.0 and the given parameters, and no key share.

    It serves to ask a server what it would choose; the handshake cannot be completed.

    Args:
        cipher_suites: their numbers, at least one.
        signature_algorithms: likewise; they decide which certificates the server may show.
        groups: likewise, for the key exchange.
        random: 32 bytes.
    """
    body = b"".join(
        (
            LEGACY_VERSION.to_bytes(2),
            random,
            b"\0",  # no session
            _numbers(cipher_suites),
            b"\x01\0",  # no compression
            _sized(
                b"".join(
                    (
                        _extension(43, b"\x08" + b"".join(each.to_bytes(2) for each in _OFFERED)),  # supported_versions
                        _extension(10, _numbers(groups)),  # supported_groups
                        _extension(13, _numbers(signature_algorithms)),  # signature_algorithms
                        _extension(51, b"\0\0"),  # key_share
                        _extension(11, b"\x01\0"),  # ec_point_formats: uncompressed
                    )
                )
            ),
        )
    )
    message = bytes((CLIENT_HELLO,)) + len(body).to_bytes(3) + body
    return record_header(HANDSHAKE, len(message), TLS10) + message


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2) + data


def _numbers(numbers: Sequence[int]) -> bytes:
    return _sized(b"".join(number.to_bytes(2) for number in numbers))


def _extension(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2) + _sized(body)
