"""What a dialogue may ask of its driver, and the two helpers that every dialogue shares."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from bowout._escape import escape
from bowout.errors import StartTLSError

#: The longest line accepted. The RFCs allow 512 bytes or so; real capability lists are longer than that.
LINE_LIMIT = 8192
#: The most lines accepted as one reply. No capability list comes near it; an endless one must not keep us busy.
MAX_LINES = 256

_QUOTE_LIMIT = 120


@dataclass(frozen=True, slots=True)
class Send:
    """Send all of `data`; answer with ``b""``."""

    data: bytes


@dataclass(frozen=True, slots=True)
class ReadUntil:
    """Read up to and including the first `separator`, and not a byte more.

    Where `limit` bytes hold no separator, answer with those bytes: the dialogue words the refusal.
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
    r"""What the server said, safe to show: escaped, in quotation marks, shortened.

    Example:
        >>> quote(b"550 go away\r\n")
        '"550 go away"'
    """
    text = data.rstrip(b"\r\n").decode("utf-8", "backslashreplace")
    return f'"{escape(text[:_QUOTE_LIMIT])}"' + ("…" if len(text) > _QUOTE_LIMIT else "")


def read_line(protocol: str) -> Generator[Step, bytes, bytes]:
    """Read one line; return it without its end.

    It is read up to LF, not CRLF: a server that ends its lines with a bare LF would otherwise never be heard.

    Raises:
        StartTLSError: the line is longer than `LINE_LIMIT`.
    """
    line = yield ReadUntil(b"\n", LINE_LIMIT)
    if not line.endswith(b"\n"):
        raise StartTLSError(f"{protocol}: the server sent a line of more than {LINE_LIMIT} bytes: {quote(line)}")
    return line.rstrip(b"\r\n")


def too_many_lines(protocol: str) -> StartTLSError:
    """The refusal of a reply that does not end."""
    return StartTLSError(f"{protocol}: the server's reply has more than {MAX_LINES} lines")


def not_offered(protocol: str, answer: bytes) -> StartTLSError:
    """The refusal where the server's capabilities lack STARTTLS."""
    said = f"; it said {quote(answer)}" if answer else ""
    return _because("not offered", f"{protocol}: the server does not offer STARTTLS{said}")


def refused(protocol: str, answer: bytes) -> StartTLSError:
    """The refusal where the server offered STARTTLS, or may have, and then declined it."""
    return _because("refused", f"{protocol}: the server refused STARTTLS: {quote(answer)}")


def turned_away(protocol: str, answer: bytes) -> StartTLSError:
    """The refusal where the server speaks the protocol, and refuses the connection as such: it is too busy, say."""
    return _because("turned away", f"{protocol}: the server turned the connection away: {quote(answer)}")


def unexpected(protocol: str, wanted: str, answer: bytes) -> StartTLSError:
    """The refusal of an answer that this protocol does not know at this point."""
    return _because("not spoken", f"{protocol}: expected {wanted}, but the server said {quote(answer)}")


def _because(why: str, text: str) -> StartTLSError:
    error = StartTLSError(text)
    error.why = why
    return error
