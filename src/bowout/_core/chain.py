"""The peer's certificates, for which the standard library has a public interface only since Python 3.13.

Before that, the private C object under an `ssl.SSLObject` has the same methods. If they are missing, only the peer's
own certificate is available. This is a module of its own beside `messages`, for a client that wants to look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import ssl

_DER: Final = 2


def sent_chain(tls: ssl.SSLObject) -> list[bytes]:
    """Return the certificates that a server sent, its own first, as DER; also if they were refused."""
    chain = _chain(tls, "get_unverified_chain")
    return chain if chain is not None else _leaf(tls)


def verified_chain(tls: ssl.SSLObject) -> list[bytes]:
    """Return the certificates from the server's own up to the trusted authority, as DER; empty if unknown.

    The result is meaningful only if the certificate was checked.
    """
    return _chain(tls, "get_verified_chain") or []


def _chain(tls: ssl.SSLObject, method: str) -> list[bytes] | None:
    """Return the result of `method`, or None if there is no such method."""
    get: Any = getattr(tls, method, None) or getattr(getattr(tls, "_sslobj", None), method, None)
    if get is None:
        return None
    return [each if isinstance(each, bytes) else each.public_bytes(_DER) for each in get() or []]


def _leaf(tls: ssl.SSLObject) -> list[bytes]:
    try:
        leaf = tls.getpeercert(binary_form=True)
    except ValueError:  # The handshake was not completed.
        return []
    return [leaf] if leaf else []
