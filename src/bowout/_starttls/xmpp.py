"""XMPP (RFC 6120 section 5.4): open a stream, find <starttls/> among its features, request it, await <proceed/>."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NoReturn
from xml.parsers import expat

from bowout._starttls.steps import (
    LINE_LIMIT,
    MAX_LINES,
    Dialogue,
    ReadExactly,
    ReadUntil,
    Send,
    Step,
    not_offered,
    quote,
    refused,
    turned_away,
    unexpected,
)
from bowout.errors import StartTLSError

if TYPE_CHECKING:
    from collections.abc import Generator

_STREAMS = "http://etherx.jabber.org/streams"
_TLS = "urn:ietf:params:xml:ns:xmpp-tls"


def client(domain: str) -> Dialogue:
    """Open a client's stream to the server of `domain`."""
    return _stream("jabber:client", domain)


def server(domain: str) -> Dialogue:
    """Open a server's stream to the server of `domain`."""
    return _stream("jabber:server", domain)


def _stream(namespace: str, domain: str) -> Dialogue:
    yield Send(
        f"<?xml version='1.0'?><stream:stream xmlns='{namespace}' xmlns:stream='{_STREAMS}' "
        f"to='{escape(domain)}' version='1.0'>".encode()
    )
    # The first byte identifies a server of another protocol; a wait for ">" might never end.
    first = yield ReadExactly(1)
    if first != b"<":
        raise unexpected("XMPP", "an XML stream", first)
    parser = _Parser()
    parser.feed(first)
    features = yield from _element(parser)
    if features.name == f"{_STREAMS} error":
        raise turned_away("XMPP", features.summary())
    if features.name != f"{_STREAMS} features" or f"{_TLS} starttls" not in features.children:
        raise not_offered("XMPP", features.summary())
    yield Send(f"<starttls xmlns='{_TLS}'/>".encode())
    answer = yield from _element(parser)
    if answer.name == f"{_STREAMS} error":
        raise turned_away("XMPP", answer.summary())
    if answer.name != f"{_TLS} proceed":
        raise refused("XMPP", answer.summary())


class _Element:
    """A direct child of the stream, with the names of its own children. A name is "namespace local"."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.children: list[str] = []

    def summary(self) -> bytes:
        local = [name.rpartition(" ")[2] for name in (self.name, *self.children)]
        return (local[0] + ": " + ", ".join(local[1:]) if local[1:] else local[0]).encode()


def _element(parser: _Parser) -> Generator[Step, bytes, _Element]:
    """Read up to the end of the stream's next child, and not a byte more: an element ends with a ">"."""
    for _ in range(MAX_LINES):
        data = yield ReadUntil(b">", LINE_LIMIT)
        if not data.endswith(b">"):
            raise unexpected("XMPP", f"the end of a tag within {LINE_LIMIT} bytes", data)
        if element := parser.feed(data):
            return element
    raise StartTLSError(f"XMPP: the server's answer has more than {MAX_LINES} tags")


class _Parser:
    """Parser of the server's half of the stream; expat handles namespaces and quoting."""

    def __init__(self) -> None:
        self._depth = 0
        self._current: _Element | None = None
        self._finished: _Element | None = None
        self._expat = expat.ParserCreate("UTF-8", " ")
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.StartDoctypeDeclHandler = self._doctype
        if hasattr(self._expat, "SetReparseDeferralEnabled"):
            # Without this, expat may hold back a tag that came in two pieces until more arrives, and both sides would
            # wait.
            self._expat.SetReparseDeferralEnabled(False)  # noqa: FBT003 expat names no arguments

    def feed(self, data: bytes) -> _Element | None:
        """Parse `data`, which ends with the only ">" in it; return the stream's child that it completes, or None."""
        self._finished = None
        try:
            self._expat.Parse(data)
        except expat.ExpatError as error:
            raise StartTLSError(f"XMPP: the server sent malformed XML ({error}): {quote(data)}") from error
        return self._finished

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth == 1:
            if name != f"{_STREAMS} stream":
                raise unexpected("XMPP", "an XML stream", name.encode())
            if "version" not in attributes:
                # RFC 6120 section 4.7.5: the server then does not support features, and none will come.
                raise not_offered("XMPP", b"a stream without a version")
        elif self._depth == 2:
            self._current = _Element(name)
        elif self._depth == 3 and self._current:
            self._current.children.append(name)

    def _end(self, _name: str) -> None:
        self._depth -= 1
        if self._depth == 1:
            self._finished = self._current
        elif self._depth == 0:
            raise turned_away("XMPP", b"it closed the stream")

    def _doctype(self, *_: object) -> NoReturn:
        # RFC 6120 section 11.1 forbids it, and entity bombs need it.
        raise StartTLSError("XMPP: the server sent a document type declaration")
