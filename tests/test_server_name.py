"""Which name does a client send, and which does it check: of the host, of its own choice, in IDNA 2008, or none."""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING, Any

import pytest

import bowout
from bowout import CertificateError, How
from helpers.served import asks, echo, serve, visit
from helpers.wire import NAME, VERSIONS, Version, authority, client_context, peer, polite, server_context

if TYPE_CHECKING:
    from helpers.runners import Runner
    from helpers.wire import Wire

both_versions = pytest.mark.parametrize("version", VERSIONS)


class NameLog:
    """A server's context that notes the names that clients ask for; None for a client that names none."""

    def __init__(self, *names: str, version: Version | None = None) -> None:
        self.context = server_context(version, *names)
        self.names: list[str | None] = []
        self.context.sni_callback = lambda _tls, name, _context: self.names.append(name)


def unchecked(version: Version | None = None) -> ssl.SSLContext:
    """A context that checks the certificate and no name."""
    context = client_context(version)
    context.check_hostname = False
    return context


def refusable(wire: Wire) -> object:
    """A peer that is polite, unless it is refused in the handshake."""
    with contextlib.suppress(ssl.SSLError, OSError, AssertionError):
        return polite(wire)
    return None


# -- none ------------------------------------------------------------------------------------------------------------


@both_versions
@pytest.mark.parametrize("by", ["connect", "wrap", "wrap with None"])
def test_no_name_is_sent(run: Runner, version: Version, by: str) -> None:
    async def main() -> How:
        context = unchecked(version)
        if by == "connect":
            stream = await bowout.connect(NAME, 443, over=link.sock, context=context, server_hostname="")
        else:
            stream = bowout.wrap(link.sock, context, server_hostname="" if by == "wrap" else None)
        await stream.handshake()
        assert stream.ssl_object.server_hostname is None
        return (await stream.close()).how

    asked = NameLog(version=version)
    with peer(polite, context=asked.context) as link:
        assert run(main) is How.CLEAN
    assert asked.names == [None]


def test_without_a_name_the_certificate_is_still_checked(run: Runner) -> None:
    async def main() -> None:
        with pytest.raises(CertificateError):
            await bowout.connect(NAME, 443, over=link.sock, context=stranger, server_hostname="")

    stranger = ssl.create_default_context()
    stranger.check_hostname = False
    with peer(refusable) as link:
        run(main)


def test_an_address_is_checked_and_not_sent(run: Runner) -> None:
    async def main() -> How:
        stream = await bowout.connect("127.0.0.1", 443, over=link.sock, context=client_context())
        return (await stream.close()).how

    asked = NameLog()
    with peer(polite, context=asked.context) as link:
        assert run(main) is How.CLEAN
    assert asked.names == [None]


@pytest.mark.parametrize("zone", ["%eth0", "%1", ""])
def test_an_address_is_checked_without_its_zone(run: Runner, zone: str) -> None:
    async def main() -> How:
        stream = await bowout.connect(f"fe80::1{zone}", 443, over=link.sock, context=client_context())
        return (await stream.close()).how

    asked = NameLog("fe80::1")
    with peer(polite, context=asked.context) as link:
        assert run(main) is How.CLEAN
    assert asked.names == [None]


# -- IDNA 2008 -------------------------------------------------------------------------------------------------------


@both_versions
@pytest.mark.parametrize("by", ["host", "server_hostname", "wrap"])
def test_a_name_is_sent_and_checked_by_idna_2008(run: Runner, version: Version, by: str) -> None:
    async def main() -> How:
        context = client_context(version)
        if by == "wrap":
            stream = bowout.wrap(link.sock, context, server_hostname="faß.de")
        elif by == "host":
            stream = await bowout.connect("faß.de", 443, over=link.sock, context=context)
        else:
            stream = await bowout.connect(NAME, 443, over=link.sock, context=context, server_hostname="Faß.de.")
        await stream.handshake()
        return (await stream.close()).how

    asked = NameLog("xn--fa-hia.de", version=version)
    with peer(polite, context=asked.context) as link:
        assert run(main) is How.CLEAN
    assert asked.names == ["xn--fa-hia.de"]


def test_the_owner_of_another_name_is_refused(run: Runner) -> None:
    """By IDNA 2003, fass.de could pass for faß.de, which somebody else may have registered."""

    async def main() -> None:
        with pytest.raises(CertificateError, match=r"xn--fa-hia\.de"):
            await bowout.connect("faß.de", 443, over=link.sock, context=client_context())

    with peer(refusable, context=server_context(None, "fass.de")) as link:
        run(main)


def test_a_server_has_a_certificate_for_a_name_in_unicode(run: Runner) -> None:
    def names_of(wire: Wire) -> Any:
        fields: Any = wire.tls.getpeercert()
        return [value for _, value in fields["subjectAltName"]]

    async def main() -> tuple[Any, bytes]:
        other = server_context(None, "xn--fa-hia.de")
        async with serve(echo, sni={"Faß.de": other}) as server:
            others = await visit(server, names_of)
            return others, await asks(server, context=client_context(), server_hostname="faß.de")

    others, answer = run(main)
    assert NAME in others
    assert answer == b"ping"


def test_a_certificate_is_renewed_by_its_name_in_unicode(run: Runner, tmp_path: Any) -> None:
    path = tmp_path / "new.pem"
    path.write_bytes(authority().issue_cert("xn--fa-hia.de").private_key_and_cert_chain_pem.bytes())

    async def main() -> bytes:
        async with serve(echo, sni={"xn--fa-hia.de": server_context(None, "old.test")}) as server:
            server.reload_certificate(path, name="faß.de")
            return await asks(server, context=client_context(), server_hostname="faß.de")

    assert run(main) == b"ping"
