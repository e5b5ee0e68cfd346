"""HOST[:PORT], as typed on the command line."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

from bowout import STARTTLS
from bowout._arguments import HTTPS_PORT, MAX_PORT
from bowout.cli.shared.usage import UsageError

_LOCALHOST: Final = "localhost"
_MOST_DIGITS: Final = 5
_SHAPES: Final = "HOST, HOST:PORT, [IPv6]:PORT"


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a connection.

    Attributes:
        path: the path of a Unix socket to use instead; `host` is then the name of its server.
        family: the one version of IP to use, or None for any.
    """

    host: str
    port: int
    path: str | None = None
    family: socket.AddressFamily | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"'{self.path}'"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def choose(
    text: str | None, path: str | None, *, starttls: str | None = None, ipv4: bool = False, ipv6: bool = False
) -> Target:
    """Return the target of ``bowout connect``, from HOST[:PORT], ``--path``, ``-4`` and ``-6``.

    Raises:
        UsageError: they contradict each other, or there is no target.
    """
    ways = {"-4": ipv4, "-6": ipv6}
    if path is not None:
        ways |= {"--path": True, f"'{text}'": text is not None}
    given = [name for name, value in ways.items() if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} contradict each other", "leave one of them out")
    if path is not None:
        if not hasattr(socket, "AF_UNIX"):
            raise UsageError("--path: this system has no Unix sockets")
        return Target(_LOCALHOST, _default_port(starttls), path)
    if text is None:
        raise UsageError("there is no host to connect to", f"give {_SHAPES}, or --path FILE")
    family = socket.AF_INET if ipv4 else socket.AF_INET6 if ipv6 else None
    return replace(parse(text, starttls), family=family)


def parse(text: str, starttls: str | None = None) -> Target:
    """Parse HOST[:PORT].

    Args:
        text: a name or an address; an IPv6 address before a port is in brackets.
        starttls: the protocol that decides the default port; None for that of HTTPS.

    Raises:
        UsageError: `text` is not a valid HOST[:PORT].
    """
    if "://" in text:
        meant = urlsplit(text).netloc.rpartition("@")[2] or "HOST"
        raise UsageError(f"'{text}' is a URL", f"give {_SHAPES}, such as {meant}")
    if any(char.isspace() or not char.isprintable() for char in text):
        raise UsageError(
            f"'{text}' is not a valid host: it contains a space or an unprintable character", f"give {_SHAPES}"
        )
    host, port = _split(text)
    if not host:
        raise UsageError(f"'{text}' has no host", f"give {_SHAPES}")
    return Target(host, _port(port, text) if port is not None else _default_port(starttls))


def _split(text: str) -> tuple[str, str | None]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise UsageError(f"'{text}' has a '[' without its ']:PORT'", "an IPv6 address and a port: [::1]:443")
        _check_ipv6(host)
        return host, rest[1:] if rest else None
    if text.count(":") > 1:
        _check_ipv6(text)
        return text, None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _check_ipv6(text: str) -> None:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        raise UsageError(f"'{text}' is not a valid IPv6 address", f"give {_SHAPES}") from None


def _port(text: str, whole: str) -> int:
    if text.isascii() and text.isdigit():
        # A very long number could be more than int() accepts.
        if len(text) <= _MOST_DIGITS and 0 < int(text) <= MAX_PORT:
            return int(text)
        raise UsageError(f"{text[:20]} is not a valid port (1-{MAX_PORT})", "HOST:443, for example")
    try:
        return socket.getservbyname(text, "tcp")
    except (OSError, UnicodeError):
        raise UsageError(
            f"'{text}' in '{whole}' is not a valid port", f"give 1-{MAX_PORT}, or a name such as https"
        ) from None


def _default_port(starttls: str | None) -> int:
    return STARTTLS[starttls].port if starttls is not None else HTTPS_PORT
