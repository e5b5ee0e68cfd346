"""Which server a session is of: when OpenSSL resumes one, it checks no certificate, and so no name."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl

#: Sessions whose server is remembered, for each context; of older ones it is the caller's to know.
_MOST: Final = 4096

_servers: weakref.WeakKeyDictionary[ssl.SSLContext, dict[bytes, str]] = weakref.WeakKeyDictionary()


def remember(context: ssl.SSLContext, session: ssl.SSLSession, server_hostname: str) -> None:
    """Remember the name that the server of `session` was checked for, on a connection of `context`; empty for none."""
    known = _servers.setdefault(context, {})
    known.pop(session.id, None)
    known[session.id] = server_hostname.lower()
    if len(known) > _MOST:
        del known[next(iter(known))]


def check(context: ssl.SSLContext, session: ssl.SSLSession, server_hostname: str) -> None:
    """Refuse a `session` that is of another server.

    Raises:
        ValueError: it is.
    """
    of = _servers.get(context, {}).get(session.id)
    if of is not None and of != server_hostname.lower():
        whose = f"is of {of!r}" if of else "is of a server whose name was not checked"
        raise ValueError(
            f"the session {whose}, not of {server_hostname!r}: a resumed connection checks no certificate again"
        )
