"""Endpoints: read from lines of text, and the networks and hosts that a fleet must not touch."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

from bowout import STARTTLS
from bowout._arguments import HTTPS_PORT, MAX_PORT, checked_server_hostname
from bowout._names import ascii_name, host_port
from bowout._text import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TextIO

#: Longest line that is read at once, in characters: a host's name has 253 at most.
_LONGEST_LINE: Final = 1024
#: Maximum number of characters of a malformed line that a message shows.
_SHOWN: Final = 60
#: What some editors put at the beginning of a file in UTF-8.
_BOM: Final = "\ufeff"
#: How the word of a line with a protocol begins.
_PROTOCOL: Final = "protocol="
#: What a fleet speaks over TLS.
PROTOCOLS: Final = ("http", "smtp", "imap", "pop3", "postgres", "redis")
_FORM: Final = f"HOST[:PORT] [STARTTLS] [{_PROTOCOL}NAME]"
#: Lengths of the prefixes that count as one network: what one organization usually gets.
_PREFIXES: Final = {4: 24, 6: 48}

#: Bits before the address of IPv4 in one of IPv6.
_MAPPED: Final = 96

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of a fleet.

    Attributes:
        host: its name or address.
        port: its TCP port.
        starttls: the protocol to change to TLS from, a name of `bowout.STARTTLS`; None for TLS from the beginning.
        id: its number in the store; 0 before it has one.
        address: the address to connect to, once it is known. Limits and exclusions are about this address.
        network: the network of `address`, /24 or /48; empty before it is known.
        attempts: the number of attempts that ended UNKNOWN.
        protocol: what to speak over TLS; None for the protocol of `starttls`, or that of the run.
        addresses: the addresses of its name to try, one after the other, `address` among them; empty for an address.
    """

    host: str
    port: int
    starttls: str | None = None
    id: int = 0
    address: str | None = None
    network: str = ""
    attempts: int = 0
    protocol: str | None = None
    addresses: tuple[str, ...] = ()

    def __str__(self) -> str:
        protocol = f" {_PROTOCOL}{self.protocol}" if self.protocol else ""
        return host_port(self.host, self.port) + (f" {self.starttls}" if self.starttls else "") + protocol

    @property
    def key(self) -> tuple[str, int, str, str]:
        """What tells it from others: host, port, STARTTLS and protocol, as a store has them."""
        return self.host, self.port, self.starttls or "", self.protocol or ""

    def at(self, addresses: tuple[str, ...]) -> Self:
        """Return it at the first of `addresses`, the others to be tried later."""
        return replace(self, address=addresses[0], network=network_of(addresses[0]), addresses=addresses)

    def at_next(self) -> Self | None:
        """Return it at the next address of its name; None after the last."""
        if self.address not in self.addresses:
            return None
        rest = self.addresses[self.addresses.index(self.address) + 1 :]
        return replace(self, address=rest[0], network=network_of(rest[0])) if rest else None

    def at_first(self) -> Self:
        """Return it at the first address of its name."""
        return self.at(self.addresses) if self.addresses else self


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that is not an endpoint.

    Attributes:
        number: its number, from 1.
        why: the reason, escaped.
    """

    number: int
    why: str


def endpoint_of(row: tuple[Any, ...]) -> Endpoint:
    """Return the endpoint of a row of a store: id, what `Endpoint.key` has, address, network, attempts, addresses."""
    number, host, port, starttls, protocol, address, network, attempts, addresses = row
    several = tuple(addresses.split())
    return Endpoint(host, port, starttls or None, number, address, network, attempts, protocol or None, several)


def read_lines(file: TextIO) -> Iterator[tuple[int, str]]:
    """Yield the lines of `file` that are not empty, with their numbers, without comments; never a whole long line."""
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        whole = line.removeprefix(_BOM) if number == 1 else line
        while not line.endswith("\n") and (line := file.readline(_LONGEST_LINE)):
            whole = whole[:_LONGEST_LINE] + "…"
        if text := whole.partition("#")[0].strip():
            yield number, text


def read_endpoints(file: TextIO) -> Iterator[Endpoint | BadLine]:
    """Read ``HOST[:PORT] [STARTTLS] [protocol=NAME]`` from each line; ``#`` begins a comment.

    Yields:
        an endpoint, or what is wrong with the line: a bad line does not end the reading.
    """
    for number, text in read_lines(file):
        try:
            yield parse_endpoint(text)
        except ValueError as error:
            yield BadLine(number, escape(str(error)))


def parse_endpoint(text: str) -> Endpoint:
    """Parse ``HOST[:PORT] [STARTTLS] [protocol=NAME]``.

    Raises:
        ValueError: `text` is something else.
    """
    where, *more = text.split() or [""]
    protocol = _protocol(more.pop()) if more and more[-1].lower().startswith(_PROTOCOL) else None
    if len(more) > 1:
        raise ValueError(f"'{text[:_SHOWN]}' has more than {_FORM}")
    starttls = more[0].lower() if more else None
    if starttls is not None and starttls not in STARTTLS:
        raise ValueError(f"'{starttls[:_SHOWN]}' is not a protocol of STARTTLS: {', '.join(sorted(STARTTLS))}")
    host, port = _split(where)
    try:
        if "=" in host:
            raise ValueError
        name = ascii_name(checked_server_hostname(host)).lower()
    except (ValueError, UnicodeError):
        raise ValueError(f"'{where[:_SHOWN]}' is not a valid host or HOST:PORT") from None
    number = _port(port, where) if port is not None else STARTTLS[starttls].port if starttls else HTTPS_PORT
    parsed = _address(host)
    if parsed is None:
        return Endpoint(name, number, starttls, protocol=protocol)
    spelled = str(parsed) if parsed.version == 6 or ":" not in host else host.lower()
    network = network_of(str(parsed))
    return Endpoint(spelled, number, starttls, address=str(parsed), network=network, protocol=protocol)


def _protocol(word: str) -> str:
    name = word[len(_PROTOCOL) :].lower()
    if name not in PROTOCOLS:
        raise ValueError(f"'{name[:_SHOWN]}' is not a protocol: {', '.join(PROTOCOLS)}")
    return name


def _split(where: str) -> tuple[str, str | None]:
    if where.startswith("["):
        host, bracket, rest = where[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            raise ValueError(f"'{where[:_SHOWN]}' is not [IPv6] or [IPv6]:PORT")
        return host, rest[1:] if rest else None
    if where.count(":") > 1:
        return where, None
    host, colon, port = where.partition(":")
    return host, port if colon else None


def _port(text: str, where: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= MAX_PORT:
        return int(text)
    raise ValueError(f"'{text[:_SHOWN]}' in '{where[:_SHOWN]}' is not a valid port (1-{MAX_PORT})")


def _address(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def _plain_name(host: str) -> str:
    """Return the one form in which names are compared: ASCII, lower case, without the root's dot."""
    try:
        return ascii_name(host).lower().removesuffix(".")
    except UnicodeError:
        return host.lower().removesuffix(".")


def _unmapped(network: _Network) -> _Network:
    """Return a network of IPv4 that is written as IPv6 (``::ffff:192.0.2.0/120``) as what it is."""
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < _MAPPED:
        return network
    return ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED))


def network_of(address: str) -> str:
    """Return the network whose limits hold for `address`: its /24, or its /48.

    Raises:
        ValueError: `address` is not an IP address.
    """
    parsed = _address(address)
    if parsed is None:
        raise ValueError(f"'{address}' is not an IP address")
    bits = parsed.max_prefixlen - _PREFIXES[parsed.version]
    base = int(parsed) >> bits << bits
    return f"{type(parsed)(base)}/{_PREFIXES[parsed.version]}"


class Exclusions:
    """Networks, addresses and names that a fleet must not touch: the lines of ``--exclude``.

    Each line is a network (``192.0.2.0/24``), an address, or a name; a name excludes the names under it, too. A lookup
    takes the same time for ten lines as for a million.

    Raises:
        ValueError: a line is none of these; the message has its number. Nothing may be probed then.
    """

    def __init__(self, lines: Iterable[tuple[int, str]] = ()) -> None:
        self._networks: dict[tuple[int, int], set[int]] = defaultdict(set)
        self._names: set[str] = set()
        for number, text in lines:
            try:
                self._add(text)
            except ValueError as error:
                raise ValueError(f"line {number}: {escape(str(error))}") from None

    def _add(self, text: str) -> None:
        try:
            network = ipaddress.ip_network(text, strict=False)
        except ValueError:
            if "/" in text or len(text.split()) > 1:
                raise ValueError(f"'{text[:_SHOWN]}' is neither a network, an address nor a name") from None
            name = checked_server_hostname(text.lstrip("*."))
            self._names.add(_plain_name(name))
        else:
            network = _unmapped(network)
            shift = network.max_prefixlen - network.prefixlen
            self._networks[network.version, shift].add(int(network.network_address) >> shift)

    def cover(self, host: str, address: str | None) -> bool:
        """Tell whether `host`, or `address` if it is known, is excluded."""
        if self._names:
            name = _plain_name(host)
            while name:
                if name in self._names:
                    return True
                name = name.partition(".")[2]
        parsed = _address(address or host)
        if parsed is None:
            return False
        return any(
            int(parsed) >> shift in bases
            for (version, shift), bases in self._networks.items()
            if version == parsed.version
        )
