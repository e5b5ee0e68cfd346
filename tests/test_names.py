"""Names and addresses of hosts, wherever they go: to resolvers, into SNI, to the check of a certificate, to people."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

import bowout
from bowout import CertificateError, How, NameNotResolved, Stream
from bowout._backends.on_asyncio import AsyncioBackend
from bowout._backends.sockets import resolvable
from bowout._names import ascii_name, host_of, unicode_name, without_zone
from helpers.runners import Runner
from helpers.served import serve
from helpers.wire import NAME, VERSIONS, Version, Wire, client_context, peer, polite, server_context, tcp_pair

#: fass.de for IDNA 2003, and the name of another owner for IDNA 2008.
SHARP, SHARP_ASCII, DOUBLE = "faß.de", "xn--fa-hia.de", "fass.de"


def link_local() -> tuple[str, str] | None:
    """A link-local address of this machine, and its zone."""
    try:
        lines = Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        digits, *_, zone = line.split()
        if digits.startswith("fe80"):
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits)), zone
    return None


def refused(wire: Wire) -> None:
    """Meet a client that does not like the certificate; in TLS 1.2 a server hears of it in the handshake."""
    with pytest.raises(ssl.SSLError):
        wire.handshake()


# -- IDNA --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [SHARP, "FAß.de.", SHARP_ASCII])
def test_a_name_is_checked_and_asked_for_by_idna_2008(run: Runner, name: str) -> None:
    asked: list[str | None] = []
    context = server_context(None, SHARP_ASCII)
    context.sni_callback = lambda _tls, name, _context: asked.append(name)

    async def main() -> How:
        async with bowout.wrap(link.sock, client_context(), server_hostname=name) as stream:
            pass
        assert stream.ending is not None
        return stream.ending.how

    with peer(polite, context=context) as link:
        assert run(main) is How.CLEAN
    assert asked == [SHARP_ASCII]


@pytest.mark.parametrize("by", ["host", "server_hostname"])
def test_the_certificate_of_the_other_owner_is_refused(run: Runner, by: str) -> None:
    async def main() -> None:
        host, name = (SHARP, None) if by == "host" else ("peer.test", SHARP)
        with pytest.raises(CertificateError, match=SHARP_ASCII):
            await bowout.connect(host, 443, over=link.sock, context=client_context(), server_hostname=name)

    with peer(refused, context=server_context("1.2", DOUBLE)) as link:
        run(main)


@pytest.mark.parametrize("key", [SHARP, SHARP_ASCII, "FAß.DE."])
def test_a_server_chooses_by_idna_2008(run: Runner, key: str) -> None:
    async def handler(stream: Stream) -> None:
        await stream.receive()

    async def main() -> None:
        sni = {key: server_context(None, SHARP_ASCII), DOUBLE: server_context(None, DOUBLE)}
        async with serve(handler, sni=sni) as server:
            for name in (SHARP, DOUBLE):
                async with bowout.connect(
                    "127.0.0.1", server.port, context=client_context(), server_hostname=name
                ) as stream:
                    assert stream.ssl_object.server_hostname == ascii_name(name)

    run(main)


def test_a_resolver_is_asked_by_idna_2008(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def getaddrinfo(host: object, *_: object, **__: object) -> list[object]:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def main() -> None:
        await bowout.connect(SHARP, 443, context=client_context())

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(NameNotResolved, match=r"'faß\.de'"):
        Runner("asyncio")(main)
    assert asked[-1] == SHARP_ASCII


@pytest.mark.parametrize("host", ["☃.invalid", "a" * 64 + "ß.invalid", "ß..invalid"])
def test_a_name_that_idna_2008_does_not_know_has_no_address(run: Runner, host: str) -> None:
    async def main() -> None:
        await bowout.connect(host, 443, context=client_context())

    with pytest.raises(NameNotResolved, match="not a host name"):
        run(main)


def test_a_name_in_ascii_is_asked_for_as_it_is() -> None:
    assert resolvable("Under_score.test.") == "Under_score.test."


@pytest.mark.parametrize(
    ("name", "shown"),
    [("XN--FA-HIA.de.", SHARP), ("FAß.de", SHARP), ("A.test", "a.test"), ("xn--a.test", "xn--a.test")],
)
def test_a_name_in_unicode(name: str, shown: str) -> None:
    assert unicode_name(name) == shown


# -- no name -----------------------------------------------------------------------------------------------------------


def unchecked() -> ssl.SSLContext:
    context = client_context()
    context.check_hostname = False
    return context


MAKERS: dict[str, Callable[[socket.socket, str], Any]] = {
    "connect": lambda sock, name: bowout.connect("a.test", 443, over=sock, context=unchecked(), server_hostname=name),
    "wrap": lambda sock, name: bowout.wrap(sock, unchecked(), server_hostname=name),
}


@pytest.mark.parametrize("by", MAKERS)
@pytest.mark.parametrize(
    ("name", "sent"), [("", None), ("127.0.0.1", None), ("fe80::1%lo", None), (NAME, NAME), (f"{NAME}.", NAME)]
)
def test_the_name_that_is_sent(run: Runner, by: str, name: str, sent: str | None) -> None:
    asked: list[str | None] = []
    context = server_context()
    context.sni_callback = lambda _tls, name, _context: asked.append(name)

    async def main() -> None:
        async with MAKERS[by](link.sock, name):
            pass

    with peer(polite, context=context) as link:
        run(main)
    assert asked == [sent]


def test_without_a_name_the_chain_is_checked_still(run: Runner) -> None:
    other = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    other.maximum_version = ssl.TLSVersion.TLSv1_2
    trustme.CA().issue_cert(NAME).configure_cert(other)

    async def main() -> None:
        with pytest.raises(CertificateError):
            await bowout.wrap(link.sock, unchecked(), server_hostname="").handshake()

    with peer(refused, context=other) as link:
        run(main)


def test_the_certificate_of_an_address_is_checked(run: Runner) -> None:
    async def main() -> None:
        ours, theirs = tcp_pair()
        with theirs:
            stream = bowout.wrap(ours, client_context(), server_hostname="fe80::1%eth0")
            assert stream.ssl_object.server_hostname == "fe80::1"
            stream.abort()

    run(main)


# -- zones -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_on_a_link_local_address_can_be_reached(run: Runner, version: Version) -> None:
    found = link_local()
    if found is None:
        pytest.skip("this machine has no link-local address")
    address, zone = found
    zoned = f"{address}%{zone}"
    seen: list[Any] = []

    async def handler(stream: Stream) -> None:
        seen.append((stream.peer, stream.remote_address[0]))
        await stream.receive()

    async def main() -> None:
        context = server_context(version, address)
        async with serve(handler, host=zoned, context=context) as server:
            assert server.addresses == [(zoned, server.port)]
            async with bowout.connect(*server.addresses[0], context=client_context(version)) as stream:
                assert stream.peer == f"[{zoned}]:{server.port}"
                assert stream.remote_address[:2] == (zoned, server.port)
                port = stream.local_address[1]
        assert seen == [(f"[{zoned}]:{port}", zoned)]

    run(main)


@pytest.mark.backends("asyncio", "uvloop")
def test_a_name_may_have_several_link_local_addresses(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of multicast DNS has; every one keeps its zone on the way to the kernel."""
    found = link_local()
    if found is None:
        pytest.skip("this machine has no link-local address")
    address, zone = found

    async def handler(stream: Stream) -> None:
        await stream.receive()

    async def main() -> None:
        async with serve(handler, host=f"{address}%{zone}", context=server_context(None, address)) as server:
            scope = socket.if_nametoindex(zone)
            row = (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, server.port, 0, scope))

            async def resolve(*_: object) -> list[Any]:
                return [row, row]

            monkeypatch.setattr(AsyncioBackend, "resolve", resolve)
            async with bowout.connect(
                "printer.local", server.port, context=client_context(), server_hostname=address
            ) as stream:
                assert stream.remote_address == (f"{address}%{zone}", server.port, 0, scope)

    run(main)


def test_a_zone_that_is_none_is_no_address(run: Runner) -> None:
    async def main() -> None:
        await bowout.connect("fe80::1%nowhere", 443, context=client_context())

    with pytest.raises(NameNotResolved, match="no such zone"):
        run(main)


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (("fe80::1", 1, 0, socket.if_nametoindex("lo")), "fe80::1%lo"),
        (("fe80::1", 1, 0, 1 << 20), f"fe80::1%{1 << 20}"),
        (("fe80::1%lo", 1, 0, 1), "fe80::1%lo"),
        (("::1", 1, 0, 0), "::1"),
        (("127.0.0.1", 1), "127.0.0.1"),
    ],
)
def test_the_host_of_a_sockets_address(address: tuple[Any, ...], host: str) -> None:
    assert host_of(address) == host


@pytest.mark.parametrize(
    ("name", "without"), [("fe80::1%eth0", "fe80::1"), ("fe80::1", "fe80::1"), ("50%.test", "50%.test"), ("a", "a")]
)
def test_a_zone_is_of_an_address(name: str, without: str) -> None:
    assert without_zone(name) == without
