"""The line after ``hint:`` has to be true whenever it is shown, and missing where nothing is known that helps."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import ssl
import time
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from bowout import (
    Alert,
    BowoutError,
    CertificateError,
    ConnectError,
    ConnectRefused,
    ConnectTimeout,
    Ending,
    Event,
    EventKind,
    HandshakeAlert,
    HandshakeError,
    HandshakeReset,
    HandshakeTimeout,
    HandshakeTruncated,
    How,
    Inbound,
    NameNotResolved,
    NotTLS,
    Outbound,
    Side,
    StartTLSError,
)
from bowout.cli.shared.hints import HintContext, Overheard, hint_for, hint_for_ending
from bowout.cli.shared.host_port import Target
from bowout.testing import Act, Peer
from helpers.commands import Done, bowout, ca_file, connect, environment, listening, started
from helpers.peers import require_program
from helpers.starttls_servers import free_ports
from helpers.wire import PATIENCE, VERSIONS, Version, Wire, server_context

WANTED: Final = "the server has asked for a certificate, and got none: --cert FILE --key FILE"


def asked(
    *options: str, port: int = 443, starttls: str | None = None, wanted: bool = False, **target: Any
) -> HintContext:
    """A command to `port` of a host with these options; the server may have wanted a certificate."""
    overheard = Overheard()
    overheard.tls = overheard.certificate_wanted = wanted
    return HintContext(Target("host", port, **target), starttls, frozenset(options), overheard)


def refused(code: int) -> HandshakeAlert:
    """A handshake that the peer refused with this alert."""
    return HandshakeAlert("refused", alert=Alert(code=code, level=2, by=Side.PEER))


def of_openssl(reason: str) -> HandshakeError:
    """A handshake that OpenSSL gave up for this reason."""
    error, cause = HandshakeError("the handshake failed"), ssl.SSLError()
    cause.reason = reason
    error.__cause__ = cause
    return error


def not_starting(why: str) -> StartTLSError:
    """No agreement to change to TLS."""
    error = StartTLSError("smtp: no")
    error.why = why
    return error


def lost() -> HandshakeReset:
    """A handshake in which the network went away."""
    error = HandshakeReset("the connection was lost")
    event = Event(EventKind.CONNECTION_LOST, Side.WE, 0.0, "No route to host")
    error.ending = Ending(
        how=How.FAILED_HANDSHAKE, started_by=None, outbound=Outbound.LOST, inbound=Inbound.RESET, events=(event,)
    )
    return error


def by_kernel() -> ConnectTimeout:
    """The system has given up."""
    error = ConnectTimeout(errno.ETIMEDOUT, "")
    error.__cause__ = OSError(errno.ETIMEDOUT, "")
    return error


@pytest.mark.parametrize(
    ("error", "to", "hint"),
    [
        (NameNotResolved(-2, ""), asked(), "is 'host' spelled right"),
        (NameNotResolved(-2, ""), asked("-6"), "without -6 it may have another address"),
        (ConnectRefused(111, ""), asked(port=81), "is port 81 right?"),
        (ConnectRefused(111, ""), asked(path="x.sock"), "is the path right?"),
        (ConnectTimeout(110, ""), asked(), "--connect-timeout"),
        (ConnectError(errno.ENETUNREACH, ""), asked(), "online"),
        (ConnectError(errno.ENOENT, ""), asked(path="x.sock"), "is the path right"),
        (CertificateError("", verify_code=10), asked(), "clock"),
        (CertificateError("", verify_code=19), asked(), "--cafile FILE trusts"),
        (CertificateError("", verify_code=20), asked("--cafile"), "is not in the file of --cafile; --show-cert"),
        (CertificateError("", verify_code=62), asked(), "--servername NAME"),
        (CertificateError("", verify_code=66), asked(), "a stronger certificate; --insecure"),
        (CertificateError("", verify_code=23), asked(), "--show-cert shows what it sent; --insecure"),
        (NotTLS("", sample=b"220 hello"), asked(port=587), "--starttls smtp"),
        (NotTLS("", sample=b"220 hello"), asked(port=21), "--starttls ftp"),
        (NotTLS("", sample=b"220 hello"), asked(port=5432), "--starttls smtp or ftp"),
        (NotTLS("", sample=b"\x00\x01"), asked(port=80), "port 80 does not speak TLS"),
        (HandshakeTimeout(), asked(port=143), "--starttls imap"),
        (HandshakeTruncated(), asked(port=5432), "--starttls postgres"),
        (HandshakeTimeout(), asked(), "If not: --starttls NAME"),
        (HandshakeReset(), asked(wanted=True), WANTED),
        (refused(40), asked(wanted=True), WANTED),
        (refused(116), asked(), WANTED),
        (refused(48), asked("--cert", wanted=True), "does not accept the certificate of --cert"),
        (refused(70), asked("--tls"), "leave --tls out"),
        (refused(70), asked(), "the server was offered TLS 1.2 and TLS 1.3"),
        (refused(112), asked(), "--servername NAME"),
        (refused(120), asked("--alpn"), "--alpn"),
        (of_openssl("UNSUPPORTED_PROTOCOL"), asked(), "the server was offered TLS 1.2 and TLS 1.3"),
        (of_openssl("UNSUPPORTED_PROTOCOL"), asked("--tls"), "leave --tls out"),
        (of_openssl("UNSAFE_LEGACY_RENEGOTIATION_DISABLED"), asked(), "RFC 5746"),
        (of_openssl("DH_KEY_TOO_SMALL"), asked(), "too weak"),
        (of_openssl("NO_PROTOCOLS_AVAILABLE"), asked("--tls"), "forbids the version of --tls"),
        (not_starting("not spoken"), asked(port=25, starttls="smtp"), "does host:25 speak smtp?"),
        (not_starting("not offered"), asked(starttls="smtp"), "host:PORT, without --starttls"),
    ],
)
def test_a_hint(error: BowoutError, to: HintContext, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    assert hint in (hint_for(error, to) or "")


@pytest.mark.parametrize(
    ("error", "to"),
    [
        (refused(80), asked()),
        (refused(40), asked()),  # It wanted no certificate.
        (refused(40), asked("--cert", wanted=True)),
        (refused(48), asked()),
        (refused(120), asked()),
        (of_openssl("NO_PROTOCOLS_AVAILABLE"), asked()),
        (of_openssl("BAD_SIGNATURE"), asked()),
        (HandshakeError("the handshake is not done"), asked()),
        (HandshakeTimeout(), asked(port=143, starttls="imap")),
        (HandshakeTruncated(), asked("--cert", wanted=True)),  # It does speak TLS.
        (lost(), asked(port=143)),
        (NotTLS("", sample=b"220 hello"), asked(starttls="smtp")),
        (NotTLS("", sample=b"hello"), asked(path="x.sock")),
        (ConnectError(errno.EMFILE, ""), asked()),
        (not_starting("turned away"), asked(starttls="smtp")),
        (not_starting("refused"), asked(starttls="smtp")),
        (not_starting(""), asked(starttls="smtp")),
        (BowoutError(), asked()),
    ],
)
def test_no_hint_where_none_is_known_to_be_true(error: BowoutError, to: HintContext) -> None:
    assert hint_for(error, to) is None


def test_waiting_longer_is_of_no_use_when_the_system_has_given_up() -> None:
    assert hint_for(by_kernel(), asked()) == "a firewall may drop the packets"


def test_what_is_shown_already_is_not_advised() -> None:
    assert "--show-cert" not in (hint_for(CertificateError("", verify_code=23), asked("--show-cert")) or "")


def ending(name: int, *, by: Side = Side.PEER, received: int = 0, version: str = "TLSv1.3") -> Ending:
    """An ending by an alert."""
    alert = Alert(code=name, level=2, by=by)
    return Ending(
        how=How.ALERT, started_by=by, outbound=Outbound.LOST, inbound=Inbound.FATAL_ALERT, alert=alert,
        received=received, tls_version=version,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("end", "to", "hint"),
    [
        (ending(116), asked(), WANTED),
        (ending(42), asked(wanted=True), WANTED),
        (ending(42), asked("--cert", wanted=True), "the server does not accept the certificate of --cert"),
        (ending(40), asked(), None),
        (ending(40, received=1), asked(wanted=True), None),
        (ending(40, version="TLSv1.2"), asked(wanted=True), None),
        (ending(42, by=Side.WE), asked(wanted=True), None),
    ],
)
def test_a_hint_after_the_handshake(end: Ending, to: HintContext, hint: str | None) -> None:
    assert hint_for_ending(end, to) == hint


# -- against servers


def said(server: Any, *options: str, **more: Any) -> Done:
    """What ``connect`` says to a server that it does not trust, and does not check."""
    return bowout("connect", f"localhost:{server.port}", *options, stdin=b"", **more)


def plain(*answers: bytes) -> Any:
    """A server in plain text that says this, each after something from the client but the first."""

    def script(wire: Wire) -> None:
        for number, each in enumerate(answers):
            if number and not wire.sock.recv(1 << 12):
                return
            wire.sock.sendall(each)
        wire.sock.shutdown(1)
        with contextlib.suppress(OSError):
            while wire.sock.recv(1 << 12):
                pass

    return script


@pytest.mark.parametrize(
    ("protocol", "answers", "says", "hint"),
    [
        ("smtp", [b"421 4.7.0 too busy\r\n"], "turned the connection away", None),
        ("imap", [b"* BYE maintenance\r\n"], "turned the connection away", None),
        ("pop3", [b"-ERR busy\r\n"], "turned the connection away", None),
        ("ftp", [b"220 hi\r\n", b"421 full\r\n"], "turned the connection away", None),
        ("mysql", [b"\x17\0\0\0\xff\x10\x04Too many connections"], "turned the connection away", None),
        ("smtp", [b"220 hi\r\n", b"250-x\r\n250 STARTTLS\r\n", b"454 not now\r\n"], "refused STARTTLS", None),
        ("smtp", [b"220 hi\r\n", b"250 x\r\n"], "does not offer STARTTLS", "TLS may begin with the first byte"),
        ("smtp", [b"SSH-2.0-x\r\n"], "expected", "speak smtp?"),
        ("smtp", [b""], "closed the connection before TLS", "speak smtp?"),
        ("smtp", [b"220 hi\r\n", b""], "closed the connection before TLS", None),
        ("imap", [b"* OK hi\r\n", b"what?\r\n"], "expected a reply", None),
    ],
)
def test_a_server_that_does_not_start_tls(protocol: str, answers: list[bytes], says: str, hint: str | None) -> None:
    with listening(plain(*answers)) as server:
        done = said(server, "--starttls", protocol)
    assert done.status == 3
    assert says in done.err
    if hint is None:
        assert "hint:" not in done.err
    else:
        assert hint in done.last


def test_an_old_version_without_tls_option() -> None:
    with listening(plain(b"", bytes.fromhex("15030300020246"))) as server:
        done = said(server, "--insecure")
    assert (done.status, "leave --tls out" in done.err) == (3, False)
    versions = "the server was offered TLS 1.2 and TLS 1.3; it may support only older versions, which are not safe"
    assert done.last == f"hint: {versions}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("wants", [True, False])
def test_only_a_server_that_wants_a_certificate_is_said_to(version: Version, wants: bool) -> None:
    context = server_context(version)
    if wants:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca_file())

    def refusing(wire: Wire) -> None:
        with contextlib.suppress(ssl.SSLError, AssertionError):
            wire.handshake()
        with contextlib.suppress(OSError):
            wire.flush()
            wire.read_to_tcp_end()

    with listening(refusing if wants else plain(b"", bytes.fromhex("15030300020228")), context=context) as server:
        done = connect(server)
    assert done.status in {3, 6}
    assert (f"hint: {WANTED}" in done.err) is wants


def test_an_alert_long_after_the_handshake_is_no_matter_of_certificates() -> None:
    def script(act: Act) -> None:
        act.handshake()
        act.expect_data(b"hello\n")
        act.alert("fatal", "handshake_failure")

    with Peer(script) as peer:
        done = bowout("connect", f"localhost:{peer.port}", "--insecure", stdin=b"hello\n")
    assert done.status == 6
    assert "handshake_failure" in done.last
    assert "hint:" not in done.err


def test_a_refused_renegotiation_is_told() -> None:
    def script(act: Act) -> None:
        act.handshake()
        act.renegotiate()
        act.expect_alert("no_renegotiation")
        act.alert("fatal", "handshake_failure")

    with Peer(script, tls="1.2") as peer:
        done = bowout("connect", f"localhost:{peer.port}", "--insecure")
    assert done.last == (
        "alert: the peer sent fatal handshake_failure (the peer had asked to renegotiate, which we refuse)"
    )
    assert "hint:" not in done.err


def failing_handshake(wire: Wire) -> None:
    """A server whose certificate is refused."""
    with pytest.raises(ssl.SSLError):
        wire.handshake()


def test_variables_that_trust_nobody_are_named() -> None:
    with listening(failing_handshake) as server:
        done = said(server, env=environment(SSL_CERT_FILE="/nowhere/ca.pem"))
    assert done.status == 3
    assert "hint: SSL_CERT_FILE: cannot read '/nowhere/ca.pem': No such file or directory" in done.last


def test_of_a_file_that_was_given_the_variables_are_no_matter(tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    with listening(failing_handshake) as server:
        done = said(server, "--cafile", str(other), env=environment(SSL_CERT_FILE="/nowhere/ca.pem"))
    assert (done.status, "SSL_CERT_FILE" in done.err) == (3, False)
    assert "the authority that issued it is not in the file of --cafile" in done.last


def listens(port: int) -> bool:
    """Somebody does, on the loopback."""
    with contextlib.suppress(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
        return True
    return False


def test_a_server_without_secure_renegotiation(tmp_path: Path) -> None:
    """The hint names a remedy, and it works."""
    remedy = tmp_path / "openssl.cnf"
    remedy.write_text(
        "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = default\n"
        "[default]\nOptions = UnsafeLegacyServerConnect\n"
    )
    program = require_program("gnutls-serv")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued = trustme.CA().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    priority = "NORMAL:-VERS-TLS1.3:%DISABLE_SAFE_RENEGOTIATION"
    files = ("--x509certfile", str(certificate), "--x509keyfile", str(key))
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    with started(*files, "--echo", "--port", str(port), "--priority", priority, command=(program,)) as server:
        while not listens(port):
            assert server.process.poll() is None
            time.sleep(0.02)  # nothing else tells when it is up
        done = bowout("connect", address, "--insecure", stdin=b"hello")
        assert done.status == 3
        assert "unsafe legacy renegotiation disabled" in done.err
        assert "Options = UnsafeLegacyServerConnect" in done.last
        done = bowout("connect", address, "--insecure", stdin=b"hello\n", env=environment(OPENSSL_CONF=str(remedy)))
        assert (done.status, done.out) == (0, b"hello\n")
        server.interrupt(signal.SIGKILL)
