"""Wrong arguments: a wrong type is a TypeError, a wrong value a ValueError, both at once and in words that help."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest

import bowout
from bowout import MisuseError
from helpers.wire import NAME, client_context, peer, polite, server_context, tcp_pair

if TYPE_CHECKING:
    from helpers.runners import Runner

HOST = "peer.test"


def unchecked() -> ssl.SSLContext:
    """A context that checks no name."""
    context = client_context()
    context.check_hostname = False
    return context


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"port": "443"}, "port must be an int, not str: write 443, without quotation marks"),
        ({"port": "https"}, "port must be an int, not str"),
        ({"port": 443.0}, "port must be an int, not float"),
        ({"port": True}, "port must be an int, not bool"),
        ({"port": None}, "port must be an int, not None"),
        ({"host": None}, "host must be a str, not None"),
        ({"host": b"peer.test"}, "host must be a str, not bytes"),
        ({"host": ipaddress.ip_address("::1")}, "host must be a str, not IPv6Address; write '::1'"),
        ({"host": Path("peer.test")}, "host must be a str, not PosixPath"),
        ({"alpn": "h2"}, r"alpn must be a list of protocols, not str: write alpn=\['h2'\]"),
        ({"alpn": "h2,http/1.1"}, r"write alpn=\['h2', 'http/1.1'\]"),
        ({"alpn": b"h2"}, r"alpn must be a list of protocols, not bytes: write alpn=\['h2'\]"),
        ({"alpn": [b"h2"]}, "one of them is bytes: write 'h2'"),
        ({"alpn": [None]}, "one of them is None"),
        ({"alpn": 2}, "alpn must be a list of protocols, not int"),
        ({"starttls": True}, 'starttls must be one of "ftp", .*, not bool'),
        ({"starttls": b"smtp"}, 'starttls must be one of "ftp", .*, not bytes'),
        ({"starttls": "smtp", "starttls_name": b"me"}, "starttls_name must be a str, not bytes"),
        ({"server_hostname": b"peer.test"}, "server_hostname must be a str, not bytes"),
        ({"server_hostname": 5}, "server_hostname must be a str, not int"),
        ({"context": "cert.pem"}, "context must be an ssl.SSLContext, not str"),
        ({"session": b"ticket", "context": client_context()}, "session must be an ssl.SSLSession, not bytes"),
        ({"over": 7}, "a socket.socket is needed, not int"),
        ({"connect_timeout": "5"}, "connect_timeout must be a number of seconds, not str"),
        ({"connect_timeout": None}, "connect_timeout must be a number of seconds, not None: nothing waits for ever"),
        ({"handshake_timeout": None}, "handshake_timeout must be a number of seconds, not None"),
        ({"close_timeout": True}, "close_timeout must be a number of seconds, not bool"),
        ({"keepalive": "60"}, "keepalive must be a number of seconds, not str"),
        ({"linger_bytes": 1e6}, "linger_bytes must be an int, not float"),
        ({"linger_bytes": "1"}, "linger_bytes must be an int, not str"),
        ({"truncation": True}, 'truncation must be one of "raise", "tolerate", not bool'),
        ({"on_error": None}, 'on_error must be one of "close", "truncate", not None'),
        ({"on_event": "print"}, "on_event must be a function, not str"),
    ],
)
def test_a_wrong_type_is_a_type_error(options: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        bowout.connect(**{"host": HOST, "port": 443, **options})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"port": 0}, "port must be from 1 to 65535, not 0"),
        ({"port": -1}, "port must be from 1 to 65535"),
        ({"port": 65536}, "port must be from 1 to 65535, not 65536"),
        ({"host": ""}, "host is empty"),
        ({"host": "https://peer.test"}, r"not 'https://peer.test': write 'peer.test', 443"),
        ({"host": "https://peer.test:8443/path?query"}, "write 'peer.test', 8443"),
        ({"host": "wss://peer.test"}, "write 'peer.test', 443"),
        ({"host": "ftp://peer.test", "port": 21}, "write 'peer.test', 21"),
        ({"host": "https://[::1]/"}, "write '::1', 443"),
        ({"host": "https://"}, "write the host's name"),
        ({"host": "https://[half"}, "write the host's name"),
        ({"host": "https://peer.test:port"}, "write the host's name"),
        ({"host": "peer.test:8443"}, "write 'peer.test', 8443"),
        ({"host": "[::1]"}, "write '::1', 443"),
        ({"host": "[::1]:8443"}, "write '::1', 8443"),
        ({"host": "user@peer.test"}, "neither a host's name nor an address"),
        ({"host": "peer.test/path"}, "neither a host's name nor an address"),
        ({"host": "peer test"}, "neither a host's name nor an address"),
        ({"host": "peer.test\n"}, "neither a host's name nor an address"),
        ({"host": "peer\0.test"}, "neither a host's name nor an address"),
        ({"host": "1:2:3"}, "neither a host's name nor an address"),
        ({"alpn": []}, "alpn is empty"),
        ({"alpn": [""]}, "names of 1 to 255 ASCII characters"),
        ({"alpn": ["ü"]}, "names of 1 to 255 ASCII characters"),
        ({"alpn": ["x" * 256]}, "names of 1 to 255 ASCII characters each, not 'x{79}…"),
        ({"starttls": ""}, "starttls must be one of"),
        ({"starttls": "SMTP"}, "not 'SMTP'; did you mean \"smtp\""),
        ({"starttls": "imaps"}, 'did you mean "imap"'),
        ({"starttls": "postgresql"}, 'did you mean "postgres"'),
        ({"starttls": "jabber"}, "\"xmpp-server\", not 'jabber'$"),
        ({"starttls_name": "me"}, "starttls_name is for starttls"),
        ({"server_hostname": "", "context": None}, "check_hostname is False"),
        ({"server_hostname": "", "context": client_context()}, "check_hostname is False"),
        ({"server_hostname": "."}, "server_hostname cannot be"),
        ({"server_hostname": ".bad"}, "server_hostname cannot be"),
        ({"server_hostname": "a..b"}, "server_hostname cannot be"),
        ({"server_hostname": "nul\0"}, r"server_hostname cannot be 'nul\\x00'"),
        ({"server_hostname": "peer.test:443"}, "server_hostname cannot be"),
        ({"server_hostname": "https://peer.test"}, "server_hostname cannot be"),
        ({"server_hostname": f"{'a' * 64}.test"}, "server_hostname cannot be"),
        ({"context": server_context()}, "cannot be a client's"),
        ({"connect_timeout": -1}, "connect_timeout must be a finite number of seconds, 0 or more"),
        ({"handshake_timeout": float("nan")}, "handshake_timeout must be a finite number"),
        ({"close_timeout": float("inf")}, "nothing waits for ever"),
        ({"keepalive": 0}, "keepalive must be more than 0 seconds; None switches it off"),
        ({"keepalive": -5}, "keepalive must be a finite number"),
        ({"keepalive": float("inf")}, "keepalive must be a finite number"),
        ({"linger_bytes": -1}, "linger_bytes must be 0 or more, not -1"),
        ({"truncation": "ignore"}, 'truncation must be one of "raise", "tolerate", not \'ignore\'$'),
        ({"truncation": "tolerated"}, 'did you mean "tolerate"'),
        ({"truncation": ""}, "truncation must be one of"),
        ({"on_error": "Close"}, 'did you mean "close"'),
    ],
)
def test_a_wrong_value_is_a_value_error(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        bowout.connect(**{"host": HOST, "port": 443, **options})


def test_no_wrong_argument_is_a_misuse_of_a_stream() -> None:
    """That is for calls that come at the wrong time: nothing but the arguments has to be changed here."""
    for options in ({"port": "443"}, {"port": 0}):
        with pytest.raises((TypeError, ValueError)) as caught:
            bowout.connect(**{"host": HOST, **options})  # type: ignore[arg-type]
        assert not isinstance(caught.value, MisuseError)


@pytest.mark.parametrize("seconds", [0, 5, 2.5, Fraction(5, 2)])
def test_every_real_number_is_a_time(seconds: Any) -> None:
    bowout.connect(HOST, 443, context=client_context(), connect_timeout=seconds)


@pytest.mark.parametrize(
    "host", ["localhost", "peer.test.", "_dmarc.peer.test", "127.0.0.1", "127.1", "::1", "fe80::1%eth0", "faß.de"]
)
def test_every_name_and_address_is_a_host(host: str) -> None:
    bowout.connect(host, 443, context=client_context())


def test_the_type_of_starttls_names_every_protocol() -> None:
    assert set(get_args(bowout.StartTLSName)) == set(bowout.STARTTLS)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"received": "text"}, TypeError, "received must be bytes, not str"),
        ({"received": 5}, TypeError, "received must be bytes, not int"),
        ({"server_side": True, "context": server_context(), "server_hostname": NAME}, ValueError, "is for clients"),
        ({"server_hostname": None}, ValueError, "checks the server's name: give server_hostname"),
        ({"server_hostname": ""}, ValueError, "check_hostname is False"),
        ({"context": None}, TypeError, "context must be an ssl.SSLContext, not NoneType"),
        ({"context": server_context()}, ValueError, "cannot be a client's"),
        ({"server_side": True, "server_hostname": None}, ValueError, "cannot be a server's"),
        ({"session": object()}, TypeError, "session must be an ssl.SSLSession"),
        ({"keepalive": 0}, ValueError, "keepalive"),
        ({"on_error": "panic"}, ValueError, "on_error"),
        ({"close_timeout": "5"}, TypeError, "close_timeout"),
    ],
)
def test_a_socket_that_cannot_be_wrapped_stays_the_callers(
    run: Runner, options: dict[str, Any], kind: type[Exception], said: str
) -> None:
    async def main() -> None:
        with pytest.raises(kind, match=said):
            bowout.wrap(ours, **{"context": client_context(), "server_hostname": NAME, **options})

    ours, theirs = tcp_pair()
    with ours, theirs:
        run(main)
        assert ours.fileno() >= 0


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (lambda stream: stream.send("text"), TypeError, "data must be bytes, not str"),
        (lambda stream: stream.send(None), TypeError, "data must be bytes, not None"),
        (lambda stream: stream.receive("5"), TypeError, "max_bytes must be an int, not str"),
        (lambda stream: stream.receive(True), TypeError, "max_bytes must be an int, not bool"),
        (lambda stream: stream.receive(0), ValueError, "max_bytes must be 1 or more, not 0"),
        (lambda stream: stream.receive_exactly(1.0), TypeError, "count must be an int, not float"),
        (lambda stream: stream.receive_exactly(-1), ValueError, "count must be 0 or more, not -1"),
        (lambda stream: stream.receive_into(b"fixed"), ValueError, "read-only"),
        (lambda stream: stream.receive_into(bytearray()), ValueError, "empty"),
        (lambda stream: stream.receive_into("text"), TypeError, "bytes-like object"),
        (lambda stream: stream.receive_until("\n"), TypeError, "separator must be bytes, not str"),
        (lambda stream: stream.receive_until(b""), ValueError, "separator is empty"),
        (lambda stream: stream.receive_until(b"\r\n", 1), ValueError, "limit must be 2 or more, not 1"),
        (lambda stream: stream.receive_until(b"\n", "1"), TypeError, "limit must be an int, not str"),
        (lambda stream: stream.close("5"), TypeError, "timeout must be a number of seconds, not str"),
        (lambda stream: stream.close(-1), ValueError, "timeout must be a finite number of seconds"),
        (lambda stream: stream.close(late=b""), TypeError, "late must be a function, not bytes"),
        (lambda stream: stream.unwrap([]), TypeError, "timeout must be a number of seconds, not list"),
    ],
)
def test_a_verb_refuses_before_it_does_anything(run: Runner, call: Any, kind: type[Exception], said: str) -> None:
    async def main() -> None:
        stream = link.stream()
        with pytest.raises(kind, match=said):
            await call(stream)
        assert stream.ending is None
        assert not stream.ssl_object.version()
        stream.abort()

    with peer(lambda wire: None) as link:
        run(main)


def test_protocols_that_can_be_read_once_are_offered(run: Runner) -> None:
    """The check of the arguments must not use them up."""

    async def main() -> str | None:
        names: Any = (name for name in ["two", "one"])
        stream = await bowout.connect(NAME, 443, over=link.sock, alpn=names, context=client_context())
        await stream.close()
        return stream.alpn

    server = server_context()
    server.set_alpn_protocols(["one"])
    with peer(polite, context=server) as link:
        assert run(main) == "one"


def test_numbers_of_other_libraries_are_ints() -> None:
    class Count:
        def __index__(self) -> int:
            return 443

    bowout.connect(HOST, Count(), context=client_context(), linger_bytes=Count())  # type: ignore[arg-type]


def test_a_context_that_checks_no_name_needs_none(run: Runner) -> None:
    async def main() -> None:
        stream = bowout.wrap(ours, unchecked())
        stream.abort()

    ours, theirs = tcp_pair()
    with theirs:
        run(main)


def test_an_unconnected_socket_is_a_value_error() -> None:
    with socket.socket() as sock, pytest.raises(ValueError, match="the socket is not connected"):
        bowout.connect(HOST, 443, over=sock)
