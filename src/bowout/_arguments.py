"""Arguments as callers give them: given back as they are needed, or refused in words that say what to write.

A wrong type is a TypeError, a wrong value a ValueError; either comes before anything is opened, sent or closed.
"""

from __future__ import annotations

import difflib
import math
from numbers import Real
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from bowout._names import ascii_name, ipv6, without_root, without_zone

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_PORT: Final = 65535
_HTTPS: Final = 443
_LONGEST_PROTOCOL: Final = 255
#: What a message shows of a value that was given.
_SHOWN: Final = 80


def checked_timeout(name: str, seconds: Any) -> float:
    """Give `seconds` back, or say what is wrong with them.

    Raises:
        TypeError, ValueError: they are no finite number, 0 or more.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, Real):
        raise TypeError(f"{name} must be a number of seconds, not {_type(seconds)}: nothing waits for ever")
    try:
        checked = float(seconds)
    except OverflowError:
        checked = math.inf
    if not (math.isfinite(checked) and checked >= 0):
        raise ValueError(
            f"{name} must be a finite number of seconds, 0 or more, not {seconds!r}: nothing waits for ever"
        )
    return checked


def checked_period(name: str, seconds: Any) -> float | None:
    """Give `seconds` back, where None stands for never; or say what is wrong with them.

    Raises:
        TypeError, ValueError: they are neither None nor a finite number above 0.
    """
    if seconds is None:
        return None
    if (checked := checked_timeout(name, seconds)) == 0:
        raise ValueError(f"{name} must be more than 0 seconds; None switches it off")
    return checked


def check_flag(name: str, value: Any) -> None:
    """Raise TypeError for what is neither True nor False: an empty string is no way to switch something off."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {_type(value)}")


def checked_count(name: str, value: Any, *, least: int) -> int:
    """Give `value` back if it is a whole number, `least` or more.

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
    """Give `port` back if it is the number of a TCP port.

    Raises:
        TypeError, ValueError: it is not.
    """
    if isinstance(port, str) and port.isascii() and port.isdigit():
        raise TypeError(f"port must be an int, not str: write {int(port)}, without quotation marks")
    if isinstance(port, bool) or not hasattr(port, "__index__"):
        raise TypeError(f"port must be an int, not {_type(port)}")
    number: int = port.__index__()
    if not least <= number <= _MAX_PORT:
        raise ValueError(f"port must be from {least} to {_MAX_PORT}, not {number}")
    return number


def checked_host(host: Any, port: Any) -> str:
    """Give `host` back if it can be a name or an address; whether it is one is for the resolver to say.

    Raises:
        TypeError, ValueError: it cannot.
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


def _meant(host: str, port: Any) -> str | None:
    """What to write for a URL, for a host with its port, and for an address in brackets."""
    if "://" in host:
        try:
            url = urlsplit(host)
            number = url.port or (_HTTPS if url.scheme in ("https", "wss") else port)
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
    return any(char in "/@?#[]\\\x7f" or char.isspace() or char < " " for char in text)


def checked_server_hostname(name: Any) -> str:
    """The name as TLS carries it and certificates are checked for it: in ASCII, without zone and final dot.

    Raises:
        TypeError, ValueError: TLS cannot carry it (RFC 6066 section 3).
    """
    if not isinstance(name, str):
        raise TypeError(f"server_hostname must be a str, not {_type(name)}")
    try:
        checked = ascii_name(without_root(without_zone(name)))
        if _is_carried(checked):
            return checked
    except UnicodeError:
        pass
    raise ValueError(f"server_hostname cannot be {_shown(name)}: TLS can carry a host's name or an address")


def _is_carried(name: str) -> bool:
    """Whether TLS can carry `name`.

    Raises:
        UnicodeError: one of its labels is empty or too long.
    """
    if not name or name.startswith(".") or _has_other_than_name(name) or (":" in name and ipv6(name) is None):
        return False
    return bool(name.encode("idna"))


def checked_protocols(names: Any) -> list[str]:
    """Give `names` back, as a list, if ALPN can carry them (RFC 7301 section 3.1).

    Raises:
        TypeError, ValueError: it cannot.
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


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Refuse a `value` that is none of `choices`, and say which was meant, if that can be guessed.

    Raises:
        TypeError, ValueError: it is none.
    """
    known = sorted(choices)
    listed = ", ".join(f'"{choice}"' for choice in known)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be one of {listed}, not {_type(value)}")
    if value not in known:
        close = difflib.get_close_matches(value.lower(), known, n=1, cutoff=0.5)
        guess = f'; did you mean "{close[0]}"?' if close else ""
        raise ValueError(f"{name} must be one of {listed}, not {_shown(value)}{guess}")


def check_callable(name: str, call: object) -> None:
    """Refuse what cannot be called, where something was given.

    Raises:
        TypeError: it cannot.
    """
    if call is not None and not callable(call):
        raise TypeError(f"{name} must be a function, not {_type(call)}")


def checked_bytes(name: str, data: Any) -> memoryview:
    """The bytes of `data`, whatever its shape.

    Raises:
        TypeError: it has none.
    """
    try:
        return memoryview(data).cast("B")
    except TypeError:
        raise TypeError(f"{name} must be bytes, not {_type(data)}") from None


def _type(value: object) -> str:
    return "None" if value is None else type(value).__name__


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
