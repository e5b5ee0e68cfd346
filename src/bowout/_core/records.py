"""TLS records, as far as their five-byte headers tell: enough to say where a stream was cut."""

from __future__ import annotations

import struct
from typing import Final

HEADER_SIZE: Final = 5
#: The most plaintext in one record (RFC 8446 section 5.1).
MAX_PLAINTEXT: Final = 16384

#: The most that a record of TLS 1.3 holds (RFC 8446 section 5.2).
_MAX_CIPHERTEXT: Final = MAX_PLAINTEXT + 256
#: A full record with its header, as it is without padding: no cipher suite adds more to the plaintext.
FULL_RECORD: Final = MAX_PLAINTEXT + 96
#: Content type, version and length.
_unpack_header: Final = struct.Struct(">BHH").unpack_from
_APPLICATION_DATA: Final = 23
#: As TLS 1.2 and 1.3 write it.
_VERSION: Final = 0x0303
#: Its handshake header and its one byte.
_KEY_UPDATE_SIZE: Final = 5

_CONTENT_TYPES: Final = range(20, 25)
_VERSION_MAJOR: Final = 3


class RecordScanner:
    """Follows the record boundaries of a byte stream that comes in any pieces."""

    __slots__ = ("_body", "_header", "sound", "whole")

    def __init__(self) -> None:
        self._header = b""
        self._body = 0
        #: The stream is at a record boundary.
        self.whole = True
        #: What is known of the last record is as application data ought to be: the rest of it may be waited for.
        self.sound = True

    @property
    def inside_record(self) -> bool:
        """The stream, if it ended here, would end inside a record or its header."""
        return not self.whole

    @property
    def missing(self) -> int:
        """How many bytes of the record that the stream is inside of are still to come, if its header is known."""
        return self._body

    def scan(self, data: bytes | memoryview, start: int = 0) -> int:
        """Follow the stream to the end of its record, or of `data`; return where that is.

        Args:
            data: holds the stream's next bytes, at least one, from `start` on.
            start: the end of the last scan, in the same data.
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
            self.sound = content_type == _APPLICATION_DATA and version == _VERSION and self._body <= _MAX_CIPHERTEXT
        at += self._body
        if at <= end:
            self._body, self.whole = 0, True
            return at
        self._body, self.whole = at - end, False
        return end


def looks_like_tls(start: bytes) -> bool:
    """Tell whether a stream that begins with `start` can be TLS records."""
    return not start or (start[0] in _CONTENT_TYPES and (len(start) == 1 or start[1] == _VERSION_MAJOR))


def plaintext_taken(chunk: bytes | memoryview, taken: int, plaintext: int) -> int:
    """Tell how much plaintext the first `taken` bytes of `chunk` carry to the peer, in whole records.

    A record that was taken in part is worth nothing to the peer: it cannot be decrypted.

    Args:
        chunk: whole records, as one write of application data gave them.
        taken: how many of its bytes the kernel took.
        plaintext: how many application bytes the chunk carries in all.
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
    # A key update that was owed leaves in front of the data (RFC 8446 section 4.6.3), in the smallest of records.
    if len(ends) > 1 and (sizes[0] < sizes[1] or plaintext <= _KEY_UPDATE_SIZE):
        whole = max(0, whole - 1)
        del sizes[0]
    if len(sizes) == -(-plaintext // MAX_PLAINTEXT):
        return whole * MAX_PLAINTEXT
    # The peer wants smaller records (RFC 6066 section 4): all but the last carry the same.
    return whole * ((plaintext + sizes[0] - sizes[-1]) // len(sizes))
