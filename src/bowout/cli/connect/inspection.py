"""``--show-cert``: the agreed TLS parameters, the peer's certificates, and the result of their verification.

They are read from OpenSSL's own objects, so that a refused certificate can be shown, too.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

from bowout._core.chain import sent_chain, verified_chain
from bowout._tls_numbers import TLS13_NAME
from bowout.cli.console import output
from bowout.cli.shared.usage import UsageError
from bowout.errors import CertificateError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The version of the JSON of `Inspection.to_dict`. It is raised when a key changes its meaning or is removed.
SCHEMA_VERSION: Final = 1

_PEM: Final = "pem"
#: Seconds of a day.
_DAY: Final = 86400


class Inspection:
    """Inspects the connection that is made with a context.

    Args:
        context: the context of one connection, which is not made yet.
        server_name: the name that is sent and checked.
        pem: whether to print the certificates in PEM, too.

    Raises:
        UsageError: cryptography, which reads certificates, is not installed.
    """

    def __init__(self, context: ssl.SSLContext, server_name: str, *, pem: bool = False) -> None:
        try:
            from bowout.cli.connect.certificate import describe  # noqa: PLC0415  (an extra, and slow to import)
        except ModuleNotFoundError as error:
            hint = "pip install 'bowout[cli]'"
            raise UsageError(f"{error.name} is not installed; it is needed to read certificates", hint) from error
        self._describe = describe
        self._checked = context.verify_mode is not ssl.CERT_NONE
        self._server_name = server_name
        self._pem = pem
        self._seen = _watch(context)
        self._facts: dict[str, Any] | None = None

    def show(self, error: BaseException | None = None) -> None:
        """Inspect the connection, and report it on stderr; nothing, if the peer sent nothing.

        Args:
            error: the error of a failed handshake.
        """
        if not self._seen:
            return
        facts = self._look(self._seen[-1], error)
        if facts["certificates"] or facts["protocol"]:
            self._facts = facts
            _tell(facts, pem=self._pem)

    def to_dict(self) -> dict[str, Any] | None:
        """Return plain JSON values under stable names (``docs/reference/inspecting.md``); None if nothing was seen."""
        return self._facts

    def _look(self, tls: ssl.SSLObject, error: BaseException | None) -> dict[str, Any]:
        sent = sent_chain(tls)
        verification = self._verification(sent, error)
        trusted = verified_chain(tls) if verification["result"] == "trusted" else []
        cipher = tls.cipher()
        group = getattr(tls, "group", None)  # Available from Python 3.15 on.
        return {
            "version": SCHEMA_VERSION,
            "protocol": tls.version() or _version_of(cipher),
            "cipher": cipher[0] if cipher else None,
            "group": group() if callable(group) else None,
            "alpn": tls.selected_alpn_protocol(),
            "server_name": self._server_name,
            "verification": verification,
            "certificates": [self._describe(each) for each in sent],
            "authority": self._describe(trusted[-1]) if trusted else None,
        }

    def _verification(self, sent: Sequence[bytes], error: BaseException | None) -> dict[str, Any]:
        if isinstance(error, CertificateError):
            return {"result": "refused", "code": error.verify_code, "reason": error.verify_message}
        if not sent or not self._checked:
            return {"result": "not checked", "code": None, "reason": ""}
        if error is not None:  # Only a finished handshake proves that the peer has the certificate's key.
            return {"result": "unfinished", "code": None, "reason": ""}
        return {"result": "trusted", "code": 0, "reason": ""}


def asked_for(value: str, context: ssl.SSLContext, server_name: str) -> Inspection:
    """Make the inspection for `value`, the value of ``--show-cert``.

    Raises:
        UsageError: `value` is not a valid value.
    """
    if value not in {"", _PEM}:
        raise UsageError(f"--show-cert: '{value}' is not a valid value", "--show-cert, or --show-cert=pem")
    return Inspection(context, server_name, pem=value == _PEM)


def _watch(context: ssl.SSLContext) -> list[ssl.SSLObject]:
    """Return a list to which `context` adds each of its connections."""
    made: list[ssl.SSLObject] = []

    class Watched(ssl.SSLObject):
        """A connection that adds itself to the list."""

        def __new__(cls, *_args: object, **_options: object) -> Self:
            self = super().__new__(cls)
            made.append(self)
            return self

    context.sslobject_class = Watched
    return made


def _version_of(cipher: tuple[str, str, int] | None) -> str | None:
    """Return the version of an unfinished handshake, if its cipher decides it: a cipher of TLS 1.3 has no other."""
    return cipher[1] if cipher is not None and cipher[1] == TLS13_NAME else None


# -- for people ------------------------------------------------------------------------------------------------------


def _tell(facts: dict[str, Any], *, pem: bool) -> None:
    agreed = [facts["protocol"] or "no version agreed on", facts["cipher"], facts["group"]]
    agreed.append(f"ALPN {facts['alpn']}" if facts["alpn"] else "no ALPN")
    output.hanging("TLS:", ", ".join(part for part in agreed if part), code="1")
    output.hanging("certificate:", _verdict(facts), code="1")
    for number, each in enumerate(facts["certificates"]):
        _tell_one(f"{number:2}", each)
        if pem:
            for line in each["pem"].splitlines():
                output.line(line)


def _verdict(facts: dict[str, Any]) -> str:
    verification, name = facts["verification"], facts["server_name"]
    if not facts["certificates"]:
        return "none was sent"
    match verification["result"]:
        case "trusted":
            by = facts["authority"]
            return f"trusted for {name}" + (f", by {by['subject'] or by['sha256']}" if by else "")
        case "refused":
            return f"refused for {name}: {verification['reason']}"
        case "unfinished":
            return "not judged, for the handshake failed"
        case _:
            return "not checked (--insecure)"


def _tell_one(head: str, certificate: dict[str, Any]) -> None:
    for name, text in _lines(certificate):
        output.hanging(f"{head} {name + ':':<8}", text, indent=12)
        head = "  "


def _lines(certificate: dict[str, Any]) -> list[tuple[str, str]]:
    key, bits, digest = certificate["key"], certificate["key_bits"], certificate["signed_with"]
    key = f"{key or 'unreadable'}{f', {bits} bits' if bits else ''}{f', signed with {digest}' if digest else ''}"
    lines = [
        ("subject", certificate["subject"] or "empty"),
        ("issuer", certificate["issuer"] or "empty"),
        ("names", ", ".join(certificate["names"] or ()) or "none"),
        ("valid", validity(certificate["not_before"], certificate["not_after"])),
        ("key", key + (", an authority" if certificate["authority"] else "")),
        ("serial", certificate["serial"] or "unreadable"),
        ("SHA-256", ":".join(certificate["sha256"][at : at + 2] for at in range(0, 64, 2)).upper()),
    ]
    return lines + [("fault", each) for each in certificate["faults"]]


def validity(first: str | None, last: str | None) -> str:
    """Say from when to when a certificate is valid, and whether it is so now."""
    if first is None or last is None:
        return "unreadable"
    now = datetime.now(UTC)
    begins, ends = datetime.fromisoformat(first), datetime.fromisoformat(last)
    if now < begins:
        state = "NOT YET VALID"
    elif now > ends:
        state = f"EXPIRED {_days((now - ends).total_seconds())} ago"
    else:
        state = f"{_days((ends - now).total_seconds())} left"
    return f"{first[:10]} to {last[:10]} ({state})"


def _days(seconds: float) -> str:
    days = int(seconds // _DAY)
    return "less than a day" if days == 0 else "1 day" if days == 1 else f"{days} days"
