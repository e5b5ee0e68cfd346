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


# Numbers of X509_V_ERR_…, grouped by remedy.
#: No trusted authority has issued the certificate.
NOT_TRUSTED: Final = frozenset({2, 18, 19, 20, 21, 27})
#: The certificate is not valid yet, or has expired.
NOT_NOW: Final = frozenset({9, 10})
#: The certificate is for another host, or another address.
ANOTHER_NAME: Final = frozenset({62, 64})
#: The remedies in Python; the command line has its own.
_ADVICE: Final = (
    (
        NOT_TRUSTED,
        "to trust the authority that issued it, a client's context is ssl.create_default_context(cafile=FILE)",
    ),
    (NOT_NOW, "is this machine's clock right?"),
    (ANOTHER_NAME, "server_hostname=NAME asks for another name, and checks for it"),
)

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
        return _refused(error)
    if not looks_like_tls(sample):
        return _not_tls(sample)
    if alert is not None and alert.by is Side.PEER:
        return HandshakeAlert(f"the peer refused the handshake: {alert.name}", alert=alert)
    return HandshakeError(f"the handshake failed: {words_of(error)}")


def _refused(error: ssl.SSLCertVerificationError) -> CertificateError:
    """Make the error of a refused certificate, with the remedy as a note, which a traceback shows."""
    code, message = error.verify_code, error.verify_message
    refused = CertificateError(
        f"the peer's certificate was refused: {message}", verify_code=code, verify_message=message
    )
    for codes, advice in _ADVICE:
        if code in codes:
            refused.add_note(advice)
    return refused


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
