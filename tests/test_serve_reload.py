"""`Server.reload_certificate`: which pairs it takes, what it keeps, and what an error leaves as it was."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import itertools
import os
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from bowout import MisuseError, Server
from bowout._server import certificates, key_kinds
from bowout._server.certificates import readable_by_us
from helpers.runners import Runner
from helpers.served import LOOPBACK, asks, connect, echo, serve, tcp, visit
from helpers.tasks import in_thread, on_trio, settle
from helpers.wire import NAME, VERSIONS, Version, Wire, authority, client_context

YEAR: Final = dt.timedelta(days=365)
KEYS: Final[dict[str, Callable[[], Any]]] = {
    "RSA": lambda: rsa.generate_private_key(65537, 2048),
    "P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
    "Ed448": ed448.Ed448PrivateKey.generate,
}


@functools.cache
def _keys(kind: str) -> Iterator[Any]:
    """Three keys in turn: making one is slow."""
    return itertools.cycle([KEYS[kind]() for _ in range(3)])


class KeyPair:
    """A certificate that vouches for itself, and its key."""

    def __init__(self, directory: Path, kind: str, *, begins: float = -1, ends: float = 1) -> None:
        self.key = next(_keys(kind))
        now = dt.datetime.now(dt.UTC)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
        alternatives = x509.SubjectAlternativeName([x509.DNSName(NAME)])
        algorithm = None if kind.startswith("Ed") else hashes.SHA256()
        self.certificate = (
            x509.CertificateBuilder(name, name, self.key.public_key(), x509.random_serial_number())
            .not_valid_before(now + begins * YEAR)
            .not_valid_after(now + ends * YEAR)
            .add_extension(alternatives, critical=False)
            .sign(self.key, algorithm)
        )
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)
        self.path = directory / f"{self.certificate.serial_number:x}.pem"
        self.path.write_bytes(self.key_pem() + self.pem)

    def key_pem(self, password: bytes | None = None) -> bytes:
        hidden: Any = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        return bytes(self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden))

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)


def context_with(*pairs: KeyPair, version: Version | None = None) -> ssl.SSLContext:
    """A server's context with these."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if version is not None:
        context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, f"TLSv{version.replace('.', '_')}")
    for pair in pairs:
        context.load_cert_chain(pair.path)
    return context


def careless(ciphers: str = "", version: Version | None = None) -> ssl.SSLContext:
    """A client's context that takes any certificate."""
    context = client_context(version)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if ciphers:
        context.set_ciphers(ciphers)
    return context


async def shown(server: Server, *, ciphers: str = "", version: Version | None = None) -> bytes | None:
    """The certificate that a new client is shown, or None where it is refused."""

    def certificate(wire: Wire) -> bytes | None:
        return wire.tls.getpeercert(binary_form=True)

    try:
        der: bytes | None = await visit(server, certificate, context=careless(ciphers, version))
    except ssl.SSLError as error:
        if "HANDSHAKE_FAILURE" in str(error):
            return None
        raise
    return der


class TestKinds:
    @pytest.mark.parametrize("new", KEYS)
    @pytest.mark.parametrize("old", KEYS)
    @pytest.mark.backends("asyncio")
    def test_the_new_one_is_shown_whatever_its_key_is(self, run: Runner, tmp_path: Path, old: str, new: str) -> None:
        before, after = KeyPair(tmp_path, old), KeyPair(tmp_path, new)

        async def main() -> list[bytes | None]:
            async with serve(echo, context=context_with(before)) as server:
                seen = [await shown(server)]
                server.reload_certificate(after.path)
                return [*seen, *[await shown(server, version=version) for version in VERSIONS]]

        assert run(main) == [before.der, after.der, after.der]

    @pytest.mark.parametrize("version", VERSIONS)
    def test_on_every_loop_in_every_version(self, run: Runner, tmp_path: Path, version: Version) -> None:
        before, after = KeyPair(tmp_path, "RSA"), KeyPair(tmp_path, "P-256")

        async def main() -> list[bytes | None]:
            async with serve(echo, context=context_with(before, version=version)) as server:
                server.reload_certificate(after.path)
                seen = [await shown(server)]
                server.reload_certificate(before.path)
                return [*seen, await shown(server)]

        assert run(main) == [after.der, before.der]

    def test_the_old_one_is_not_shown_to_those_who_like_it_better(self, run: Runner, tmp_path: Path) -> None:
        before, after = KeyPair(tmp_path, "RSA"), KeyPair(tmp_path, "P-256")

        async def main() -> list[bytes | None]:
            async with serve(echo, context=context_with(before)) as server:
                seen = [await shown(server, ciphers="ECDHE+aRSA", version="1.2")]
                server.reload_certificate(after.path)
                return [*seen, await shown(server, ciphers="ECDHE+aRSA", version="1.2")]

        assert run(main) == [before.der, None]

    def test_of_two_the_one_of_its_kind_is_replaced(self, run: Runner, tmp_path: Path) -> None:
        old, kept, new = KeyPair(tmp_path, "P-256"), KeyPair(tmp_path, "RSA"), KeyPair(tmp_path, "P-384")

        async def main() -> list[bytes | None]:
            async with serve(echo, context=context_with(old, kept)) as server:
                server.reload_certificate(new.path)
                return [await shown(server, ciphers=f"ECDHE+a{kind}", version="1.2") for kind in ("ECDSA", "RSA")]

        assert run(main) == [new.der, kept.der]

    def test_one_of_a_third_kind_replaces_both(self, run: Runner, tmp_path: Path) -> None:
        old = [KeyPair(tmp_path, "P-256"), KeyPair(tmp_path, "RSA")]
        new = KeyPair(tmp_path, "Ed25519")

        async def main() -> list[bytes | None]:
            async with serve(echo, context=context_with(*old)) as server:
                server.reload_certificate(new.path)
                return [await shown(server), await shown(server, ciphers="ECDHE+aRSA", version="1.2")]

        assert run(main) == [new.der, None]

    def test_a_kind_that_is_not_known_is_not_left_beside_it(
        self, run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        known = tuple(kind for kind in key_kinds.KINDS if kind.name != "RSA")
        monkeypatch.setattr(key_kinds, "KINDS", known)
        monkeypatch.setattr(key_kinds, "KNOWN", {number for kind in known for number in kind.signatures})
        old, new = KeyPair(tmp_path, "RSA"), KeyPair(tmp_path, "P-256")

        async def main() -> bytes | None:
            async with serve(echo, context=context_with(old)) as server:
                with pytest.raises(MisuseError, match="an unknown kind of key"):
                    server.reload_certificate(new.path)
                return await shown(server)

        assert run(main) == old.der

    def test_one_of_a_mapping_gets_another_kind_too(self, run: Runner, tmp_path: Path) -> None:
        main_pair, old, new = KeyPair(tmp_path, "RSA"), KeyPair(tmp_path, "RSA"), KeyPair(tmp_path, "P-256")

        async def main() -> bytes | None:
            sni = {NAME: context_with(old)}
            async with serve(echo, context=context_with(main_pair), sni=sni) as server:
                server.reload_certificate(new.path, name=NAME.upper() + ".")
                return await shown(server)

        assert run(main) == new.der

    @pytest.mark.parametrize("level", range(6))
    @pytest.mark.parametrize("kind", key_kinds.KINDS, ids=lambda kind: kind.name)
    def test_openssl_takes_what_an_old_one_is_buried_under(self, kind: key_kinds.KeyKind, level: int) -> None:
        context = certificates._blank_context(level)
        with readable_by_us(kind.made_up_certificate(level)) as path:
            expected = ssl.SSLError if (level, kind.name) in {(4, "Ed25519"), (5, "Ed25519"), (5, "Ed448")} else OSError
            # A certificate that is refused is so before its key is looked for; no key of these could be had either.
            with pytest.raises(expected):
                context.load_cert_chain(path, "/nowhere/key.pem")


class TestWhatStays:
    def test_all_else_that_was_set_on_the_context(self, run: Runner, tmp_path: Path) -> None:
        """A client's certificate, the protocols, the tickets, the ciphers: what cannot be read cannot be copied."""
        context = context_with(KeyPair(tmp_path, "RSA"), version="1.2")
        authority().configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(["ours"])
        context.set_ciphers("ECDHE+AES256:!SHA1")
        client = careless(version="1.2")
        client.set_alpn_protocols(["theirs", "ours"])
        authority().issue_cert("client.test").configure_cert(client)

        async def main() -> tuple[str | None, str | None, bool]:
            async with serve(echo, context=context) as server:
                server.reload_certificate(KeyPair(tmp_path, "P-256").path)
                async with await connect(server, context=client) as stream:
                    known = stream.alpn, stream.cipher
                    await stream.send(b"x")
                    await stream.receive()
                with pytest.raises((ssl.SSLError, AssertionError, ConnectionError)):
                    await visit(server, lambda wire: wire.read(), context=careless(version="1.2"))
            return *known, context.verify_mode is ssl.CERT_REQUIRED

        alpn, cipher, required = run(main)
        assert (alpn, required) == ("ours", True)
        assert cipher is not None
        assert "AES256" in cipher

    @pytest.mark.parametrize("version", VERSIONS)
    def test_a_handshake_that_is_under_way(self, run: Runner, tmp_path: Path, version: Version) -> None:
        """Connected, but with nothing said: it goes on with the certificate that was there when it came."""
        before, after = KeyPair(tmp_path, "RSA"), KeyPair(tmp_path, "P-256")

        async def main() -> bytes | None:
            async with serve(echo, context=context_with(before)) as server:
                with contextlib.closing(tcp(server.port)) as sock:
                    while not server.counters()["handshaking"]:
                        await settle()
                    server.reload_certificate(after.path)
                    context = careless(version=version)
                    tls = await in_thread(lambda: context.wrap_socket(sock, server_hostname=NAME))
                    with contextlib.closing(tls):
                        return tls.getpeercert(binary_form=True)

        assert run(main) == before.der

    def test_a_chain_is_sent_whole(self, run: Runner, tmp_path: Path) -> None:
        root = trustme.CA()
        leaf = root.create_child_ca().issue_cert(NAME, key_type=trustme.KeyType.RSA)
        (tmp_path / "chain.pem").write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
        client = ssl.create_default_context()
        root.configure_trust(client)

        async def main() -> bytes:
            async with serve(echo, context=context_with(KeyPair(tmp_path, "P-256"))) as server:
                server.reload_certificate(tmp_path / "chain.pem")
                return await asks(server, context=client, server_hostname=NAME)

        assert run(main) == b"ping"


class TestRefusals:
    """Whatever is wrong is told, and the old pair works; so it does where the new one would be of another kind."""

    def refused(self, run: Runner, tmp_path: Path, error: type[Exception], match: str, *args: Any, **more: Any) -> None:
        for kind in ("RSA", "P-384"):
            old = KeyPair(tmp_path, kind)

            async def main(old: KeyPair = old) -> bytes | None:
                async with serve(echo, context=context_with(old)) as server:
                    with pytest.raises(error, match=match):
                        server.reload_certificate(*args, **more)
                    return await shown(server)

            assert run(main) == old.der

    def test_a_key_that_does_not_belong_to_it(self, run: Runner, tmp_path: Path) -> None:
        one, other = KeyPair(tmp_path, "P-256"), KeyPair(tmp_path, "P-256")
        self.refused(run, tmp_path, ssl.SSLError, "does not belong .* stays", one.path, other.path)

    def test_a_key_of_another_kind(self, run: Runner, tmp_path: Path) -> None:
        one, other = KeyPair(tmp_path, "P-256"), KeyPair(tmp_path, "RSA")
        self.refused(run, tmp_path, ssl.SSLError, "does not belong", one.path, other.path)

    def test_a_missing_file(self, run: Runner, tmp_path: Path) -> None:
        self.refused(run, tmp_path, FileNotFoundError, "missing", tmp_path / "missing.pem")

    def test_a_missing_key(self, run: Runner, tmp_path: Path) -> None:
        self.refused(
            run, tmp_path, FileNotFoundError, "missing", KeyPair(tmp_path, "RSA").path, tmp_path / "missing.pem"
        )

    def test_a_directory(self, run: Runner, tmp_path: Path) -> None:
        self.refused(run, tmp_path, IsADirectoryError, str(tmp_path), tmp_path)

    @pytest.mark.parametrize(
        ("content", "match"),
        [(b"", "no certificate in PEM"), (b"\x30\x82\x01", "no certificate in PEM"), (b"nonsense", "no certificate")],
    )
    def test_a_file_of_something_else(self, run: Runner, tmp_path: Path, content: bytes, match: str) -> None:
        (tmp_path / "file").write_bytes(content)
        self.refused(run, tmp_path, ssl.SSLError, match, tmp_path / "file")

    def test_a_file_that_was_written_by_half(self, run: Runner, tmp_path: Path) -> None:
        pair = KeyPair(tmp_path, "RSA")
        pair.path.write_bytes((pair.pem + pair.key_pem())[:-200])
        self.refused(run, tmp_path, ssl.SSLError, "cannot be used|no private key", pair.path)

    def test_a_certificate_without_a_key(self, run: Runner, tmp_path: Path) -> None:
        pair = KeyPair(tmp_path, "RSA")
        pair.path.write_bytes(pair.pem)
        self.refused(run, tmp_path, ssl.SSLError, "no private key", pair.path)

    def test_a_chain_with_garbage_behind_the_leaf(self, run: Runner, tmp_path: Path) -> None:
        pair = KeyPair(tmp_path, "P-256")
        broken = pair.pem.replace(b"MII", b"MIX", 1) if b"MII" in pair.pem else pair.pem[:60] + pair.pem[64:]
        pair.path.write_bytes(pair.key_pem() + pair.pem + broken)
        self.refused(run, tmp_path, ssl.SSLError, "cannot be used", pair.path)

    def test_a_file_without_an_end(self, run: Runner, tmp_path: Path) -> None:
        self.refused(run, tmp_path, ValueError, "longer than", "/dev/zero")

    @pytest.mark.parametrize(
        ("certfile", "error"), [("", ValueError), (None, TypeError), (5, TypeError), (["a.pem"], TypeError)]
    )
    def test_what_is_no_path(self, run: Runner, tmp_path: Path, certfile: Any, error: type[Exception]) -> None:
        self.refused(run, tmp_path, error, "certfile", certfile)

    def test_an_empty_key_file(self, run: Runner, tmp_path: Path) -> None:
        self.refused(run, tmp_path, ValueError, "keyfile is empty", KeyPair(tmp_path, "RSA").path, "")

    def test_a_key_too_small_for_the_context(self, run: Runner, tmp_path: Path) -> None:
        old, new = KeyPair(tmp_path, "P-384"), KeyPair(tmp_path, "RSA")
        context = context_with(old)
        context.set_ciphers("DEFAULT:@SECLEVEL=3")

        async def main() -> bytes | None:
            async with serve(echo, context=context) as server:
                with pytest.raises(ssl.SSLError, match="too small"):
                    server.reload_certificate(new.path)
                return await shown(server)

        assert run(main) == old.der


class TestPasswords:
    @pytest.mark.parametrize(
        "password",
        ["secret", b"secret", bytearray(b"secret"), lambda: "secret", lambda: b"secret"],
        ids=["str", "bytes", "bytearray", "function of str", "function of bytes"],
    )
    def test_an_encrypted_key_is_opened_by(self, run: Runner, tmp_path: Path, password: Any) -> None:
        old, new = KeyPair(tmp_path, "RSA"), KeyPair(tmp_path, "P-256")
        new.path.write_bytes(new.key_pem(b"secret") + new.pem)

        async def main() -> bytes | None:
            async with serve(echo, context=context_with(old)) as server:
                server.reload_certificate(new.path, password=password)
                return await shown(server)

        assert run(main) == new.der

    @pytest.mark.parametrize(
        ("password", "error", "match"),
        [
            (None, ssl.SSLError, "encrypted: give its password"),
            ("", ssl.SSLError, "encrypted: give its password"),
            ("wrong", ssl.SSLError, "this password does not open it"),
            (5, TypeError, "password must be"),
            (lambda: None, ssl.SSLError, "give its password"),
        ],
    )
    def test_it_stays_shut_for(
        self, run: Runner, tmp_path: Path, password: Any, error: type[Exception], match: str
    ) -> None:
        old, new = KeyPair(tmp_path, "RSA"), KeyPair(tmp_path, "P-256")
        new.path.write_bytes(new.key_pem(b"secret") + new.pem)

        async def main() -> bytes | None:
            async with serve(echo, context=context_with(old)) as server:
                with pytest.raises(error, match=match):
                    server.reload_certificate(new.path, password=password)
                return await shown(server)

        assert run(main) == old.der


class TestFiles:
    def test_they_are_read_once(self, run: Runner, tmp_path: Path) -> None:
        """From a pipe there is no second time; and what somebody writes meanwhile is not loaded untried."""
        old, new, fifo = KeyPair(tmp_path, "RSA"), KeyPair(tmp_path, "RSA"), tmp_path / "fifo"
        os.mkfifo(fifo)
        writer = threading.Thread(target=fifo.write_bytes, args=(new.path.read_bytes(),))

        async def main() -> bytes | None:
            async with serve(echo, context=context_with(old)) as server:
                writer.start()
                server.reload_certificate(fifo)
                return await shown(server)

        assert run(main) == new.der
        writer.join()

    @pytest.mark.parametrize("in_memory", [True, False])
    def test_nobody_else_can_read_the_copy_and_it_goes(self, monkeypatch: pytest.MonkeyPatch, in_memory: bool) -> None:
        if not in_memory:
            monkeypatch.delattr(os, "memfd_create", raising=False)
        elif not hasattr(os, "memfd_create"):
            pytest.skip("this system has no files in memory")
        with readable_by_us(b"secret") as path:
            assert Path(path).read_bytes() == b"secret"
            assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        assert not Path(path).exists()

    def test_without_files_in_memory_it_works_too(
        self, run: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(os, "memfd_create", raising=False)
        old, new = KeyPair(tmp_path, "RSA"), KeyPair(tmp_path, "P-256")

        async def main() -> bytes | None:
            async with serve(echo, context=context_with(old)) as server:
                server.reload_certificate(str(new.path))
                return await shown(server)

        assert run(main) == new.der

    @pytest.mark.parametrize(
        ("begins", "ends", "words"),
        [(-2, -1, "has expired: clients"), (1, 2, "is not valid yet: clients"), (-1, 1, None)],
        ids=["expired", "not yet", "valid"],
    )
    def test_one_that_is_not_valid_now_is_used_and_told(
        self,
        run: Runner,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        begins: float,
        ends: float,
        words: str | None,
    ) -> None:
        old, new = KeyPair(tmp_path, "RSA"), KeyPair(tmp_path, "P-256", begins=begins, ends=ends)

        async def main() -> bytes | None:
            async with serve(echo, context=context_with(old)) as server:
                server.reload_certificate(new.path)
                return await shown(server)

        assert run(main) == new.der
        told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(told) == (words is not None)
        assert all(words in text for text in told if words is not None)


class TestThreads:
    def test_another_thread_is_told_what_to_do(self, run: Runner, tmp_path: Path) -> None:
        old, new = KeyPair(tmp_path, "RSA"), KeyPair(tmp_path, "P-256")

        async def main() -> tuple[str, bytes | None]:
            def reload() -> str:
                with pytest.raises(MisuseError) as caught:
                    server.reload_certificate(new.path)
                return str(caught.value)

            async with serve(echo, context=context_with(old)) as server:
                return await in_thread(reload), await shown(server)

        words, der = run(main)
        assert "call_soon_threadsafe" in words
        assert "trio.from_thread" in words
        assert der == old.der

    def test_what_it_is_told_works(self, run: Runner, tmp_path: Path) -> None:
        old, new = KeyPair(tmp_path, "RSA"), KeyPair(tmp_path, "P-256")

        async def main() -> bytes | None:
            async with serve(echo, context=context_with(old)) as server:
                if on_trio():
                    await in_thread(lambda: trio.from_thread.run_sync(server.reload_certificate, new.path))
                else:
                    loop = asyncio.get_running_loop()
                    await in_thread(lambda: loop.call_soon_threadsafe(server.reload_certificate, new.path))
                    await settle()
                return await shown(server)

        assert run(main) == new.der

    def test_neither_drains_another_threads_loop(self, run: Runner) -> None:
        async def main() -> str:
            def drain() -> str:
                with pytest.raises(MisuseError) as caught:
                    asyncio.run(server.drain())
                return str(caught.value)

            async with serve(echo, host=LOOPBACK) as server:
                return await in_thread(drain)

        assert "run_coroutine_threadsafe" in run(main)
