"""How does an endpoint end its TLS connections? Polite probes over the network, and a verdict on each.

    report = await bowout.check.check("example.org")
    print(report.verdict)
    for finding in report.findings:
        print(finding.probe, finding.verdict, finding.says)

An ending describes one connection; a verdict here compares what came with what should have come.
docs/reference/check.md has the probes, the scale and the rules.
"""

from bowout.check._check import POLITE_PROBES, PROBES, check
from bowout.check._model import REPORT_VERSION, Finding, Report, Verdict
from bowout.check._protocols import ProtocolName

__all__ = ["POLITE_PROBES", "PROBES", "REPORT_VERSION", "Finding", "ProtocolName", "Report", "Verdict", "check"]
