"""The protocols of text lines: SMTP, LMTP, POP3, IMAP, FTP, NNTP, ManageSieve, IRC."""

from __future__ import annotations

import re
from collections.abc import Generator

from bowout._starttls.steps import (
    LINE_LIMIT,
    MAX_LINES,
    Dialogue,
    ReadExactly,
    Send,
    Step,
    not_offered,
    read_line,
    refused,
    too_many_lines,
    turned_away,
    unexpected,
)

_Lines = Generator[Step, bytes, list[bytes]]

_REPLY = re.compile(rb"[1-6][0-9]{2}(?:[ -].*)?", re.DOTALL)
#: SMTP and FTP: the service is not available, and the connection is closed, whatever the command was.
_CLOSING = b"421"
#: NNTP: the service is not available, or not to us (RFC 3977 section 5.1.1).
_NNTP_CLOSING = (b"400", b"502")
_BYE = b"* BYE"
#: IRC: the connection is closed; this host may not connect; it is banned.
_IRC_CLOSING = (b"ERROR", b"463", b"465")
_LITERAL = re.compile(rb"\{([0-9]{1,9})\+?\}$")


def smtp(name: str) -> Dialogue:
    """Speak SMTP (RFC 3207): greeting, EHLO, STARTTLS."""
    return _mail("SMTP", b"EHLO", name)


def lmtp(name: str) -> Dialogue:
    """Speak LMTP (RFC 2033): like SMTP, but the greeting is LHLO."""
    return _mail("LMTP", b"LHLO", name)


def _mail(protocol: str, hello: bytes, name: str) -> Dialogue:
    _greeting(protocol, (yield from _mail_reply(protocol)))
    yield Send(hello + b" " + name.encode("ascii") + b"\r\n")
    offer = yield from _mail_reply(protocol)
    if offer[0].startswith(b"4"):  # Not now; a server that does not know EHLO says 5 (RFC 5321 section 4.2.1).
        raise turned_away(protocol, offer[0])
    # The first line is the server's name, which is not a keyword even if it looks like one.
    keywords = {line[4:].split(b" ")[0].upper() for line in offer[1:]}
    if offer[0][:3] != b"250" or b"STARTTLS" not in keywords:
        raise not_offered(protocol, b", ".join(offer))
    yield Send(b"STARTTLS\r\n")
    answer = yield from _mail_reply(protocol)
    if answer[0].startswith(_CLOSING):
        raise turned_away(protocol, answer[0])
    if answer[0][:3] != b"220":
        raise refused(protocol, answer[0])


def _mail_reply(protocol: str) -> _Lines:
    """Read one reply; each line repeats the code, and all but the last have a hyphen (RFC 5321 section 4.2.1)."""
    lines: list[bytes] = []
    for _ in range(MAX_LINES):
        line = yield from read_line(protocol)
        if not _REPLY.fullmatch(line) or (lines and line[:3] != lines[0][:3]):
            raise unexpected(protocol, "a numbered reply", line)
        lines.append(line)
        if line[3:4] != b"-":
            return lines
    raise too_many_lines(protocol)


def ftp() -> Dialogue:
    """Speak FTP (RFC 4217): greeting, AUTH TLS.

    FEAT is not sent: many servers are older than it, and it may be refused before login; AUTH's own reply decides (RFC
    4217 section 4.1).
    """
    _greeting("FTP", (yield from _ftp_reply()))
    yield Send(b"AUTH TLS\r\n")
    answer = yield from _ftp_reply()
    if answer[0].startswith(_CLOSING):
        raise turned_away("FTP", answer[0])
    if answer[0][:3] in (b"500", b"502", b"504"):
        raise not_offered("FTP", answer[0])
    if answer[0][:3] != b"234":
        raise refused("FTP", answer[0])


def _ftp_reply() -> _Lines:
    """Read one reply; any lines may come between its first and its last (RFC 959 section 4.2)."""
    lines = [(yield from read_line("FTP"))]
    code = lines[0][:3]
    if not _REPLY.fullmatch(lines[0]):
        raise unexpected("FTP", "a numbered reply", lines[0])
    if lines[0][3:4] != b"-":
        return lines
    for _ in range(MAX_LINES):
        lines.append((yield from read_line("FTP")))
        if lines[-1][:4] in (code, code + b" "):
            return lines
    raise too_many_lines("FTP")


def pop3() -> Dialogue:
    """Speak POP3 (RFC 2595 section 4): greeting, CAPA, STLS."""
    greeting = yield from read_line("POP3")
    if greeting.upper().startswith(b"-ERR"):
        raise turned_away("POP3", greeting)
    if not greeting.upper().startswith(b"+OK"):
        raise unexpected("POP3", "a greeting (+OK)", greeting)
    yield Send(b"CAPA\r\n")
    answer = yield from read_line("POP3")
    if answer.upper().startswith(b"+OK"):
        _require("POP3", b"STLS", (yield from _until_dot("POP3")))
    elif not answer.upper().startswith(b"-ERR"):
        raise unexpected("POP3", "+OK or -ERR", answer)
    # A server that does not know CAPA may nevertheless know STLS; then its answer to STLS decides.
    yield Send(b"STLS\r\n")
    answer = yield from read_line("POP3")
    if not answer.upper().startswith(b"+OK"):
        raise refused("POP3", answer)


def nntp() -> Dialogue:
    """Speak NNTP (RFC 4642): greeting, CAPABILITIES, STARTTLS."""
    greeting = yield from read_line("NNTP")
    if greeting[:3] in _NNTP_CLOSING:
        raise turned_away("NNTP", greeting)
    if greeting[:3] not in (b"200", b"201"):
        raise unexpected("NNTP", "a greeting (200 or 201)", greeting)
    yield Send(b"CAPABILITIES\r\n")
    answer = yield from read_line("NNTP")
    if answer[:3] == b"101":
        _require("NNTP", b"STARTTLS", (yield from _until_dot("NNTP")))
    elif answer[:3] in _NNTP_CLOSING:
        raise turned_away("NNTP", answer)
    elif answer[:3] != b"500":
        raise unexpected("NNTP", "its capabilities (101)", answer)
    # 500: the server is older than RFC 3977; its answer to STARTTLS decides.
    yield Send(b"STARTTLS\r\n")
    answer = yield from read_line("NNTP")
    if answer[:3] == b"400":
        raise turned_away("NNTP", answer)
    if answer[:3] != b"382":
        raise refused("NNTP", answer)


def _until_dot(protocol: str) -> _Lines:
    """Read the lines of a list, up to a single dot."""
    lines: list[bytes] = []
    for _ in range(MAX_LINES):
        line = yield from read_line(protocol)
        if line == b".":
            return lines
        lines.append(line)
    raise too_many_lines(protocol)


def _require(protocol: str, keyword: bytes, offer: list[bytes]) -> None:
    if keyword not in {line.split(b" ")[0].upper() for line in offer}:
        raise not_offered(protocol, b", ".join(offer))


def _greeting(protocol: str, reply: list[bytes]) -> None:
    # FTP's 120 asks the client to come back in some minutes.
    if reply[0].startswith((b"4", b"5", b"120")):
        raise turned_away(protocol, reply[0])
    if reply[0][:3] != b"220":
        raise unexpected(protocol, "a greeting (220)", reply[0])


def imap() -> Dialogue:
    """Speak IMAP (RFC 9051 section 6.2.1): greeting, CAPABILITY, STARTTLS."""
    greeting = yield from read_line("IMAP")
    if greeting.upper().startswith(b"* PREAUTH"):
        # RFC 9051 section 11.1: nothing protected this login, and STARTTLS is not valid after it.
        raise not_offered("IMAP", greeting)
    if greeting.upper().startswith(_BYE):
        raise turned_away("IMAP", greeting)
    if not greeting.upper().startswith(b"* OK"):
        raise unexpected("IMAP", "a greeting (* OK)", greeting)
    yield Send(b"a1 CAPABILITY\r\n")
    *untagged, done = yield from _imap_reply(b"A1")
    offer = [line for line in untagged if line.upper().startswith(b"* CAPABILITY ")]
    if not done.upper().startswith(b"A1 OK") or b"STARTTLS" not in b" ".join(offer).upper().split():
        raise not_offered("IMAP", b", ".join(offer) or done)
    yield Send(b"a2 STARTTLS\r\n")
    *_, done = yield from _imap_reply(b"A2")
    if not done.upper().startswith(b"A2 OK"):
        raise refused("IMAP", done)


def _imap_reply(tag: bytes) -> _Lines:
    """Read the untagged lines and the one with our `tag`, which is the last."""
    lines: list[bytes] = []
    for _ in range(MAX_LINES):
        line = yield from read_line("IMAP")
        lines.append(line)
        if line.upper().startswith(tag + b" "):
            return lines
        if line.upper().startswith(_BYE):
            raise turned_away("IMAP", line)
        if not line.startswith(b"* "):
            raise unexpected("IMAP", f"a reply with the tag {tag.decode().lower()}", line)
    raise too_many_lines("IMAP")


def sieve() -> Dialogue:
    """Speak ManageSieve (RFC 5804 section 2.2): the greeting is the capabilities; STARTTLS."""
    *offer, done = yield from _sieve_reply()
    if not done.upper().startswith(b"OK"):
        raise turned_away("ManageSieve", done)
    _require("ManageSieve", b'"STARTTLS"', offer)
    yield Send(b"STARTTLS\r\n")
    *_, done = yield from _sieve_reply()
    if done.upper().startswith(b"BYE"):
        raise turned_away("ManageSieve", done)
    if not done.upper().startswith(b"OK"):
        raise refused("ManageSieve", done)


def _sieve_reply() -> _Lines:
    """Read the capability lines, up to and including OK, NO or BYE."""
    lines: list[bytes] = []
    for _ in range(MAX_LINES):
        line = yield from _sieve_line()
        lines.append(line)
        if re.match(rb"(?:OK|NO|BYE)\b", line, re.IGNORECASE):
            return lines
        if not line.startswith(b'"'):
            raise unexpected("ManageSieve", "a capability, OK, NO or BYE", line)
    raise too_many_lines("ManageSieve")


def _sieve_line() -> Generator[Step, bytes, bytes]:
    """Read one line, each literal as a quoted string: the two are equivalent (RFC 5804 section 4)."""
    line = yield from read_line("ManageSieve")
    while literal := _LITERAL.search(line):
        count = int(literal[1])
        if len(line) + count > LINE_LIMIT:
            raise unexpected("ManageSieve", "a shorter string", line)
        data = (yield ReadExactly(count)) if count else b""
        rest = yield from read_line("ManageSieve")
        line = line[: literal.start()] + b'"' + data + b'"' + rest
    return line


def irc() -> Dialogue:
    """Speak IRC (the IRCv3 "tls" extension): STARTTLS, answered by 670 or 691.

    CAP is not sent: the answer to STARTTLS before registration tells the same with one round trip less.
    """
    yield Send(b"STARTTLS\r\n")
    for _ in range(MAX_LINES):
        line = yield from read_line("IRC")
        words = line.upper().split()
        if words and words[0].startswith(b":"):
            del words[0]
        verb = words[0] if words else b""
        if verb == b"670":
            return
        if verb in (b"421", b"451"):
            raise not_offered("IRC", line)
        if verb in _IRC_CLOSING:
            raise turned_away("IRC", line)
        if re.fullmatch(rb"[4-9][0-9]{2}", verb):
            raise refused("IRC", line)
        if not re.fullmatch(rb"NOTICE|PING|[0-3][0-9]{2}", verb):
            raise unexpected("IRC", "670 or 691", line)
    raise too_many_lines("IRC")
