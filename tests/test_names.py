"""Names and addresses: as a resolver, as TLS, as a certificate and as a person wants them."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import bowout
from bowout._arguments import checked_server_hostname
from bowout._backends.sockets import resolvable
from bowout._names import ascii_name, host_of, ipv6, unicode_name, without_root, without_zone
from helpers.served import nothing
from helpers.wire import client_context, server_context

if TYPE_CHECKING:
    from helpers.runners import Runner

#: The interface with the number 1, which is the loopback's on Linux.
FIRST = socket.if_indextoname(1)
#: The number of no interface.
NONE = 1 << 30


def link_local() -> tuple[str, str]:
    """A link-local address of this machine and its interface, or skip the test."""
    try:
        lines = Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        pytest.skip("this machine does not tell its IPv6 addresses")
    for digits, _, _, _, flags, name in map(str.split, lines):
        address = ipaddress.IPv6Address(int(digits, 16))
        if address.is_link_local and not int(flags, 16) & 0x48:  # neither tentative nor a duplicate
            return str(address), name
    pytest.skip("this machine has no link-local address")


# -- zones -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (("127.0.0.1", 443), "127.0.0.1"),
        (("::1", 443, 0, 0), "::1"),
        (("fe80::1", 443, 0, 1), f"fe80::1%{FIRST}"),
        (("fe80::1", 443, 7, 1), f"fe80::1%{FIRST}"),
        (("fe80::1%eth9", 443, 0, 1), "fe80::1%eth9"),
        (("fe80::1", 443, 0, NONE), f"fe80::1%{NONE}"),
    ],
)
def test_an_address_of_a_socket_has_its_zone(address: tuple[object, ...], host: str) -> None:
    assert host_of(address) == host


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%25eth0", "fe80::1"),
        ("fe80::1", "fe80::1"),
        ("peer.test", "peer.test"),
        ("100%.test", "100%.test"),
        ("127.0.0.1%eth0", "127.0.0.1%eth0"),
    ],
)
def test_only_an_ipv6_address_has_a_zone(name: str, bare: str) -> None:
    assert without_zone(name) == bare


def test_an_address_may_have_a_zone_and_a_name_may_not() -> None:
    assert ipv6("fe80::1%eth0") is not None
    assert ipv6("peer.test") is None
    assert ipv6("fe80::1%") is None


def test_a_link_local_server_tells_an_address_to_connect_to(run: Runner) -> None:
    address, interface = link_local()

    async def main() -> tuple[object, bowout.How, str, object, object]:
        where = f"{address}%{interface}"
        async with bowout.serve(nothing, where, context=server_context(None, address)) as server:
            async with bowout.connect(*server.addresses[0], context=client_context()) as stream:
                local, remote = stream.local_address, stream.remote_address
            assert stream.ending is not None
            return server.addresses[0][0], stream.ending.how, stream.peer, local[0], remote[0]

    host, how, peer, local, remote = run(main)
    zoned = f"{address}%{interface}"
    assert (host, local, remote) == (zoned, zoned, zoned)
    assert how is bowout.How.CLEAN
    assert peer.startswith(f"[{zoned}]:")


def test_a_client_with_a_link_local_address_is_told_with_its_zone(run: Runner) -> None:
    address, interface = link_local()
    peers: list[str] = []

    async def note(stream: bowout.Stream) -> None:
        peers.append(stream.peer)
        await stream.receive()

    async def main() -> None:
        where = f"{address}%{interface}"
        async with bowout.serve(note, where, context=server_context(None, address)) as server:
            stream = await bowout.connect(*server.addresses[0], context=client_context())
            await stream.close()

    run(main)
    assert peers[0].startswith(f"[{address}%{interface}]:")


# -- what TLS carries ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "carried"),
    [
        ("peer.test", "peer.test"),
        ("peer.test.", "peer.test"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("faß.de", "xn--fa-hia.de"),
        ("FASS.de", "FASS.de"),
        ("Bücher.example", "xn--bcher-kva.example"),
        ("bücher。example", "xn--bcher-kva.example"),
        ("xn--fa-hia.de", "xn--fa-hia.de"),
        ("_under_score.test", "_under_score.test"),
        ("a" * 63 + ".test", "a" * 63 + ".test"),
    ],
)
def test_a_name_as_tls_carries_it(given: str, carried: str) -> None:
    assert checked_server_hostname(given) == carried


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".a", "a..b", "a b", "a\tb", "a\0", "a/b", "a@b", "a:1", "[::1]", "ü" * 64, "\u2024", "fe80::1%"],
)
def test_a_name_that_tls_cannot_carry(name: str) -> None:
    with pytest.raises(ValueError, match="server_hostname cannot be"):
        checked_server_hostname(name)


# -- IDNA 2008 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ascii_form"),
    [
        ("faß.de", "xn--fa-hia.de"),  # IDNA 2003: fass.de
        ("FAẞ.de", "xn--fa-hia.de"),
        ("βόλος.com", "xn--nxasmm1c.com"),  # the final sigma; IDNA 2003: xn--nxasmq6b.com
        ("straße.example.", "xn--strae-oqa.example."),
        ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
        ("plain.test", "plain.test"),
    ],
)
def test_a_name_in_ascii_follows_idna_2008(name: str, ascii_form: str) -> None:
    assert ascii_name(name) == ascii_form
    assert resolvable(name) == ascii_form


@pytest.mark.parametrize("name", ["ü" * 64, "a.\u0301b.test", "☃.test", "\u2024.test"])
def test_a_name_without_a_form_in_ascii_has_no_address(name: str) -> None:
    """A snowman is a letter to IDNA 2003 only; a combining accent may begin no label."""
    with pytest.raises(UnicodeError):
        ascii_name(name)
    with pytest.raises(socket.gaierror, match="not a host name"):
        resolvable(name)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("faß.de", "faß.de"),
        ("xn--fa-hia.de", "faß.de"),
        ("PEER.test.", "peer.test"),
        ("Bücher.example", "bücher.example"),
        ("xn--99999999.test", "xn--99999999.test"),
    ],
)
def test_a_name_in_unicode(name: str, shown: str) -> None:
    assert unicode_name(name) == shown


def test_the_dot_of_the_root_is_for_resolvers() -> None:
    assert without_root("peer.test.") == "peer.test"
    assert without_root("peer.test") == "peer.test"
