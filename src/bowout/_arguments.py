"""Checks of callers' arguments: each returns a valid argument, or raises an error that says what to write.

A wrong type is a TypeError, a wrong value a ValueError; either comes before anything is opened, sent or closed.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
from collections.abc import Collection
from numbers import Real
from typing import Any, Final
from urllib.parse import urlsplit

from bowout._names import ascii_name, ipv6, without_root, without_zone

#: Largest number of a TCP port: it has 16 bits.
MAX_PORT: Final = 65535
#: The port of HTTPS, the default.
HTTPS_PORT: Final = 443
_LONGEST_PROTOCOL: Final = 255
#: Maximum number of a value's characters that a message shows.
_SHOWN: Final = 80
#: Characters that no name and no address has: those of a URL around it, spaces, and control characters.
_OTHER_THAN_NAME: Final = re.compile(r"[/@?#\[\]\\\x7f\x00-\x1f\s]")


def checked_timeout(name: str, seconds: Any) -> float:
    """Return `seconds`, a timeout, if it is valid.

    Raises:
        TypeError, ValueError: `seconds` is not a finite number, 0 or more.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, Real):
        raise TypeError(f"{name} must be a number of seconds, not {_type(seconds)}: nothing waits forever")
    try:
        checked = float(seconds)
    except OverflowError:
        checked = math.inf
    if not (math.isfinite(checked) and checked >= 0):
        raise ValueError(
            f"{name} must be a finite number of seconds, 0 or more, not {seconds!r}: nothing waits forever"
        )
    return checked


def checked_duration(name: str, seconds: Any) -> float:
    """Return `seconds` if it is a time in which something can be done.

    Raises:
        TypeError, ValueError: `seconds` is not a finite number above 0.
    """
    if (checked := checked_timeout(name, seconds)) == 0:
        raise ValueError(f"{name} must be more than 0 seconds: nothing can be done in no time")
    return checked


def checked_period(name: str, seconds: Any) -> float | None:
    """Return `seconds`, a period, if it is valid; None means never.

    Raises:
        TypeError, ValueError: `seconds` is neither None nor a finite number above 0.
    """
    if seconds is None:
        return None
    if (checked := checked_timeout(name, seconds)) == 0:
        raise ValueError(f"{name} must be more than 0 seconds; None switches it off")
    return checked


def check_flag(name: str, value: Any) -> None:
    """Raise TypeError if `value` is neither True nor False: an empty string does not switch something off."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {_type(value)}")


def check_type(name: str, value: object, kind: type | tuple[type, ...], described: str) -> None:
    """Refuse `value` if it is not of `kind`, which is `described` in words.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {described}, not {_type(value)}")


def check_has(name: str, value: object, method: str, described: str) -> None:
    """Refuse `value` if it has no `method`, which what is `described` in words has.

    Raises:
        TypeError: it has none.
    """
    if isinstance(value, type) or not callable(getattr(value, method, None)):
        raise TypeError(f"{name} must be {described}, not {_type(value)}")


def checked_count(name: str, value: Any, *, least: int) -> int:
    """Return `value` if it is an integer, `least` or more.

    Raises:
        TypeError, ValueError: it is not.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int, not {_type(value)}")
    count: int = value.__index__()
    if count < least:
        raise ValueError(f"{name} must be {least} or more, not {count}")
    return count


def checked_port(port: Any, *, least: int = 1) -> int:
    """Return `port` if it is the number of a TCP port.

    Raises:
        TypeError, ValueError: it is not.
    """
    if isinstance(port, str) and port.isascii() and port.isdigit():
        raise TypeError(f"port must be an int, not str: write {int(port)}, without quotation marks")
    if isinstance(port, bool) or not hasattr(port, "__index__"):
        raise TypeError(f"port must be an int, not {_type(port)}")
    number: int = port.__index__()
    if not least <= number <= MAX_PORT:
        raise ValueError(f"port must be from {least} to {MAX_PORT}, not {number}")
    return number


def checked_host(host: Any, port: Any) -> str:
    """Return `host` if it can be a name or an address; only the resolver can tell whether it is one.

    Raises:
        TypeError, ValueError: it cannot be one.
    """
    if not isinstance(host, str):
        example = f"; write {str(host)!r}" if hasattr(host, "max_prefixlen") else ""
        raise TypeError(f"host must be a str, not {_type(host)}{example}")
    if not host:
        raise ValueError("host is empty: give a name or an address")
    if meant := _meant(host, port):
        raise ValueError(f"host must be a name or an address alone, not {_shown(host)}: write {meant}")
    if _has_other_than_name(host) or (":" in host and ipv6(host) is None):
        raise ValueError(f"{_shown(host)} is neither a host's name nor an address")
    return host


def checked_local_address(address: Any) -> tuple[str, int] | None:
    """Return `address`, from which to connect, with its port; 0 for any port. None stays None.

    Raises:
        TypeError, ValueError: it cannot be one.
    """
    if address is None:
        return None
    host, port = address if isinstance(address, tuple) and len(address) == 2 else (address, 0)
    try:
        return checked_host(host, port), checked_port(port, least=0)
    except (TypeError, ValueError) as error:
        raise type(error)(f"local_address must be a host, or a tuple of a host and a port: {error}") from None


def _meant(host: str, port: Any) -> str | None:
    """Return what to write for a URL, for a host with its port, and for an address in brackets."""
    if "://" in host:
        try:
            url = urlsplit(host)
            number = url.port or (HTTPS_PORT if url.scheme in ("https", "wss") else port)
        except ValueError:
            return "the host's name"
        return f"{url.hostname!r}, {number}" if url.hostname else "the host's name"
    if host.startswith("["):
        address, _, rest = host[1:].partition("]")
    elif host.count(":") == 1:
        address, _, rest = host.partition(":")
    else:
        return None
    digits = rest.removeprefix(":")
    number = int(digits) if digits.isascii() and digits.isdigit() else port
    return f"{address!r}, {number}" if address and not _has_other_than_name(address) else None


def _has_other_than_name(text: str) -> bool:
    return _OTHER_THAN_NAME.search(text) is not None


def check_host_names(name: str, hosts: Any) -> None:
    """Refuse `hosts` if it is not a collection of names of hosts.

    Raises:
        TypeError, ValueError: it is none, or one of them can be no name.
    """
    named = isinstance(hosts, Collection) and not isinstance(hosts, str | bytes)
    if not named or not all(isinstance(host, str) for host in hosts):
        raise TypeError(f"{name} must be a collection of host names, such as {{'old.example.org'}}")
    for host in hosts:
        if not host or _has_other_than_name(host):
            raise ValueError(f"{name} must have names of hosts alone, and one of them is {_shown(host)}")


def checked_server_hostname(name: Any) -> str:
    """Return `name` as TLS carries it and certificates have it: in ASCII, without zone and final dot.

    Raises:
        TypeError, ValueError: TLS cannot carry it (RFC 6066 section 3).
    """
    if not isinstance(name, str):
        raise TypeError(f"server_hostname must be a str, not {_type(name)}")
    carried = _carried(name)
    if carried is None:
        raise ValueError(f"server_hostname cannot be {_shown(name)}: TLS can carry a host's name or an address")
    return carried


@functools.lru_cache(maxsize=256)  # A program connects to the same hosts again and again.
def _carried(name: str) -> str | None:
    """Return the form in which TLS carries `name`; None if it cannot."""
    try:
        name = ascii_name(without_root(without_zone(name)))
        name.encode("idna")  # An error if a label is empty or too long.
    except UnicodeError:
        return None
    if not name or name.startswith(".") or _has_other_than_name(name) or (":" in name and ipv6(name) is None):
        return None
    return name


def checked_protocols(names: Any) -> list[str]:
    """Return `names` as a list if ALPN can carry them (RFC 7301 section 3.1).

    Raises:
        TypeError, ValueError: ALPN cannot carry them.
    """
    if isinstance(names, str | bytes):  # It is a sequence, too, but is not meant as one.
        text = names.decode("ascii", "backslashreplace") if isinstance(names, bytes) else names
        raise TypeError(f"alpn must be a list of protocols, not {_type(names)}: write alpn={text.split(',')!r}")
    try:
        given = list(names)
    except TypeError:
        raise TypeError(f"alpn must be a list of protocols, not {_type(names)}") from None
    for name in given:
        if not isinstance(name, str):
            text = f": write {name.decode('ascii', 'backslashreplace')!r}" if isinstance(name, bytes) else ""
            raise TypeError(f"alpn must be a list of str, and one of them is {_type(name)}{text}")
        if not (name.isascii() and 0 < len(name) <= _LONGEST_PROTOCOL):
            raise ValueError(f"alpn must be names of 1 to 255 ASCII characters each, not {_shown(name)}")
    if not given:
        raise ValueError("alpn is empty: name the protocols to offer, or leave it None")
    return given


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Refuse a `value` that is none of `choices`, and suggest the closest choice, if there is one.

    Raises:
        TypeError, ValueError: `value` is none of them.
    """
    if isinstance(value, str) and value in choices:
        return
    known = sorted(choices)
    listed = ", ".join(f'"{choice}"' for choice in known)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {listed}, not {_type(value)}")
    close = difflib.get_close_matches(value.lower(), known, n=1, cutoff=0.5)
    guess = f'; did you mean "{close[0]}"?' if close else ""
    raise ValueError(f"{name} must be one of {listed}, not {_shown(value)}{guess}")


def check_callable(name: str, call: object) -> None:
    """Refuse `call` if it is neither None nor callable.

    Raises:
        TypeError: `call` is neither.
    """
    if call is not None and not callable(call):
        raise TypeError(f"{name} must be a function, not {_type(call)}")


def checked_bytes(name: str, data: Any) -> memoryview:
    """Return the bytes of `data`, for any shape.

    Raises:
        TypeError: `data` is not bytes-like.
    """
    try:
        return memoryview(data).cast("B")
    except TypeError:
        raise TypeError(f"{name} must be bytes, not {_type(data)}") from None


def unsendable(data: object, error: TypeError) -> TypeError:
    """Return the error for `data` that ``send()`` cannot send because of `error`: it says what to write."""
    try:
        memoryview(data)  # type: ignore[arg-type]  # it is asked whether it can be one
    except TypeError:
        more = ": encode it first" if isinstance(data, str) else ""
        return TypeError(f"send() takes bytes, not {_type(data)}{more}")
    return error


def wrong_side(role: str, context: Any) -> ValueError:
    """Return the error for a context that was made for the other side; `role` is ``"client"`` or ``"server"``."""
    purpose = "ssl.Purpose.CLIENT_AUTH" if role == "server" else ""
    return ValueError(
        f"this context cannot be a {role}'s: it was made for {context.protocol.name};"
        f" a {role}'s is ssl.create_default_context({purpose})"
    )


def _type(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
