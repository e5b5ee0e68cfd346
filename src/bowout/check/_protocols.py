"""The protocols that a check speaks: harmless requests, and how their answers show that they are complete."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from bowout._names import ascii_name, host_port, ipv6
from bowout.check import _answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout.check._answer import Completeness, Received

ProtocolName = Literal["http", "smtp", "imap", "pop3", "postgres", "redis", "raw"]
"""A protocol that a check speaks."""

#: The protocol to speak after STARTTLS, where it is one of ours; after any other, nothing is sent.
_AFTER_STARTTLS: Final[dict[str, ProtocolName]] = {
    "imap": "imap",
    "lmtp": "smtp",
    "pop3": "pop3",
    "postgres": "postgres",
    "smtp": "smtp",
}
#: The first byte of a request that no server of HTTP accepts, and that none takes for another protocol's.
_BAD_REQUEST: Final = b"\x01 / HTTP/1.1\r\n\r\n"
_STARTUP: Final = b"\0\3\0\0user\0bowout-check\0database\0bowout-check\0\0"
_HTTPS_PORT: Final = 443


@dataclass(frozen=True, slots=True)
class Speech:
    """What to say to a server.

    Attributes:
        protocol: the name of the protocol.
        request: a request after whose answer the server ends the connection; empty to send nothing.
        measure: judges whether an answer is complete.
        greeting: the last line with which a server that speaks first lets us speak; None if it does not.
        lasting: a request after whose answer the connection stays open; empty if there is none.
        bad: a request that the server has to refuse; empty if there is no harmless one.
        get: makes a request for a path; None if the protocol has no paths. Its flag: the server is to end.
    """

    protocol: ProtocolName
    request: bytes
    measure: Callable[[Received], Completeness]
    greeting: re.Pattern[bytes] | None = None
    lasting: bytes = b""
    bad: bytes = b""
    get: Callable[[str, bool], bytes] | None = None


def default_protocol(starttls: str | None) -> ProtocolName:
    """Return the protocol to speak if none was named."""
    return "http" if starttls is None else _AFTER_STARTTLS.get(starttls, "raw")


def conversation(
    protocol: ProtocolName,
    *,
    host: str,
    port: int,
    starttls: str | None,
    agent: str,
    send: bytes | None,
    expect: bytes | None,
) -> Speech:
    """Return what to say to the server `host`.

    Args:
        protocol: what it speaks.
        host: the server, for a request that names it.
        port: its port, likewise.
        starttls: the protocol in which TLS was requested: its greeting came before TLS.
        agent: our name, for a request that tells it.
        send: for ``"raw"``, what to send.
        expect: for ``"raw"``, what a complete answer contains.
    """
    if protocol == "http":
        return _http(host, port, agent)
    if protocol == "raw":
        return Speech(protocol, send or b"", _answer.containing(expect))
    if protocol == "postgres":
        startup = (len(_STARTUP) + 4).to_bytes(4) + _STARTUP
        return Speech(protocol, startup + b"X\0\0\0\4", _answer.messages)
    if protocol == "redis":
        return Speech(protocol, b"PING\r\nQUIT\r\n", _answer.last_line(rb"\+OK"))
    request, last, greeting = _LINES[protocol]
    return Speech(protocol, request, _answer.last_line(last), greeting=greeting if starttls is None else None)


_A_LINE: Final = re.compile(rb"\n")
_REPLY: Final = rb"\d{3}(?: |(?=\r?\n))"
#: A request that ends the connection, the last line of its answer, and that of the greeting.
_LINES: Final = {
    # Some servers greet in several lines, and refuse clients that speak before the last one.
    "smtp": (b"QUIT\r\n", _REPLY, re.compile(rb"(?:\A|\n)" + _REPLY + rb"[^\n]*\n")),
    "imap": (b"a LOGOUT\r\n", rb"a (?:OK|NO|BAD)\b", _A_LINE),
    "pop3": (b"QUIT\r\n", rb"(?:\+OK|-ERR)", _A_LINE),
}


def _http(host: str, port: int, agent: str) -> Speech:
    name = f"[{host}]" if ipv6(host) is not None else ascii_name(host)
    where = name if port == _HTTPS_PORT else f"{name}:{port}" if name.startswith("[") else host_port(name, port)

    def get(path: str, ends: bool) -> bytes:  # noqa: FBT001  (a `Speech.get` is called by position)
        lines = [f"GET {path} HTTP/1.1", f"Host: {where}", f"User-Agent: {agent}", "Accept: */*"]
        lines += ["Connection: close"] if ends else []
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")

    return Speech("http", get("/", True), _answer.http, lasting=get("/", False), bad=_BAD_REQUEST, get=get)
