"""What the transport has brought and OpenSSL has not had yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bowout._core.records import FULL_RECORD, RecordScanner

if TYPE_CHECKING:
    import ssl

_NOTHING: Final = memoryview(b"")
#: Half of what a record must have for room to be made for the largest.
_LARGE: Final = 1 << 12


def make_room(bio: ssl.MemoryBIO, size: int) -> None:
    """Have `bio`, which is empty, hold `size` bytes without growing beyond that.

    It never shrinks, and takes a third more than what it has to grow for: a full record takes 21 KiB of memory, and two
    take 43. Asked for three quarters first, it takes the right size once and for all.
    """
    bio.write(bytes(-(-size * 3 // 4)))
    bio.read()


class InputQueue:
    """Ciphertext on its way to OpenSSL, which gets one record at a time.

    So its MemoryBIO, which never gives memory back, stays as small as a record, and nobody has to call OpenSSL, and
    take its exception, to learn that there is nothing to decrypt.

    Args:
        bio: OpenSSL's incoming side.

    Attributes:
        raw: what OpenSSL has not been given.
        ready: OpenSSL may have something to decrypt. Whoever finds that it has not clears it.
    """

    __slots__ = ("_bio", "_roomy", "_scanner", "raw", "ready")

    def __init__(self, bio: ssl.MemoryBIO) -> None:
        self._bio = bio
        self._scanner = RecordScanner()
        self.raw = _NOTHING
        self.ready = False
        self._roomy = False

    @property
    def inside_record(self) -> bool:
        """The stream, if it ended with what OpenSSL has been given, would end inside a record."""
        return self._scanner.inside_record

    @property
    def size(self) -> int:
        """How many bytes OpenSSL has not read."""
        return self._bio.pending + len(self.raw)

    def append(self, data: bytes | memoryview) -> None:
        """Queue a copy of `data`."""
        self.raw = memoryview(bytes(self.raw) + bytes(data))

    def lend(self, data: bytes | memoryview) -> None:
        """Queue `data` itself; its memory must stay as it is until `keep` is called."""
        if self.raw:
            self.append(data)
        else:
            self.raw = memoryview(data)

    def keep(self) -> None:
        """Take a copy of what is left of the data that was lent."""
        if self.raw and not self.ready:
            self.feed()  # It is copied on this way, too.
        if self.raw:
            self.raw = memoryview(bytes(self.raw))

    def feed(self) -> bool:
        """Give OpenSSL the rest of a record; tell whether it may have something to decrypt now."""
        raw, scanner = self.raw, self._scanner
        if raw:
            end = scanner.scan(raw)
            if end > _LARGE and not self._roomy and not self._bio.pending:
                self._make_room(end)
            if end < len(raw):
                self._bio.write(raw[:end])
                self.raw = raw[end:]
            else:
                self._bio.write(raw)
                self.raw = _NOTHING  # An empty view would keep the memory of what it was cut from.
            self.ready = scanner.whole or not scanner.sound
        return self.ready

    def _make_room(self, size: int) -> None:
        """Before the first large record, of which the next `size` bytes are here, whole or in part."""
        if size + self._scanner.missing > 2 * _LARGE:
            self._roomy = True
            make_room(self._bio, FULL_RECORD)

    def feed_all(self) -> None:
        """Give OpenSSL everything, as in a handshake, where calling it costs more."""
        raw, self.raw = self.raw, _NOTHING
        at, end = 0, len(raw)
        while at < end:
            at = self._scanner.scan(raw, at)
        if end:
            self._bio.write(raw)
            self.ready = True

    def has_read(self, *, rest: bool) -> None:
        """Take note that OpenSSL gave data of a record; `rest`: not all of it."""
        self.ready = rest or self._bio.pending > 0

    def rest(self) -> bytes:
        """Give away all that OpenSSL has not read."""
        rest = self._bio.read() + bytes(self.raw)
        self.raw = _NOTHING
        return rest
