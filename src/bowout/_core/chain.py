"""The peer's certificates, which the standard library shows in public since Python 3.13 only.

Before, the same methods are there on the private object of C under an `ssl.SSLObject`. Where they are not, there is the
peer's own certificate and no more. It is a module of its own beside `messages`, for a client that wants to look.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import ssl

_DER: Final = 2


def sent_chain(tls: ssl.SSLObject) -> list[bytes]:
    """The certificates that a server sent, its own first, as DER; also where they were refused."""
    chain = _chain(tls, "get_unverified_chain")
    return chain if chain is not None else _leaf(tls)


def verified_chain(tls: ssl.SSLObject) -> list[bytes]:
    """The certificates from the server's own up to the authority that is trusted, as DER; empty where that is unknown.

    It means something only where the certificate was checked.
    """
    return _chain(tls, "get_verified_chain") or []


def _chain(tls: ssl.SSLObject, method: str) -> list[bytes] | None:
    """What `method` gives, or None where there is no such method."""
    get: Any = getattr(tls, method, None) or getattr(getattr(tls, "_sslobj", None), method, None)
    if get is None:
        return None
    return [each if isinstance(each, bytes) else each.public_bytes(_DER) for each in get() or []]


def _leaf(tls: ssl.SSLObject) -> list[bytes]:
    try:
        leaf = tls.getpeercert(binary_form=True)
    except ValueError:  # The handshake was not done.
        return []
    return [leaf] if leaf else []
