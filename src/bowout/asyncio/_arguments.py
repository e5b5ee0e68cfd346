"""What asyncio's TLS protocol is given, with its checks and defaults, and what its transport tells."""

from __future__ import annotations

import ssl
from typing import Any

from bowout._arguments import checked_port
from bowout._core import hook
from bowout._core.client_hello import HelloGate


def client_context(host: str | None) -> ssl.SSLContext:
    """Make a client's default context, as asyncio does: without a name, none is checked."""
    context = ssl.create_default_context()
    context.check_hostname = bool(host)
    return context


def positive(name: str, seconds: float | None, default: float) -> float:
    """Return `seconds`, or the default for None.

    Raises:
        ValueError: it is not a positive number.
    """
    if seconds is None:
        return default
    if not seconds > 0:
        raise ValueError(f"{name} should be a positive number, got {seconds}")
    return seconds


def check_ports(where: tuple[Any, ...]) -> None:
    """Check the ports in `where`: asyncio's loops take a number above 65535 for what is left of it in 16 bits.

    Raises:
        ValueError: one is not from 0 to 65535.
    """
    for each in where:
        if isinstance(each, int):
            checked_port(each, least=0)


def gate_of(context: ssl.SSLContext) -> HelloGate | None:
    """Return the check of a client's first message, if the context has a callback that depends on it."""
    return None if hook.underlying(context).sni_callback is None else HelloGate(None)


def facts_of(tls: ssl.SSLObject) -> dict[str, Any]:
    """Return what ``get_extra_info`` tells of TLS after the handshake, by asyncio's names."""
    return {
        "peercert": tls.getpeercert(),
        "cipher": tls.cipher(),
        "compression": tls.compression(),
        "ssl_object": tls,
    }
