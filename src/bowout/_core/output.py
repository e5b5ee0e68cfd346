"""What the engine has for the wire, in order, and what the kernel has taken of it."""

from __future__ import annotations

import enum

from bowout._core.records import plaintext_taken


class Cargo(enum.Enum):
    """What a chunk of output carries."""

    HANDSHAKE = enum.auto()
    DATA = enum.auto()
    CLOSE_NOTIFY = enum.auto()
    FATAL_ALERT = enum.auto()


class _Chunk:
    __slots__ = ("cargo", "data", "plaintext", "taken")

    def __init__(self, data: bytes, cargo: Cargo, plaintext: int) -> None:
        self.data = data
        self.cargo = cargo
        self.plaintext = plaintext
        self.taken = 0


class OutputQueue:
    """Ciphertext that waits for the kernel.

    Attributes:
        size: how many bytes wait.
    """

    __slots__ = ("_chunks", "size")

    def __init__(self) -> None:
        self._chunks: list[_Chunk] = []  # It holds few; an empty deque weighs ten times as much.
        self.size = 0

    def append(self, data: bytes, cargo: Cargo, plaintext: int = 0) -> None:
        """Queue `data`; `plaintext` is how many application bytes it carries."""
        self._chunks.append(_Chunk(data, cargo, plaintext))
        self.size += len(data)

    def head(self) -> bytes | memoryview | None:
        """The bytes to send next, or None. The same bytes are given until `taken` says that they left."""
        if not self._chunks:
            return None
        chunk = self._chunks[0]
        return memoryview(chunk.data)[chunk.taken :] if chunk.taken else chunk.data

    def taken(self, count: int) -> tuple[Cargo, int] | None:
        """Note that the kernel took `count` bytes of the head; give its cargo and plaintext if that was all of it."""
        chunk = self._chunks[0]
        chunk.taken += count
        self.size -= count
        if chunk.taken < len(chunk.data):
            return None
        del self._chunks[0]
        return chunk.cargo, chunk.plaintext

    def plaintext(self) -> tuple[int, int]:
        """How many application bytes of the queue are in records that the kernel has taken whole, and how many not."""
        whole = sum(chunk.plaintext for chunk in self._chunks)
        head = self._chunks[0] if self._chunks else None
        taken = plaintext_taken(head.data, head.taken, head.plaintext) if head is not None and head.taken else 0
        return taken, whole - taken

    def clear(self) -> None:
        """Forget everything: the transport is gone."""
        self._chunks.clear()
        self.size = 0
