"""What came of an answer, and what it says itself about its completeness. Nothing here trusts the bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bowout.check._chunked import ChunkedAnswer, is_final

if TYPE_CHECKING:
    from collections.abc import Callable

#: Number of bytes kept from the beginning of an answer: a head of HTTP is shorter.
_HEAD: Final = 64 << 10
#: Number of bytes kept from its end, where a dialogue shows that it is complete.
_TAIL: Final = 4 << 10
_STATUS: Final = re.compile(rb"HTTP/\d(?:\.\d)? (\d{3})")
#: The length, of a number of digits that no real body exceeds.
_LENGTH: Final = re.compile(rb"(?im)^content-length:[ \t]*(\d{1,18})[ \t]*\r?$")
#: The empty line after a head; a lone LF counts, too (RFC 9112 section 2.2).
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
#: Statuses without a body (RFC 9112 section 6.3).
_BODILESS: Final = frozenset({204, 304})
#: Length of the head of a message of PostgreSQL: its type, and the length of the rest.
_MESSAGE: Final = 5


class Received:
    """The bytes of an answer: counted, its beginning and its end kept.

    Attributes:
        count: number of all bytes.
        head: the first of them.
        tail: the last of them.
        chunks: the place in it, if it is in the chunks of HTTP.
    """

    def __init__(self) -> None:
        self.count: int = 0
        self.head: bytes = b""
        self.tail: bytes = b""
        self.chunks: ChunkedAnswer = ChunkedAnswer()

    def add(self, data: bytes) -> None:
        """Add the next bytes."""
        self.count += len(data)
        if len(self.head) < _HEAD:
            self.head += data[: _HEAD - len(self.head)]
        self.tail = (self.tail + data)[-_TAIL:]
        self.chunks.add(data)


@dataclass(frozen=True, slots=True)
class Completeness:
    """What an answer says about itself.

    Attributes:
        complete: whether all of it came; None if it does not say where it ends.
        missing: number of bytes that are missing, as far as it declares their number.
        declared: declared number of bytes of its body.
        status: its status in HTTP.
    """

    complete: bool | None
    missing: int | None = None
    declared: int | None = None
    status: int | None = None


def http(answer: Received) -> Completeness:
    """Judge an answer of HTTP/1 (RFC 9112 section 6.3, 9.8), and not those that only announce it, such as 103."""
    rest, passed = answer.head, 0
    while (started := _STATUS.match(rest)) is not None:
        status = int(started[1])
        end = _HEAD_END.search(rest)
        if end is None:
            # Of an overlong head nobody kept the end.
            return Completeness(complete=None if answer.count > len(answer.head) else False, status=status)
        passed += end.end()
        if is_final(status):
            return _body(answer, rest[: end.start()], status, answer.count - passed)
        rest = rest[end.end() :]
    return Completeness(complete=False if passed and answer.count <= len(answer.head) else None)


def _body(answer: Received, head: bytes, status: int, body: int) -> Completeness:
    """Judge the answer whose head is `head`, and of whose body `body` bytes came."""
    if status in _BODILESS:
        return Completeness(complete=True, status=status)
    if answer.chunks.chunked:
        return Completeness(complete=answer.chunks.complete, status=status)
    lengths = set(_LENGTH.findall(head))
    if len(lengths) != 1:
        return Completeness(complete=None, status=status)
    declared = int(lengths.pop())
    missing = max(0, declared - body)
    return Completeness(complete=not missing, missing=missing, declared=declared, status=status)


def last_line(pattern: bytes) -> Callable[[Received], Completeness]:
    """Make the measure of a dialogue of lines, whose last line matches `pattern`. A part of a line is never the end."""
    last = re.compile(rb"(?:\A|\n)" + pattern + rb"[^\r\n]*\r?\n\Z", re.IGNORECASE)

    def measure(answer: Received) -> Completeness:
        if last.search(answer.tail):
            return Completeness(complete=True)
        return Completeness(complete=False if answer.count and not answer.tail.endswith(b"\n") else None)

    return measure


def messages(answer: Received) -> Completeness:
    """Judge an answer of PostgreSQL: whole messages, each with its length."""
    rest = answer.head
    if answer.count > len(rest):
        return Completeness(complete=None)
    while len(rest) >= _MESSAGE:
        length = 1 + int.from_bytes(rest[1:_MESSAGE])
        if length > len(rest):
            break
        rest = rest[max(length, _MESSAGE) :]
    return Completeness(complete=bool(answer.count) and not rest)


def containing(expected: bytes | None) -> Callable[[Received], Completeness]:
    """Make the measure of an answer that is complete when it contains `expected`; without it nobody can know."""

    def measure(answer: Received) -> Completeness:
        if not expected:
            return Completeness(complete=None)
        if expected in answer.head or expected in answer.tail:
            return Completeness(complete=True)
        # What was not kept may have had it.
        return Completeness(complete=None if answer.count > len(answer.head) else False)

    return measure
