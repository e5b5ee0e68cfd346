"""The dialogues that come before TLS: against scripts, against noise, and against the real servers."""

from __future__ import annotations

import functools
import itertools
import socket
import ssl
import struct
import subprocess
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import get_args

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from bowout._starttls import PROTOCOLS, Dialogue, ReadExactly, ReadUntil, Send, StartTLSName, dialogue
from bowout._starttls.binary import MESSAGE_LIMIT
from bowout._starttls.steps import LINE_LIMIT, MAX_LINES
from bowout.errors import StartTLSError
from helpers.peers import require_program, require_programs
from helpers.starttls_servers import DOVECOT, RECIPES, Home, Recipe, dovecot
from helpers.wire import PATIENCE

# --- Scripts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClientSays:
    """In a script: what the client has to send at this point. Plain bytes are what the server says."""

    data: bytes


Script = list[bytes | ClientSays]

STREAM = b"<stream:stream xmlns='%b' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' id='1'>"
OPEN = (
    b"<?xml version='1.0'?><stream:stream xmlns='%b' xmlns:stream='http://etherx.jabber.org/streams' "
    b"to='host.example' version='1.0'>"
)
FEATURES = (
    b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>"
    b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms></stream:features>"
)
ASK = ClientSays(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
PROCEED = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
XMPP: Script = [ClientSays(OPEN % b"jabber:client"), STREAM % b"jabber:client"]

LDAP = ClientSays(b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037")
LDAP_OK = b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"
POSTGRES = ClientSays(bytes.fromhex("0000000804d2162f"))
MYSQL_ASK = ClientSays(bytes.fromhex("20000001 018a0800 00000001 2d") + bytes(23))
TELNET_ASK = ClientSays(b"\xff\xfb\x2e\xff\xfa\x2e\x01\xff\xf0")
TELNET_FOLLOWS = b"\xff\xfa\x2e\x01\xff\xf0"
EHLO = ClientSays(b"EHLO [127.0.0.1]\r\n")
STARTTLS = ClientSays(b"STARTTLS\r\n")


def mysql_greeting(capabilities: int) -> bytes:
    payload = b"\x0a8.0.1-test\0" + b"\x01\0\0\0" + b"12345678\0" + struct.pack("<HBHH", capabilities, 8, 2, 0xFFFF)
    return len(payload).to_bytes(3, "little") + b"\0" + payload


def ldap_answer(code: int, text: bytes = b"", *, number: int = 1, name: bytes = b"") -> bytes:
    tail = b"\x8a" + bytes([len(name)]) + name if name else b""
    operation = bytes([0x0A, 1, code, 4, 0, 4, len(text)]) + text + tail
    body = bytes([2, 1, number, 0x78, len(operation)]) + operation
    return bytes([0x30, len(body)]) + body


HAPPY: dict[str, Script] = {
    "smtp": [
        b"220-mail.example\r\n220 ready\r\n",
        EHLO,
        b"250-mail.example\r\n250-SIZE 100\r\n250-starttls\r\n250 HELP\r\n",
        STARTTLS,
        b"220 go ahead\r\n",
    ],
    "lmtp": [
        b"220 x\r\n",
        ClientSays(b"LHLO [127.0.0.1]\r\n"),
        b"250-x\r\n250 STARTTLS\r\n",
        STARTTLS,
        b"220 2.0.0 go\r\n",
    ],
    "imap": [
        b"* OK [CAPABILITY IMAP4rev1] hello\r\n",
        ClientSays(b"a1 CAPABILITY\r\n"),
        b"* CAPABILITY IMAP4rev1 STARTTLS\r\n* OK and more\r\na1 OK done\r\n",
        ClientSays(b"a2 STARTTLS\r\n"),
        b"* OK soon\r\na2 OK begin\r\n",
    ],
    "pop3": [
        b"+OK hello\r\n",
        ClientSays(b"CAPA\r\n"),
        b"+OK here\r\nUIDL\r\nSTLS\r\n.\r\n",
        ClientSays(b"STLS\r\n"),
        b"+OK\r\n",
    ],
    "ftp": [b"220-Welcome\r\n 220 to\r\nthis\r\n220 server\r\n", ClientSays(b"AUTH TLS\r\n"), b"234-so\r\n234 go\r\n"],
    "nntp": [
        b"201 no posting\r\n",
        ClientSays(b"CAPABILITIES\r\n"),
        b"101 list\r\nVERSION 2\r\nSTARTTLS\r\n.\r\n",
        STARTTLS,
        b"382 go\r\n",
    ],
    "sieve": [
        b'"IMPLEMENTATION" {8+}\r\nserv\r\ner\r\n"SASL" {0}\r\n\r\n"STARTTLS"\r\nOK (TAG {2}\r\nhi) "ready"\r\n',
        STARTTLS,
        b"OK {5}\r\nbegin\r\n",
    ],
    "irc": [STARTTLS, b":irc.x NOTICE * :looking up\r\nPING :1\r\n:irc.x 670 * :go\r\n"],
    "xmpp": [*XMPP, FEATURES, ASK, PROCEED],
    "xmpp-server": [
        ClientSays(OPEN % b"jabber:server"),
        b"<?xml version='1.0'?>\n" + STREAM % b"jabber:server",
        FEATURES,
        ASK,
        PROCEED.replace(b"/>", b"></proceed>"),
    ],
    "ldap": [LDAP, LDAP_OK],
    "postgres": [POSTGRES, b"S"],
    "mysql": [mysql_greeting(0xFFFF), MYSQL_ASK],
    "telnet": [
        b"\xff\xfd\x18",
        ClientSays(b"\xff\xfc\x18"),
        b"\xff\xfd\x2e",
        TELNET_ASK,
        b"\xff\xfd\x20",
        TELNET_FOLLOWS,
    ],
}


class Scripted:
    """A driver's two ends, played from a script; what the server says comes in pieces of the given sizes."""

    def __init__(self, script: Script, sizes: Iterable[int] = ()) -> None:
        self.script = deque(script)
        self.sizes = itertools.chain(sizes, itertools.repeat(1 << 20))

    def read(self) -> bytes:
        if not self.script or isinstance(self.script[0], ClientSays):
            raise EOFError
        said = self.script.popleft()
        assert isinstance(said, bytes)
        size = next(self.sizes)
        if said[size:]:
            self.script.appendleft(said[size:])
        return said[:size]

    def write(self, data: bytes) -> None:
        assert self.script.popleft() == ClientSays(data)


def drive(steps: Dialogue, read: Callable[[], bytes], write: Callable[[bytes], object]) -> bytes:
    """Carry out a dialogue; return what came and was not part of it."""
    held = b""
    answer = None
    while True:
        try:
            step = steps.send(answer)  # type: ignore[arg-type]  # None is what starts a generator
        except StopIteration:
            return held
        if isinstance(step, Send):
            write(step.data)
            answer = b""
            continue
        while (count := _enough(step, held)) is None:
            held += read()
        answer, held = held[:count], held[count:]


def _enough(step: ReadUntil | ReadExactly, held: bytes) -> int | None:
    if isinstance(step, ReadExactly):
        assert 0 < step.count <= MESSAGE_LIMIT
        return step.count if len(held) >= step.count else None
    assert 0 < step.limit <= LINE_LIMIT
    end = held.find(step.separator, 0, step.limit)
    if end >= 0:
        return end + len(step.separator)
    return step.limit if len(held) >= step.limit else None


def play(protocol: str, script: Script, sizes: Iterable[int] = (), *, name: str | None = None) -> bytes:
    scripted = Scripted(script, sizes)
    left = drive(dialogue(protocol, host="host.example", name=name), scripted.read, scripted.write)
    return left + b"".join(part for part in scripted.script if isinstance(part, bytes))


def test_every_protocol_has_a_script() -> None:
    assert HAPPY.keys() == PROTOCOLS.keys()


@pytest.mark.parametrize("protocol", HAPPY)
def test_agrees_and_reads_nothing_more(protocol: str) -> None:
    assert play(protocol, [*HAPPY[protocol], b"injected\r\n"]) == b"injected\r\n"


@pytest.mark.parametrize("protocol", HAPPY)
def test_agrees_when_every_byte_comes_alone(protocol: str) -> None:
    assert play(protocol, [*HAPPY[protocol], b"x"], itertools.repeat(1)) == b"x"


@given(protocol=st.sampled_from(sorted(HAPPY)), sizes=st.lists(st.integers(1, 40), max_size=60))
def test_pieces_do_not_matter(protocol: str, sizes: list[int]) -> None:
    assert play(protocol, [*HAPPY[protocol], b"injected"], sizes) == b"injected"


@pytest.mark.parametrize("protocol", ["smtp", "lmtp", "imap", "pop3", "ftp", "nntp", "irc"])
def test_a_bare_line_feed_ends_a_line(protocol: str) -> None:
    script = [part.replace(b"\r\n", b"\n") if isinstance(part, bytes) else part for part in HAPPY[protocol]]
    assert play(protocol, [*script, b"x"]) == b"x"


# --- Refusals -------------------------------------------------------------------------------------------------------

CAPABILITY = ClientSays(b"a1 CAPABILITY\r\n")
IMAP: Script = [b"* OK hi\r\n", CAPABILITY, b"* CAPABILITY STARTTLS\r\na1 OK\r\n", ClientSays(b"a2 STARTTLS\r\n")]
SMTP: Script = [b"220 hi\r\n", EHLO, b"250-x\r\n250 STARTTLS\r\n", STARTTLS]
LONG = b"x" * LINE_LIMIT

REFUSALS: list[tuple[str, Script, str]] = [
    ("smtp", [b"554 no service\r\n"], 'SMTP: the server turned the connection away: "554 no service"'),
    ("smtp", [b"220 hi\r\n", EHLO, b"421 busy\r\n"], "turned the connection away"),
    ("smtp", [*SMTP, b"421 busy\r\n"], "turned the connection away"),
    ("smtp", [b"200 hi\r\n"], 'expected a greeting (220), but the server said "200 hi"'),
    ("smtp", [b"220 hi\r\n", EHLO, b"250-x\r\n250 HELP\r\n"], 'does not offer STARTTLS; it said "250-x, 250 HELP"'),
    ("smtp", [b"220 hi\r\n", EHLO, b"250 starttls.example STARTTLS\r\n"], "does not offer"),
    ("smtp", [b"220 hi\r\n", EHLO, b"502 what?\r\n"], 'does not offer STARTTLS; it said "502 what?"'),
    ("smtp", [*SMTP, b"454 not now\r\n"], 'refused STARTTLS: "454 not now"'),
    ("smtp", [b"SSH-2.0-OpenSSH_9.2\r\n"], 'numbered reply, but the server said "SSH-2.0-OpenSSH_9.2"'),
    ("smtp", [b"220-a\r\n250 b\r\n"], "numbered reply"),
    ("smtp", [b"220 \x1b[2J\r\n", EHLO, b"500 \x1b]0;me\x07\r\n"], r'"500 \x1b]0;me\x07"'),
    ("smtp", [b"220 " + LONG], f"line of more than {LINE_LIMIT} bytes"),
    ("smtp", [b"220-x\r\n" * (MAX_LINES + 1)], f"more than {MAX_LINES} lines"),
    ("lmtp", [b"220 hi\r\n", ClientSays(b"LHLO [127.0.0.1]\r\n"), b"250 x\r\n"], "LMTP: the server does not offer"),
    ("imap", [b"* PREAUTH hi\r\n"], 'does not offer STARTTLS; it said "* PREAUTH hi"'),
    ("imap", [b"* BYE\r\n"], "turned the connection away"),
    ("imap", [b"+OK\r\n"], "expected a greeting (* OK)"),
    ("imap", [b"* OK hi\r\n", CAPABILITY, b"* CAPABILITY NOSTARTTLS\r\na1 OK\r\n"], "does not offer"),
    ("imap", [b"* OK hi\r\n", CAPABILITY, b"a1 BAD what?\r\n"], 'does not offer STARTTLS; it said "a1 BAD what?"'),
    ("imap", [b"* OK hi\r\n", CAPABILITY, b"* BYE bored\r\n"], 'away: "* BYE bored"'),
    ("imap", [b"* OK hi\r\n", CAPABILITY, b"a2 OK\r\n"], "a reply with the tag a1"),
    ("imap", [*IMAP, b"a2 NO never\r\n"], 'refused STARTTLS: "a2 NO never"'),
    ("imap", [b"* OK hi\r\n", CAPABILITY, b"* OK\r\n" * MAX_LINES], f"more than {MAX_LINES} lines"),
    ("pop3", [b"-ERR busy\r\n"], "turned the connection away"),
    ("pop3", [b"* OK\r\n"], "expected a greeting (+OK)"),
    ("pop3", [b"+OK\r\n", ClientSays(b"CAPA\r\n"), b"+OK\r\nUIDL\r\n.\r\n"], 'does not offer STARTTLS; it said "UIDL"'),
    (
        "pop3",
        [b"+OK\r\n", ClientSays(b"CAPA\r\n"), b"-ERR\r\n", ClientSays(b"STLS\r\n"), b"-ERR no\r\n"],
        'refused STARTTLS: "-ERR',
    ),
    ("pop3", [b"+OK\r\n", ClientSays(b"CAPA\r\n"), b"what?\r\n"], "expected +OK or -ERR"),
    ("pop3", [b"+OK\r\n", ClientSays(b"CAPA\r\n"), b"+OK\r\n" + b"x\r\n" * MAX_LINES], f"more than {MAX_LINES} lines"),
    ("ftp", [b"421 full\r\n"], "turned the connection away"),
    ("ftp", [b"120 in 5 minutes\r\n"], "turned the connection away"),
    ("ftp", [b"220 hi\r\n", ClientSays(b"AUTH TLS\r\n"), b"421 full\r\n"], "turned the connection away"),
    ("ftp", [b"hello\r\n"], "expected a numbered reply"),
    (
        "ftp",
        [b"220 hi\r\n", ClientSays(b"AUTH TLS\r\n"), b"500 what?\r\n"],
        'does not offer STARTTLS; it said "500 what?"',
    ),
    ("ftp", [b"220 hi\r\n", ClientSays(b"AUTH TLS\r\n"), b"534 never\r\n"], 'refused STARTTLS: "534 never"'),
    ("ftp", [b"220-hi\r\n" + b"220-x\r\n" * MAX_LINES], f"more than {MAX_LINES} lines"),
    ("nntp", [b"400 down\r\n"], "turned the connection away"),
    ("nntp", [b"220 hi\r\n"], "expected a greeting (200 or 201)"),
    ("nntp", [b"200 hi\r\n", ClientSays(b"CAPABILITIES\r\n"), b"101\r\nREADER\r\n.\r\n"], "does not offer"),
    ("nntp", [b"200 hi\r\n", ClientSays(b"CAPABILITIES\r\n"), b"502 no\r\n"], "turned the connection away"),
    ("nntp", [b"200 hi\r\n", ClientSays(b"CAPABILITIES\r\n"), b"203 no\r\n"], "expected its capabilities (101)"),
    ("nntp", [b"200 hi\r\n", ClientSays(b"CAPABILITIES\r\n"), b"500\r\n", STARTTLS, b"400 down\r\n"], "turned the"),
    ("nntp", [b"200 hi\r\n", ClientSays(b"CAPABILITIES\r\n"), b"500\r\n", STARTTLS, b"580 no\r\n"], "refused"),
    ("sieve", [b'"SASL" "PLAIN"\r\nOK\r\n'], "does not offer"),
    ("sieve", [b'BYE "busy"\r\n'], "turned the connection away"),
    ("sieve", [b'"STARTTLS"\r\nOK\r\n', STARTTLS, b'BYE "busy"\r\n'], "turned the connection away"),
    ("sieve", [b'"STARTTLS"\r\nOK\r\n', STARTTLS, b'NO "why?"\r\n'], "refused"),
    ("sieve", [b"220 hi\r\n"], "expected a capability"),
    ("sieve", [b'"X" {999999}\r\n'], "a shorter string"),
    ("sieve", [b'"X" ' + b"{3000+}\r\n" + b"x" * 3000 + b" {6000}\r\n"], "a shorter string"),
    ("sieve", [b'"X" "y"\r\n' * MAX_LINES], f"more than {MAX_LINES} lines"),
    ("irc", [STARTTLS, b":x 691 * :no\r\n"], 'refused STARTTLS: ":x 691 * :no"'),
    ("irc", [STARTTLS, b":x 421 * STARTTLS :Unknown command\r\n"], "does not offer"),
    ("irc", [STARTTLS, b"ERROR :banned\r\n"], 'IRC: the server turned the connection away: "ERROR :banned"'),
    ("irc", [STARTTLS, b":x 465 * :banned\r\n"], "turned the connection away"),
    ("irc", [STARTTLS, b"220 mail.example ESMTP\r\n\r\n"], "expected 670 or 691"),
    ("irc", [STARTTLS, b"NOTICE :x\r\n" * MAX_LINES], f"more than {MAX_LINES} lines"),
    ("xmpp", [XMPP[0], b"HTTP/1.1 400 Bad Request\r\n"], 'expected an XML stream, but the server said "H"'),
    ("xmpp", [XMPP[0], b"<html>"], 'expected an XML stream, but the server said "html"'),
    ("xmpp", [XMPP[0], b"<stream:stream>"], "malformed XML"),
    ("xmpp", [XMPP[0], b"<!DOCTYPE x [<!ENTITY a 'b'>]><x/>"], "document type declaration"),
    (
        "xmpp",
        [*XMPP, b"<stream:features><bind/></stream:features>"],
        'does not offer STARTTLS; it said "features: bind"',
    ),
    ("xmpp", [*XMPP, b"<stream:features><starttls/></stream:features>"], "does not offer"),
    ("xmpp", [*XMPP, b"<stream:error><host-unknown xmlns='e'/></stream:error>"], 'away: "error: host-unknown"'),
    ("xmpp", [*XMPP, FEATURES, ASK, b"<stream:error><see-other-host xmlns='e'/></stream:error>"], "turned the conn"),
    ("xmpp", [*XMPP, b"</stream:stream>"], "closed the stream"),
    ("xmpp", [XMPP[0], (STREAM % b"jabber:client").replace(b" version='1.0'", b"")], "a stream without a version"),
    ("xmpp", [*XMPP, FEATURES, ASK, PROCEED.replace(b"proceed", b"failure")], 'refused STARTTLS: "failure"'),
    ("xmpp", [*XMPP, b"<a>" * MAX_LINES], f"more than {MAX_LINES} tags"),
    ("xmpp", [XMPP[0], b"<" + LONG], f"the end of a tag within {LINE_LIMIT} bytes"),
    ("ldap", [LDAP, b"HTTP"], "expected an LDAP message"),
    ("ldap", [LDAP, b"\x30\x80\x00\x00"], "a definite length"),
    ("ldap", [LDAP, b"\x30\x85"], "a definite length"),
    ("ldap", [LDAP, b"\x30\x84\x7f\xff\xff\xff"], "announced a message of 2147483647 bytes"),
    ("ldap", [LDAP, b"\x30\x00"], "announced a message of 0 bytes"),
    ("ldap", [LDAP, b"\x30\x03\x02\x04\x01"], "malformed: an element of 4 bytes where 1 are left"),
    ("ldap", [LDAP, b"\x30\x03\x02\x82\x01"], "malformed: a length that is not definite, or incomplete"),
    ("ldap", [LDAP, b"\x30\x02\x02\x00"], "malformed: a number without a byte"),
    ("ldap", [LDAP, b"\x30\x03\x02\x01\x01"], "malformed: no element with the tag 0x78"),
    ("ldap", [LDAP, ldap_answer(2, b"unsupported")], 'does not offer STARTTLS; it said "protocolError: unsupported"'),
    ("ldap", [LDAP, ldap_answer(52, b"no TLS")], 'refused STARTTLS: "unavailable: no TLS"'),
    ("ldap", [LDAP, ldap_answer(80)], 'refused STARTTLS: "result 80: "'),
    ("ldap", [LDAP, ldap_answer(0, number=7)], "expected the answer to message 1"),
    ("ldap", [LDAP, ldap_answer(52, number=0, name=b"1.3.6.1.4.1.1466.20036")], "notice of disconnection"),
    ("postgres", [POSTGRES, b"N"], "does not offer"),
    ("postgres", [POSTGRES, b"E"], "with an error message"),
    ("postgres", [POSTGRES, b"H"], "expected S or N"),
    ("mysql", [mysql_greeting(0xF7FF)], 'does not offer STARTTLS; it said "8.0.1-test"'),
    ("mysql", [b"\x08\0\0\0\xff\x69\x04Host?"], 'MySQL: the server turned the connection away: "Host?"'),
    ("mysql", [b"\x02\0\0\0\x09x"], "protocol version 10"),
    ("mysql", [b"\x08\0\0\0\x0a8.0\0abc"], "protocol version 10"),
    ("mysql", [b"220 mail.example\r\n"], "expected a greeting packet"),
    ("telnet", [b"login: "], 'does not offer STARTTLS; it said "lo"'),
    ("telnet", [TELNET_FOLLOWS], "expected DO START_TLS"),
    ("telnet", [b"\xff\xf1"], "expected DO START_TLS"),
    ("telnet", [b"\xff\xfe\x2e"], "refused"),
    ("telnet", [b"\xff\xfd\x2e", TELNET_ASK, b"\xff\xfa\x2e\x02\xff\xf0"], "expected START_TLS FOLLOWS"),
    ("telnet", [b"\xff\xfd\x2e", TELNET_ASK, b"\xff\xfb\x01" * 64], "keeps negotiating"),
]


@pytest.mark.parametrize(("protocol", "script", "message"), REFUSALS)
def test_refuses(protocol: str, script: Script, message: str) -> None:
    with pytest.raises(StartTLSError) as caught:
        play(protocol, script)
    assert message in str(caught.value)
    assert caught.value.why == _why(str(caught.value))


def _why(text: str) -> str:
    """What the command line goes by."""
    signs = {"not offer": "not offered", "refused": "refused", "turned": "turned away", "expected": "not spoken"}
    return next((why for sign, why in signs.items() if sign in text), "")


def test_a_server_that_knows_no_capabilities_may_know_starttls() -> None:
    stls = ClientSays(b"STLS\r\n")
    assert play("pop3", [b"+OK\r\n", ClientSays(b"CAPA\r\n"), b"-ERR\r\n", stls, b"+OK\r\n", b"x"]) == b"x"


def test_ldap_understands_long_lengths() -> None:
    body = LDAP_OK[2:].replace(b"\x78\x07", b"\x78\x82\x00\x07")
    assert play("ldap", [LDAP, b"\x30\x84\x00\x00\x00" + bytes([len(body)]) + body, b"x"]) == b"x"


def test_ldap_skips_the_referral_before_the_name() -> None:
    operation = b"\x0a\x01\x00\x04\x00\x04\x00\xa3\x02\x04\x00\x8a\x011"
    body = b"\x02\x01\x01\x78" + bytes([len(operation)]) + operation
    assert play("ldap", [LDAP, b"\x30" + bytes([len(body)]) + body]) == b""


def test_telnet_declines_what_the_server_would_do() -> None:
    script: Script = [b"\xff\xfb\x01", ClientSays(b"\xff\xfe\x01"), b"\xff\xfd\x2e", TELNET_ASK, TELNET_FOLLOWS]
    assert play("telnet", script) == b""


def test_xmpp_may_have_the_end_of_a_tag_in_an_attribute() -> None:
    stream = (STREAM % b"jabber:client").replace(b"id='1'", b"id='a>b'")
    assert play("xmpp", [XMPP[0], stream, FEATURES, ASK, PROCEED]) == b""


def test_a_long_answer_is_shortened() -> None:
    with pytest.raises(StartTLSError) as caught:
        play("smtp", [b"220 hi\r\n", EHLO, b"550 " + b"no" * 1000 + b"\r\n"])
    assert len(str(caught.value)) < 250


# --- Noise ----------------------------------------------------------------------------------------------------------

NOISE = st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=6)), max_size=4)


@given(protocol=st.sampled_from(sorted(HAPPY)), edits=NOISE, noise=st.none() | st.binary(max_size=300))
def test_noise_ends_in_agreement_refusal_or_the_end_of_input(
    protocol: str, edits: list[tuple[int, bytes]], noise: bytes | None
) -> None:
    said = noise if noise is not None else b"".join(part for part in HAPPY[protocol] if isinstance(part, bytes))
    for position, replacement in edits:
        said = said[:position] + replacement + said[position + len(replacement) :]
    outcome = _outcome(dialogue(protocol, host="host.example"), Scripted([said]))
    assert said.endswith(outcome) if isinstance(outcome, bytes) else str(outcome).isprintable()


def _outcome(steps: Dialogue, server: Scripted) -> bytes | Exception:
    try:
        return drive(steps, server.read, lambda _: None)
    except (StartTLSError, EOFError) as error:
        return error


# --- What is presented ----------------------------------------------------------------------------------------------


def first_words(protocol: str, name: str | None) -> bytes:
    sent: list[bytes] = []
    script = Scripted([b"220 hi\r\n"])
    with pytest.raises(EOFError):
        drive(dialogue(protocol, host="host.example", name=name), script.read, sent.append)
    return sent[0]


def test_smtp_presents_the_name() -> None:
    assert first_words("smtp", "me.example") == b"EHLO me.example\r\n"


def test_xmpp_presents_the_name_quoted() -> None:
    steps = dialogue("xmpp", host="host.example", name="it's<you>.example")
    assert b"to='it&#x27;s&lt;you&gt;.example'" in next(steps).data  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["", "a b", "a\r\nRCPT TO:<x>", "a\0", "x" * 256])
@pytest.mark.parametrize("protocol", ["smtp", "lmtp", "xmpp", "xmpp-server"])
def test_a_name_cannot_smuggle_a_command(protocol: str, name: str) -> None:
    with pytest.raises(ValueError, match="starttls_name cannot be"):
        dialogue(protocol, host="host.example", name=name)


def test_smtp_presents_a_name_in_ascii() -> None:
    assert first_words("smtp", "faß.example") == b"EHLO xn--fa-hia.example\r\n"


@pytest.mark.parametrize("protocol", ["xmpp", "xmpp-server"])
@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("Example.ORG.", "example.org"),
        ("FAß.example", "faß.example"),
        ("xn--fa-hia.example", "faß.example"),
        ("a.xn--", "a.xn--"),
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "[2001:db8::1]"),
        ("fe80::1%lo", "[fe80::1]"),
    ],
)
def test_xmpp_is_told_the_domain_as_it_writes_domains(protocol: str, asked: str, told: str) -> None:
    """RFC 7622 section 3.2: Unicode, lower case, no dot of the root; an IPv6 address in brackets."""
    for name, host in ((asked, "server.example"), (None, asked)):
        step = next(dialogue(protocol, host=host, name=name))
        assert f" to='{told}' " in step.data.decode()  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["me@example.org", "example.org/desk", "☃.example"])
def test_xmpp_is_told_a_domain_alone(name: str) -> None:
    with pytest.raises(ValueError, match="starttls_name cannot be"):
        dialogue("xmpp", host="host.example", name=name)


@pytest.mark.parametrize(
    ("given", "guess"), [("smpt", "smtp"), ("SMTP", "smtp"), ("postgresql", "postgres"), ("gopher", None), ("", None)]
)
def test_an_unknown_protocol_is_named_with_those_that_are_known(given: str, guess: str | None) -> None:
    with pytest.raises(ValueError, match='starttls must be one of "ftp", "imap"') as caught:
        dialogue(given, host="host.example")
    assert str(caught.value).endswith(f'did you mean "{guess}"?' if guess else repr(given))


def test_the_type_of_a_protocols_name_knows_them_all() -> None:
    assert set(get_args(StartTLSName)) == PROTOCOLS.keys()


def test_a_misspelt_protocol_is_guessed() -> None:
    with pytest.raises(ValueError, match='did you mean "postgres"'):
        dialogue("postgresql", host="host.example")


def test_all_that_openssl_knows_is_there() -> None:
    answer = subprocess.run(
        [require_program("openssl"), "s_client", "-starttls", "?"], capture_output=True, check=False
    )
    listed = answer.stderr.decode().partition("one of:")[2].split("s_client:")[0].split()
    assert {"smtp", "ldap"} <= set(listed) <= PROTOCOLS.keys()


# --- Real servers ---------------------------------------------------------------------------------------------------

#: What is said inside TLS, and what the answer contains.
_LOGIN = struct.pack("<IIB23x", 0x8A00, 1 << 24, 45) + b"root\0\0"
INSIDE: dict[str, tuple[bytes, bytes]] = {
    "smtp": (b"EHLO me\r\n", b"\r\n250 "),
    "lmtp": (b"LHLO me\r\n", b"\r\n250 "),
    "imap": (b"b CAPABILITY\r\n", b"\r\nb OK"),
    "pop3": (b"CAPA\r\n", b"\r\n.\r\n"),
    "ftp": (b"FEAT\r\n", b"\r\n211 "),
    "nntp": (b"CAPABILITIES\r\n", b"\r\n.\r\n"),
    "sieve": (b'NOOP "here"\r\n', b'OK (TAG "here")'),
    "irc": (b"NICK me\r\nUSER me 0 * :me\r\n", b" 001 me "),
    "xmpp": (OPEN.replace(b"host.example", b"localhost") % b"jabber:client", b"</stream:features>"),
    "xmpp-server": (OPEN.replace(b"host.example", b"localhost") % b"jabber:server", b"</stream:features>"),
    # An anonymous bind; message 2, success.
    "ldap": (bytes.fromhex("300c020102600702010304008000"), bytes.fromhex("02010261070a0100")),
    # StartupMessage; ReadyForQuery.
    "postgres": (b"\0\0\0\x27\0\x03\0\0user\0bowout\0database\0postgres\0\0", b"Z\0\0\0\x05I"),
    # HandshakeResponse41, packet 2; OK, packet 3.
    "mysql": (len(_LOGIN).to_bytes(3, "little") + b"\x02" + _LOGIN, b"\0\0\x03\0"),
}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def serve(authority: trustme.CA) -> Iterator[Callable[[Recipe], dict[str, int]]]:
    """Start a server, or find it started: the ports of its protocols. All of them stop at the end of the module."""
    with ExitStack() as running:

        @functools.cache
        def start(recipe: Recipe) -> dict[str, int]:
            return running.enter_context(recipe(running.enter_context(Home.create(authority))))

        yield start


@pytest.mark.parametrize(
    ("recipe", "protocol"),
    [pytest.param(recipe, name, id=name) for recipe, names in RECIPES.items() for name in names],
)
def test_a_real_server_changes_to_tls(
    serve: Callable[[Recipe], dict[str, int]], recipe: Recipe, protocol: str, authority: trustme.CA
) -> None:
    require_programs(*RECIPES[recipe][protocol])
    port = serve(recipe)[protocol]
    context = ssl.create_default_context()
    authority.configure_trust(context)
    question, expected = INSIDE[protocol]
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain:
        # One byte at a time: nothing that belongs to TLS is taken, and anything left over breaks the handshake.
        assert drive(dialogue(protocol, host="localhost"), lambda: _received(plain, 1), plain.sendall) == b""
        with context.wrap_socket(plain, server_hostname="localhost") as tls:
            tls.sendall(question)
            while expected not in answer:
                answer += _received(tls, 4096)
    assert expected in answer


@pytest.mark.parametrize("protocol", DOVECOT)
def test_a_daemon_of_several_packages_serves_those_that_are_there(
    protocol: str, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_programs(*RECIPES[dovecot][protocol])
    only = DOVECOT[protocol].program
    monkeypatch.setattr("helpers.starttls_servers.is_installed", lambda name: name == only)
    with Home.create(authority) as home, dovecot(home) as ports:
        assert ports.keys() == {protocol}


def _received(sock: socket.socket, count: int) -> bytes:
    if not (data := sock.recv(count)):
        raise EOFError
    return data


def test_every_protocol_but_telnet_meets_a_real_server() -> None:
    assert INSIDE.keys() == PROTOCOLS.keys() - {"telnet"}
    assert {name for needs in RECIPES.values() for name in needs} == INSIDE.keys()
