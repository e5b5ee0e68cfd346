"""Names and addresses of hosts, in the forms for resolvers, for TLS and for people."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any, Final

_ACE: Final = "xn--"


def ascii_name(name: str) -> str:
    """Return the ASCII form of a host's name, for DNS and certificates (IDNA 2008, RFC 5891).

        >>> ascii_name("faß.de")
        'xn--fa-hia.de'

    Python's own codec follows IDNA 2003, for which that is the name of another owner, fass.de. Upper case and other
    spellings are mapped as in browsers (UTS #46, not transitional). A name in ASCII is returned unchanged.

    Raises:
        UnicodeError: `name` has no such form.
    """
    if name.isascii():
        return name
    import idna  # noqa: PLC0415  (large tables, for the few names that need them)

    labels = idna.uts46_remap(name, std3_rules=False).split(".")
    return ".".join(label if label.isascii() else idna.alabel(label).decode("ascii") for label in labels)


def unicode_name(name: str) -> str:
    """Return the Unicode form of a host's name, in lower case, without the root's dot, for XMPP (RFC 7622).

    Raises:
        UnicodeError: a label that is not ASCII is not valid in IDNA 2008.
    """
    labels = ascii_name(name).lower().removesuffix(".").split(".")
    return ".".join(_decoded(label) if label.startswith(_ACE) else label for label in labels)


def _decoded(label: str) -> str:
    import idna  # noqa: PLC0415  (as above)

    try:
        return idna.ulabel(label)
    except UnicodeError:  # The label is not valid IDNA: the server has to judge it.
        return label


def without_root(name: str) -> str:
    """Return a host's name without its final dot, which is for resolvers and not for TLS (RFC 6066 section 3)."""
    return name.removesuffix(".")


def ipv6(text: str) -> ipaddress.IPv6Address | None:
    """Return `text` as an IPv6 address, with its zone if it has one (RFC 4007 section 11); None if it is none."""
    try:
        return ipaddress.IPv6Address(text)
    except ValueError:
        return None


def without_zone(name: str) -> str:
    """Return a name or an address without its zone, which is valid on this machine only (RFC 4007 section 6).

    No certificate has a zone, and no peer may be told of it.
    """
    address, percent, _ = name.partition("%")
    return address if percent and ipv6(name) is not None else name


def host_of(address: tuple[Any, ...]) -> str:
    """Return the host of a socket's address; a link-local one with its zone, which is needed to connect to it."""
    host = str(address[0])
    if len(address) < 4 or not address[3] or "%" in host:
        return host
    try:
        return f"{host}%{socket.if_indextoname(address[3])}"
    except OSError:  # The interface is gone; its number is still known.
        return f"{host}%{address[3]}"


def host_port(host: str, port: int) -> str:
    """Return ``host:port``, an IPv6 address in the brackets that it needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
