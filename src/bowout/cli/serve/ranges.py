"""Conditional and range requests: which part of a file to send, if any (RFC 9110 sections 13 and 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

_RANGE: Final = re.compile(rb"bytes=[ \t]*(?:(\d+)-(\d*)|-(\d+))[ \t]*", re.IGNORECASE)
_TAG: Final = re.compile(rb'(W/)?("[!\x23-\x7e\x80-\xff]*")')
#: Largest number of digits of a position: no file is longer, and int() refuses some thousand digits.
_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class FilePart:
    """The part of a file to send.

    Attributes:
        status: 200 for the whole file, 206 for a part; 304, 412 and 416 send nothing of it.
        start: the offset of the part, in bytes.
        length: the length of the part, in bytes.
    """

    status: HTTPStatus
    start: int = 0
    length: int = 0


class FileVersion:
    """One version of a file, with the validators by which clients recognize it."""

    def __init__(self, status: os.stat_result) -> None:
        self.size: int = status.st_size
        self._modified = status.st_mtime
        self.tag: str = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        self.date: str = formatdate(status.st_mtime, usegmt=True)

    def part(self, method: str, fields: Mapping[bytes, bytes]) -> FilePart:
        """Return the answer to a request with these fields (RFC 9110 section 13.2.2)."""
        if not self._wanted_state(fields):
            return FilePart(HTTPStatus.PRECONDITION_FAILED)
        if self._known(fields):
            return FilePart(HTTPStatus.NOT_MODIFIED)
        # For methods other than GET, a range is ignored (section 14.2).
        if method == "GET" and b"range" in fields and self._continues(fields.get(b"if-range")):
            return self._ranged(fields[b"range"])
        return FilePart(HTTPStatus.OK, 0, self.size)

    def _wanted_state(self, fields: Mapping[bytes, bytes]) -> bool:
        if (tags := fields.get(b"if-match")) is not None:
            return tags == b"*" or self.tag.encode() in _strong(tags)
        since = _date(fields.get(b"if-unmodified-since"))
        return since is None or int(self._modified) <= since

    def _known(self, fields: Mapping[bytes, bytes]) -> bool:
        if (tags := fields.get(b"if-none-match")) is not None:
            return tags == b"*" or self.tag.encode() in {tag for _, tag in _TAG.findall(tags)}
        since = _date(fields.get(b"if-modified-since"))
        return since is not None and int(self._modified) <= since

    def _continues(self, validator: bytes | None) -> bool:
        """Return whether the client's part is of this version (section 13.1.5)."""
        if validator is None or validator == self.tag.encode():
            return True
        # A date is a strong validator only if no second change can fall within its second (section 8.8.2.2).
        aged = datetime.now(UTC).timestamp() >= int(self._modified) + 2
        return aged and validator == self.date.encode()

    def _ranged(self, value: bytes) -> FilePart:
        """Return the part for one range; for several, or an invalid one, the whole file (section 14.2)."""
        match = _RANGE.fullmatch(value)
        if match is None:
            return FilePart(HTTPStatus.OK, 0, self.size)
        if match[3] is not None:
            length = min(_number(match[3]), self.size)
            if self.size == 0 and _number(match[3]):
                return FilePart(HTTPStatus.OK)  # A range of zero bytes cannot be expressed.
            return self._partial(self.size - length, self.size - 1)
        first, last = _number(match[1]), self.size - 1
        if match[2]:
            if _number(match[2]) < first:
                return FilePart(HTTPStatus.OK, 0, self.size)  # It is not a valid range (section 14.1.1).
            last = min(_number(match[2]), last)
        return self._partial(first, last)

    def _partial(self, first: int, last: int) -> FilePart:
        if first > last:
            return FilePart(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        return FilePart(HTTPStatus.PARTIAL_CONTENT, first, last - first + 1)


def _strong(tags: bytes) -> set[bytes]:
    return {tag for weak, tag in _TAG.findall(tags) if not weak}


def _date(value: bytes | None) -> float | None:
    """Return a date in seconds of Unix time, or None if it is missing or invalid."""
    if value is None:
        return None
    try:
        date = parsedate_to_datetime(value.decode("ascii"))
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _number(digits: bytes) -> int:
    digits = digits.lstrip(b"0") or b"0"
    return int(digits) if len(digits) <= _DIGITS else 10**_DIGITS
