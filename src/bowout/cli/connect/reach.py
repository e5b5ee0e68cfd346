"""Connections that `bowout.connect` does not make itself: to a Unix socket, or by one version of IP only."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, Final

import aiohappyeyeballs

from bowout._names import ascii_name
from bowout.errors import ConnectError, ConnectRefused, ConnectTimeout, NameNotResolved

if TYPE_CHECKING:
    from bowout.cli.shared.host_port import Target

#: RFC 8305 section 8: the recommended delay between two attempts to connect, in seconds.
_DELAY: Final = 0.25
_VERSIONS: Final = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}


async def reach(target: Target, timeout: float) -> socket.socket | None:
    """Connect to `target`; return None if `bowout.connect` is to do it.

    Args:
        target: the target of the connection.
        timeout: seconds that it may take.

    Raises:
        ConnectError: it failed, with the same messages as `bowout.connect`.
    """
    if target.path is None and target.family is None:
        return None
    try:
        async with asyncio.timeout(timeout):
            if target.path is not None:
                return await _to_unix(target.path)
            return await _by_family(target)
    except TimeoutError as error:
        if error.errno is not None:  # The system gave up, not our timeout.
            raise ConnectTimeout(error.errno, f"{target} did not answer") from error
        raise ConnectTimeout(errno.ETIMEDOUT, f"{target} did not answer within {timeout:g} s") from None
    except ConnectError:
        raise
    except ConnectionRefusedError as error:
        raise ConnectRefused(errno.ECONNREFUSED, f"{target} refused the connection") from error
    except OSError as error:
        raise ConnectError(error.errno or 0, f"no connection to {target}: {error.strerror or error}") from error


async def _to_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, path)
    except BaseException:
        sock.close()
        raise
    return sock


async def _by_family(target: Target) -> socket.socket:
    loop = asyncio.get_running_loop()
    assert target.family is not None, "asked for only where there is one"
    try:
        endpoints = await loop.getaddrinfo(
            ascii_name(target.host),
            target.port,
            family=target.family,
            type=socket.SOCK_STREAM,
            proto=socket.IPPROTO_TCP,
        )
    except socket.gaierror as error:
        text = f"the name {target.host!r} has no {_VERSIONS[target.family]} address: {error.strerror}"
        raise NameNotResolved(error.errno, text) from error
    except UnicodeError as error:
        raise NameNotResolved(socket.EAI_NONAME, f"{target.host!r} is not a host name") from error
    return await aiohappyeyeballs.start_connection(endpoints, happy_eyeballs_delay=_DELAY, loop=loop)
