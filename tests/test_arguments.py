"""Arguments that cannot be meant: a ValueError or a TypeError that says what to write, before anything happens."""

from __future__ import annotations

import contextlib
import datetime as dt
import fractions
import ipaddress
import math
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import bowout
from bowout import MisuseError
from bowout._arguments import checked_count, checked_host, checked_port, checked_server_hostname, checked_timeout
from helpers.runners import Runner
from helpers.wire import NAME, Wire, client_context, peer, server_context, tcp_pair

TIME_LIMITS = ("connect_timeout", "handshake_timeout", "close_timeout")

#: What is wrong, its class, and words of the message.
WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"host": ""}, ValueError, "empty"),
    ({"host": "https://example.org/x"}, ValueError, "write 'example.org', 443"),
    ({"host": "http://example.org:8080"}, ValueError, "write 'example.org', 8080"),
    ({"host": "https://["}, ValueError, "write the host's name"),
    ({"host": "mail.test:465"}, ValueError, "write 'mail.test', 465"),
    ({"host": "mail.test:smtp"}, ValueError, "write 'mail.test', 443"),
    ({"host": "[::1]:8443"}, ValueError, "write '::1', 8443"),
    ({"host": "[fe80::1%lo]"}, ValueError, "write 'fe80::1%lo', 443"),
    ({"host": "1:2:3"}, ValueError, "neither"),
    ({"host": "a\0b"}, ValueError, "neither"),
    ({"host": "a b"}, ValueError, "neither"),
    ({"host": "me@mail.test"}, ValueError, "neither"),
    ({"host": "mail.test/inbox"}, ValueError, "neither"),
    ({"host": b"mail.test"}, TypeError, "must be a str, not bytes"),
    ({"host": None}, TypeError, "not None"),
    ({"host": ipaddress.ip_address("::1")}, TypeError, "write '::1'"),
    ({"port": "443"}, TypeError, "write 443"),
    ({"port": "https"}, TypeError, "must be an int, not str"),
    ({"port": 443.0}, TypeError, "not float"),
    ({"port": True}, TypeError, "not bool"),
    ({"port": None}, TypeError, "not None"),
    ({"port": 0}, ValueError, "from 1 to 65535"),
    ({"port": 65536}, ValueError, "from 1 to 65535"),
    ({"alpn": "h2"}, TypeError, r"write alpn=\['h2'\]"),
    ({"alpn": "h2,http/1.1"}, TypeError, r"write alpn=\['h2', 'http/1.1'\]"),
    ({"alpn": b"h2"}, TypeError, r"write alpn=\['h2'\]"),
    ({"alpn": [b"h2"]}, TypeError, "write 'h2'"),
    ({"alpn": [2]}, TypeError, "one of them is int"),
    ({"alpn": 2}, TypeError, "not int"),
    ({"alpn": []}, ValueError, "empty"),
    ({"alpn": [""]}, ValueError, "1 to 255"),
    ({"alpn": ["h2", "x" * 256], "context": client_context()}, ValueError, "1 to 255"),
    ({"starttls": "gopher"}, ValueError, "one of"),
    ({"starttls": "smpt"}, ValueError, 'did you mean "smtp"'),
    ({"starttls": ""}, ValueError, "one of"),
    ({"starttls": 25}, TypeError, "not int"),
    ({"starttls_name": "me.test"}, ValueError, "name the protocol"),
    ({"starttls": "smtp", "starttls_name": ""}, ValueError, "starttls_name"),
    ({"starttls": "smtp", "starttls_name": b"me"}, TypeError, "not bytes"),
    ({"starttls": "xmpp", "starttls_name": "me@x.test"}, ValueError, "starttls_name"),
    ({"server_hostname": ""}, ValueError, "check_hostname is False"),
    ({"server_hostname": "", "context": client_context()}, ValueError, "check_hostname is False"),
    ({"server_hostname": ".bad"}, ValueError, "server_hostname cannot be"),
    ({"server_hostname": "nul\0"}, ValueError, "server_hostname cannot be"),
    ({"server_hostname": "peer.test:443"}, ValueError, "server_hostname cannot be"),
    ({"server_hostname": "https://peer.test"}, ValueError, "server_hostname cannot be"),
    ({"server_hostname": "☃.test"}, ValueError, "server_hostname cannot be"),
    ({"server_hostname": b"peer.test"}, TypeError, "not bytes"),
    ({"context": object()}, TypeError, "SSLContext"),
    ({"context": server_context()}, ValueError, "cannot be a client's"),
    ({"over": 5}, TypeError, "socket.socket"),
    ({"session": b"ticket"}, TypeError, "SSLSession"),
    ({"linger_bytes": -1}, ValueError, "0 or more"),
    ({"linger_bytes": True}, TypeError, "not bool"),
    ({"linger_bytes": 1.5}, TypeError, "not float"),
    ({"truncation": "tolerat"}, ValueError, 'did you mean "tolerate"'),
    ({"truncation": ""}, ValueError, "one of"),
    ({"truncation": None}, TypeError, "not None"),
    ({"on_error": "Truncate"}, ValueError, 'did you mean "truncate"'),
    ({"on_error": True}, TypeError, "not bool"),
    ({"on_event": "print"}, TypeError, "function"),
    ({"keepalive": 0}, ValueError, "None switches it off"),
    ({"keepalive": -1}, ValueError, "keepalive"),
    ({"keepalive": True}, TypeError, "keepalive"),
]


@pytest.mark.parametrize(("wrong", "kind", "words"), WRONG)
def test_an_argument_that_cannot_be_meant(wrong: dict[str, Any], kind: type[Exception], words: str) -> None:
    arguments: dict[str, Any] = {"host": "peer.test", "port": 443} | wrong
    with pytest.raises(kind, match=words) as caught:
        bowout.connect(**arguments)
    assert not isinstance(caught.value, MisuseError)


@pytest.mark.parametrize("name", TIME_LIMITS)
@pytest.mark.parametrize(
    ("seconds", "kind"),
    [
        (-1.0, ValueError), (math.inf, ValueError), (math.nan, ValueError), (10**400, ValueError),
        (None, TypeError), ("3", TypeError), (True, TypeError), (dt.timedelta(seconds=3), TypeError),
    ],
)  # fmt: skip
def test_a_time_limit_is_a_finite_number(name: str, seconds: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=name):
        bowout.connect("peer.test", 443, **{name: seconds})


@pytest.mark.parametrize(("seconds", "kind"), [(-1.0, ValueError), (math.nan, ValueError), ("3", TypeError)])
def test_a_closes_time_limit_is_a_finite_number(run: Runner, seconds: Any, kind: type[Exception]) -> None:
    async def main() -> None:
        stream = link.stream()
        for verb in (stream.close, stream.unwrap):
            with pytest.raises(kind, match="timeout"):
                await verb(seconds)
        assert stream.ending is None
        stream.abort()

    with peer(lambda wire: None) as link:
        run(main)


VERBS: dict[str, tuple[Callable[[Any], Awaitable[object]], type[Exception]]] = {
    "receive(0)": (lambda stream: stream.receive(0), ValueError),
    "receive(str)": (lambda stream: stream.receive("1"), TypeError),
    "receive(float)": (lambda stream: stream.receive(1.5), TypeError),
    "receive(bool)": (lambda stream: stream.receive(True), TypeError),
    "receive_exactly(-1)": (lambda stream: stream.receive_exactly(-1), ValueError),
    "receive_exactly(None)": (lambda stream: stream.receive_exactly(None), TypeError),
    "receive_until(str)": (lambda stream: stream.receive_until("\n"), TypeError),
    "receive_until(empty)": (lambda stream: stream.receive_until(b""), ValueError),
    "receive_until(limit below the separator)": (lambda stream: stream.receive_until(b"\r\n", 1), ValueError),
    "receive_until(float)": (lambda stream: stream.receive_until(b"\n", 1.5), TypeError),
    "send(str)": (lambda stream: stream.send("text"), TypeError),
    "send(None)": (lambda stream: stream.send(None), TypeError),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_refuses_what_cannot_be_meant(run: Runner, verb: str) -> None:
    call, kind = VERBS[verb]

    async def main() -> None:
        stream = link.stream()
        with pytest.raises(kind):
            await call(stream)
        assert stream.ending is None
        stream.abort()

    with peer(lambda wire: None) as link:
        run(main)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("text", r"send\(\) takes bytes, not str: encode it first"),
        (None, r"send\(\) takes bytes, not None"),
        (memoryview(b"abcd")[::2], "contiguous"),
    ],
)
@pytest.mark.parametrize("established", [False, True])
def test_send_says_what_it_takes(run: Runner, data: Any, words: str, established: bool) -> None:
    async def main() -> None:
        stream = link.stream()
        if established:
            await stream.handshake()
        with pytest.raises((TypeError, BufferError), match=words):
            await stream.send(data)
        assert stream.ending is None
        stream.abort()

    def script(wire: Wire) -> None:
        with contextlib.suppress(ConnectionError):  # the abort may come before the end of its handshake
            if established:
                wire.handshake()

    with peer(script) as link:
        run(main)


def test_numbers_of_other_makes_are_numbers() -> None:
    class Number:
        def __index__(self) -> int:
            return 443

    assert checked_timeout("timeout", fractions.Fraction(1, 2)) == 0.5
    assert checked_port(Number()) == 443
    assert checked_count("limit", Number(), least=1) == 443


@pytest.mark.parametrize("host", ["a", "under_score.test", "fe80::1%lo", "xn--fa-hia.de", "faß.de", "نامه‌ای.test"])
def test_a_name_or_an_address_is_a_host(host: str) -> None:
    assert checked_host(host, 443) == host


@pytest.mark.parametrize(
    ("given", "carried"),
    [
        ("peer.test.", "peer.test"), ("faß.de", "xn--fa-hia.de"), ("FAß.de", "xn--fa-hia.de"),
        ("_x.bücher.test", "_x.xn--bcher-kva.test"), ("fe80::1%eth0", "fe80::1"), ("192.0.2.1", "192.0.2.1"),
    ],
)  # fmt: skip
def test_a_name_as_tls_carries_it(given: str, carried: str) -> None:
    assert checked_server_hostname(given) == carried


# -- wrap --------------------------------------------------------------------------------------------------------------


def test_only_a_connected_stream_socket_can_be_wrapped() -> None:
    with socket.socket() as lonely, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        for sock, kind in ((lonely, ValueError), (datagram, ValueError), (object(), TypeError)):
            with pytest.raises(kind):
                bowout.wrap(sock, client_context())  # type: ignore[arg-type]


def test_a_socket_with_tls_is_not_wrapped_again() -> None:
    ours, theirs = tcp_pair()
    wrapped = client_context().wrap_socket(ours, server_hostname=NAME, do_handshake_on_connect=False)
    with theirs, wrapped, pytest.raises(TypeError, match="SSLSocket"):
        bowout.connect("peer.test", 443, over=wrapped)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({}, ValueError, "give server_hostname"),
        ({"server_hostname": ""}, ValueError, "check_hostname is False"),
        ({"server_hostname": NAME, "received": "text"}, TypeError, "received must be bytes"),
        ({"context": server_context(), "server_side": True, "server_hostname": NAME}, ValueError, "for clients"),
        ({"context": server_context(), "server_side": True, "session": object()}, ValueError, "for clients"),
        ({"context": ssl.create_default_context(), "server_side": True}, ValueError, "cannot be a server's"),
    ],
)
def test_what_cannot_be_wrapped_stays_the_callers(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    ours, theirs = tcp_pair()
    with ours, theirs:
        before = ours.gettimeout()
        with pytest.raises(kind, match=words):
            bowout.wrap(ours, **{"context": client_context(), **options})
        assert ours.fileno() >= 0
        assert ours.gettimeout() == before
