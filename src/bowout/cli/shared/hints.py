"""Remedies for errors: the line after ``hint:``.

A hint has to be true whenever it is shown. A probable cause is put as a question, or with "may"; without a known
remedy there is no hint.
"""

from __future__ import annotations

import errno
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from bowout import STARTTLS
from bowout._core.openssl_errors import ANOTHER_NAME, GREETINGS, NOT_NOW, NOT_TRUSTED
from bowout._tls_numbers import TLS13_NAME
from bowout.cli.shared.tls_options import missing_trust
from bowout.ending import EventKind, Side
from bowout.errors import (
    BowoutError,
    CertificateError,
    ConnectError,
    ConnectRefused,
    ConnectTimeout,
    HandshakeAlert,
    HandshakeError,
    HandshakeReset,
    HandshakeTimeout,
    HandshakeTruncated,
    NameNotResolved,
    NotTLS,
    StartTLSError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout.cli.shared.host_port import Target
    from bowout.ending import Alert, Ending, Event

_UNCHECKED: Final = "--insecure does not check the certificate"

#: Numbers of X509_V_ERR_…: a key or a digest in the chain is too weak.
_WEAK: Final = frozenset({66, 67, 68})

#: Ports for the submission of mail, which are not the default of a protocol in `STARTTLS`.
_MORE_PORTS: Final = {587: "smtp", 2525: "smtp"}
#: The alerts of a server that requires a certificate and gets none.
_MISSED_ONE: Final = frozenset({"certificate_required", "handshake_failure", "bad_certificate"})
#: The alerts of a server that does not accept our certificate.
_TOOK_NONE: Final = frozenset(
    {
        "bad_certificate",
        "unsupported_certificate",
        "certificate_revoked",
        "certificate_expired",
        "certificate_unknown",
        "unknown_ca",
        "access_denied",
    }
)
_UNREACHABLE: Final = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN})


class Overheard:
    """An observer of events, for the facts of a handshake that no error has.

    Attributes:
        tls: whether the peer has sent a handshake message.
        certificate_wanted: whether it has asked for our certificate.
    """

    def __init__(self) -> None:
        self.tls: bool = False
        self.certificate_wanted: bool = False

    def __call__(self, event: Event) -> None:
        """Observe one event."""
        if event.kind is EventKind.HANDSHAKE_MESSAGE and event.by is Side.PEER:
            self.tls = True
            self.certificate_wanted = self.certificate_wanted or event.detail == "CertificateRequest"


@dataclass(frozen=True, slots=True)
class HintContext:
    """The command line, and the events of the handshake since.

    Attributes:
        target: the target of the connection.
        starttls: the protocol from which to change to TLS.
        options: the names of the options that were given.
        overheard: the observer of the handshake.
    """

    target: Target
    starttls: str | None = None
    options: frozenset[str] = frozenset()
    overheard: Overheard = field(default_factory=Overheard)

    def has(self, option: str) -> bool:
        """Return whether `option` was given."""
        return option in self.options


def hint_for(error: BaseException, asked: HintContext) -> str | None:
    """Return a remedy for `error`, or None."""
    for kind, hint in _HINTS:
        if isinstance(error, kind):
            return hint(error, asked)
    return None


def hint_for_ending(ending: Ending, asked: HintContext) -> str | None:
    """Return a remedy after an established connection had this ending, or None."""
    # In TLS 1.3 a server refuses a client's certificate only after the handshake (RFC 8446 section 4.4.2.4).
    if ending.alert is None or ending.alert.by is not Side.PEER or ending.received or ending.tls_version != TLS13_NAME:
        return None
    return _for_certificate(ending.alert, asked)


# -- no connection ---------------------------------------------------------------------------------------------------


def _not_resolved(_error: BaseException, asked: HintContext) -> str:
    for option in ("-4", "-6"):
        if asked.has(option):
            return f"without {option} it may have another address"
    return f"is '{asked.target.host}' spelled right, and can this machine reach a DNS server?"


def _refused(_error: BaseException, asked: HintContext) -> str:
    if asked.target.path is not None:
        return "its server no longer runs: is the path right?"
    return f"is port {asked.target.port} right? No server listens there, or a firewall rejects the connection"


def _timed_out(error: BaseException, _asked: HintContext) -> str:
    ours = error.__cause__ is None  # Else the system has given up, as it does after about two minutes.
    return "a firewall may drop the packets" + ("; --connect-timeout SECONDS waits longer" if ours else "")


def _no_connection(error: BaseException, asked: HintContext) -> str | None:
    number = error.errno if isinstance(error, OSError) else None
    if asked.target.path is not None:
        return "is the path right, and does its server run?" if number == errno.ENOENT else None
    return "is this machine online, and is there a route to that address?" if number in _UNREACHABLE else None


def _no_starttls(error: BaseException, asked: HintContext) -> str | None:
    why = error.why if isinstance(error, StartTLSError) else ""
    where = asked.target
    if why == "not spoken":
        return f"does {where} speak {asked.starttls}? Without --starttls, TLS begins with the first byte"
    if why == "not offered" and where.path is None:
        return f"TLS may begin with the first byte on another port: {where.host}:PORT, without --starttls"
    return None


# -- no handshake ----------------------------------------------------------------------------------------------------


def _certificate(error: BaseException, asked: HintContext) -> str:
    code = error.verify_code if isinstance(error, CertificateError) else 0
    if code in ANOTHER_NAME:
        return "--servername NAME asks for another name and checks for it; --insecure does not check at all"
    if code in NOT_NOW:
        return f"is this machine's clock right? {_UNCHECKED}"
    if code in _WEAK:
        return f"the server needs a stronger certificate; {_UNCHECKED}"
    look = "" if asked.has("--show-cert") else "--show-cert shows what it sent; "
    if code not in NOT_TRUSTED:
        return look + _UNCHECKED
    if asked.has("--cafile"):
        return f"the authority that issued it is not in the file of --cafile; {look}{_UNCHECKED}"
    missing = missing_trust()
    lacks = f"{missing}, so it adds no trust; " if missing else ""
    return f"{lacks}--cafile FILE trusts the authority that issued it; {_UNCHECKED}"


def _not_tls(error: BaseException, asked: HintContext) -> str | None:
    if asked.starttls is not None:
        return None
    sample = error.sample if isinstance(error, NotTLS) else b""
    target = asked.target
    for greeting in GREETINGS:
        if sample.startswith(greeting.start):
            known = _by_port(target.port)
            names = known if known in greeting.protocols else " or ".join(greeting.protocols[:2])
            return f"it may change to TLS when it is asked: --starttls {names}"
    if target.path is not None:
        return None
    return f"port {target.port} does not speak TLS; another port may: {target.host}:PORT"


def _silent(error: BaseException, asked: HintContext) -> str | None:
    ending = error.ending if isinstance(error, BowoutError) else None
    lost = ending is not None and any(event.kind is EventKind.CONNECTION_LOST for event in ending.events)
    if asked.overheard.certificate_wanted and not asked.has("--cert"):
        return _WANTED
    if asked.starttls is not None or asked.overheard.tls or lost:
        return None
    protocol = None if asked.target.path is not None else _by_port(asked.target.port)
    if protocol:
        return f"port {asked.target.port} is that of {protocol}, which begins in plain text: --starttls {protocol}"
    return "does it speak TLS from the first byte? If not: --starttls NAME"


_WANTED: Final = "the server has asked for a certificate, and got none: --cert FILE --key FILE"


def _alert(error: BaseException, asked: HintContext) -> str | None:
    if not isinstance(error, HandshakeAlert):
        return None
    if error.alert.name == "protocol_version":
        return _other_version(asked)
    if error.alert.name == "unrecognized_name":
        return "--servername NAME asks for another name"
    if error.alert.name == "no_application_protocol":
        return "the server supports none of the protocols of --alpn" if asked.has("--alpn") else None
    return _for_certificate(error.alert, asked)


def _for_certificate(alert: Alert, asked: HintContext) -> str | None:
    if asked.has("--cert"):
        return "the server does not accept the certificate of --cert" if alert.name in _TOOK_NONE else None
    wanted = asked.overheard.certificate_wanted or alert.name == "certificate_required"
    return _WANTED if wanted and alert.name in _MISSED_ONE else None


def _other_version(asked: HintContext) -> str:
    if asked.has("--tls"):
        return "the server may speak another version of TLS: leave --tls out, or try the other one"
    return "the server was offered TLS 1.2 and TLS 1.3; it may support only older versions, which are not safe"


def _handshake(error: BaseException, asked: HintContext) -> str | None:
    """Return a remedy by OpenSSL's reason for refusing the peer's handshake."""
    cause = error.__cause__
    reason = cause.reason if isinstance(cause, ssl.SSLError) else None
    if reason in {"UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION"}:
        return _other_version(asked)
    if reason == "NO_PROTOCOLS_AVAILABLE" and asked.has("--tls"):
        return "the configuration of OpenSSL on this machine forbids the version of --tls"
    return _REASONS.get(reason or "")


#: OpenSSL's reasons to refuse a handshake by default, and their remedies.
_REASONS: Final = {
    "UNSAFE_LEGACY_RENEGOTIATION_DISABLED": (
        "the server lacks secure renegotiation (RFC 5746) and needs an update; OPENSSL_CONF can name a file"
        " with Options = UnsafeLegacyServerConnect, which tolerates that"
    ),
    "DH_KEY_TOO_SMALL": "the server's Diffie-Hellman key is too weak to be safe; the server needs an update",
}


def _by_port(port: int) -> str | None:
    return _MORE_PORTS.get(port) or next((name for name, known in STARTTLS.items() if known.port == port), None)


_HINTS: Final[tuple[tuple[type[BowoutError], Callable[[BaseException, HintContext], str | None]], ...]] = (
    (NameNotResolved, _not_resolved),
    (ConnectRefused, _refused),
    (ConnectTimeout, _timed_out),
    (ConnectError, _no_connection),
    (CertificateError, _certificate),
    (NotTLS, _not_tls),
    (HandshakeAlert, _alert),
    (HandshakeTimeout, _silent),
    (HandshakeTruncated, _silent),
    (HandshakeReset, _silent),
    (HandshakeError, _handshake),
    (StartTLSError, _no_starttls),
)
