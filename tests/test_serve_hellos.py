"""`serve`: protocols that the server has not, names that are none, and contexts without a certificate."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import subprocess
import sys
from typing import Any, Final

import pytest
import trustme

import bowout
from bowout import Ending, HandshakeAlert, How, Side
from bowout.ending import Alert
from helpers.commands import connect as command
from helpers.peers import require_program
from helpers.runners import Runner
from helpers.served import LOOPBACK, Endings, asks, connect, echo, serve, tcp
from helpers.serving import serving
from helpers.tasks import in_thread
from helpers.wire import NAME, VERSIONS, Version, authority, client_context, server_context

both_versions = pytest.mark.parametrize("version", VERSIONS)


def offering(*protocols: str, version: Version | None = None) -> ssl.SSLContext:
    context = client_context(version)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


class TestALPN:
    """RFC 7301 section 3.2."""

    @both_versions
    @pytest.mark.parametrize(
        ("offered", "agreed"), [(["http/1.1", "h2"], "h2"), (["x", "http/1.1"], "http/1.1"), ([], None)]
    )
    def test_the_best_of_ours_is_agreed_on(
        self, run: Runner, version: Version, offered: list[str], agreed: str | None
    ) -> None:
        async def main() -> tuple[str | None, bytes]:
            async with serve(echo, alpn=["h2", "http/1.1"]) as server:
                context = offering(*offered, version=version)
                async with await connect(server, context=context) as stream:
                    await stream.send(b"ping")
                    return stream.alpn, await stream.receive_exactly(4)

        assert run(main) == (agreed, b"ping")

    @both_versions
    def test_none_in_common_is_refused_with_its_alert(self, run: Runner, version: Version) -> None:
        async def main() -> tuple[Alert, Ending]:
            endings = Endings()
            async with serve(echo, alpn=["h2"], on_ending=endings) as server:
                with pytest.raises(HandshakeAlert) as caught:
                    await connect(server, context=offering("http/1.1", version=version))
                return caught.value.alert, await endings.one

        alert, ending = run(main)
        assert (alert.name, alert.level) == ("no_application_protocol", 2)
        assert (ending.how, ending.alert) == (How.FAILED_HANDSHAKE, Alert(code=120, level=2, by=Side.WE))
        assert "only protocols that this server does not support" in ending.reason

    def test_openssl_understands_the_refusal(self, run: Runner) -> None:
        openssl = require_program("openssl")

        async def main() -> str:
            def ask() -> str:
                arguments = ["s_client", "-connect", f"{LOOPBACK}:{server.port}", "-alpn", "x,y"]
                done = subprocess.run([openssl, *arguments], input=b"", capture_output=True, check=False)
                return done.stderr.decode()

            async with serve(echo, alpn=["h2"]) as server:
                return await in_thread(ask)

        assert "no application protocol" in run(main)

    def test_of_a_chosen_context_they_are_the_same(self, run: Runner) -> None:
        async def main() -> tuple[list[str | None], str]:
            sni = {NAME: server_context()}
            async with serve(echo, alpn=["h2"], sni=sni) as server:
                agreed = []
                for name in (NAME, "localhost"):
                    async with await connect(server, context=offering("h2"), server_hostname=name) as stream:
                        agreed.append(stream.alpn)
                with pytest.raises(HandshakeAlert) as caught:
                    await connect(server, context=offering("x"), server_hostname=NAME)
                return agreed, caught.value.alert.name

        assert run(main) == (["h2", "h2"], "no_application_protocol")

    def test_protocols_of_the_context_alone_are_agreed_to_without_it(self, run: Runner) -> None:
        """As documented: nobody can tell which they are."""
        context = server_context()
        context.set_alpn_protocols(["h2"])

        async def main() -> list[str | None]:
            agreed = []
            async with serve(echo, context=context) as server:
                for protocol in ("h2", "x"):
                    async with await connect(server, context=offering(protocol)) as stream:
                        agreed.append(stream.alpn)
            return agreed

        assert run(main) == ["h2", None]

    def test_the_command_line_refuses_too(self) -> None:
        with serving("--alpn", "h2", "--naccept", "1") as server:
            client = command(server.address, "--alpn", "x")
            done = server.finish()
        assert client.status == 3
        assert "no_application_protocol" in client.err
        assert "only protocols that this server does not support" in done.err


def hello(name: bytes) -> bytes:
    """OpenSSL's own ClientHello, for a name of as many bytes, with this one in its place."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    placeholder = "q" * len(name)
    tls = client_context().wrap_bio(incoming, outgoing, server_hostname=placeholder)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    record = outgoing.read()
    assert record.count(placeholder.encode()) == 1
    return record.replace(placeholder.encode(), name)


NAMES: Final = [b"\xff\xfe.test", "faß.test".encode(), b"a\nERROR forged", b"\x1b[2Jtest", b"a b.test"]


class TestNames:
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("way", ["mapping", "function", "the context's own"])
    def test_one_that_is_no_text_is_refused_quietly(
        self, run: Runner, name: bytes, way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> tuple[bytes, Ending]:
            asked: list[Any] = []
            endings, context = Endings(), server_context()
            sni: Any = {"mapping": {"a.test": server_context()}, "function": asked.append}.get(way)
            if way == "the context's own":
                context.sni_callback = lambda *arguments: asked.append(arguments)
            async with serve(echo, context=context, sni=sni, on_ending=endings) as server:
                with contextlib.closing(tcp(server.port)) as sock:
                    sock.sendall(hello(name))
                    answer = await in_thread(lambda: sock.recv(100))
            assert asked == []
            return answer, await endings.one

        unraisable: list[Any] = []
        monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
        answer, ending = run(main)
        assert unraisable == []
        assert answer == b"\x15\x03\x03\x00\x02\x02\x70"  # unrecognized_name
        assert (ending.how, ending.alert) == (How.FAILED_HANDSHAKE, Alert(code=112, level=2, by=Side.WE))
        assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []

    def test_a_stream_of_ones_own_refuses_it_too(self, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main() -> bytes:
            context = server_context()
            context.sni_callback = lambda *_: None
            ours, theirs = socket.socketpair()
            with contextlib.closing(theirs), contextlib.closing(ours):
                theirs.sendall(hello(b"\xff\xfe.test"))
                with pytest.raises(bowout.HandshakeError, match="not a host name"):
                    await bowout.wrap(ours, context, server_side=True).handshake()
                return theirs.recv(100)

        unraisable: list[Any] = []
        monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
        assert run(main)[-1:] == b"\x70"
        assert unraisable == []

    def test_without_other_contexts_nobody_looks_at_it(self, run: Runner) -> None:
        async def main() -> bytes:
            async with serve(echo) as server:
                with contextlib.closing(tcp(server.port)) as sock:
                    sock.sendall(hello(b"\xff\xfe.test"))
                    return await in_thread(lambda: sock.recv(1))

        assert run(main) == b"\x16"

    def test_the_others_are_served(self, run: Runner) -> None:
        async def main() -> bytes:
            async with serve(echo, sni={"a.test": server_context()}) as server:
                with contextlib.closing(tcp(server.port)) as sock:
                    sock.sendall(hello(b"\xff\xfe.test"))
                    await in_thread(lambda: sock.recv(100))
                return await asks(server)

        assert run(main) == b"ping"


def bare(version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A server's context without a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class TestNoCertificate:
    @pytest.mark.parametrize("version", [None, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_is_refused_at_the_start(self, version: ssl.TLSVersion | None) -> None:
        with pytest.raises(ValueError, match="load_cert_chain"):
            bowout.serve(echo, context=bare(version))

    def test_in_a_mapping_too(self) -> None:
        with pytest.raises(ValueError, match="load_cert_chain"):
            bowout.serve(echo, context=server_context(), sni={"a.test": bare()})

    @pytest.mark.parametrize("way", ["mapping", "function", "the context's own"])
    def test_where_others_are_chosen_by_name_it_is_a_warning(
        self, run: Runner, caplog: pytest.LogCaptureFixture, way: str
    ) -> None:
        async def main() -> bytes:
            def choose(tls: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
                asked.append(name)
                tls.context = other

            asked: list[str | None] = []
            context, other = bare(), server_context()
            sni: Any = {"mapping": {NAME: other}, "function": lambda name: other}.get(way)
            if way == "the context's own":
                context.sni_callback = choose
            async with serve(echo, context=context, sni=sni) as server:
                assert asked == []
                return await asks(server, server_hostname=NAME)

        assert run(main) == b"ping"
        [record] = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert "load_cert_chain" in record.getMessage()

    @pytest.mark.parametrize("ciphers", ["AECDH:@SECLEVEL=0", "PSK:@SECLEVEL=0"])
    def test_where_none_is_needed_nobody_is_refused(self, ciphers: str, caplog: pytest.LogCaptureFixture) -> None:
        context = bare(ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(ciphers)
        bowout.serve(echo, context=context)
        assert len(caplog.records) == ciphers.startswith("PSK")

    @pytest.mark.parametrize("ciphers", ["AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE+CHACHA20"])
    def test_one_with_few_ciphers_is_no_other(self, ciphers: str, caplog: pytest.LogCaptureFixture) -> None:
        for version in (ssl.TLSVersion.TLSv1_2, None):
            context = bare()
            authority().issue_cert(NAME, key_type=trustme.KeyType.RSA).configure_cert(context)
            if version is not None:
                context.maximum_version = version
            context.set_ciphers(ciphers)
            context.set_ecdh_curve("secp521r1")
            bowout.serve(echo, context=context)
        assert caplog.records == []
