"""OpenSSL's errors, in our words."""

from __future__ import annotations

import re
import ssl
from typing import Final

from bowout._core.records import looks_like_tls
from bowout._escape import escape
from bowout.ending import ALERT_NAMES, Alert, Side
from bowout.errors import CertificateError, HandshakeAlert, HandshakeError, HandshakeTruncated, NotTLS

_CODES: Final = {name: code for code, name in ALERT_NAMES.items()}
_ALERT_REASON: Final = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?(\w+)")
_DECORATION: Final = re.compile(r"\[[^]]*\] *| *\(_ssl\.c:\d+\)")
_PLAIN_GUESSES: Final = (
    (re.compile(rb"HTTP/|<!|<html|(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS) ", re.IGNORECASE), "HTTP"),
    (re.compile(rb"SSH-"), "SSH"),
    (re.compile(rb"\* OK"), "IMAP; it may want STARTTLS"),
    (re.compile(rb"\+OK"), "POP3; it may want STARTTLS"),
    (re.compile(rb"220[ -]"), "SMTP or FTP; it may want STARTTLS"),
)


def alert_of_reason(reason: str | None) -> Alert | None:
    """The fatal alert that the peer must have sent for OpenSSL to give this `reason`, or None."""
    match = _ALERT_REASON.fullmatch(reason or "")
    code = _CODES.get(match[1].lower()) if match else None
    return None if code is None else Alert(code=code, level=2, by=Side.PEER)


def words_of(error: ssl.SSLError) -> str:
    """What OpenSSL says is wrong, without its decoration."""
    return error.reason.lower().replace("_", " ") if error.reason else _DECORATION.sub("", str(error)).lower()


def handshake_cut(sample: bytes) -> HandshakeError:
    """Say why a handshake ended with the peer's FIN; `sample` is what the peer sent first."""
    if looks_like_tls(sample):
        return HandshakeTruncated("the peer closed the connection during the handshake")
    return _not_tls(sample)


def handshake_failure(error: ssl.SSLError, alert: Alert | None, sample: bytes) -> HandshakeError:
    """Say why a handshake failed, chained to OpenSSL's error.

    Args:
        error: what OpenSSL raised.
        alert: the fatal alert that was seen, if any.
        sample: the first bytes that the peer sent.
    """
    failure = _explain(error, alert, sample)
    failure.__cause__ = error
    return failure


def _explain(error: ssl.SSLError, alert: Alert | None, sample: bytes) -> HandshakeError:
    if isinstance(error, ssl.SSLCertVerificationError):
        message = error.verify_message
        return CertificateError(
            f"the peer's certificate was refused: {message}", verify_code=error.verify_code, verify_message=message
        )
    if not looks_like_tls(sample):
        return _not_tls(sample)
    if alert is not None and alert.by is Side.PEER:
        return HandshakeAlert(f"the peer refused the handshake: {alert.name}", alert=alert)
    return HandshakeError(f"the handshake failed: {words_of(error)}")


def _not_tls(sample: bytes) -> NotTLS:
    guess = next((name for pattern, name in _PLAIN_GUESSES if pattern.match(sample)), "")
    spoke = f" (it looks like {guess})" if guess else ""
    return NotTLS(f"the peer does not speak TLS here{spoke}: it sent '{escape(sample[:40])}'", sample=sample)
