"""``bowout connect --show-cert``: who the peer says it is, in words and as JSON, also where that is not believed."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import ssl
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from bowout.cli.connect.certificate import as_pem, describe
from bowout.cli.connect.inspection import Inspection, validity
from bowout.cli.shared.usage import UsageError
from helpers.commands import Done, bowout, ca_file, connect, listening
from helpers.peers import require_program
from helpers.wire import VERSIONS, Version, Wire, certificate, polite, server_context

KEYS: Final = {
    "version", "protocol", "cipher", "group", "alpn", "server_name", "verification", "certificates", "authority",
}  # fmt: skip
CERTIFICATE_KEYS: Final = {
    "subject", "issuer", "names", "not_before", "not_after", "key", "key_bits", "signed_with", "serial", "authority",
    "sha256", "pem", "faults",
}  # fmt: skip


def failing(wire: Wire) -> None:
    """A server whose certificate is refused."""
    with pytest.raises(ssl.SSLError):
        wire.handshake()


def facts(done: Done) -> Any:
    """What ``--json`` says of TLS."""
    (line,) = [each for each in done.err.splitlines() if each.startswith("{")]
    return json.loads(line)["tls"]


def fingerprint(leaf: trustme.LeafCert) -> str:
    """Of the certificate, as JSON has it."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())).hexdigest()


# -- connections


@pytest.mark.parametrize("version", VERSIONS)
class TestAConnection:
    def test_that_is_trusted(self, version: Version) -> None:
        context = server_context(version)
        context.set_alpn_protocols(["h2"])
        with listening(polite, context=context) as server:
            done = connect(server, "--show-cert", "--json", "--alpn", "h2,http/1.1")
        assert (done.status, done.out) == (0, b"")
        told = facts(done)
        assert told.keys() == KEYS
        assert (told["version"], told["protocol"], told["alpn"]) == (1, f"TLSv{version}", "h2")
        assert (told["server_name"], told["verification"]["result"]) == ("localhost", "trusted")
        (sent,) = told["certificates"]
        assert sent.keys() == CERTIFICATE_KEYS
        assert sent["sha256"] == fingerprint(certificate())
        assert sent["names"] == ["DNS:peer.test", "DNS:localhost", "IP:127.0.0.1", "IP:::1"]
        assert (sent["authority"], sent["faults"]) == (False, [])
        assert told["authority"]["subject"] == sent["issuer"]
        lines = done.err.splitlines()
        assert lines[0].startswith(f"TLS: TLSv{version}, ")
        assert lines[0].endswith(", ALPN h2")
        assert lines[1].startswith("certificate: trusted for localhost, by ")
        assert any(line.strip().startswith("SHA-256: ") for line in lines)
        assert done.last.startswith("clean: ")

    def test_that_is_refused(self, version: Version) -> None:
        with listening(failing, context=server_context(version)) as server:
            done = bowout("connect", server.address, "--show-cert", "--json", stdin=b"")
        assert done.status == 3
        told = facts(done)
        assert told["verification"]["result"] == "refused"
        assert told["verification"]["code"] in {19, 20, 21}
        assert [each["sha256"] for each in told["certificates"]] == [fingerprint(certificate())]
        assert told["authority"] is None
        lines = done.err.splitlines()
        assert lines[1] == f"certificate: refused for localhost: {told['verification']['reason']}"
        assert lines[-2].startswith("error: the peer's certificate was refused")
        assert lines[-1].startswith("hint: ")

    def test_that_has_another_name(self, version: Version) -> None:
        context = server_context(version, "another.test")
        with listening(failing, context=context) as server:
            done = connect(server, "--show-cert", "--json")
        told = facts(done)
        assert (done.status, told["verification"]["code"]) == (3, 62)
        assert told["certificates"][0]["names"] == ["DNS:another.test"]

    def test_that_is_not_checked(self, version: Version) -> None:
        with listening(polite, version=version) as server:
            done = bowout("connect", server.address, "--show-cert", "--json", "--insecure", stdin=b"")
        told = facts(done)
        assert done.status == 0
        assert told["verification"] == {"result": "not checked", "code": None, "reason": ""}
        assert (len(told["certificates"]), told["authority"]) == (1, None)
        assert "certificate: not checked (--insecure)" in done.err

    def test_in_which_the_peer_refuses_us(self, version: Version) -> None:
        context = server_context(version)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca_file())

        def refusing(wire: Wire) -> None:
            failing(wire)
            wire.flush()
            wire.read_to_tcp_end()

        with listening(refusing, context=context) as server:
            done = connect(server, "--show-cert", "--json")
        assert done.status in {3, 6}
        # In TLS 1.2 the handshake fails, and until its end nobody has shown that the certificate is his.
        assert facts(done)["verification"]["result"] == ("unfinished" if version == "1.2" else "trusted")
        assert facts(done)["certificates"][0]["sha256"] == fingerprint(certificate())


def test_a_chain_comes_in_its_order() -> None:
    root = trustme.CA()
    between = root.create_child_ca()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    between.issue_cert("localhost").configure_cert(context)
    with listening(polite, context=context) as server:
        done = bowout("connect", server.address, "--insecure", "--show-cert", "--json", stdin=b"")
    leaf, authority = facts(done)["certificates"]
    assert leaf["issuer"] == authority["subject"]
    assert (leaf["authority"], authority["authority"]) == (False, True)


def test_pem_for_other_programs(tmp_path: Path) -> None:
    with listening(polite) as server:
        done = connect(server, "--show-cert=pem")
    pem = done.err[done.err.index("-----BEGIN") : done.err.index("-----END CERTIFICATE-----")]
    path = tmp_path / "leaf.pem"
    path.write_text(pem + "-----END CERTIFICATE-----\n")
    shown = subprocess.run(
        [require_program("openssl"), "x509", "-in", path, "-noout", "-fingerprint", "-sha256"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert f"SHA-256: {shown.partition('=')[2].strip()}" in done.err


def test_a_peer_without_tls_has_nothing_to_show() -> None:
    def plain(wire: Wire) -> None:
        wire.sock.recv(1 << 16)
        wire.sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        wire.read_to_tcp_end()

    with listening(plain) as server:
        done = connect(server, "--show-cert", "--json")
    assert (done.status, facts(done)) == (3, None)
    assert "certificate:" not in done.err


def test_without_the_option_json_is_the_ending_alone() -> None:
    with listening(polite) as server:
        done = connect(server, "--json")
    assert "tls" not in json.loads(done.err.splitlines()[0])


def test_a_file_gets_the_same(tmp_path: Path) -> None:
    report = tmp_path / "ending.json"
    with listening(polite) as server:
        connect(server, "--show-cert", f"--json={report}")
    said = json.loads(report.read_text())
    assert (said["version"], said["how"], said["tls"]["version"]) == (1, "clean", 1)


def test_cryptography_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bowout.cli.connect.certificate", None)
    with pytest.raises(UsageError, match="not installed; it is needed to read certificates"):
        Inspection(ssl.create_default_context(), "localhost")


# -- certificates


def made(
    key: Any = None, *, names: Any = None, subject: str = "x", adjust: Callable[[Any], Any] = lambda builder: builder
) -> bytes:
    """A certificate as DER."""
    key = key or ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    begin = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(0x1A2).not_valid_before(begin).not_valid_after(begin.replace(year=2027))
    if names is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA384()
    return adjust(builder).sign(key, digest).public_bytes(serialization.Encoding.DER)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("make", "key", "bits", "signed_with"),
    [
        (lambda: ec.generate_private_key(ec.SECP384R1()), "EC secp384r1", 384, "sha384"),
        (lambda: rsa.generate_private_key(65537, 2048), "RSA", 2048, "sha384"),
        (ed25519.Ed25519PrivateKey.generate, "Ed25519", None, None),
    ],
)
def test_keys(make: Any, key: str, bits: int | None, signed_with: str | None) -> None:
    told = describe(made(make()))
    assert (told["key"], told["key_bits"], told["signed_with"]) == (key, bits, signed_with)


def test_what_stands_in_a_certificate() -> None:
    told = describe(made(names=[x509.DNSName("a.test")]))
    assert told["serial"] == "01a2"
    assert (told["subject"], told["issuer"]) == ("CN=x", "CN=x")
    assert (told["not_before"], told["not_after"]) == ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z")


def test_names_of_every_kind() -> None:
    directory = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "d")])
    names = [
        x509.DNSName("a.test"),
        x509.RFC822Name("me@a.test"),
        x509.UniformResourceIdentifier("https://a.test/"),
        x509.DirectoryName(directory),
        x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
        x509.OtherName(x509.ObjectIdentifier("1.2.4"), b"\x05\x00"),
    ]
    assert describe(made(names=names))["names"] == [
        "DNS:a.test", "email:me@a.test", "URI:https://a.test/", "directory:CN=d", "OID:1.2.3", "other:1.2.4",
    ]  # fmt: skip
    assert describe(made())["names"] == []


@pytest.mark.parametrize("der", [b"", b"nonsense", b"\x30\x03\x02\x01\x01"])
def test_what_is_no_certificate(der: bytes) -> None:
    told = describe(der)
    assert told.keys() == CERTIFICATE_KEYS
    assert (told["sha256"], told["subject"]) == (hashlib.sha256(der).hexdigest(), None)
    assert told["faults"][0].startswith("no certificate: ")


def test_what_can_be_read_is_told_beside_what_cannot() -> None:
    der = made(names=[x509.DNSName("a.test")])
    # The two extensions that follow have the same number then, which is not allowed, and the rest is as it was.
    twice = made(
        names=[x509.DNSName("a.test")],
        adjust=lambda builder: builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.18"), b"\x30\x00"), critical=False
        ),
    ).replace(b"\x06\x03\x55\x1d\x12", b"\x06\x03\x55\x1d\x11")
    assert len(twice) > len(der)
    told = describe(twice)
    assert told["subject"] == "CN=x"
    assert told["names"] is None
    assert any(each.startswith("names: ") for each in told["faults"])


@pytest.mark.filterwarnings("ignore")
def test_a_serial_number_that_is_not_allowed() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = describe(made().replace(b"\x02\x02\x01\xa2", b"\x02\x02\x81\xa2"))
    assert told["serial"] == "-7e5e"


def test_pem_is_that_of_everybody() -> None:
    der = made()
    assert ssl.PEM_cert_to_DER_cert(as_pem(der)) == der


def test_text_of_the_peer_moves_no_cursor(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    der = made(key, subject="\x1b[2J\u202eevil\nclean: we sent close_notify")
    path = tmp_path / "evil.pem"
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(key_pem + as_pem(der).encode())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    with listening(polite, context=context) as server:
        done = bowout("connect", server.address, "--insecure", "--show-cert", stdin=b"")
    assert all(char.isprintable() for line in done.err.split("\n") for char in line)
    assert "\\x1b[2J\\u202eevil\\nclean" in done.err


@pytest.mark.parametrize(
    ("begin", "end", "said"),
    [
        (-10, 10.5, "10 days left"),
        (-10, 1.5, "1 day left"),
        (-10, 0.5, "less than a day left"),
        (-10, -3.5, "EXPIRED 3 days ago"),
        (3, 10, "NOT YET VALID"),
    ],
)
def test_how_long_it_is_valid(begin: float, end: float, said: str) -> None:
    now = dt.datetime.now(dt.UTC)
    first, last = (now + dt.timedelta(days=days) for days in (begin, end))
    text = validity(first.strftime("%Y-%m-%dT%H:%M:%SZ"), last.strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert text == f"{first:%Y-%m-%d} to {last:%Y-%m-%d} ({said})"
    assert validity(None, None) == "unreadable"
