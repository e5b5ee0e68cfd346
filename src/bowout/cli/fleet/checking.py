"""The probe of a fleet: `bowout.check.check`, with the TLS options of the command line."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from bowout.check import check
from bowout.cli.shared.tls_options import Trust
from bowout.errors import ConnectError, ConnectRefused, ConnectTimeout
from bowout.fleet import stored_report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bowout import StartTLSName
    from bowout.check import ProtocolName
    from bowout.fleet import Endpoint, Probe

#: Seconds in which an address has to take a connection.
_CONNECT_TIMEOUT: Final = 3.0


@dataclass(frozen=True, slots=True)
class CheckFactory:
    """Makes the probe in the process that uses it: a context cannot be sent to another one, its options can."""

    cafile: str | None = None
    insecure: bool = False
    cert: str | None = None
    key: str | None = None
    tls: str | None = None
    protocol: str | None = None

    def __call__(self) -> Probe:
        """Return the probe; its context serves all of its checks.

        Raises:
            UsageError: a file is missing or cannot be used.
        """
        context = Trust(self.cafile, self.insecure, self.cert, self.key, self.tls).context()

        async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
            report = await check(
                endpoint.host,
                endpoint.port,
                protocol=cast(
                    "ProtocolName | None", endpoint.protocol or (self.protocol if not endpoint.starttls else None)
                ),
                starttls=cast("StartTLSName | None", endpoint.starttls),
                context=context,
                connect=partial(connect_to, endpoint),
            )
            return stored_report(endpoint, report)

        return probe


async def connect_to(endpoint: Endpoint) -> socket.socket:
    """Connect to the address of `endpoint` that the limits and exclusions are about, and to no other.

    Raises:
        ConnectError: that is impossible.
    """
    address = endpoint.address or endpoint.host
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        async with asyncio.timeout(_CONNECT_TIMEOUT):
            await asyncio.get_running_loop().sock_connect(sock, (address, endpoint.port))
    except TimeoutError as error:
        sock.close()
        raise ConnectTimeout(error.errno, f"{address} did not answer within {_CONNECT_TIMEOUT:g} s") from None
    except ConnectionRefusedError as error:
        sock.close()
        raise ConnectRefused(error.errno, error.strerror) from error
    except OSError as error:
        sock.close()
        raise ConnectError(error.errno, error.strerror) from error
    except BaseException:
        sock.close()
        raise
    return sock
