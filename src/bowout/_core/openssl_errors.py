"""OpenSSL's errors, in our words."""

from __future__ import annotations

import re
import ssl
from typing import Final, NamedTuple

from bowout._core.records import looks_like_tls
from bowout._text import escape
from bowout._tls_numbers import ALERT_CODES, FATAL
from bowout.ending import Alert, Side
from bowout.errors import CertificateError, HandshakeAlert, HandshakeError, HandshakeTruncated, NotTLS

_ALERT_REASON: Final = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?(\w+)")
_DECORATION: Final = re.compile(r"\[[^]]*\] *| *\(_ssl\.c:\d+\)")
_PLAIN_GUESSES: Final = (
    (re.compile(rb"HTTP/|<!|<html|(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS) ", re.IGNORECASE), "HTTP"),
    (re.compile(rb"SSH-"), "SSH"),
)
_SMTP: Final = ("smtp", "ftp", "lmtp")


class Greeting(NamedTuple):
    """The greeting, in plain text, of a server that can change to TLS.

    Attributes:
        start: the first bytes.
        protocols: the possible protocols, by their names in `bowout.STARTTLS`, the likeliest first.
        guess: the same in the words of an error message; "" if an error does not guess.
    """

    start: bytes
    protocols: tuple[str, ...]
    guess: str = ""


GREETINGS: Final = (
    Greeting(b"* OK", ("imap",), "IMAP"),
    Greeting(b"+OK", ("pop3",), "POP3"),
    Greeting(b"220 ", _SMTP, "SMTP or FTP"),
    Greeting(b"220-", _SMTP, "SMTP or FTP"),
    Greeting(b"220", _SMTP),
    Greeting(b'"IMPLEMENTATION"', ("sieve",)),
    Greeting(b"200 ", ("nntp",)),
    Greeting(b"201 ", ("nntp",)),
)


def alert_of_reason(reason: str | None) -> Alert | None:
    """Return the fatal alert that the peer must have sent if OpenSSL gives this `reason`, or None."""
    match = _ALERT_REASON.fullmatch(reason or "")
    code = ALERT_CODES.get(match[1].lower()) if match else None
    return None if code is None else Alert(code=code, level=FATAL, by=Side.PEER)


def words_of(error: ssl.SSLError) -> str:
    """Return OpenSSL's text of the error, without its decoration."""
    return error.reason.lower().replace("_", " ") if error.reason else _DECORATION.sub("", str(error)).lower()


def handshake_cut(sample: bytes) -> HandshakeError:
    """Make the error of a handshake that the peer's FIN ended; `sample` has the peer's first bytes."""
    if looks_like_tls(sample):
        return HandshakeTruncated("the peer closed the connection during the handshake")
    return _not_tls(sample)


def handshake_failure(error: ssl.SSLError, alert: Alert | None, sample: bytes) -> HandshakeError:
    """Make the error of a failed handshake, chained to OpenSSL's error.

    Args:
        error: what OpenSSL raised.
        alert: the fatal alert that was seen, if any.
        sample: the peer's first bytes.
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
    guess = _guess(sample)
    spoke = f" (it looks like {guess})" if guess else ""
    return NotTLS(f"the peer does not speak TLS here{spoke}: it sent '{escape(sample[:40])}'", sample=sample)


def _guess(sample: bytes) -> str:
    """Guess the protocol that begins with `sample`, in words; "" if it is unknown."""
    for greeting in GREETINGS:
        if greeting.guess and sample.startswith(greeting.start):
            return f"{greeting.guess}; it may want STARTTLS"
    return next((name for pattern, name in _PLAIN_GUESSES if pattern.match(sample)), "")
