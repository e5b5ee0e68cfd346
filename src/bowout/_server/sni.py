"""Choice of a certificate by the name that a client asks for (RFC 6066 section 3)."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bowout._core import hook
from bowout._names import ascii_name, without_root

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = logging.getLogger("bowout.server")


class SniCallback:
    """Chooses the context by name; the main context serves unknown names.

    Args:
        alpn: protocols to set on the chosen context; None keeps its own.
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
                hook.prepare(chosen)
                real = hook.underlying(chosen)
                if self._alpn is not None:
                    real.set_alpn_protocols(list(self._alpn))
                tls.context = real
        except Exception:  # noqa: BLE001  (it is logged; OpenSSL could only swallow it)
            _log.exception("the sni function failed")
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        except BaseException as error:
            if not hook.hand_on(tls, error):  # The engine raises it: the standard library would drop it.
                raise
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        return None


def sni_callback(
    sni: Mapping[str, ssl.SSLContext] | Callable[[str], ssl.SSLContext | None],
    main: ssl.SSLContext,
    alpn: Sequence[str] | None = None,
) -> SniCallback:
    """Make a callback for ``SSLContext.sni_callback`` from a mapping or a function.

    Raises:
        TypeError: `sni` is neither, or a value is not a context.
        ValueError: no client can ask for one of the names, or a context of the mapping has requirements that would not
            be met.
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
    """Return the name of a mapping's entry as a client sends it (RFC 6066 section 3)."""
    if not isinstance(name, str):
        raise TypeError(f"a name of sni must be a str, not {type(name).__name__}")
    if "*" in name:
        raise ValueError(f"sni: {name!r} would be taken literally; use a function to serve many names")
    if not name.strip("."):
        raise ValueError(f"sni: {name!r} is not a valid host name")
    return sni_name(name)


def sni_name(name: str) -> str:
    """Return a host's name as a client sends it: in ASCII (IDNA 2008), in lower case, without the root's dot.

    Raises:
        ValueError: a client cannot send it.
    """
    try:
        return without_root(ascii_name(name).lower())
    except UnicodeError as error:
        raise ValueError(f"no client can ask for the name {name!r}: {error}") from error


def check_sni_context(chosen: ssl.SSLContext, main: ssl.SSLContext) -> None:
    """Refuse a context that requires a client's certificate if `main` does not.

    OpenSSL uses the certificate and the trust store of the chosen context, but requests from the client what the first
    context requires: the requirement would silently have no effect (SSL_set_SSL_CTX).
    """
    if not isinstance(chosen, hook.BASE):
        raise TypeError(f"a context for SNI must be an ssl.SSLContext, not {type(chosen).__name__}")
    if chosen.protocol == ssl.PROTOCOL_TLS_CLIENT:
        raise ValueError("a context for SNI must be a server's, but this one was made for PROTOCOL_TLS_CLIENT")
    if chosen.verify_mode > main.verify_mode:
        raise ValueError(
            f"a context for SNI has {chosen.verify_mode!s}, and the main context only {main.verify_mode!s}: "
            "the main context decides what a client's certificate must be"
        )
