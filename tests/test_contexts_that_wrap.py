"""Contexts that wrap another, as truststore's do and pip's: what is set on them arrives where OpenSSL looks."""

from __future__ import annotations

import ssl
import subprocess
import sys
import textwrap
from typing import Any, Self

import pytest
import truststore

import bowout
from bowout import CertificateError, EventKind, How, Stream
from bowout._core import hook
from helpers.runners import Runner
from helpers.served import echo, serve
from helpers.wire import NAME, VERSIONS, Version, authority, client_context, peer, polite, server_context

#: Set by the caller, and never by us.
MINE = ssl.OP_NO_TICKET


class Wrapping(ssl.SSLContext):
    """A context of the kind that delegates to an inner one; its own C object is never used."""

    inner: ssl.SSLContext

    def __new__(cls, inner: ssl.SSLContext) -> Self:
        self = super().__new__(cls, inner.protocol)
        self.inner = inner
        return self

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        return self.inner.wrap_bio(*args, **options)

    def set_alpn_protocols(self, alpn_protocols: Any) -> None:
        self.inner.set_alpn_protocols(alpn_protocols)

    @property
    def protocol(self) -> ssl._SSLMethod:  # type: ignore[override]
        return self.inner.protocol

    @property
    def check_hostname(self) -> bool:  # type: ignore[override]
        return self.inner.check_hostname

    @property
    def verify_mode(self) -> ssl.VerifyMode:  # type: ignore[override]
        return self.inner.verify_mode

    @property
    def options(self) -> ssl.Options:  # type: ignore[override]
        return self.inner.options


class Stubborn(ssl.SSLContext):
    """A context whose options only its maker may change."""

    @property  # type: ignore[override]
    def options(self) -> ssl.Options:
        return ssl.Options(0)

    @options.setter
    def options(self, value: ssl.Options) -> None:
        raise AttributeError("these are not yours")


def trusting() -> ssl.SSLContext:
    context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    return context


def real_options(context: ssl.SSLContext) -> int:
    """The options where OpenSSL looks."""
    options: int = hook.OPTIONS.__get__(context)
    return options


def test_the_callers_options_stay_and_ours_arrive() -> None:
    context = trusting()
    context.options |= MINE
    inner = hook.underlying(context)
    assert inner is not context
    if hasattr(ssl, "OP_IGNORE_UNEXPECTED_EOF"):
        context.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
    hook.prepare(context)
    options = real_options(inner)
    assert options & MINE
    assert options & ssl.OP_NO_RENEGOTIATION
    assert not options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    assert real_options(inner) == context.options


def test_a_context_is_looked_into_once() -> None:
    made: list[Wrapping] = []

    class CountingContext(Wrapping):
        def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
            made.append(self)
            return super().wrap_bio(*args, **options)

    context = CountingContext(client_context())
    for _ in range(3):
        assert hook.underlying(context) is context.inner
    assert made == [context]


@pytest.mark.parametrize("kind", [ssl.SSLContext, Stubborn])
def test_a_context_that_wraps_none_is_itself(kind: type[ssl.SSLContext]) -> None:
    context = kind(ssl.PROTOCOL_TLS_CLIENT)
    hook.prepare(context)
    assert hook.underlying(context) is context
    assert real_options(context) & ssl.OP_NO_RENEGOTIATION


def test_a_context_that_makes_nothing_is_left_to_fail_by_itself() -> None:
    class Broken(ssl.SSLContext):
        def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
            raise NotImplementedError

    context = Broken(ssl.PROTOCOL_TLS_CLIENT)
    assert hook.underlying(context) is context


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["truststore", "wrapping"])
def test_a_client_with_such_a_context_sees_every_message(run: Runner, version: Version, kind: str) -> None:
    context = trusting() if kind == "truststore" else Wrapping(client_context(version))
    if kind == "truststore":
        context.minimum_version = context.maximum_version = client_context(version).maximum_version
    seen: list[str] = []

    def on_event(event: bowout.Event) -> None:
        if event.kind is EventKind.HANDSHAKE_MESSAGE:
            seen.append(event.detail)

    async def main() -> bowout.Ending:
        async with bowout.wrap(link.sock, context, server_hostname=NAME, on_event=on_event) as stream:
            pass
        assert stream.ending is not None
        return stream.ending

    with peer(polite, version=version) as link:
        ending = run(main)
    assert ending.how is How.CLEAN
    assert "ServerHello" in seen


def test_such_a_context_checks_the_name(run: Runner) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="server_hostname"):
            bowout.wrap(link.sock, context)
        with pytest.raises(CertificateError):
            await bowout.wrap(link.sock, context, server_hostname="other.test").handshake()

    def refused(wire: Any) -> None:
        with pytest.raises(ssl.SSLError):
            wire.handshake()

    context = trusting()
    with peer(refused, context=server_context("1.2")) as link:
        run(main)


def test_such_a_context_offers_protocols_and_resumes_sessions(run: Runner) -> None:
    context = trusting()

    async def handler(stream: Stream) -> None:
        await stream.send(b"hello")
        await stream.receive()

    async def main() -> None:
        server_side = server_context()
        server_side.set_alpn_protocols(["two"])
        async with serve(handler, context=server_side) as server:
            session = None
            for resumed in (False, True):
                async with bowout.connect(
                    "127.0.0.1", server.port, context=context, alpn=["one", "two"], session=session
                ) as stream:
                    await stream.receive_exactly(5)
                    assert stream.alpn == "two"
                    assert stream.resumed == resumed
                    session = stream.session

    run(main)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_chooses_among_such_contexts(run: Runner, version: Version) -> None:
    async def main() -> None:
        context = Wrapping(server_context(version))
        sni = {"b.test": Wrapping(server_context(version, "b.test"))}
        async with serve(echo, context=context, sni=sni) as server:
            for name in ("b.test", "127.0.0.1"):
                async with bowout.connect(
                    "127.0.0.1", server.port, context=client_context(version), server_hostname=name
                ) as stream:
                    await stream.send(b"hello")
                    assert await stream.receive_exactly(5) == b"hello"
        assert real_options(context.inner) & ssl.OP_NO_RENEGOTIATION

    run(main)


PROGRAM = textwrap.dedent(
    """
    import ssl, sys
    {first}
    {second}
    standard = next(kind for kind in ssl.SSLContext.__mro__ if kind.__module__ == "ssl")
    plain = standard(ssl.PROTOCOL_TLS_CLIENT)
    from bowout._core import hook
    for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.create_default_context(), plain):
        bowout.connect("a.test", 443, context=context)
        hook.prepare(context)
        inner = hook.underlying(context)
        assert (inner is context) == (context is plain), context
        assert hook.OPTIONS.__get__(inner) & ssl.OP_NO_RENEGOTIATION, context
        assert hook.watch(inner)
    print("prepared")
    """
)


@pytest.mark.parametrize("first", ["truststore", "bowout"])
def test_truststore_may_take_the_place_of_the_standard_context(first: str) -> None:
    """As pip, and programs for a company's machines, have it; before or after bowout is imported."""
    lines = {"truststore": "import truststore; truststore.inject_into_ssl()", "bowout": "import bowout"}
    second = "bowout" if first == "truststore" else "truststore"
    text = PROGRAM.format(first=lines[first], second=lines[second])
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("prepared\n", "")
