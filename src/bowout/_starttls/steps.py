"""The steps that a dialogue may yield to its driver, and the helpers that every dialogue shares."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from bowout._text import escape
from bowout.errors import StartTLSError

#: Maximum length of an accepted line, in bytes. The RFCs allow about 512; real capability lists are longer.
LINE_LIMIT = 8192
#: Maximum number of lines accepted as one reply. No capability list comes near it; an endless one must not keep us
#: busy.
MAX_LINES = 256

_QUOTE_LIMIT = 120


@dataclass(frozen=True, slots=True)
class Send:
    """Send all of `data`; answer with ``b""``."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ReadUntil:
    """Read up to and including the first `separator`, and not a byte more.

    If `limit` bytes hold no separator, answer with those bytes: the dialogue makes the error.
    """

    separator: bytes
    limit: int


@dataclass(frozen=True, slots=True)
class ReadExactly:
    """Read exactly `count` bytes, which is at least one."""

    count: int


Step = Send | ReadUntil | ReadExactly
Dialogue = Generator[Step, bytes, None]


def quote(data: bytes) -> str:
    r"""Quote the server's bytes so that they are safe to show: escaped, in quotation marks, shortened.

    Example:
        >>> quote(b"550 go away\r\n")
        '"550 go away"'
    """
    text = data.rstrip(b"\r\n").decode("utf-8", "backslashreplace")
    return f'"{escape(text[:_QUOTE_LIMIT])}"' + ("…" if len(text) > _QUOTE_LIMIT else "")


def read_line(protocol: str) -> Generator[Step, bytes, bytes]:
    """Read one line; return it without its end.

    It is read up to LF, not CRLF: otherwise the line of a server that sends a bare LF would never end.

    Raises:
        StartTLSError: the line is longer than `LINE_LIMIT`.
    """
    line = yield ReadUntil(b"\n", LINE_LIMIT)
    if not line.endswith(b"\n"):
        raise StartTLSError(f"{protocol}: the server sent a line of more than {LINE_LIMIT} bytes: {quote(line)}")
    return line.rstrip(b"\r\n")


def too_many_lines(protocol: str) -> StartTLSError:
    """Make the error for a reply that does not end."""
    return StartTLSError(f"{protocol}: the server's reply has more than {MAX_LINES} lines")


def not_offered(protocol: str, answer: bytes) -> StartTLSError:
    """Make the error for a server whose capabilities lack STARTTLS."""
    said = f"; it said {quote(answer)}" if answer else ""
    return _because("not offered", f"{protocol}: the server does not offer STARTTLS{said}")


def refused(protocol: str, answer: bytes) -> StartTLSError:
    """Make the error for a server that offered STARTTLS, or may have, and then declined it."""
    return _because("refused", f"{protocol}: the server refused STARTTLS: {quote(answer)}")


def turned_away(protocol: str, answer: bytes) -> StartTLSError:
    """Make the error for a server that speaks the protocol but refuses the connection: it is too busy, for example."""
    return _because("turned away", f"{protocol}: the server turned the connection away: {quote(answer)}")


def unexpected(protocol: str, wanted: str, answer: bytes) -> StartTLSError:
    """Make the error for an answer that this protocol does not allow at this point."""
    return _because("not spoken", f"{protocol}: expected {wanted}, but the server said {quote(answer)}")


def _because(why: str, text: str) -> StartTLSError:
    error = StartTLSError(text)
    error.why = why
    return error
