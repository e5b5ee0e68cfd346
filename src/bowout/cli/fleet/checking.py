"""The probe of a fleet: `bowout.check.check`, with the TLS options of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bowout import check
from bowout.cli.shared.tls_options import Trust

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bowout.fleet import Endpoint, Probe


@dataclass(frozen=True, slots=True)
class CheckFactory:
    """Makes the probe in the process that uses it: a context cannot be sent to another one, its options can."""

    cafile: str | None = None
    insecure: bool = False
    cert: str | None = None
    key: str | None = None
    tls: str | None = None

    def __call__(self) -> Probe:
        """Return the probe; its context serves all of its checks.

        Raises:
            UsageError: a file is missing or cannot be used.
        """
        context = Trust(self.cafile, self.insecure, self.cert, self.key, self.tls).context()

        async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
            report = await check.check(
                endpoint.address or endpoint.host,
                endpoint.port,
                starttls=endpoint.starttls,
                context=context,
                server_hostname=endpoint.host,
            )
            return report.to_dict()

        return probe
