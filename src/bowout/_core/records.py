"""TLS records, as far as their five-byte headers show: enough to tell where a stream was truncated."""

from __future__ import annotations

import struct
from typing import Final

from bowout._tls_numbers import APPLICATION_DATA, CONTENT_TYPES, LEGACY_VERSION

HEADER_SIZE: Final = 5
#: Maximum size of the plaintext in one record, in bytes (RFC 8446 section 5.1).
MAX_PLAINTEXT: Final = 16384

#: Maximum size of the ciphertext in one record of TLS 1.3, in bytes (RFC 8446 section 5.2).
_MAX_CIPHERTEXT: Final = MAX_PLAINTEXT + 256
#: Maximum size of a full record with its header and without padding, in bytes: no cipher suite adds more to the
#: plaintext.
FULL_RECORD: Final = MAX_PLAINTEXT + 96
#: Content type, version and length of a record.
_HEADER: Final = struct.Struct(">BHH")
_unpack_header: Final = _HEADER.unpack_from
#: Size of a key update message, in bytes: its handshake header and its one byte.
KEY_UPDATE_SIZE: Final = 5
#: First byte of each TLS version number.
_VERSION_MAJOR: Final = LEGACY_VERSION >> 8


class RecordScanner:
    """Tracks the record boundaries of a byte stream that arrives in pieces of any size."""

    __slots__ = ("_body", "_header", "sound", "whole")

    def __init__(self) -> None:
        self._header = b""
        self._body = 0
        #: The stream is at a record boundary.
        self.whole = True
        #: What is known of the last record's header is valid for application data: its missing bytes may be waited for.
        self.sound = True

    @property
    def inside_record(self) -> bool:
        """Whether the stream, if it ended here, would end inside a record or its header."""
        return not self.whole

    @property
    def missing(self) -> int:
        """Number of missing bytes of the current record, if its header is known."""
        return self._body

    @property
    def wanted(self) -> int:
        """Number of bytes up to the end of the current record, or of its header if that is not complete."""
        return self._body or HEADER_SIZE - len(self._header)

    def scan(self, data: bytes | memoryview, start: int = 0) -> int:
        """Follow the stream to the end of its record, or of `data`; return that position.

        Args:
            data: the stream's next bytes are those from `start` on; there is at least one.
            start: the end of the last scan of the same data.
        """
        at, end = start, len(data)
        if not self._body:
            header, offset = data, at
            at += HEADER_SIZE - len(self._header)
            if self._header or at > end:
                header, offset, at = self._header + bytes(data[offset:at]), 0, min(at, end)
                if len(header) < HEADER_SIZE:
                    self._header, self.whole = header, False
                    return at
                self._header = b""
            content_type, version, self._body = _unpack_header(header, offset)
            self.sound = (
                content_type == APPLICATION_DATA and version == LEGACY_VERSION and self._body <= _MAX_CIPHERTEXT
            )
        at += self._body
        if at <= end:
            self._body, self.whole = 0, True
            return at
        self._body, self.whole = at - end, False
        return end


def record_header(content_type: int, length: int, version: int = LEGACY_VERSION) -> bytes:
    """Make the five header bytes of a record of `length` bytes."""
    return _HEADER.pack(content_type, version, length)


def looks_like_tls(start: bytes) -> bool:
    """Tell whether a stream that begins with `start` can be TLS records."""
    return not start or (start[0] in CONTENT_TYPES and (len(start) == 1 or start[1] == _VERSION_MAJOR))


def plaintext_taken(chunk: bytes | memoryview, taken: int, plaintext: int) -> int:
    """Tell how much plaintext the first `taken` bytes of `chunk` carry to the peer, in whole records.

    A record that was taken only in part does not count: the peer cannot decrypt it.

    Args:
        chunk: whole records, made by one write of application data.
        taken: number of its bytes that the kernel took.
        plaintext: total number of application bytes in the chunk.
    """
    ends = []
    sizes = []
    position = 0
    while position + HEADER_SIZE <= len(chunk):
        sizes.append(int.from_bytes(chunk[position + 3 : position + HEADER_SIZE]))
        position += HEADER_SIZE + sizes[-1]
        ends.append(position)
    whole = sum(1 for end in ends if end <= taken)
    if whole == len(ends):
        return plaintext
    # A pending key update is sent before the data (RFC 8446 section 4.6.3), in the smallest of records.
    if len(ends) > 1 and (sizes[0] < sizes[1] or plaintext <= KEY_UPDATE_SIZE):
        whole = max(0, whole - 1)
        del sizes[0]
    if len(sizes) == -(-plaintext // MAX_PLAINTEXT):
        return whole * MAX_PLAINTEXT
    # The peer has asked for smaller records (RFC 6066 section 4): all but the last carry the same number of bytes.
    return whole * ((plaintext + sizes[0] - sizes[-1]) // len(sizes))
