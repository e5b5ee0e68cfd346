"""Reading an HTTP/1.1 request (RFC 9112), as far as a file server needs it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes, urlsplit

from bowout.errors import IncompleteRead, LimitExceeded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bowout._stream import Stream

_LONGEST_HEAD: Final = 16 << 10
#: Largest part of an invalid request line, in bytes, that is kept for the log.
_SHOWN: Final = 500
_REQUEST_LINE: Final = re.compile(rb"([!-~]+) ([!-~]+) HTTP/1\.([01])")
#: A Content-Length; the same value may be repeated (RFC 9112 section 6.3).
_LENGTH: Final = re.compile(rb"([0-9]+)(?:[ \t]*,[ \t]*\1)*")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")


class BadRequest(Exception):
    """A request that can only be answered by this status; the data after it cannot be parsed.

    Attributes:
        line: the first line received, or its beginning.
    """

    def __init__(self, status: HTTPStatus, line: bytes = b"") -> None:
        super().__init__(status.phrase)
        self.status = status
        self.line = line


@dataclass(frozen=True, slots=True)
class Request:
    """A client's request.

    Attributes:
        line: the first line, as received.
        path: the decoded path; it begins with a slash.
        keep: whether the connection may be kept for another request.
        fields: the header fields by their names in lower case; repeated ones are joined by commas.
    """

    line: bytes
    method: str
    path: str
    keep: bool
    fields: Mapping[bytes, bytes]


async def next_request(stream: Stream) -> Request | None:
    """Wait for a request; return None if the client has ended instead.

    Raises:
        BadRequest: the request is invalid or incomplete.
        BowoutError: as `bowout.Stream.receive`.
    """
    head = await _head(stream)
    if head is None:
        return None
    try:
        return _request(head)
    except BadRequest as error:
        error.line = head[0][:_SHOWN]
        raise


def _request(head: list[bytes]) -> Request:
    match = _REQUEST_LINE.fullmatch(head[0])
    if match is None:
        raise BadRequest(HTTPStatus.BAD_REQUEST)
    method, target, minor = match.groups()
    fields = _fields(head[1:])
    if minor == b"1" and b"host" not in fields:
        raise BadRequest(HTTPStatus.BAD_REQUEST)
    # RFC 9112 sections 3.2 and 6.3.
    if b"," in fields.get(b"host", b"") or not _LENGTH.fullmatch(fields.get(b"content-length", b"0")):
        raise BadRequest(HTTPStatus.BAD_REQUEST)
    # A body would have to be read first, and no request here needs one.
    has_body = b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0"
    options = {option.strip().lower() for option in fields.get(b"connection", b"").split(b",")}
    keep = b"close" not in options and (minor == b"1" or b"keep-alive" in options)
    return Request(head[0], method.decode("ascii"), _path(target), keep and not has_body, fields)


async def _head(stream: Stream) -> list[bytes] | None:
    """Return the lines of the next request's head, without their ends; a line may end with LF alone, as typed."""
    lines: list[bytes] = []
    left = _LONGEST_HEAD
    try:
        while left > 0:
            line = await stream.receive_until(b"\n", left)
            left -= len(line)
            line = line.removesuffix(b"\n").removesuffix(b"\r")
            if line:
                lines.append(line)
            elif lines:  # RFC 9112 section 2.2: ignore empty lines before a request.
                return lines
    except IncompleteRead as end:
        if not lines and not end.partial:
            return None
        raise BadRequest(HTTPStatus.BAD_REQUEST, _beginning(lines, end.partial)) from end
    except LimitExceeded as error:
        raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _beginning(lines)) from error
    raise BadRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _beginning(lines))


def _beginning(lines: list[bytes], partial: bytes = b"") -> bytes:
    return (lines[0] if lines else partial)[:_SHOWN]


def _fields(lines: list[bytes]) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise BadRequest(HTTPStatus.BAD_REQUEST)
        name = match[1].lower()
        fields[name] = fields[name] + b"," + match[2] if name in fields else match[2]
    return fields


def _path(target: bytes) -> str:
    try:
        text = target.decode("ascii")
        path = text.partition("?")[0] if text.startswith("/") else urlsplit(text).path or "/"
        return unquote_to_bytes(path).decode()
    except ValueError as error:
        raise BadRequest(HTTPStatus.BAD_REQUEST) from error
