"""A separate record layer: it writes any record, legal or not, with a connection's keys, and reads the peer's.

The keys come from a key log (see `bowout._scripted.keylog`), the AEADs from the package cryptography. It supports the
AES-GCM and ChaCha20-Poly1305 suites of TLS 1.2 and 1.3 (RFC 5246, 5288, 7905, 8446).
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from bowout._core.records import HEADER_SIZE, record_header
from bowout._tls_numbers import APPLICATION_DATA, LEGACY_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Maximum length that a record's header can hold, in bytes.
MAX_LENGTH: Final = 0xFFFF

#: The version in the header of every record since TLS 1.2, as its two bytes.
VERSION_BYTES: Final = LEGACY_VERSION.to_bytes(2)

_IV_SIZE: Final = 12
_TAG_SIZE: Final = 16
_FIXED_IV_SIZE: Final = 4
_EXPLICIT_NONCE_SIZE: Final = 8


class Undecryptable(Exception):
    """A record that was not made with these keys, or not for this position."""


class Record(NamedTuple):
    """One record as it was on the wire, still protected."""

    content_type: int
    version: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        """The whole record, its header included."""
        return header(self.content_type, len(self.body), self.version) + self.body


def header(content_type: int, length: int, version: bytes = VERSION_BYTES) -> bytes:
    """Make the five header bytes of a record."""
    return record_header(content_type, length, int.from_bytes(version))


class RecordSplitter:
    """Splits a byte stream, which arrives in pieces of any size, into records."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Process the stream's next bytes."""
        self._buffer += data

    def __iter__(self) -> Iterator[Record]:
        """Yield each complete record once."""
        while len(self._buffer) >= HEADER_SIZE:
            end = HEADER_SIZE + int.from_bytes(self._buffer[3:HEADER_SIZE])
            if len(self._buffer) < end:
                return
            raw = bytes(self._buffer[:end])
            del self._buffer[:end]
            yield Record(raw[0], raw[1:3], raw[HEADER_SIZE:])

    @property
    def rest(self) -> bytes:
        """The received bytes that are no complete record."""
        return bytes(self._buffer)

    def take_rest(self) -> bytes:
        """Remove and return these bytes."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


class Suite(NamedTuple):
    """The parameters of a cipher suite that records depend on."""

    chacha: bool
    key_size: int
    digest: str

    @classmethod
    def of(cls, name: str) -> Suite:
        """Return the suite with this OpenSSL `name`.

        Raises:
            ValueError: it is neither AES-GCM nor ChaCha20-Poly1305.
        """
        words = name.replace("_", "-")
        chacha = "CHACHA20" in words
        if not chacha and "GCM" not in words:
            raise ValueError(f"no records can be written with {name}: only AES-GCM and ChaCha20-Poly1305 suites")
        key_size = 16 if "AES128" in words or "AES-128" in words else 32
        return cls(chacha, key_size, "sha384" if words.endswith("SHA384") else "sha256")


class Direction:
    """The protection of one direction of a connection: it seals its records, or opens them.

    Use one for writing or for reading, not for both: it counts the records.
    """

    def __init__(self, suite: Suite, key: bytes, iv: bytes, *, count: int = 0, secret: bytes | None = None) -> None:
        self._suite = suite
        self._aead = ChaCha20Poly1305(key) if suite.chacha else AESGCM(key)
        self._iv = iv
        self._count = count
        self._secret = secret  # of TLS 1.3; None: TLS 1.2

    def room(self, padding: int = 0) -> int:
        """Return the maximum plaintext, in bytes, that a record's header can express beside `padding` bytes."""
        if self._secret is not None:
            return MAX_LENGTH - _TAG_SIZE - 1 - padding  # the content type is inside
        return MAX_LENGTH - _TAG_SIZE - (0 if self._suite.chacha else _EXPLICIT_NONCE_SIZE)

    def seal(self, content_type: int, data: bytes, *, version: bytes = VERSION_BYTES, padding: int = 0) -> bytes:
        """Make one complete record.

        Args:
            content_type: in TLS 1.3 it is hidden inside.
            data: the plaintext; nothing checks that it is legal.
            version: the two bytes in the header.
            padding: number of zero bytes that hide the length, in TLS 1.3 (RFC 8446 section 5.4).
        """
        if self._secret is not None:
            inner = data + bytes([content_type]) + bytes(padding)
            start = header(APPLICATION_DATA, len(inner) + _TAG_SIZE, version)
            return start + self._aead.encrypt(self._nonce(), inner, start)
        explicit = b"" if self._suite.chacha else self._count.to_bytes(_EXPLICIT_NONCE_SIZE)
        extra = self._extra12(content_type, version, len(data))
        sealed = explicit + self._aead.encrypt(self._nonce(explicit), data, extra)
        return header(content_type, len(sealed), version) + sealed

    def open(self, record: Record) -> tuple[int, bytes]:
        """Return the content type and the plaintext.

        Raises:
            Undecryptable: it was not made with these keys, or not for this position.
        """
        try:
            return self._open13(record) if self._secret is not None else self._open12(record)
        except (InvalidTag, ValueError) as error:
            raise Undecryptable(f"a record of {len(record.body)} bytes cannot be decrypted") from error

    def update(self) -> None:
        """Use the next generation of keys from now on, after a KeyUpdate (RFC 8446 section 7.2)."""
        if self._secret is None:
            raise ValueError("TLS 1.2 has no KeyUpdate")
        size = hashes.SHA384.digest_size if self._suite.digest == "sha384" else hashes.SHA256.digest_size
        fresh = tls13(self._suite, _expand_label(self._suite, self._secret, b"traffic upd", size))
        self._aead, self._iv, self._secret, self._count = fresh._aead, fresh._iv, fresh._secret, 0  # noqa: SLF001  (of its own class)

    def _open13(self, record: Record) -> tuple[int, bytes]:
        if record.content_type != APPLICATION_DATA:
            raise ValueError("not protected")
        start = header(APPLICATION_DATA, len(record.body), record.version)
        inner = self._aead.decrypt(self._nonce(), record.body, start).rstrip(b"\0")
        return (inner[-1], inner[:-1]) if inner else (0, b"")

    def _open12(self, record: Record) -> tuple[int, bytes]:
        size = 0 if self._suite.chacha else _EXPLICIT_NONCE_SIZE
        explicit, sealed = record.body[:size], record.body[size:]
        extra = self._extra12(record.content_type, record.version, max(0, len(sealed) - _TAG_SIZE))
        return record.content_type, self._aead.decrypt(self._nonce(explicit), sealed, extra)

    def _extra12(self, content_type: int, version: bytes, length: int) -> bytes:
        return self._count.to_bytes(8) + header(content_type, length, version)

    def _nonce(self, explicit: bytes = b"") -> bytes:
        """Make the nonce: RFC 5288 section 3 with `explicit`; RFC 8446 section 5.3 and RFC 7905 section 2 without."""
        count, self._count = self._count, self._count + 1
        if explicit:
            return self._iv + explicit
        return bytes(a ^ b for a, b in zip(self._iv, count.to_bytes(_IV_SIZE), strict=True))


def tls13(suite: Suite, secret: bytes) -> Direction:
    """Make the direction of a traffic secret (RFC 8446 section 7.3)."""
    key = _expand_label(suite, secret, b"key", suite.key_size)
    return Direction(suite, key, _expand_label(suite, secret, b"iv", _IV_SIZE), secret=secret)


def tls12(suite: Suite, master: bytes, client_random: bytes, server_random: bytes) -> tuple[Direction, Direction]:
    """Make the client's and the server's direction, after both Finished (RFC 5246 section 6.3)."""
    iv_size = _IV_SIZE if suite.chacha else _FIXED_IV_SIZE
    size = suite.key_size
    block = _prf(suite, master, b"key expansion" + server_random + client_random, 2 * (size + iv_size))
    keys, ivs = block[: 2 * size], block[2 * size :]
    client = Direction(suite, keys[:size], ivs[:iv_size], count=1)  # Finished was the first record
    return client, Direction(suite, keys[size:], ivs[iv_size:], count=1)


def _expand_label(suite: Suite, secret: bytes, label: bytes, length: int) -> bytes:
    """Compute HKDF-Expand-Label (RFC 8446 section 7.1)."""
    name = b"tls13 " + label
    info = length.to_bytes(2) + bytes([len(name)]) + name + b"\0"
    digest = hashes.SHA384() if suite.digest == "sha384" else hashes.SHA256()
    return HKDFExpand(digest, length, info).derive(secret)


def _prf(suite: Suite, secret: bytes, seed: bytes, length: int) -> bytes:
    """Compute the pseudorandom function of TLS 1.2 (RFC 5246 section 5)."""
    out, a = b"", seed
    while len(out) < length:
        a = hmac.digest(secret, a, suite.digest)
        out += hmac.digest(secret, a + seed, suite.digest)
    return out[:length]
