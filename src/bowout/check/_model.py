"""The values of a check: a report, its findings and their verdicts. They only describe themselves."""

from __future__ import annotations

import enum
import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from bowout.ending import Ending

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Version of the format of `Report.to_dict`. It is raised when a key changes its meaning or is removed.
REPORT_VERSION: Final = 1


@functools.total_ordering
class Verdict(enum.Enum):
    """A verdict on one probe, or on an endpoint. They are ordered: a later one is worse."""

    #: Nothing is wrong.
    OK = "OK"
    #: Allowed, but it costs somebody something: a deadline to wait for, a connection that stays open.
    NOTE = "NOTE"
    #: The probe was not made, since it cannot tell anything here.
    SKIPPED = "SKIPPED"
    #: The probe failed, so that nothing is known.
    UNKNOWN = "UNKNOWN"
    #: A rule is broken, but nothing was lost.
    WARN = "WARN"
    #: A truncation could pass for a complete answer.
    FAIL = "FAIL"
    #: Bytes that the server had to send did not arrive.
    DATA_LOSS = "DATA-LOSS"

    @property
    def rank(self) -> int:
        """Position in the order, from 0."""
        return _RANKS[self]

    def __lt__(self, other: object) -> bool:
        return self.rank < other.rank if isinstance(other, Verdict) else NotImplemented

    def __str__(self) -> str:
        return self.value


_RANKS: Final = {verdict: rank for rank, verdict in enumerate(Verdict)}
#: Verdicts that are not the endpoint's: it is the worst of all others.
_ASIDE: Final = frozenset({Verdict.NOTE, Verdict.SKIPPED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The result of one probe.

    Attributes:
        probe: the probe's name, which is stable.
        verdict: the verdict on what was seen.
        says: what was seen, in a sentence for people; bytes from the server are escaped.
        rule: the section that decides; empty if none does. It is stable.
        runs: number of times that the probe was made.
        lost: number of those in which bytes were lost.
        seconds: duration of all runs.
        facts: what was seen, as plain JSON values; names may be added.
        ending: how the connection ended, of the worst run; None if there was none.
    """

    probe: str
    verdict: Verdict
    says: str
    rule: str = ""
    runs: int = 1
    lost: int = 0
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    ending: Ending | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values under stable names."""
        return {
            "probe": self.probe,
            "verdict": str(self.verdict),
            "says": self.says,
            "rule": self.rule,
            "runs": self.runs,
            "lost": self.lost,
            "seconds": round(self.seconds, 3),
            "facts": dict(self.facts),
            "ending": None if self.ending is None else self.ending.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make a finding again from what `to_dict` returned.

        Raises:
            ValueError: `data` is not a finding.
        """
        try:
            return cls(
                probe=str(data["probe"]),
                verdict=Verdict(data["verdict"]),
                says=str(data["says"]),
                rule=str(data["rule"]),
                runs=int(data["runs"]),
                lost=int(data["lost"]),
                seconds=float(data["seconds"]),
                facts=dict(data["facts"]),
                ending=None if data["ending"] is None else Ending.from_dict(data["ending"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is not a finding: {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How one endpoint ends its connections.

    Attributes:
        endpoint: host and port as they were asked for.
        findings: one for each probe, in the order in which they were made.
        address: the address that was connected to, with its port; None if there was no connection.
        starttls: the protocol in which TLS was requested; None if TLS came first.
        protocol: the protocol of the probes.
        tls: the version of TLS; None if there was no TLS connection.
        began: time of the beginning, in seconds of Unix time.
        seconds: duration of the check.
        connections: number of connections that were opened.
        tool: name and version of the program that made the report.
    """

    endpoint: str
    findings: tuple[Finding, ...]
    address: str | None = None
    starttls: str | None = None
    protocol: str = "http"
    tls: str | None = None
    began: float = 0.0
    seconds: float = 0.0
    connections: int = 0
    tool: str = "bowout"

    @property
    def verdict(self) -> Verdict:
        """The endpoint's verdict: the worst of its findings, NOTE and SKIPPED aside; UNKNOWN if there is no finding."""
        if not self.findings:
            return Verdict.UNKNOWN
        return max((each.verdict for each in self.findings if each.verdict not in _ASIDE), default=Verdict.OK)

    @property
    def worst(self) -> Finding | None:
        """The first finding with the endpoint's verdict; None if that is OK."""
        verdict = self.verdict
        if verdict is Verdict.OK:
            return None
        return next((each for each in self.findings if each.verdict is verdict), None)

    @property
    def probed(self) -> bool:
        """Whether anything is known: a probe had another verdict than UNKNOWN and SKIPPED."""
        return any(each.verdict not in {Verdict.UNKNOWN, Verdict.SKIPPED} for each in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values under stable names; ``version`` identifies the set of names (`REPORT_VERSION`).

        The schema is in the package: ``report.schema.json``.
        """
        worst = self.worst
        return {
            "version": REPORT_VERSION,
            "tool": self.tool,
            "endpoint": self.endpoint,
            "address": self.address,
            "starttls": self.starttls,
            "protocol": self.protocol,
            "tls": self.tls,
            "began": round(self.began, 3),
            "seconds": round(self.seconds, 3),
            "connections": self.connections,
            "verdict": str(self.verdict),
            "worst": None if worst is None else worst.probe,
            "findings": [each.to_dict() for each in self.findings],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Make a report again from what `to_dict` returned. The verdict is computed again.

        Raises:
            ValueError: `data` is not a report, or it is one of a later version.
        """
        try:
            if data["version"] != REPORT_VERSION:
                raise ValueError(f"version {data['version']!r} is not known")
            return cls(
                endpoint=str(data["endpoint"]),
                findings=tuple(map(Finding.from_dict, data["findings"])),
                address=_optional(data["address"]),
                starttls=_optional(data["starttls"]),
                protocol=str(data["protocol"]),
                tls=_optional(data["tls"]),
                began=float(data["began"]),
                seconds=float(data["seconds"]),
                connections=int(data["connections"]),
                tool=str(data["tool"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is not a report: {type(error).__name__}: {error}") from error


def _optional(text: object) -> str | None:
    return None if text is None else str(text)
