"""One run of ``bowout check``: the probes of each endpoint, the report, and the exit status."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bowout._text import clip, escape
from bowout.check import Verdict
from bowout.check import check as check_endpoint
from bowout.cli.check.formats import FORMATS, NAGIOS_UNKNOWN, Style
from bowout.cli.console import output
from bowout.cli.console.signals import LeaveSignals
from bowout.cli.shared.usage import UsageError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from bowout import StartTLSName
    from bowout.check import Finding, ProtocolName, Report
    from bowout.cli.check.output_file import ReportFile
    from bowout.cli.shared.host_port import Target

#: The exit status if a verdict is that of ``--fail-on``, or worse.
AT_OR_ABOVE: Final = 10
#: The values of ``--fail-on``; None: no verdict fails.
FAIL_ON: Final[dict[str, Verdict | None]] = {
    "note": Verdict.NOTE,
    "unknown": Verdict.UNKNOWN,
    "warn": Verdict.WARN,
    "fail": Verdict.FAIL,
    "data-loss": Verdict.DATA_LOSS,
    "never": None,
}
#: Exit status of a plugin of Nagios, for each verdict.
_NAGIOS: Final = {
    Verdict.OK: 0,
    Verdict.NOTE: 0,
    Verdict.SKIPPED: 0,
    Verdict.WARN: 1,
    Verdict.FAIL: 2,
    Verdict.DATA_LOSS: 2,
    Verdict.UNKNOWN: NAGIOS_UNKNOWN,
}
#: Order of badness of these statuses: unknown is better than a known fault.
_NAGIOS_ORDER: Final = (0, NAGIOS_UNKNOWN, 1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckPlan:
    """The settings from all options."""

    targets: Sequence[Target]
    context: ssl.SSLContext
    server_name: str | None
    protocol: ProtocolName | None
    starttls: StartTLSName | None
    send: bytes | None
    expect: bytes | None
    idle: float | None
    large: str | None
    intrusive: bool
    timeout: float
    form: str
    ladders: bool
    fail_on: Verdict | None


def run(plan: CheckPlan, file: ReportFile) -> int:
    """Carry out `plan`; return the exit status."""
    done = False
    try:
        with LeaveSignals() as signals:
            status = asyncio.run(_run(plan, file, signals))
        done = signals.status is None or status != signals.status
        return status
    finally:
        if done:
            file.close()
        else:
            file.drop()


async def _run(plan: CheckPlan, file: ReportFile, signals: LeaveSignals) -> int:
    writer = FORMATS[plan.form](Style.of(file.target, ladders=plan.ladders, fail_on=plan.fail_on))
    reports: list[Report] = []
    progress = _Progress()
    with signals.heard():
        for target in plan.targets:
            report = await _unless_left(plan, target, progress, signals)
            if report is None:
                progress.clear()
                output.error(f"interrupted at {target}: {len(reports)} of {len(plan.targets)} endpoints were checked")
                return signals.status or output.INTERRUPTED
            reports.append(report)
            progress.clear()
            file.write(writer.one(report.to_dict()))
    file.write(writer.all([each.to_dict() for each in reports]))
    _hint(reports, plan)
    if file.failed:
        return NAGIOS_UNKNOWN if plan.form == "nagios" else output.HERE
    return nagios_status(reports) if plan.form == "nagios" else status_of(reports, plan.fail_on)


async def _unless_left(plan: CheckPlan, target: Target, progress: _Progress, signals: LeaveSignals) -> Report | None:
    """Check one endpoint; return None if a signal came first."""
    try:
        making = check_endpoint(
            target.host,
            target.port,
            protocol=plan.protocol,
            starttls=plan.starttls,
            context=plan.context,
            server_hostname=plan.server_name,
            send=plan.send,
            expect=plan.expect,
            idle=plan.idle,
            large=plan.large,
            intrusive=plan.intrusive,
            timeout=plan.timeout,
            on_finding=progress.of(str(target)),
        )
        task = asyncio.ensure_future(making)
        left = asyncio.ensure_future(signals.first.wait())
        await asyncio.wait({task, left}, return_when=asyncio.FIRST_COMPLETED)
        left.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            return None
        return task.result()
    except (ValueError, ModuleNotFoundError) as error:
        raise UsageError(str(error)) from error


def status_of(reports: Sequence[Report], fail_on: Verdict | None) -> int:
    """Return the exit status for `reports`."""
    if not any(report.probed for report in reports):
        return output.NOT_CONNECTED
    if fail_on is not None and any(_fails(finding, fail_on) for report in reports for finding in report.findings):
        return AT_OR_ABOVE
    return 0 if all(report.probed for report in reports) else output.NOT_CONNECTED


def _fails(finding: Finding, fail_on: Verdict) -> bool:
    return finding.verdict >= fail_on and finding.verdict is not Verdict.SKIPPED


def nagios_status(reports: Sequence[Report]) -> int:
    """Return the exit status of a plugin of Nagios for `reports`."""
    return max((_NAGIOS[report.verdict] for report in reports), key=_NAGIOS_ORDER.index)


def _hint(reports: Sequence[Report], plan: CheckPlan) -> None:
    """Print a remedy for what kept an endpoint from being probed, or where to read about the worst finding."""
    failed = {str(each.findings[0].facts.get("error")) for each in reports if not each.probed and each.findings}
    for name in sorted(failed & _REMEDIES.keys()):
        if not (name == "NotTLS" and plan.starttls):
            output.hint(_REMEDIES[name])
    bad = [each.worst for each in reports if each.worst is not None and each.verdict >= Verdict.WARN]
    if bad and plan.form == "text":
        probe = max(bad, key=lambda finding: finding.verdict).probe
        output.hint(f"bowout check --explain {probe} tells what it means, and how to mend it")


_REMEDIES: Final = {
    "NameNotResolved": "is the host spelled right, and can this machine reach a DNS server?",
    "ConnectRefused": "is the port right? No server listens there, or a firewall rejects the connection",
    "ConnectTimeout": "a firewall may drop the packets",
    "CertificateError": "--cafile FILE trusts the authority that issued the certificate; --insecure does not check it",
    "NotTLS": "does TLS begin with the first byte there? If not: --starttls NAME",
    "HandshakeTimeout": "does it speak TLS from the first byte? If not: --starttls NAME",
}


class _Progress:
    """A line on stderr that tells what was found last; on a terminal only."""

    def __init__(self) -> None:
        self._shown = output.colours(sys.stderr)

    def of(self, target: str) -> _Shown:
        """Return the observer of the findings of `target`."""
        if self._shown:
            self._show(f"{escape(target)} …")
        return _Shown(self, target)

    def finding(self, target: str, finding: Finding) -> None:
        """Show a finding of `target`."""
        if self._shown:
            self._show(f"{escape(target)} {finding.probe}: {finding.verdict}")

    def _show(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{clip(text, output.width(sys.stderr) - 1)}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Remove the line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


class _Shown:
    """The observer of one endpoint's findings."""

    def __init__(self, progress: _Progress, target: str) -> None:
        self._progress = progress
        self._target = target

    def __call__(self, finding: Finding) -> None:
        """Show `finding`."""
        self._progress.finding(self._target, finding)
