"""Who the peers are: one certificate authority, made when it is first needed, and contexts that go with it."""

from __future__ import annotations

import functools
import ssl
from typing import Final, Literal

import trustme

TLSVersion = Literal["1.2", "1.3"]

#: The names that the certificates of `server_context` are good for.
NAMES: Final = ("localhost", "127.0.0.1", "::1", "peer.test")

VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

#: What `bowout.testing._records` can write; TLS 1.3 has nothing else by default.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


@functools.cache
def default_ca() -> trustme.CA:
    """The authority of this process, for all peers that were given none."""
    return trustme.CA()


@functools.lru_cache(maxsize=8)
def _certificate(ca: trustme.CA) -> trustme.LeafCert:
    return ca.issue_cert(*NAMES)


def client_context(ca: trustme.CA, tls: TLSVersion | None = None) -> ssl.SSLContext:
    """A client's context that trusts the authority and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(context)
    return pinned(context, tls)


def server_context(ca: trustme.CA, tls: TLSVersion | None = None) -> ssl.SSLContext:
    """A server's context with a certificate of the authority for `NAMES`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _certificate(ca).configure_cert(context)
    return pinned(context, tls)


def peer_context(ca: trustme.CA, role: Literal["client", "server"], tls: TLSVersion | None) -> ssl.SSLContext:
    """A context for a misbehaving peer.

    A client among them does not look at certificates: how a connection ends is what is tested, not how it begins.
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
    """Allow `context` one version of TLS, or leave it as it is."""
    if tls is not None:
        context.minimum_version = context.maximum_version = VERSIONS[tls]
    return context
