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


def check_ports(port: Any, local_addr: Any = None, *, least: int = 1) -> None:
    """Refuse a number that is not a TCP port's: some resolvers take it modulo 65536, and asyncio would connect there.

    None and the name of a service, ``"https"`` for example, are the loop's affair, as is a `local_addr` that is not a
    host and a port.

    Raises:
        TypeError, ValueError: `port` is not from `least` to 65535, or the port of `local_addr` not from 0 on.
    """
    _check_port(port, least)
    if isinstance(local_addr, tuple | list) and len(local_addr) == 2:
        try:
            _check_port(local_addr[1], 0)
        except (TypeError, ValueError) as error:
            raise type(error)(f"local_addr must be a tuple of a host and a port: {error}") from None


def _check_port(port: Any, least: int) -> None:
    if isinstance(port, str | bytes):
        try:
            port = int(port)
        except ValueError:
            return  # The name of a service.
    if port is not None:
        checked_port(port, least=least)


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
