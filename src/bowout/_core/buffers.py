"""The two buffers of an engine: ciphertext on its way to OpenSSL, and ciphertext on its way to the kernel."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

from bowout._core.records import FULL_RECORD, RecordScanner, plaintext_taken

if TYPE_CHECKING:
    import ssl

_NOTHING: Final = memoryview(b"")
#: Half of the record size, in bytes, above which room for the largest record is made in advance.
_LARGE: Final = 1 << 12


def make_room(bio: ssl.MemoryBIO, size: int) -> None:
    """Make room for `size` bytes in `bio`, which is empty, without growing beyond that.

    A MemoryBIO never shrinks, and allocates a third more than it needs when it grows: a full record takes 21 KiB of
    memory, and two take 43. If it grows for three quarters first, it has the right size from then on.
    """
    bio.write(bytes(-(-size * 3 // 4)))
    bio.read()


class InputQueue:
    """Ciphertext on its way to OpenSSL, which gets one record at a time.

    So its MemoryBIO, which never releases memory, stays as small as a record, and no call of OpenSSL, which would raise
    an exception, is needed to find that there is nothing to decrypt.

    Args:
        bio: OpenSSL's incoming side.

    Attributes:
        raw: ciphertext that OpenSSL has not been given.
        ready: whether OpenSSL may have something to decrypt. The caller clears it when there is nothing.
    """

    __slots__ = ("_bio", "_roomy", "_scanner", "_untouched", "raw", "ready")

    def __init__(self, bio: ssl.MemoryBIO) -> None:
        self._bio = bio
        self._scanner = RecordScanner()
        self.raw: memoryview = _NOTHING
        self.ready: bool = False
        self._roomy = False
        self._untouched = True  # OpenSSL has read nothing of the current record.

    @property
    def inside_record(self) -> bool:
        """Whether the stream, if it ended with the bytes given to OpenSSL, would end inside a record."""
        return self._scanner.inside_record

    @property
    def wanted(self) -> int:
        """Number of bytes to read next so that nothing after the current record is read."""
        return self._scanner.wanted

    @property
    def size(self) -> int:
        """The number of bytes that OpenSSL has not read."""
        return self._bio.pending + len(self.raw)

    def append(self, data: bytes | memoryview) -> None:
        """Queue a copy of `data`."""
        self.raw = memoryview(bytes(self.raw) + bytes(data))

    def borrow(self, data: bytes | memoryview) -> None:
        """Queue `data` itself; its memory must stay as it is until `copy_rest` is called."""
        if self.raw:
            self.append(data)
        else:
            self.raw = memoryview(data)

    def copy_rest(self) -> None:
        """Copy the remaining borrowed data."""
        if self.raw and not self.ready:
            self.feed()  # This copies it, too.
        if self.raw:
            self.raw = memoryview(bytes(self.raw))

    def feed(self) -> bool:
        """Give OpenSSL the rest of a record; tell whether it may have something to decrypt now."""
        raw, scanner = self.raw, self._scanner
        if raw:
            self._untouched = self._untouched or scanner.whole
            end = scanner.scan(raw)
            if end > _LARGE and not self._roomy and not self._bio.pending:
                self._make_room(end)
            if end < len(raw):
                self._bio.write(raw[:end])
                self.raw = raw[end:]
            else:
                self._bio.write(raw)
                self.raw = _NOTHING  # An empty view would keep the memory of the data from which it was made.
            self.ready = scanner.whole or not scanner.sound
        return self.ready

    def _make_room(self, size: int) -> None:
        """Make room before the first large record, of which the next `size` bytes are queued, in whole or in part."""
        if size + self._scanner.missing > 2 * _LARGE:
            self._roomy = True
            make_room(self._bio, FULL_RECORD)

    def feed_all(self) -> None:
        """Give OpenSSL everything, as in a handshake, in which each call costs more."""
        raw, self.raw = self.raw, _NOTHING
        at, end = 0, len(raw)
        while at < end:
            at = self._scanner.scan(raw, at)
        if end:
            self._bio.write(raw)
            self.ready = True
            self._untouched = False

    @property
    def can_hand_over(self) -> bool:
        """Whether all that OpenSSL has not decrypted is a begun record of application data, or nothing."""
        scanner = self._scanner
        return not (self.ready or self.raw) and (scanner.whole or (scanner.sound and self._untouched))

    def hand_over(self) -> bytes:
        """Remove and return the record that has begun: somebody else follows the stream from its beginning on."""
        if self._scanner.whole:
            return b""
        self._scanner = RecordScanner()
        return self._bio.read()

    def has_read(self, *, rest: bool) -> None:
        """Record that OpenSSL returned data of a record; `rest`: not all of it."""
        self.ready = rest or self._bio.pending > 0

    def rest(self) -> bytes:
        """Remove and return all that OpenSSL has not read."""
        rest = self._bio.read() + bytes(self.raw)
        self.raw = _NOTHING
        return rest


class ChunkKind(enum.Enum):
    """The content of a chunk of output."""

    HANDSHAKE = enum.auto()
    DATA = enum.auto()
    CLOSE_NOTIFY = enum.auto()
    FATAL_ALERT = enum.auto()


class _Chunk:
    __slots__ = ("data", "kind", "plaintext", "taken")

    def __init__(self, data: bytes, kind: ChunkKind, plaintext: int) -> None:
        self.data = data
        self.kind = kind
        self.plaintext = plaintext
        self.taken = 0


class OutputQueue:
    """Ciphertext that waits for the kernel.

    Attributes:
        size: number of waiting bytes.
    """

    __slots__ = ("_chunks", "size")

    def __init__(self) -> None:
        self._chunks: list[_Chunk] = []  # It holds few; an empty deque takes ten times as much memory.
        self.size: int = 0

    def append(self, data: bytes, kind: ChunkKind, plaintext: int = 0) -> None:
        """Queue `data`; `plaintext` is the number of application bytes in it."""
        self._chunks.append(_Chunk(data, kind, plaintext))
        self.size += len(data)

    def head(self) -> bytes | memoryview | None:
        """Return the bytes to send next, or None. They stay the same until `taken` reports them sent."""
        if not self._chunks:
            return None
        chunk = self._chunks[0]
        return memoryview(chunk.data)[chunk.taken :] if chunk.taken else chunk.data

    def taken(self, count: int) -> tuple[ChunkKind, int] | None:
        """Record that the kernel took `count` bytes of the head; if it is complete, return its kind and plaintext."""
        chunk = self._chunks[0]
        chunk.taken += count
        self.size -= count
        if chunk.taken < len(chunk.data):
            return None
        del self._chunks[0]
        return chunk.kind, chunk.plaintext

    def plaintext(self) -> tuple[int, int]:
        """Count the application bytes of the queue in records that the kernel has taken completely, and the others."""
        if not self._chunks:
            return 0, 0
        whole = sum([chunk.plaintext for chunk in self._chunks])
        head = self._chunks[0]
        taken = plaintext_taken(head.data, head.taken, head.plaintext) if head.taken else 0
        return taken, whole - taken

    def clear(self) -> None:
        """Drop everything: the transport is gone."""
        self._chunks.clear()
        self.size = 0
