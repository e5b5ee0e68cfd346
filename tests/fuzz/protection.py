"""The protection of TLS records in one direction, from a key log: sealing, opening, and changing keys.

The ciphers are those with AES in GCM. Nothing here asks whether a record is legal.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bowout.ending import Role
from helpers.engines import DATA, _expand, _prf

_SHA384_SIZE: Final = 48


class Protection:
    """One direction's keys, and its record number.

    Args:
        secret: the direction's traffic secret in TLS 1.3, the master secret in TLS 1.2.
        randoms: the server's and the client's random, in this order; TLS 1.2 only.
        writer: whose direction it is.
    """

    def __init__(self, version: str, secret: bytes, randoms: bytes, writer: Role) -> None:
        self._tls13 = version == "1.3"
        if self._tls13:
            self._secret = secret
            self._derive()
        else:
            block = _prf(secret, b"key expansion" + randoms, 40)
            at = 0 if writer is Role.CLIENT else 1
            self._aead = AESGCM(block[16 * at : 16 * at + 16])
            self._iv = block[32 + 4 * at : 36 + 4 * at]
            self._count = 1  # Finished was the first record under these keys.

    def _derive(self) -> None:
        key_size = 32 if len(self._secret) == _SHA384_SIZE else 16
        self._aead = AESGCM(_expand(self._secret, b"key", key_size))
        self._iv = _expand(self._secret, b"iv", 12)
        self._count = 0

    def update(self) -> None:
        """Go on under the next keys (RFC 8446 section 7.2)."""
        if self._tls13:
            self._secret = _expand(self._secret, b"traffic upd", len(self._secret))
            self._derive()

    def seal(self, content_type: int, data: bytes) -> bytes:
        """The next record."""
        count = self._next()
        if self._tls13:
            header = bytes([DATA, 3, 3]) + (len(data) + 17).to_bytes(2)
            return header + self._aead.encrypt(self._nonce(count), data + bytes([content_type]), header)
        header = bytes([content_type, 3, 3])
        sealed = self._aead.encrypt(self._iv + count, data, count + header + len(data).to_bytes(2))
        return header + (len(sealed) + 8).to_bytes(2) + count + sealed

    def open(self, record: bytes) -> tuple[int, bytes]:
        """The next record's content type and content. Raises `cryptography.exceptions.InvalidTag`."""
        count = self._next()
        if self._tls13:
            inner = self._aead.decrypt(self._nonce(count), record[5:], record[:5]).rstrip(b"\0")
            return inner[-1], inner[:-1]
        explicit, sealed = record[5:13], record[13:]
        size = (len(sealed) - 16).to_bytes(2)
        return record[0], self._aead.decrypt(self._iv + explicit, sealed, count + record[:3] + size)

    def _next(self) -> bytes:
        count = self._count
        self._count += 1
        return count.to_bytes(8)

    def _nonce(self, count: bytes) -> bytes:
        return bytes(a ^ b for a, b in zip(self._iv, bytes(4) + count, strict=True))
