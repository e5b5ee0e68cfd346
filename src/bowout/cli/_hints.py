"""What can be done about an error: the line after ``hint:``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bowout import STARTTLS
from bowout.errors import (
    BowoutError,
    CertificateError,
    ConnectError,
    ConnectRefused,
    ConnectTimeout,
    HandshakeAlert,
    HandshakeReset,
    HandshakeTimeout,
    HandshakeTruncated,
    NameNotResolved,
    NotTLS,
    StartTLSError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout.cli._target import Target
    from bowout.ending import Alert, Ending

#: X509_V_ERR_…: not yet valid, expired; another host, another address.
_NOT_NOW: Final = frozenset({9, 10})
_ANOTHER_NAME: Final = frozenset({62, 64})
#: A port where mail is submitted is no protocol's default.
_MORE_PORTS: Final = {587: "smtp", 2525: "smtp"}
#: How a server in plain text begins, and the ``--starttls`` that may help.
_GREETINGS: Final = ((b"220", "smtp (or ftp)"), (b"* OK", "imap"), (b"+OK", "pop3"), (b"SSH-", ""), (b"HTTP/", ""))
_NEEDS_CERTIFICATE: Final = frozenset({"certificate_required", "handshake_failure", "bad_certificate"})


def hint_for(error: BaseException, target: Target, *, starttls: str | None = None) -> str | None:
    """What to try after `error` on the way to `target`, or None."""
    for kind, hint in _HINTS:
        if isinstance(error, kind):
            return hint(error, target, starttls)
    return None


def hint_for_ending(ending: Ending) -> str | None:
    """What to try after an established connection ended like this, or None."""
    # In TLS 1.3 a server refuses a client's certificate only after the handshake (RFC 8446 section 4.4.2.4).
    return _for_alert(ending.alert) if ending.alert is not None and not ending.received else None


def _certificate(error: BaseException, _target: Target, _starttls: str | None) -> str:
    code = error.verify_code if isinstance(error, CertificateError) else 0
    if code in _ANOTHER_NAME:
        return "--servername NAME asks for another name and checks for it; --insecure does not check at all"
    if code in _NOT_NOW:
        return "is this machine's clock right? --insecure does not check the certificate"
    return "--cafile FILE trusts the authority that issued it; --insecure does not check the certificate"


def _not_tls(error: BaseException, target: Target, _starttls: str | None) -> str:
    sample = error.sample if isinstance(error, NotTLS) else b""
    for greeting, protocol in _GREETINGS:
        if sample.startswith(greeting) and protocol:
            return f"it may change to TLS when it is asked: --starttls {_by_port(target.port) or protocol}"
        if sample.startswith(greeting):
            break
    return f"port {target.port} speaks something else; TLS may be on another one: {target.host}:PORT"


def _silent(_error: BaseException, target: Target, starttls: str | None) -> str | None:
    protocol = _by_port(target.port)
    if starttls is None and protocol:
        return f"port {target.port} is that of {protocol}, which begins in plain text: --starttls {protocol}"
    return None if starttls else "does that port speak TLS from the first byte? If not: --starttls NAME"


def _alert(error: BaseException, _target: Target, _starttls: str | None) -> str | None:
    return _for_alert(error.alert) if isinstance(error, HandshakeAlert) else None


def _for_alert(alert: Alert) -> str | None:
    if alert.name == "protocol_version":
        return "it speaks another version of TLS: leave --tls out, or try the other one"
    if alert.name == "unrecognized_name":
        return "--servername NAME asks for another name"
    if alert.name == "no_application_protocol":
        return "it speaks none of the protocols of --alpn"
    if alert.name in _NEEDS_CERTIFICATE:
        return "it may want a certificate from us: --cert FILE --key FILE"
    return None


def _starttls(_error: BaseException, target: Target, starttls: str | None) -> str:
    return f"does {target.host}:{target.port} speak {starttls}? Without --starttls, TLS begins with the first byte"


def _by_port(port: int) -> str | None:
    return _MORE_PORTS.get(port) or next((name for name, known in STARTTLS.items() if known.port == port), None)


_HINTS: Final[tuple[tuple[type[BowoutError], Callable[[BaseException, Target, str | None], str | None]], ...]] = (
    (NameNotResolved, lambda _error, target, _: f"is '{target.host}' spelled right, and does this machine have a DNS?"),
    (ConnectRefused, lambda _error, target, _: f"nothing listens on port {target.port} there; is the port right?"),
    (ConnectTimeout, lambda *_: "a firewall may drop the packets; --connect-timeout SECONDS waits longer"),
    (ConnectError, lambda *_: "is this machine online, and is there a route to that address?"),
    (CertificateError, _certificate),
    (NotTLS, _not_tls),
    (HandshakeAlert, _alert),
    (HandshakeTimeout, _silent),
    (HandshakeTruncated, _silent),
    (HandshakeReset, _silent),
    (StartTLSError, _starttls),
)
