"""`serve`: its certificates, new ones without a restart, those for other names, and those of clients."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

import bowout
from bowout import (
    CertificateError,
    Ending,
    EventKind,
    HandshakeAlert,
    HandshakeReset,
    How,
    Stream,
)
from helpers.runners import Runner
from helpers.served import (
    LOOPBACK,
    Endings,
    Failure,
    asks,
    connect,
    echo,
    nothing,
    read_to_end,
    serve,
    visit,
)
from helpers.wire import VERSIONS, Version, Wire, authority, client_context, server_context

both_versions = pytest.mark.parametrize("version", VERSIONS)


def names_of(wire: Wire) -> set[str]:
    """The DNS names in the server's certificate."""
    fields: Any = wire.tls.getpeercert()
    return {str(value) for kind, value in fields["subjectAltName"] if kind == "DNS"}


def context_naming(name: str) -> ssl.SSLContext:
    """A server's context with a certificate for `name`."""
    return server_context(None, name, "peer.test")


class TestCertificates:
    @staticmethod
    def write(path: Path, *names: str) -> Path:
        path.write_bytes(authority().issue_cert(*names).private_key_and_cert_chain_pem.bytes())
        return path

    def test_a_new_one_is_used_for_new_connections(self, run: Runner, tmp_path: Path) -> None:
        new = self.write(tmp_path / "new.pem", "peer.test", "new.test")

        async def main() -> set[str]:
            async with serve(echo) as server:
                server.reload_certificate(new)
                names: set[str] = await visit(server, names_of)
                return names

        assert "new.test" in run(main)

    def test_established_connections_do_not_notice(self, run: Runner, tmp_path: Path) -> None:
        new = self.write(tmp_path / "new.pem", "peer.test")

        async def main() -> bytes:
            async with serve(echo) as server, await connect(server) as stream:
                server.reload_certificate(new)
                await stream.send(b"ping")
                return await stream.receive_exactly(4)

        assert run(main) == b"ping"

    def test_a_pair_that_does_not_fit_leaves_the_old_one(self, run: Runner, tmp_path: Path) -> None:
        one, other = authority().issue_cert("a.test"), authority().issue_cert("b.test")
        one.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        other.private_key_pem.write_to_path(tmp_path / "key.pem")

        async def main() -> set[str]:
            async with serve(echo) as server:
                with pytest.raises(ssl.SSLError):
                    server.reload_certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
                names: set[str] = await visit(server, names_of)
                return names

        assert "peer.test" in run(main)

    def test_a_missing_file_leaves_the_old_one(self, run: Runner, tmp_path: Path) -> None:
        async def main() -> bytes:
            async with serve(echo) as server:
                with pytest.raises(FileNotFoundError):
                    server.reload_certificate(tmp_path / "missing.pem")
                return await asks(server)

        assert run(main) == b"ping"

    def test_an_encrypted_key_without_a_password_is_an_error(self, run: Runner, tmp_path: Path) -> None:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

        leaf = authority().issue_cert(LOOPBACK)
        key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
        encrypted = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
        path = tmp_path / "encrypted.pem"
        path.write_bytes(encrypted + leaf.cert_chain_pems[0].bytes())

        async def main() -> bytes:
            async with serve(echo) as server:
                with pytest.raises(ssl.SSLError):
                    server.reload_certificate(path)
                server.reload_certificate(path, password="secret")
                return await asks(server)

        assert run(main) == b"ping"

    def test_one_of_a_mapping_is_reloaded_by_its_name(self, run: Runner, tmp_path: Path) -> None:
        new = self.write(tmp_path / "new.pem", "peer.test", "new.test")

        async def main() -> set[str]:
            async with serve(echo, sni={"Peer.Test": server_context()}) as server:
                server.reload_certificate(new, name="peer.test")
                names: set[str] = await visit(server, names_of)
                return names

        assert "new.test" in run(main)

    @pytest.mark.parametrize("sni", [None, {"a.test": server_context()}])
    def test_a_name_that_is_not_there_is_misuse(self, run: Runner, sni: Any) -> None:
        async def main() -> None:
            async with serve(echo, sni=sni) as server:
                with pytest.raises(ValueError, match=r"b\.test"):
                    server.reload_certificate("cert.pem", name="b.test")

        run(main)


class TestSNI:
    def names(self, run: Runner, sni: Any, version: Version = "1.3") -> set[str]:
        async def main() -> set[str]:
            async with serve(echo, sni=sni) as server:
                names: set[str] = await visit(server, names_of, version)
                return names

        return run(main)

    @both_versions
    def test_a_mapping_chooses_by_name(self, run: Runner, version: Version) -> None:
        assert "chosen.test" in self.names(run, {"Peer.Test": context_naming("chosen.test")}, version)

    def test_a_function_chooses_by_name(self, run: Runner) -> None:
        asked: list[str] = []

        def choose(name: str) -> ssl.SSLContext:
            asked.append(name)
            return context_naming("chosen.test")

        assert "chosen.test" in self.names(run, choose)
        assert asked == ["peer.test"]

    @pytest.mark.parametrize("sni", [{"other.test": server_context()}, lambda name: None])
    def test_every_other_name_is_served_by_the_main_context(self, run: Runner, sni: Any) -> None:
        assert "localhost" in self.names(run, sni)

    def test_no_name_is_served_by_the_main_context(self, run: Runner) -> None:
        async def main() -> bytes:
            context = client_context()
            async with (
                serve(echo, sni={"127.0.0.1": context_naming("other.test")}) as server,
                bowout.connect(LOOPBACK, server.port, context=context) as stream,
            ):
                await stream.send(b"ping")
                return await stream.receive_exactly(4)

        assert run(main) == b"ping"

    @pytest.mark.parametrize("result", [Failure, "no context"])
    def test_a_failing_function_fails_that_handshake(
        self, run: Runner, caplog: pytest.LogCaptureFixture, result: Any
    ) -> None:
        async def main() -> str:
            def choose(name: str) -> ssl.SSLContext:
                if result is Failure:
                    raise Failure
                return result  # type: ignore[no-any-return]

            async with serve(echo, sni=choose) as server:
                with pytest.raises(HandshakeAlert) as caught:
                    await connect(server, server_hostname="peer.test")
                return caught.value.alert.name

        assert run(main) == "internal_error"
        assert [record.getMessage() for record in caplog.records] == ["the sni function failed"]

    def test_the_endings_of_a_chosen_context_know_as_much(self, run: Runner) -> None:
        async def main() -> Ending:
            endings = Endings()
            async with serve(nothing, sni={"peer.test": server_context()}, on_ending=endings) as server:
                await visit(server, read_to_end)
                return await endings.one

        assert EventKind.TICKET in {event.kind for event in run(main).events}

    def test_a_mapping_that_wants_more_of_clients_than_the_main_context_is_misuse(self) -> None:
        strict = server_context()
        strict.verify_mode = ssl.CERT_REQUIRED
        with pytest.raises(ValueError, match="main context"):
            serve(echo, sni={"strict.test": strict})

    def test_a_function_that_wants_more_is_refused_at_the_handshake(self, run: Runner) -> None:
        async def main() -> None:
            strict = server_context()
            strict.verify_mode = ssl.CERT_REQUIRED
            async with serve(echo, sni=lambda name: strict) as server:
                with pytest.raises(HandshakeAlert):
                    await connect(server, server_hostname="peer.test")

        run(main)


def mutual_context(version: Version | None) -> ssl.SSLContext:
    """A server's context that requires a client's certificate."""
    context = server_context(version)
    authority().configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class TestClientCertificates:
    @both_versions
    def test_it_is_on_the_stream(self, run: Runner, version: Version) -> None:
        async def main() -> tuple[bool, Any]:
            async def handler(stream: Stream) -> None:
                seen.append((stream.peer_certificate() is not None, stream.peer_certificate_fields()))

            seen: list[tuple[bool, Any]] = []
            context = client_context()
            authority().issue_cert("client.test").configure_cert(context)
            async with (
                serve(handler, context=mutual_context(version)) as server,
                await connect(server, context=context) as stream,
            ):
                await stream.receive()
            return seen[0]

        there, fields = run(main)
        assert there
        assert ("DNS", "client.test") in fields["subjectAltName"]

    @both_versions
    def test_without_one_the_client_is_refused(self, run: Runner, version: Version) -> None:
        assert self.refused(run, version, client_context()) == (How.FAILED_HANDSHAKE, 0)

    @both_versions
    def test_with_one_of_a_stranger_the_client_is_refused(self, run: Runner, version: Version) -> None:
        import trustme  # noqa: PLC0415

        context = client_context()
        trustme.CA().issue_cert("client.test").configure_cert(context)
        assert self.refused(run, version, context) == (How.FAILED_HANDSHAKE, 0)

    @staticmethod
    def refused(run: Runner, version: Version, context: ssl.SSLContext) -> tuple[How, int]:
        async def main() -> tuple[How, int]:
            async def handler(stream: Stream) -> None:
                called.append(stream)

            called: list[Stream] = []
            endings = Endings()
            async with serve(handler, context=mutual_context(version), on_ending=endings) as server:
                with pytest.raises((HandshakeAlert, bowout.AlertReceived, HandshakeReset, bowout.Reset)):
                    # In TLS 1.3 the client is done before the server has looked at its certificate.
                    async with await connect(server, context=context) as stream:
                        await stream.receive()
                return (await endings.one).how, len(called)

        return run(main)


def test_a_client_that_does_not_trust_us_is_a_failed_handshake(run: Runner) -> None:
    async def main() -> tuple[How, str | None]:
        endings = Endings()
        async with serve(echo, on_ending=endings) as server:
            with pytest.raises(CertificateError):
                await connect(server, context=ssl.create_default_context())
            ending = await endings.one
            return ending.how, ending.alert.name if ending.alert else None

    assert run(main) == (How.FAILED_HANDSHAKE, "unknown_ca")
