"""Follows an answer of HTTP/1 in chunks to its end, of any size and in any pieces, and keeps one line of it at most."""

from __future__ import annotations

import enum
import re
from typing import Final

_STATUS: Final = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})")
_CHUNKED: Final = re.compile(rb"transfer-encoding:.*\bchunked[ \t]*", re.IGNORECASE)
#: The length of a chunk, of a number of digits that no real one exceeds; extensions follow it.
_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{1,15}(?=[ \t;]|\Z)")
#: Bytes kept of a line: no more of it decides anything.
_LONGEST_LINE: Final = 1000
#: The first status that is final, and one below it that is: answers of others are followed by another (RFC 9110 15.2).
_FINAL: Final = 200
_SWITCHING: Final = 101


def is_final(status: int) -> bool:
    """Return whether no other answer follows one of this status to the same request."""
    return status >= _FINAL or status == _SWITCHING


class _Place(enum.Enum):
    """What the next line is."""

    STATUS = enum.auto()
    HEADER = enum.auto()
    SIZE = enum.auto()
    #: The line end after the data of a chunk.
    GAP = enum.auto()
    TRAILER = enum.auto()
    #: The answer is over, is not in chunks, or breaks their rules.
    NONE = enum.auto()


class ChunkedAnswer:
    """The place in an answer.

    Attributes:
        chunked: whether the answer is in chunks (RFC 9112 section 7.1).
        complete: whether all of them came, and the trailer.
    """

    def __init__(self) -> None:
        self.chunked: bool = False
        self.complete: bool = False
        self._place = _Place.STATUS
        self._status = 0
        self._line = b""
        #: Bytes of the chunk that are still to come.
        self._left = 0

    def add(self, data: bytes) -> None:
        """Follow the next bytes."""
        at = 0
        while at < len(data) and self._place is not _Place.NONE:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            end = data.find(b"\n", at)
            self._line = (self._line + data[at : at + _LONGEST_LINE if end < 0 else end])[:_LONGEST_LINE]
            if end < 0:
                return
            at = end + 1
            line, self._line = self._line.removesuffix(b"\r"), b""
            self._place = self._after(line)

    def _after(self, line: bytes) -> _Place:
        """Return the place after `line`."""
        match self._place:
            case _Place.STATUS:
                found = _STATUS.match(line)
                self._status = int(found[1]) if found else 0
                return _Place.HEADER if found else _Place.NONE
            case _Place.HEADER if line:
                self.chunked = self.chunked or (is_final(self._status) and _CHUNKED.fullmatch(line) is not None)
                return _Place.HEADER
            case _Place.HEADER:
                if not is_final(self._status):
                    return _Place.STATUS
                return _Place.SIZE if self.chunked else _Place.NONE
            case _Place.SIZE:
                return self._chunk(line)
            case _Place.GAP:
                return _Place.NONE if line else _Place.SIZE
        self.complete = not line
        return _Place.NONE if self.complete else _Place.TRAILER

    def _chunk(self, line: bytes) -> _Place:
        size = _SIZE.match(line)
        if size is None:
            return _Place.NONE
        self._left = int(size[0], 16)
        return _Place.GAP if self._left else _Place.TRAILER
