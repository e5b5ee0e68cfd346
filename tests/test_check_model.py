"""The values of a check: their order, their JSON, and the schema of it."""

from __future__ import annotations

import dataclasses
import itertools
import json
from importlib import resources
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

from bowout.check import Finding, Report, Verdict
from bowout.ending import Alert, Ending, Event, EventKind, How, Inbound, Outbound, Role, Side

SCHEMA: Final = json.loads(resources.files("bowout.check").joinpath("report.schema.json").read_text(encoding="utf-8"))
ALERT: Final = Alert(20, 2, Side.PEER)
ENDING: Final = Ending(
    how=How.ALERT,
    started_by=Side.PEER,
    outbound=Outbound.LOST,
    inbound=Inbound.FATAL_ALERT,
    close_notify_sent_at=0.25,
    alert=ALERT,
    unacknowledged=7,
    deadline_hit=True,
    reason="why",
    sent=10,
    received=20,
    duration=1.5,
    began=1.0,
    role=Role.CLIENT,
    peer="localhost:1",
    tls_version="TLSv1.3",
    cipher="TLS_AES_128_GCM_SHA256",
    events=(
        Event(EventKind.CONNECTED, Side.WE, 0.0, "localhost:1"),
        Event(EventKind.DATA, Side.PEER, 0.1, sent=1, received=2, count=3, until=0.2),
        Event(EventKind.ALERT, Side.PEER, 0.3, alert=ALERT),
        Event(EventKind.ALERT, Side.PEER, 0.3, alert=Alert(0, 3, Side.PEER)),
    ),
    omitted=2,
    omitted_after=1,
)


def finding(verdict: Verdict, probe: str = "answers", **more: Any) -> Finding:
    return Finding(probe=probe, verdict=verdict, says="so it was", **more)


def report(*verdicts: Verdict) -> Report:
    return Report(endpoint="localhost:443", findings=tuple(map(finding, verdicts)))


FULL: Final = Report(
    endpoint="localhost:443",
    address="127.0.0.1:443",
    starttls="smtp",
    protocol="smtp",
    tls="TLSv1.3",
    began=12.5,
    seconds=1.25,
    connections=7,
    tool="bowout 1",
    findings=(
        finding(Verdict.OK, "reply-end", rule="RFC 8446 §6.1", facts={"end": "close_notify"}),
        finding(Verdict.DATA_LOSS, "half-close", runs=3, lost=2, seconds=0.5, ending=ENDING),
    ),
)


def test_the_verdicts_are_ordered_from_good_to_bad() -> None:
    words = ["OK", "NOTE", "SKIPPED", "UNKNOWN", "WARN", "FAIL", "DATA-LOSS"]
    assert [str(each) for each in sorted(Verdict)] == words
    assert all(Verdict(low) < Verdict(high) for low, high in itertools.pairwise(words))


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ((), Verdict.UNKNOWN),
        ((Verdict.OK,), Verdict.OK),
        ((Verdict.OK, Verdict.NOTE, Verdict.SKIPPED), Verdict.OK),
        ((Verdict.OK, Verdict.UNKNOWN), Verdict.UNKNOWN),
        ((Verdict.UNKNOWN, Verdict.WARN), Verdict.WARN),
        ((Verdict.DATA_LOSS, Verdict.FAIL, Verdict.OK), Verdict.DATA_LOSS),
    ],
)
def test_an_endpoint_has_the_worst_verdict_of_its_findings(verdicts: tuple[Verdict, ...], expected: Verdict) -> None:
    assert report(*verdicts).verdict is expected


def test_the_worst_finding_is_none_where_all_is_well() -> None:
    assert report(Verdict.OK, Verdict.NOTE).worst is None
    worst = FULL.worst
    assert worst is not None
    assert worst.probe == "half-close"


@pytest.mark.parametrize(
    ("verdicts", "probed"),
    [((), False), ((Verdict.UNKNOWN, Verdict.SKIPPED), False), ((Verdict.UNKNOWN, Verdict.NOTE), True)],
)
def test_a_report_tells_whether_anything_is_known(verdicts: tuple[Verdict, ...], probed: bool) -> None:
    assert report(*verdicts).probed is probed


def test_the_json_has_the_names_of_version_1() -> None:
    data = FULL.to_dict()
    assert list(data) == (
        [
            "version",
            "tool",
            "endpoint",
            "address",
            "starttls",
            "protocol",
            "tls",
            "began",
            "seconds",
            "connections",
            "verdict",
            "worst",
            "findings",
        ]
    )
    assert list(data["findings"][0]) == [
        "probe",
        "verdict",
        "says",
        "rule",
        "runs",
        "lost",
        "seconds",
        "facts",
        "ending",
    ]
    assert (data["version"], data["verdict"], data["worst"]) == (1, "DATA-LOSS", "half-close")


def test_a_report_survives_json() -> None:
    assert Report.from_dict(json.loads(json.dumps(FULL.to_dict()))) == FULL


def test_the_schema_is_valid_and_accepts_a_report() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    for each in (FULL, report(Verdict.OK), report()):
        Draft202012Validator(SCHEMA).validate(each.to_dict())


@pytest.mark.parametrize(
    "change", [{"version": 2}, {"verdict": "BAD"}, {"findings": [{}]}, {"connections": "7"}, {"protocol": "gopher"}]
)
def test_the_schema_refuses_what_is_no_report(change: dict[str, Any]) -> None:
    assert not Draft202012Validator(SCHEMA).is_valid(FULL.to_dict() | change)


@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        FULL.to_dict() | {"version": 2},
        FULL.to_dict() | {"findings": [{"probe": "x"}]},
        FULL.to_dict() | {"findings": [finding(Verdict.OK).to_dict() | {"ending": {"version": 1}}]},
        FULL.to_dict() | {"findings": 3},
    ],
)
def test_what_is_no_report_is_refused_as_a_value_error(data: Any) -> None:
    with pytest.raises(ValueError, match="this is not a report"):
        Report.from_dict(data)


def test_an_ending_survives_json() -> None:
    assert Ending.from_dict(json.loads(json.dumps(ENDING.to_dict()))) == ENDING
    bare = Ending(how=How.CLEAN, started_by=None, outbound=Outbound.OPEN, inbound=Inbound.OPEN)
    assert Ending.from_dict(bare.to_dict()) == bare


def test_the_reading_of_an_ending_knows_each_of_its_attributes() -> None:
    assert ENDING.to_dict().keys() - {"version", "summary"} == {each.name for each in dataclasses.fields(Ending)}


@pytest.mark.parametrize(
    "change", [{"version": 9}, {"how": "well"}, {"events": [{}]}, {"events": None}, {"duration": None}]
)
def test_what_is_no_ending_is_refused_as_a_value_error(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="this is not an ending"):
        Ending.from_dict(ENDING.to_dict() | change)
