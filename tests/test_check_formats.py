"""The formats of a report: what each says, and that no server's bytes leave their place in one."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import Any, Final
from xml.etree import ElementTree as ET

import pytest

from bowout.check import Finding, Report, Verdict
from bowout.check._probes import POLITE
from bowout.cli.check.explanations import PROBE_TEXTS, VERDICT_TEXTS
from bowout.cli.check.formats import FORMATS, Style
from bowout.cli.check.session import AT_OR_ABOVE, nagios_status, status_of
from bowout.ending import Ending, How, Inbound, Outbound, Side
from test_check_model import FULL

#: What a server, or its name, may try: a terminal's commands, a formula, markup, another line, another column.
HOSTILE: Final = "=cmd|'/C calc'!A0\x1b[2J\x07\r\nevil,\"</failure><x a='&'>]]>\u202e\ud800\ufffe|"
ENDING: Final = Ending(
    how=How.TRUNCATED,
    started_by=Side.PEER,
    outbound=Outbound.FIN_SENT,
    inbound=Inbound.TRUNCATED_AT_BOUNDARY,
    reason=HOSTILE,
    peer=HOSTILE,
)


def found(verdict: Verdict, probe: str = "answers", **more: Any) -> Finding:
    return Finding(probe=probe, verdict=verdict, says="so it was", **more)


def report(*findings: Finding, endpoint: str = "localhost:443") -> Report:
    return Report(endpoint=endpoint, findings=findings, seconds=1.5, connections=8)


def written(name: str, *reports: Report, **style: Any) -> str:
    writer = FORMATS[name](dataclasses.replace(Style(), **style))
    data = [each.to_dict() for each in reports]
    return "".join([*map(writer.one, data), writer.all(data)])


EVIL: Final = Report(
    endpoint=HOSTILE,
    address=HOSTILE,
    tls=HOSTILE,
    starttls=HOSTILE,
    findings=(Finding(probe=HOSTILE, verdict=Verdict.WARN, says=HOSTILE, rule=HOSTILE, ending=ENDING),),
)


def test_json_is_one_object_for_one_endpoint_and_an_array_for_several() -> None:
    assert json.loads(written("json", FULL)) == FULL.to_dict()
    assert json.loads(written("json", FULL, FULL)) == [FULL.to_dict()] * 2


def test_json_lines_are_one_line_each() -> None:
    lines = written("jsonl", FULL, EVIL).splitlines()
    assert [Report.from_dict(json.loads(line)) for line in lines] == [FULL, EVIL]


@pytest.mark.parametrize("name", ["json", "jsonl"])
def test_json_is_printable(name: str) -> None:
    text = written(name, EVIL)
    assert all(line.isascii() and line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("name", ["text", "nagios"])
def test_text_is_printable(name: str, width: int, unicode: bool) -> None:
    text = written(name, EVIL, unicode=unicode, width=width)
    assert all(line.isprintable() for line in text.split("\n"))
    assert unicode or text.isascii()


def test_csv_has_a_row_for_each_finding_and_no_formula() -> None:
    rows = list(csv.reader(io.StringIO(written("csv", FULL, EVIL), newline="")))
    assert len(rows) == 1 + len(FULL.findings) + 1
    assert {len(row) for row in rows} == {12}
    assert rows[0][:2] == ["endpoint", "address"]
    assert rows[1][5:7] == ["reply-end", "OK"]
    assert all(value.isprintable() and not value.startswith(("=", "+", "-", "@")) for row in rows for value in row)


def test_junit_tells_failures_errors_and_skips_apart() -> None:
    root = ET.fromstring(
        written(
            "junit",
            report(found(Verdict.OK), found(Verdict.WARN), found(Verdict.FAIL), found(Verdict.DATA_LOSS),
                   found(Verdict.UNKNOWN), found(Verdict.SKIPPED)),
        )
    )  # fmt: skip
    suite = root[0]
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6",
        "failures": "2",
        "errors": "1",
        "skipped": "1",
    }
    assert [case[0].tag for case in suite] == ["system-out", "system-out", "failure", "failure", "error", "skipped"]


def test_junit_fails_from_the_verdict_that_was_asked_for() -> None:
    one = report(found(Verdict.WARN), found(Verdict.FAIL))
    assert ET.fromstring(written("junit", one, fail_on=Verdict.WARN))[0].get("failures") == "2"
    assert ET.fromstring(written("junit", one, fail_on=None))[0].get("failures") == "0"


def test_junit_keeps_hostile_text_in_its_attribute() -> None:
    root = ET.fromstring(written("junit", EVIL, fail_on=Verdict.WARN))
    assert [each.tag for each in root.iter()] == ["testsuites", "testsuite", "testcase", "failure"]


def test_nagios_has_the_summary_first_and_one_bar() -> None:
    text = written("nagios", report(found(Verdict.OK), found(Verdict.WARN)), EVIL)
    first = text.splitlines()[0]
    assert first.startswith("TLS ENDING WARN - 2 endpoints, the worst: localhost:443 answers: so it was | time=1.500s")
    assert text.count("|") == 1
    assert written("nagios", report(found(Verdict.OK))).startswith("TLS ENDING OK - localhost:443 ends")


@pytest.mark.parametrize(
    ("verdicts", "fail_on", "status"),
    [
        ([Verdict.OK, Verdict.NOTE, Verdict.SKIPPED], Verdict.FAIL, 0),
        ([Verdict.WARN], Verdict.FAIL, 0),
        ([Verdict.FAIL], Verdict.FAIL, AT_OR_ABOVE),
        ([Verdict.DATA_LOSS], Verdict.FAIL, AT_OR_ABOVE),
        ([Verdict.WARN], Verdict.WARN, AT_OR_ABOVE),
        ([Verdict.NOTE], Verdict.NOTE, AT_OR_ABOVE),
        ([Verdict.OK, Verdict.SKIPPED], Verdict.NOTE, 0),
        ([Verdict.OK, Verdict.UNKNOWN], Verdict.UNKNOWN, AT_OR_ABOVE),
        ([Verdict.OK, Verdict.UNKNOWN], Verdict.FAIL, 0),
        ([Verdict.DATA_LOSS], None, 0),
        ([Verdict.UNKNOWN, Verdict.UNKNOWN], Verdict.UNKNOWN, 3),
        ([Verdict.UNKNOWN], None, 3),
    ],
)
def test_the_exit_status(verdicts: list[Verdict], fail_on: Verdict | None, status: int) -> None:
    assert status_of([report(*map(found, verdicts))], fail_on) == status


def test_one_endpoint_that_cannot_be_probed_is_not_hidden_by_a_good_one() -> None:
    good, lost, bad = report(found(Verdict.OK)), report(found(Verdict.UNKNOWN)), report(found(Verdict.FAIL))
    assert status_of([good, lost], Verdict.FAIL) == 3
    assert status_of([good, lost, bad], Verdict.FAIL) == AT_OR_ABOVE


@pytest.mark.parametrize(
    ("verdicts", "status"),
    [
        ([Verdict.OK, Verdict.NOTE], 0),
        ([Verdict.WARN], 1),
        ([Verdict.FAIL], 2),
        ([Verdict.DATA_LOSS], 2),
        ([Verdict.UNKNOWN], 3),
        ([Verdict.UNKNOWN, Verdict.WARN], 1),
    ],
)
def test_the_status_of_a_plugin(verdicts: list[Verdict], status: int) -> None:
    assert nagios_status([report(found(each)) for each in verdicts]) == status


def test_text_draws_only_the_ladders_of_bad_findings() -> None:
    bad = report(found(Verdict.OK, ending=ENDING), found(Verdict.WARN, ending=ENDING))
    assert written("text", bad).count("truncated") == 1
    assert "truncated" not in written("text", bad, ladders=False)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_text_is_as_wide_as_its_terminal(width: int) -> None:
    one = dataclasses.replace(report(found(Verdict.OK), found(Verdict.NOTE)), address="192.0.2.7:443", tls="TLSv1.3")
    assert max(map(len, written("text", one, width=width).splitlines())) <= width


def test_text_tells_one_cause_once() -> None:
    lost = report(*(found(Verdict.UNKNOWN, probe) for probe in POLITE))
    assert written("text", lost).count("so it was") == 1


def test_text_counts_several_endpoints() -> None:
    text = written("text", report(found(Verdict.OK)), report(found(Verdict.FAIL)), report(found(Verdict.OK)))
    assert text.endswith("3 endpoints: 1 FAIL, 2 OK\n")


def test_each_verdict_and_each_probe_is_explained() -> None:
    assert list(VERDICT_TEXTS) == [str(each) for each in Verdict]
    assert PROBE_TEXTS.keys() >= POLITE.keys()
