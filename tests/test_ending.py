"""The values that describe an ending: one line, one dictionary."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Final

import pytest

from bowout._tls_numbers import ALERT_NAMES
from bowout.ending import (
    SCHEMA_VERSION,
    Alert,
    Ending,
    Event,
    EventKind,
    How,
    Inbound,
    Outbound,
    Role,
    Side,
)

OURS: Final = Alert(code=20, level=2, by=Side.WE)
THEIRS: Final = Alert(code=40, level=2, by=Side.PEER)


def ending(how: How, outbound: Outbound, inbound: Inbound, **more: Any) -> Ending:
    return Ending(how=how, started_by=more.pop("started_by", Side.WE), outbound=outbound, inbound=inbound, **more)


SENT: Final = Outbound.FIN_SENT
LOST: Final = Event(EventKind.CONNECTION_LOST, Side.WE, 1.0, "Connection timed out")
LINES: Final = [
    (
        ending(How.CLEAN, SENT, Inbound.CLOSE_NOTIFY),
        "clean: we sent close_notify, the peer answered",
    ),
    (
        ending(How.CLEAN, SENT, Inbound.CLOSE_NOTIFY, started_by=Side.PEER),
        "clean: the peer sent close_notify, we answered",
    ),
    (
        ending(How.CLEAN, Outbound.CLOSE_NOTIFY_SENT, Inbound.CLOSE_NOTIFY, unwrapped=True),
        "clean: both sent close_notify, and the TCP connection goes on in plain",
    ),
    (
        ending(How.CLEAN, SENT, Inbound.CLOSE_NOTIFY, late_reset=True, discarded=1234),
        "clean: we sent close_notify, the peer answered, 1,234 B discarded unread, a late reset",
    ),
    (
        ending(How.CLEAN, SENT, Inbound.CLOSE_NOTIFY, ignored=9),
        "clean: we sent close_notify, the peer answered, 9 B ignored after its close_notify",
    ),
    (
        ending(How.UNANSWERED, SENT, Inbound.OPEN, deadline_hit=True),
        "unanswered: we sent close_notify, the peer stayed silent, gave up at the deadline",
    ),
    (
        ending(How.UNANSWERED, SENT, Inbound.OPEN, deadline_hit=True, discarded=1),
        "unanswered: we sent close_notify, the peer did not answer, 1 B discarded unread, gave up at the deadline",
    ),
    (
        ending(How.UNANSWERED, SENT, Inbound.OPEN, deadline_hit=True, cap_hit=True, discarded=5_000),
        "unanswered: we sent close_notify, the peer kept on sending, 5,000 B discarded unread, gave up at the byte cap",
    ),
    (
        ending(How.UNANSWERED, SENT, Inbound.TRUNCATED_AT_BOUNDARY),
        "unanswered: we sent close_notify, the peer left with a bare FIN",
    ),
    (
        ending(How.UNANSWERED, SENT, Inbound.TRUNCATED_INSIDE_RECORD),
        "unanswered: we sent close_notify, the peer left with a bare FIN inside a record",
    ),
    (
        ending(How.TRUNCATED, Outbound.OPEN, Inbound.TRUNCATED_AT_BOUNDARY),
        "truncated: the peer's FIN came at a record boundary, without close_notify",
    ),
    (
        ending(How.TRUNCATED, Outbound.OPEN, Inbound.TRUNCATED_INSIDE_RECORD),
        "truncated: the peer's FIN came inside a record, without close_notify",
    ),
    (
        ending(How.RESET, Outbound.LOST, Inbound.RESET, unsent=70_000),
        "reset: the peer reset the connection, 70,000 B unsent",
    ),
    (
        ending(How.RESET, Outbound.LOST, Inbound.RESET, events=(LOST,)),
        "reset: the connection was lost (Connection timed out)",
    ),
    (
        ending(How.RESET, SENT, Inbound.RESET, close_notify_sent_at=1.0),
        "reset: the peer reset the connection after our close_notify, before its own",
    ),
    (
        ending(How.RESET, Outbound.LOST, Inbound.CLOSE_NOTIFY, close_notify_received_at=1.0),
        "reset: the peer reset the connection after its close_notify, before ours was sent",
    ),
    (
        ending(How.ALERT, Outbound.LOST, Inbound.FATAL_ALERT, alert=THEIRS),
        "alert: the peer sent fatal handshake_failure",
    ),
    (
        ending(How.ALERT, SENT, Inbound.FATAL_ALERT, alert=THEIRS, close_notify_sent_at=1.0),
        "alert: the peer sent fatal handshake_failure after our close_notify",
    ),
    (
        ending(How.ALERT, Outbound.FATAL_ALERT, Inbound.UNDECRYPTABLE, alert=OURS),
        "alert: we sent fatal bad_record_mac",
    ),
    (
        ending(How.ALERT, Outbound.FATAL_ALERT, Inbound.UNDECRYPTABLE),
        "alert: the peer broke the TLS protocol, we answered with a fatal alert",
    ),
    (
        ending(How.ALERT, SENT, Inbound.UNDECRYPTABLE),
        "alert: the peer broke the TLS protocol",
    ),
    (
        ending(How.UNFLUSHED, Outbound.CLOSE_NOTIFY_QUEUED, Inbound.OPEN, unsent=5, deadline_hit=True),
        "unflushed: the peer did not read, our close_notify never left, 5 B unsent, gave up at the deadline",
    ),
    (
        ending(How.ABORTED, Outbound.RESET, Inbound.OPEN),
        "aborted: we cut it off with RST",
    ),
    (
        ending(How.ABORTED, Outbound.CUT, Inbound.OPEN, reason="left by an exception: ValueError"),
        "aborted: we cut it off with a FIN and no close_notify (left by an exception: ValueError)",
    ),
    (
        ending(How.FAILED_HANDSHAKE, Outbound.LOST, Inbound.RESET),
        "failed handshake: the peer reset the connection in the handshake",
    ),
    (
        ending(How.FAILED_HANDSHAKE, Outbound.LOST, Inbound.RESET, events=(LOST,)),
        "failed handshake: the connection was lost (Connection timed out) in the handshake",
    ),
    (
        ending(How.FAILED_HANDSHAKE, Outbound.LOST, Inbound.FATAL_ALERT, alert=THEIRS),
        "failed handshake: the peer sent fatal handshake_failure",
    ),
    (
        ending(How.FAILED_HANDSHAKE, Outbound.CUT, Inbound.TRUNCATED_AT_BOUNDARY),
        "failed handshake: the peer left in the handshake",
    ),
    (
        ending(How.FAILED_HANDSHAKE, Outbound.CUT, Inbound.CLOSE_NOTIFY),
        "failed handshake: the peer left in the handshake",
    ),
    (
        ending(How.FAILED_HANDSHAKE, Outbound.FATAL_ALERT, Inbound.HANDSHAKE, alert=OURS, reason="not trusted"),
        "failed handshake: we sent fatal bad_record_mac (not trusted)",
    ),
    (
        ending(How.FAILED_HANDSHAKE, Outbound.CUT, Inbound.HANDSHAKE),
        "failed handshake: no TLS connection came of it",
    ),
]

FULL: Final = ending(
    How.ALERT,
    SENT,
    Inbound.FATAL_ALERT,
    alert=THEIRS,
    close_notify_sent_at=1.23456789,
    role=Role.SERVER,
    peer="[::1]:443",
    tls_version="TLSv1.3",
    cipher="TLS_AES_128_GCM_SHA256",
    events=(
        Event(EventKind.DATA, Side.WE, 0.5, sent=3, received=4, count=2, until=0.75),
        Event(EventKind.ALERT, Side.PEER, 1.5, "words", alert=THEIRS),
        Event(EventKind.FIN, Side.PEER, 2.00000049),
    ),
)


@pytest.mark.parametrize(("value", "line"), LINES, ids=[f"{n} {value.how}" for n, (value, _) in enumerate(LINES)])
def test_the_one_line(value: Ending, line: str) -> None:
    assert str(value) == line


def test_every_how_has_its_line_here() -> None:
    assert {value.how for value, _ in LINES} == set(How)


def test_only_a_clean_ending_is_clean() -> None:
    assert {value.how for value, _ in LINES if value.clean} == {How.CLEAN}


def test_the_timeline_is_left_out_of_the_representation() -> None:
    assert "Event(" not in repr(FULL)


def test_an_ending_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.how = How.CLEAN  # type: ignore[misc]


# -- the dictionary --------------------------------------------------------------------------------------------------


def test_the_names_in_the_dictionary_are_stable() -> None:
    assert list(FULL.to_dict()) == [
        "version",
        "how",
        "summary",
        "started_by",
        "outbound",
        "inbound",
        "close_notify_sent_at",
        "close_notify_received_at",
        "alert",
        "unsent",
        "unacknowledged",
        "discarded",
        "ignored",
        "late_reset",
        "deadline_hit",
        "cap_hit",
        "unwrapped",
        "reason",
        "sent",
        "received",
        "duration",
        "began",
        "role",
        "peer",
        "tls_version",
        "cipher",
        "events",
        "omitted",
        "omitted_after",
    ]


@pytest.mark.parametrize("value", [FULL, *(value for value, _ in LINES)])
def test_the_dictionary_survives_json(value: Ending) -> None:
    assert json.loads(json.dumps(value.to_dict())) == value.to_dict()


def test_every_field_is_in_the_dictionary() -> None:
    assert {field.name for field in dataclasses.fields(Ending)} <= set(FULL.to_dict())


def test_the_dictionary_says_its_version() -> None:
    assert FULL.to_dict()["version"] == SCHEMA_VERSION == 1


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("how", "alert"),
        ("started_by", "we"),
        ("outbound", "close_notify and FIN sent"),
        ("inbound", "fatal alert"),
        ("close_notify_sent_at", 1.234568),
        ("close_notify_received_at", None),
        ("alert", {"code": 40, "name": "handshake_failure", "level": "fatal", "by": "peer"}),
        ("role", "server"),
        ("summary", "alert: the peer sent fatal handshake_failure after our close_notify"),
    ],
)
def test_values_are_plain(key: str, expected: object) -> None:
    assert FULL.to_dict()[key] == expected


def test_nobody_began_and_no_alert_are_null() -> None:
    value = ending(How.CLEAN, SENT, Inbound.CLOSE_NOTIFY, started_by=None).to_dict()
    assert (value["started_by"], value["alert"]) == (None, None)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (0, {"kind": "data", "by": "we", "at": 0.5, "sent": 3, "received": 4, "count": 2, "until": 0.75}),
        (
            1,
            {
                "kind": "alert",
                "by": "peer",
                "at": 1.5,
                "detail": "words",
                "alert": {"code": 40, "name": "handshake_failure", "level": "fatal", "by": "peer"},
            },
        ),
        (2, {"kind": "FIN", "by": "peer", "at": 2.0}),
    ],
)
def test_events_leave_out_what_is_empty(index: int, expected: dict[str, object]) -> None:
    assert FULL.to_dict()["events"][index] == expected


# -- alerts and sides ------------------------------------------------------------------------------------------------


def test_every_registered_alert_has_its_name() -> None:
    assert all(Alert(code, 2, Side.WE).name == name for code, name in ALERT_NAMES.items())


def test_an_unknown_alert_is_named_by_its_number() -> None:
    assert Alert(200, 2, Side.PEER).name == "unknown_alert_200"


@pytest.mark.parametrize(("level", "name"), [(1, "warning"), (2, "fatal"), (7, "level 7")])
def test_the_level_has_a_name(level: int, name: str) -> None:
    assert Alert(0, level, Side.PEER).level_name == name


def test_an_alert_reads_as_level_and_name() -> None:
    assert str(Alert(0, 1, Side.PEER)) == "warning close_notify"


def test_the_other_side_of_the_other_side_is_this_side() -> None:
    assert [side.other for side in Side] == [Side.PEER, Side.WE]
