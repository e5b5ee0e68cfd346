"""The identity of the peers: one certificate authority, made when it is first needed, and its contexts."""

from __future__ import annotations

import functools
import ssl
from typing import Final, Literal

import trustme

from bowout._tls_numbers import VERSION_PINS

TLSVersion = Literal["1.2", "1.3"]

#: The names in the certificates of `server_context`.
NAMES: Final = ("localhost", "127.0.0.1", "::1", "peer.test")

#: The cipher suites that `bowout._scripted.records` can write; TLS 1.3 has no others by default.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


@functools.cache
def default_ca() -> trustme.CA:
    """Return the authority of this process, for all peers without one of their own."""
    return trustme.CA()


@functools.lru_cache(maxsize=8)
def _certificate(ca: trustme.CA) -> trustme.LeafCert:
    return ca.issue_cert(*NAMES)


def client_context(ca: trustme.CA, tls: TLSVersion | None = None) -> ssl.SSLContext:
    """Return a client's context that trusts only the authority `ca`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(context)
    return pinned(context, tls)


def server_context(ca: trustme.CA, tls: TLSVersion | None = None) -> ssl.SSLContext:
    """Return a server's context with a certificate of the authority `ca` for `NAMES`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _certificate(ca).configure_cert(context)
    return pinned(context, tls)


def peer_context(ca: trustme.CA, role: Literal["client", "server"], tls: TLSVersion | None) -> ssl.SSLContext:
    """Return a context for a misbehaving peer.

    A client's context does not check certificates: the tests are about the end of a connection, not its beginning.
    """
    if role == "server":
        context = server_context(ca, tls)
    else:
        context = pinned(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), tls)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_ciphers(_CIPHERS)
    return context


def pinned(context: ssl.SSLContext, tls: TLSVersion | None) -> ssl.SSLContext:
    """Restrict `context` to the version `tls`; None leaves it as it is."""
    if tls is not None:
        context.minimum_version = context.maximum_version = VERSION_PINS[tls]
    return context
