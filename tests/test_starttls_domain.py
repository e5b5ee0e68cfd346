"""What an XMPP server is told as ``to``, and which name its certificate then has to be for (RFC 6120, RFC 7622)."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

import bowout
from bowout import CertificateError, How
from bowout._starttls import Send, dialogue
from helpers.wire import NAME, Wire, client_context, peer, polite, server_context

if TYPE_CHECKING:
    from helpers.runners import Runner

BOTH = pytest.mark.parametrize("protocol", ["xmpp", "xmpp-server"])


def to(opening: bytes) -> str:
    """The ``to`` of a stream's opening tag."""
    root = ET.fromstring(opening.decode() + "</stream:stream>")
    return root.attrib["to"]


def told(protocol: str, host: str, name: str | None = None) -> str:
    """What the server is told."""
    step = next(dialogue(protocol, host=host, name=name))
    assert isinstance(step, Send)
    return to(step.data)


@BOTH
@pytest.mark.parametrize(
    ("host", "name", "expected"),
    [
        ("host.example", None, "host.example"),
        ("host.example", "wanted.example", "wanted.example"),
        ("host.example.", None, "host.example"),
        ("HOST.Example", None, "host.example"),
        ("faß.de", None, "faß.de"),
        ("xn--fa-hia.de", None, "faß.de"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("::1", None, "[::1]"),
        ("fe80::1%eth0", None, "[fe80::1]"),
        ("192.0.2.1", "it's<you>.example", "it's<you>.example"),
    ],
)
def test_to_is_a_domain_as_xmpp_writes_it(protocol: str, host: str, name: str | None, expected: str) -> None:
    assert told(protocol, host, name) == expected


@BOTH
@pytest.mark.parametrize("name", ["juliet@host.example", "host.example/balcony", "juliet@host.example/balcony"])
def test_to_is_no_whole_address(protocol: str, name: str) -> None:
    with pytest.raises(ValueError, match="the domain alone"):
        dialogue(protocol, host="host.example", name=name)


def xmpp(wire: Wire) -> object:
    """A server that notes what it is told, and changes to TLS."""
    opening = b""
    while b"'1.0'>" not in opening:
        opening += wire.sock.recv(4096)
    wire.sock.sendall(
        b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
        b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"
    )
    assert b"<starttls" in wire.sock.recv(4096)
    wire.sock.sendall(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
    with contextlib.suppress(OSError):  # refused
        polite(wire)
    return to(opening)


@pytest.mark.parametrize(
    ("host", "options", "domain", "sent"),
    [
        # The machine that a DNS record names is not what the certificate is for.
        ("xmpp1.hoster.example", {"starttls_name": NAME}, NAME, NAME),
        (NAME, {}, NAME, NAME),
        ("192.0.2.1", {"server_hostname": NAME}, NAME, NAME),
        # Both given: each is what was said.
        ("192.0.2.1", {"server_hostname": NAME, "starttls_name": "wanted.example"}, "wanted.example", NAME),
    ],
)
def test_the_certificate_is_for_the_domain(
    run: Runner, host: str, options: dict[str, Any], domain: str, sent: str
) -> None:
    async def main() -> How:
        stream = await bowout.connect(host, 5222, over=link.sock, context=client_context(), starttls="xmpp", **options)
        return (await stream.close()).how

    asked: list[str | None] = []
    context = server_context()
    context.sni_callback = lambda _tls, name, _context: asked.append(name)
    with peer(xmpp, context=context) as link:
        assert run(main) is How.CLEAN
    assert (link.result, asked) == (domain, [sent])


def test_a_certificate_for_the_machine_alone_is_refused(run: Runner) -> None:
    async def main() -> None:
        with pytest.raises(CertificateError, match=re.escape("wanted.example")):
            await bowout.connect(
                NAME, 5222, over=link.sock, context=client_context(), starttls="xmpp", starttls_name="wanted.example"
            )

    with peer(xmpp) as link:
        run(main)


def test_what_smtp_presents_is_our_name_and_not_the_servers(run: Runner) -> None:
    """The certificate has nothing to do with it."""

    async def main() -> How:
        stream = await bowout.connect(
            NAME, 25, over=link.sock, context=client_context(), starttls="smtp", starttls_name="faß.example"
        )
        return (await stream.close()).how

    def smtp(wire: Wire) -> object:
        wire.sock.sendall(b"220 peer.test\r\n")
        assert wire.sock.recv(1000) == b"EHLO xn--fa-hia.example\r\n"
        wire.sock.sendall(b"250-peer.test\r\n250 STARTTLS\r\n")
        assert wire.sock.recv(1000) == b"STARTTLS\r\n"
        wire.sock.sendall(b"220 go ahead\r\n")
        return polite(wire)

    with peer(smtp) as link:
        assert run(main) is How.CLEAN
