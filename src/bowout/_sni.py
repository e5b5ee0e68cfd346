"""Choosing a certificate by the name that a client asks for (RFC 6066 section 3)."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bowout._core import messages
from bowout._names import ascii_name, without_root

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = logging.getLogger("bowout.server")


class SniCallback:
    """Chooses the context; what it does not know, the main context serves.

    Args:
        alpn: protocols to set on whatever is chosen; None leaves its own.
    """

    def __init__(
        self,
        choose: Callable[[str], ssl.SSLContext | None],
        contexts: Mapping[str, ssl.SSLContext],
        alpn: Sequence[str] | None,
    ) -> None:
        self._choose = choose
        self._alpn = alpn
        self.contexts = contexts

    def __call__(self, tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, main: ssl.SSLContext) -> int | None:
        if name is None:
            return None
        try:
            chosen = self._choose(name.lower())
            if chosen is not None:
                check_sni_context(chosen, main)
                messages.prepare(chosen)
                real = messages.underlying(chosen)
                if self._alpn is not None:
                    real.set_alpn_protocols(list(self._alpn))
                tls.context = real
        except Exception:  # noqa: BLE001  (it is logged; OpenSSL could only swallow it)
            _log.exception("the sni function failed")
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        except BaseException as error:
            if not messages.hand_on(tls, error):  # The engine raises it: the standard library would drop it.
                raise
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        return None


def sni_callback(
    sni: Mapping[str, ssl.SSLContext] | Callable[[str], ssl.SSLContext | None],
    main: ssl.SSLContext,
    alpn: Sequence[str] | None = None,
) -> SniCallback:
    """Make a callback for ``SSLContext.sni_callback`` of a mapping or a function.

    Raises:
        TypeError: it is neither, or a value is no context.
        ValueError: no client can ask for one of the names, or a context of the mapping asks for more than it would get.
    """
    if isinstance(sni, Mapping):
        contexts = {_checked_name(name): context for name, context in sni.items()}
        for context in contexts.values():
            check_sni_context(context, main)
        return SniCallback(contexts.get, contexts, alpn)
    if callable(sni):
        return SniCallback(sni, {}, alpn)
    raise TypeError(f"sni must be a mapping or a function, not {type(sni).__name__}")


def _checked_name(name: str) -> str:
    """A name of a mapping as a client sends it (RFC 6066 section 3)."""
    if not isinstance(name, str):
        raise TypeError(f"a name of sni must be a str, not {type(name).__name__}")
    if "*" in name:
        raise ValueError(f"sni: {name!r} would be taken literally; use a function to serve many names")
    if not name.strip("."):
        raise ValueError(f"sni: {name!r} is no name of a host")
    return sni_name(name)


def sni_name(name: str) -> str:
    """A host's name as a client asks for it: in ASCII (IDNA 2008), in lower case, without the dot of the root.

    Raises:
        ValueError: a client cannot ask for it.
    """
    try:
        return without_root(ascii_name(name).lower())
    except UnicodeError as error:
        raise ValueError(f"no client can ask for the name {name!r}: {error}") from error


def check_sni_context(chosen: ssl.SSLContext, main: ssl.SSLContext) -> None:
    """Refuse a context that wants a client's certificate where `main` does not.

    OpenSSL takes the certificate and the trust of the context that was chosen, but asks the client for what the first
    context said: the requirement would silently not be one (SSL_set_SSL_CTX).
    """
    if not isinstance(chosen, messages.BASE):
        raise TypeError(f"a context for SNI must be an ssl.SSLContext, not {type(chosen).__name__}")
    if chosen.protocol == ssl.PROTOCOL_TLS_CLIENT:
        raise ValueError("a context for SNI is a server's, and this one was made for PROTOCOL_TLS_CLIENT")
    if chosen.verify_mode > main.verify_mode:
        raise ValueError(
            f"a context for SNI has {chosen.verify_mode!s}, and the main context only {main.verify_mode!s}: "
            "what is wanted of a client's certificate is decided by the main context"
        )
