"""Contexts that wrap contexts, as truststore's do: does all that is set and reported reach the one that OpenSSL has?"""

from __future__ import annotations

import contextlib
import ssl
from typing import TYPE_CHECKING

import pytest
import truststore

import bowout
from bowout import EventKind, How
from bowout._core import hook
from helpers.served import program
from helpers.wire import NAME, VERSIONS, Version, Wire, authority, client_context, peer, server_context

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.runners import Runner

both_versions = pytest.mark.parametrize("version", VERSIONS)


def trusting(version: Version = "1.3") -> truststore.SSLContext:
    """A client's context that wraps one, and trusts the authority of the tests as well as the system's."""
    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    context.minimum_version = context.maximum_version = client_context(version).minimum_version
    return context


def inner(context: ssl.SSLContext) -> ssl.SSLContext:
    """What truststore wraps."""
    found: ssl.SSLContext = context._ctx  # type: ignore[attr-defined]
    return found


def test_preparing_keeps_the_callers_options_and_sets_ours() -> None:
    context = trusting()
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    hook.prepare(context)
    assert inner(context).options & ssl.OP_NO_TICKET
    assert inner(context).options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert inner(context).options & ssl.OP_NO_RENEGOTIATION
    assert not inner(context).options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    assert context.options == inner(context).options


def test_a_plain_context_is_its_own() -> None:
    context = client_context()
    assert hook.underlying(context) is context


def test_what_a_context_wraps_is_found_once() -> None:
    context = trusting()
    assert hook.underlying(context) is inner(context)
    assert hook.underlying(context) is inner(context)


@both_versions
def test_a_connection_is_checked_and_its_messages_are_reported(run: Runner, version: Version) -> None:
    async def main() -> bowout.Ending:
        stream = await bowout.connect(NAME, 443, over=link.sock, context=trusting(version), alpn=["one"])
        assert await stream.receive() == b"hello"
        assert (stream.alpn, stream.tls_version) == ("one", f"TLSv{version}")
        return await stream.close()

    server = server_context(version)
    server.set_alpn_protocols(["one"])
    with peer(greeting, context=server) as link:
        ending = run(main)
    assert ending.how is How.CLEAN
    assert EventKind.TICKET in {event.kind for event in ending.events}, "only the message hook knows of it"


def greeting(wire: Wire) -> str:
    """Say a word, and be polite."""
    wire.handshake()
    wire.send(b"hello")
    end = wire.read_to_end()
    wire.close_notify()
    return end


@both_versions
def test_a_session_is_resumed(run: Runner, version: Version) -> None:
    async def main(session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
        stream = bowout.wrap(link.sock, context, server_hostname=NAME, session=session)
        assert await stream.receive() == b"hello"
        found = stream.resumed, stream.session
        await stream.close()
        return found

    context = trusting(version)
    session: ssl.SSLSession | None = None
    resumed = []
    for _ in range(2):
        with peer(greeting, version=version) as link:
            was, session = run(main, session)
        resumed.append(was)
    assert resumed == [False, True]


def test_a_certificate_that_the_system_does_not_know_is_refused(run: Runner) -> None:
    async def main() -> None:
        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with pytest.raises(bowout.CertificateError):
            await bowout.connect(NAME, 443, over=link.sock, context=context)

    with peer(refused) as link:
        run(main)


def refused(wire: Wire) -> None:
    """Shake hands as far as that goes."""
    with contextlib.suppress(OSError):
        wire.handshake()
        wire.read()


#: Takes the place of ssl.SSLContext before bowout is imported, or after, and talks to itself.
INJECTED = """
import asyncio, ssl, sys
def inject():
    import truststore
    truststore.inject_into_ssl()
if sys.argv[2] == "before":
    inject()
import bowout
if sys.argv[2] == "after":
    inject()

async def echo(stream):
    async for chunk in stream:
        await stream.send(chunk)

async def main():
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(sys.argv[1])
    client = ssl.create_default_context(cafile=sys.argv[3])
    async with bowout.serve(echo, "127.0.0.1", context=server) as listening:
        async with bowout.connect("localhost", listening.port, context=client) as stream:
            await stream.send(b"ping")
            assert await stream.receive() == b"ping"
        print(type(client).__module__.partition(".")[0], stream.ending.how)

asyncio.run(main())
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_truststore_takes_the_place_of_the_standard_contexts(tmp_path: Path, when: str) -> None:
    cert, trust = tmp_path / "server.pem", tmp_path / "ca.pem"
    cert.write_bytes(authority().issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.bytes())
    authority().cert_pem.write_to_path(trust)
    with program(INJECTED, str(cert), when, str(trust)) as process:
        assert process.rest() == "truststore clean\n"
