"""The pictures of an ending: what they show, and that nothing a peer says can spoil them."""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowout.ending import Alert, Ending, Event, EventKind, How, Inbound, Outbound, Role, Side
from bowout.ladder import _paint, render_svg, render_text

SVG = "{http://www.w3.org/2000/svg}"
SGR = re.compile(r"\x1b\[[0-9;]*m")


def event(kind: EventKind, by: Side, at: float, detail: str = "", **more: Any) -> Event:
    return Event(kind, by, at, detail, **({"until": at} | more))


def we(kind: EventKind, at: float, detail: str = "", **more: Any) -> Event:
    return event(kind, Side.WE, at, detail, **more)


def peer(kind: EventKind, at: float, detail: str = "", **more: Any) -> Event:
    return event(kind, Side.PEER, at, detail, **more)


OPENING = (
    we(EventKind.CONNECTED, 0.0004, "mail.example:465"),
    we(EventKind.HANDSHAKE_DONE, 0.0123, "TLSv1.3 TLS_AES_256_GCM_SHA384"),
    peer(EventKind.TICKET, 0.0131),
    we(EventKind.DATA, 0.0142, sent=1234, count=3, until=0.0149),
    peer(EventKind.DATA, 0.0312, received=48_231),
)
GOODBYE = (
    we(EventKind.CALL, 0.0502, "close()"),
    we(EventKind.CLOSE_NOTIFY_QUEUED, 0.0503),
    we(EventKind.CLOSE_NOTIFY, 0.0504),
    we(EventKind.FIN, 0.0505),
)
RELEASED = we(EventKind.RELEASED, 0.0573)


def ending(how: How, *events: Event, **more: Any) -> Ending:
    base: dict[str, Any] = {
        "started_by": Side.WE,
        "outbound": Outbound.OPEN,
        "inbound": Inbound.OPEN,
        "peer": "mail.example:465",
        "tls_version": "TLSv1.3",
        "sent": 1234,
        "received": 48_231,
        "duration": 0.0573,
        "events": events,
    }
    return Ending(how=how, **(base | more))


ANSWERED: dict[str, Any] = {
    "outbound": Outbound.FIN_SENT,
    "inbound": Inbound.CLOSE_NOTIFY,
    "close_notify_sent_at": 0.0504,
    "close_notify_received_at": 0.0571,
}
CLEAN = ending(
    How.CLEAN,
    *OPENING,
    *GOODBYE,
    peer(EventKind.CLOSE_NOTIFY, 0.0571),
    peer(EventKind.FIN, 0.0572),
    RELEASED,
    **ANSWERED,
)
LATE_RESET = ending(
    How.CLEAN,
    *OPENING,
    *GOODBYE,
    peer(EventKind.CLOSE_NOTIFY, 0.0571),
    peer(EventKind.RST, 0.0572),
    RELEASED,
    late_reset=True,
    **ANSWERED,
)
UNWRAPPED = ending(
    How.CLEAN,
    *OPENING,
    *GOODBYE[:3],
    peer(EventKind.CLOSE_NOTIFY, 0.0571),
    RELEASED,
    unwrapped=True,
    **(ANSWERED | {"outbound": Outbound.CLOSE_NOTIFY_SENT}),
)
SILENT = ending(
    How.UNANSWERED,
    *OPENING,
    *GOODBYE,
    we(EventKind.DEADLINE, 5.0502),
    we(EventKind.RELEASED, 5.0503),
    outbound=Outbound.FIN_SENT,
    close_notify_sent_at=0.0504,
    deadline_hit=True,
)
TRUNCATED = ending(
    How.TRUNCATED,
    *OPENING,
    peer(EventKind.FIN, 0.0402),
    *GOODBYE,
    RELEASED,
    started_by=Side.PEER,
    outbound=Outbound.FIN_SENT,
    inbound=Inbound.TRUNCATED_INSIDE_RECORD,
    close_notify_sent_at=0.0504,
)
RESET = ending(
    How.RESET,
    *OPENING,
    peer(EventKind.RST, 0.0402),
    RELEASED,
    started_by=Side.PEER,
    outbound=Outbound.LOST,
    inbound=Inbound.RESET,
)
LOST = ending(
    How.RESET,
    *OPENING,
    we(EventKind.CONNECTION_LOST, 9.0402, "Connection timed out"),
    we(EventKind.RELEASED, 9.0403),
    started_by=None,
    outbound=Outbound.LOST,
    inbound=Inbound.RESET,
)
BAD_MAC = Alert(20, 2, Side.PEER)
ALERT = ending(
    How.ALERT,
    *OPENING,
    *GOODBYE,
    peer(EventKind.ALERT, 0.0571, alert=BAD_MAC),
    peer(EventKind.FIN, 0.0572),
    RELEASED,
    outbound=Outbound.FIN_SENT,
    inbound=Inbound.FATAL_ALERT,
    close_notify_sent_at=0.0504,
    alert=BAD_MAC,
)
UNFLUSHED = ending(
    How.UNFLUSHED,
    *OPENING[:4],
    *GOODBYE[:2],
    we(EventKind.DEADLINE, 5.0502),
    we(EventKind.RST, 5.0503),
    we(EventKind.RELEASED, 5.0504),
    outbound=Outbound.CLOSE_NOTIFY_QUEUED,
    unsent=1 << 20,
    deadline_hit=True,
)
ABORTED = ending(
    How.ABORTED,
    *OPENING,
    we(EventKind.CALL, 0.0502, "abort()"),
    we(EventKind.RST, 0.0504),
    RELEASED,
    outbound=Outbound.RESET,
)
UNKNOWN_CA = Alert(48, 2, Side.WE)
FAILED = ending(
    How.FAILED_HANDSHAKE,
    OPENING[0],
    we(EventKind.ALERT, 0.0123, alert=UNKNOWN_CA),
    we(EventKind.ERROR, 0.0124, "certificate verify failed"),
    RELEASED,
    outbound=Outbound.FATAL_ALERT,
    inbound=Inbound.HANDSHAKE,
    alert=UNKNOWN_CA,
    tls_version=None,
    sent=0,
    received=0,
)
LONG = dataclasses.replace(CLEAN, omitted=1234, omitted_after=len(OPENING))

SAMPLES = {
    "clean": CLEAN,
    "late reset": LATE_RESET,
    "unwrapped": UNWRAPPED,
    "silent": SILENT,
    "truncated": TRUNCATED,
    "reset": RESET,
    "lost": LOST,
    "alert": ALERT,
    "unflushed": UNFLUSHED,
    "aborted": ABORTED,
    "failed handshake": FAILED,
    "long": LONG,
}
each_sample = pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())


def columns(line: str) -> int:
    marks = sum(unicodedata.category(char) in {"Mn", "Me"} for char in line)
    return len(line) - marks + sum(unicodedata.east_asian_width(char) in {"W", "F"} for char in line)


def rows(sample: Ending, **how: Any) -> list[str]:
    """What stands in each line, without times, lifelines and strokes."""
    lines = render_text(sample, **({"width": 100} | how)).splitlines()
    return [re.sub(r"[─━╍·├┤│┊\s]+", " ", line[9:]).strip() for line in lines]


def arrow(sample: Ending, label: str) -> str:
    """The first line with this label, without its time."""
    return next(line[9:] for line in render_text(sample, width=60).splitlines()[2:] if label in line)


# The whole picture


def test_a_clean_ending_in_sixty_columns() -> None:
    assert (
        render_text(CLEAN, width=60)
        == """\
         we                                 mail.example:465
         client · ended it first                      server
         │                                                 │
  0.4 ms ├───────────────── TCP connected ─────────────────┤
 12.3 ms ├──────────────── handshake done ─────────────────┤
         │         TLSv1.3 TLS_AES_256_GCM_SHA384          │
 13.1 ms │◄──────────────── session ticket ────────────────┤
 14.2 ms ├────── data, 1,234 B · 3 writes in 0.7 ms ──────►│
 31.2 ms │◄──────────────── data, 48,231 B ────────────────┤
 50.2 ms │ • close()                                       │
 50.4 ms ├───────────────── close_notify ─────────────────►│
 50.5 ms ├───────────────────── FIN ──────────────────────►│
 57.1 ms │◄───────────────── close_notify ─────────────────┤
 57.2 ms │◄───────────────────── FIN ──────────────────────┤
 57.3 ms │ • descriptor closed                             │
         │                                                 │

✓ clean: we sent close_notify, the peer answered
  TLSv1.3 · 1,234 B sent · 48,231 B received · 57.3 ms
"""
    )


def test_a_silent_peer_in_ascii() -> None:
    assert render_text(SILENT, width=60, unicode=False).splitlines()[-12:] == [
        " 50.2 ms | * close()                                       |",
        " 50.4 ms |----------------- close_notify ----------------->|",
        " 50.5 ms |--------------------- FIN ---------------------->|",
        "         :                   5.0 s later                   :",
        "         |<. . . . . . . . no close_notify . . . . . . . . |",
        " 5.050 s | * deadline                                      |",
        " 5.050 s | * descriptor closed                             |",
        "         |                                                 |",
        "",
        "! unanswered: we sent close_notify, the peer stayed silent,",
        "  gave up at the deadline",
        "  TLSv1.3 - 1,234 B sent - 48,231 B received - 57.3 ms",
    ]


def test_a_close_notify_that_never_left_in_forty_columns() -> None:
    assert render_text(UNFLUSHED, width=40).splitlines()[9:17] == [
        "         │     3 writes in 0.7 ms      │",
        " 50.2 ms │ • close()                   │",
        " 50.3 ms ├─ close_notify ─✗            │",
        "         │ never left, 1 MiB before it │",
        "         │ unsent                      │",
        "         ┊         5.0 s later         ┊",
        " 5.050 s │ • deadline                  │",
        " 5.050 s ├━━━━━━━━━━━ RST ━━━━━━━━━━━━✗│",
    ]


# Who and what


def test_the_one_who_ended_it_is_marked() -> None:
    lines = render_text(TRUNCATED, width=60).splitlines()
    assert lines[1] == "         client                      server · ended it first"


def test_our_role_is_on_our_side() -> None:
    lines = render_text(dataclasses.replace(CLEAN, role=Role.SERVER), width=60).splitlines()
    assert lines[1].split() == ["server", "·", "ended", "it", "first", "client"]


def test_a_close_notify_that_left_is_drawn_once() -> None:
    assert rows(SILENT).count("close_notify ►") == 1


def test_a_missing_close_notify_stands_before_the_fin_that_came_without_it() -> None:
    shown = rows(TRUNCATED)
    assert shown[shown.index("◁ no close_notify") + 1] == "◄ bare FIN inside a record"


def test_nothing_is_missing_from_a_clean_ending() -> None:
    assert "no close_notify" not in render_text(CLEAN)


def test_after_a_fatal_alert_no_close_notify_is_owed() -> None:
    assert "no close_notify" not in render_text(ALERT)


def test_after_a_fatal_alert_a_fin_is_an_orderly_one() -> None:
    assert "bare FIN" not in render_text(ALERT)


def test_whoever_aborts_owes_a_close_notify() -> None:
    assert arrow(ABORTED, "no close_notify").endswith("▷│")


def test_the_peers_missing_close_notify_points_at_us() -> None:
    assert arrow(RESET, "no close_notify").startswith("│◁")


def test_a_queued_close_notify_that_never_left_is_not_called_missing() -> None:
    assert "no close_notify" not in render_text(UNFLUSHED)


def test_a_reset_looks_different_from_a_fin() -> None:
    assert arrow(RESET, "RST").startswith("│✗━")


def test_a_loss_is_no_rst_of_the_peer() -> None:
    assert arrow(LOST, "connection lost").startswith("│ • connection lost: Connection timed out")
    assert "RST" not in render_text(LOST)


def test_a_truncation_looks_different_from_an_orderly_fin() -> None:
    assert arrow(TRUNCATED, "bare FIN").startswith("│◄╍")


def test_a_late_reset_is_called_late() -> None:
    assert "✗ RST late, after the exchange was done" in rows(LATE_RESET)


def test_a_handshake_that_never_came_about_is_drawn_as_missing() -> None:
    assert "handshake never done" in rows(FAILED)


def test_after_unwrap_the_tcp_connection_goes_on() -> None:
    assert "• TLS ended, TCP connection goes on" in rows(UNWRAPPED)


def test_omitted_events_are_a_break_where_they_are_missing() -> None:
    shown = rows(LONG)
    assert shown[shown.index("… 1,234 events more …") - 1] == "◄ data, 48,231 B"


def test_an_omission_after_the_last_event_is_shown() -> None:
    assert "… 1 event more …" in render_text(dataclasses.replace(CLEAN, omitted=1, omitted_after=len(CLEAN.events)))


def test_a_two_way_run_of_data_is_one_exchange() -> None:
    run = we(EventKind.DATA, 0.1, sent=300_000, received=16_384, count=7, until=0.1)
    assert "◄ → 293 KiB ← 16,384 B 7 reads and writes ►" in rows(ending(How.CLEAN, run, **ANSWERED))


def test_what_came_several_times_in_a_row_is_counted() -> None:
    tickets = ending(How.CLEAN, peer(EventKind.TICKET, 0.1, count=4), **ANSWERED)
    assert "◄ session ticket \N{MULTIPLICATION SIGN}4" in rows(tickets)


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (0, "0 B"),
        (16_384, "16,384 B"),
        (100_000, "97.7 KiB"),
        (1536 << 10, "1.5 MiB"),
        (5 << 60, "5,120 PiB"),
    ],
)
def test_byte_counts_are_exact_while_they_are_short(sent: int, shown: str) -> None:
    assert f"data, {shown} ►" in rows(ending(How.CLEAN, we(EventKind.DATA, 0.1, sent=sent), **ANSWERED))


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        (0.0, "0.0 ms"),
        (0.99994, "999.9 ms"),
        (0.99996, "1.000 s"),
        (99.9994, "99.999 s"),
        (99.9996, "1m 39s"),
        (3599.0, "59m 59s"),
        (359_999.0, "99:59:59"),
        (360_000.0, "4d 04h"),
        (1e9, "?"),
        (float("nan"), "?"),
    ],
)
def test_times_fit_the_margin(at: float, shown: str) -> None:
    picture = render_text(ending(How.CLEAN, we(EventKind.FIN, at), **ANSWERED))
    assert picture.splitlines()[3][:9] == f"{shown:>8} "


def test_late_in_a_long_life_times_count_from_the_line_above() -> None:
    late = ending(How.CLEAN, we(EventKind.CALL, 7200.0, "close()"), we(EventKind.FIN, 7200.0125), **ANSWERED)
    assert [line[:8] for line in render_text(late).splitlines()[3:5]] == [" 2:00:00", "+12.5 ms"]


def test_after_a_break_times_count_from_the_beginning() -> None:
    late = ending(How.CLEAN, *(we(EventKind.FIN, 7200.0 + i / 8) for i in range(2)), omitted=3, omitted_after=1)
    assert render_text(late).splitlines()[5].startswith(" 2:00:00")


def test_the_note_of_the_peer_stands_at_its_side() -> None:
    line = arrow(ending(How.RESET, peer(EventKind.ERROR, 0.1, "gone")), "gone")
    assert line.endswith("error: gone • │")


def test_an_ending_without_events_has_its_verdict() -> None:
    assert "✓ clean: we sent close_notify, the peer answered" in render_text(ending(How.CLEAN, **ANSWERED))


# Width, colour, characters


@pytest.mark.parametrize(("asked", "got"), [(0, 40), (39, 40), (40, 40), (80, 80), (200, 100)])
def test_the_picture_takes_the_width_between_its_limits(asked: int, got: int) -> None:
    assert max(map(columns, render_text(CLEAN, width=asked).splitlines())) == got


@each_sample
def test_colour_changes_nothing_but_colour(sample: Ending) -> None:
    plain = [line.rstrip() for line in SGR.sub("", render_text(sample, color=True)).splitlines()]
    assert plain == render_text(sample).splitlines()


@pytest.mark.parametrize(("sample", "code"), [(CLEAN, "32"), (SILENT, "33"), (RESET, "31")])
def test_the_verdict_has_the_colour_of_its_severity(sample: Ending, code: str) -> None:
    verdict = render_text(sample, color=True).split("\n\n")[1]
    assert verdict.startswith(f"\x1b[1;{code}m")


@each_sample
@pytest.mark.parametrize("width", [40, 60, 80])
def test_without_unicode_all_is_ascii(sample: Ending, width: int) -> None:
    foreign = dataclasses.replace(sample, peer="日本語.example", reason="naïve…")
    assert render_text(foreign, width=width, unicode=False).isascii()


@each_sample
def test_text_and_svg_tell_the_same_verdict(sample: Ending) -> None:
    root = ET.fromstring(render_svg(sample))
    assert (root.findtext(f"{SVG}desc") or "").startswith(str(sample))


# SVG


def texts(svg: str) -> list[ET.Element]:
    return ET.fromstring(svg).findall(f"{SVG}text")


def extent(element: ET.Element) -> tuple[float, float]:
    """Where a text begins and ends, from left to right."""
    bold = element.get("font-weight") is not None
    wide = _paint.width(element.text or "", float(element.attrib["font-size"]), bold=bold)
    at = float(element.attrib["x"])
    before = {"start": 0.0, "middle": wide / 2, "end": wide}[element.get("text-anchor", "start")]
    return at - before, at - before + wide


@each_sample
def test_the_svg_has_a_title_for_who_cannot_see_it(sample: Ending) -> None:
    root = ET.fromstring(render_svg(sample))
    assert (root.get("role"), root[0].tag, root[0].text) == (
        "img",
        f"{SVG}title",
        "How the TLS connection with mail.example:465 ended",
    )


def test_the_svg_needs_nothing_from_elsewhere() -> None:
    svg = render_svg(CLEAN)
    assert not re.search(r"url\(|@import|href|<script|http(?!://www\.w3\.org/2000/svg\")", svg)


@each_sample
def test_every_painted_thing_has_a_dark_look(sample: Ending) -> None:
    svg = render_svg(sample)
    used = {name for names in re.findall(r'class="([fs]-[^"]*)"', svg) for name in names.split()}
    assert used <= set(re.findall(r"\.bowout \.([a-z-]+)\{", svg))


@each_sample
def test_every_painted_thing_has_a_colour_without_styles(sample: Ending) -> None:
    shapes = [e for e in ET.fromstring(render_svg(sample)).iter() if e.get("class", "").startswith(("f-", "s-"))]
    assert all("#" in (shape.get("fill", "") + shape.get("stroke", "")) for shape in shapes)


def test_a_truncated_fin_is_torn_in_the_svg_and_an_orderly_one_is_not() -> None:
    torn = re.compile(r'<path d="M[^"]*l-')
    assert (bool(torn.search(render_svg(TRUNCATED))), bool(torn.search(render_svg(CLEAN)))) == (True, False)


def test_what_is_missing_is_dotted_in_the_svg() -> None:
    path = r'<path d="M684 [\d.]+H\d+" class="s-bad"[^>]* stroke-dasharray'
    assert (len(re.findall(path, render_svg(RESET))), len(re.findall(path, render_svg(CLEAN)))) == (1, 0)


# Whatever the ending

NASTY = st.sampled_from("\x1b\x9b\x7f\r\n\t\u202e\u2066\u200b\u3164\ud800\ufffe<>&\"'\\ 日W\u0301ﷺ·\xd7…")
ANY_TEXT = st.text(NASTY | st.characters(exclude_categories=()), max_size=400)
TIMES = st.floats(min_value=0, max_value=1e6) | st.floats()
BYTES = st.integers(min_value=0, max_value=1 << 70)
SIDES = st.sampled_from(Side)
ALERTS = st.builds(Alert, st.integers(0, 255), st.integers(0, 255), SIDES)
EVENTS = st.builds(
    Event,
    st.sampled_from(EventKind),
    SIDES,
    TIMES,
    ANY_TEXT,
    BYTES,
    BYTES,
    st.integers(1, 10**9),
    TIMES,
    st.none() | ALERTS,
)
ENDINGS = st.builds(
    Ending,
    how=st.sampled_from(How),
    started_by=st.none() | SIDES,
    outbound=st.sampled_from(Outbound),
    inbound=st.sampled_from(Inbound),
    close_notify_sent_at=st.none() | TIMES,
    close_notify_received_at=st.none() | TIMES,
    alert=st.none() | ALERTS,
    unsent=BYTES,
    discarded=BYTES,
    ignored=BYTES,
    late_reset=st.booleans(),
    deadline_hit=st.booleans(),
    cap_hit=st.booleans(),
    unwrapped=st.booleans(),
    reason=ANY_TEXT,
    sent=BYTES,
    received=BYTES,
    duration=TIMES,
    role=st.sampled_from(Role),
    peer=ANY_TEXT,
    tls_version=st.none() | ANY_TEXT,
    cipher=st.none() | ANY_TEXT,
    events=st.lists(EVENTS, max_size=8).map(tuple),
    omitted=st.integers(0, 10**9),
    omitted_after=st.integers(0, 10),
)


def unprintable(text: str) -> set[str]:
    return {char for char in text if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}}


@given(ENDINGS, st.integers(0, 200), st.booleans())
def test_no_line_is_longer_than_the_width(sample: Ending, width: int, unicode: bool) -> None:
    lines = render_text(sample, width=width, unicode=unicode).split("\n")
    assert max(map(columns, lines)) <= max(width, 40)


@given(ENDINGS, st.integers(40, 200))
def test_both_lifelines_stand_straight(sample: Ending, width: int) -> None:
    picture = render_text(sample, width=width, unicode=False).split("\n\n")[0].splitlines()[2:]
    assert {(line[9], columns(line), line[-1]) for line in picture} <= {
        ("|", min(width, 100), "|"),
        (":", min(width, 100), ":"),
    }


@given(ENDINGS)
def test_nothing_in_the_text_controls_a_terminal(sample: Ending) -> None:
    assert unprintable(render_text(sample)) == {"\n"}


@given(ENDINGS)
def test_in_colour_only_sgr_codes_are_added(sample: Ending) -> None:
    assert unprintable(SGR.sub("", render_text(sample, color=True))) == {"\n"}


@given(ENDINGS)
def test_without_unicode_any_ending_is_ascii(sample: Ending) -> None:
    assert render_text(sample, unicode=False).isascii()


@given(ENDINGS)
def test_the_svg_is_well_formed_and_holds_no_control_character(sample: Ending) -> None:
    svg = render_svg(sample)
    assert (ET.fromstring(svg).tag, unprintable(svg)) == (f"{SVG}svg", {"\n"})


@given(ENDINGS)
def test_no_text_leaves_the_svg(sample: Ending) -> None:
    assert all(left >= 0 and right <= 720 for left, right in map(extent, texts(render_svg(sample))))


@given(ENDINGS)
def test_no_label_touches_a_lifeline(sample: Ending) -> None:
    svg = ET.fromstring(render_svg(sample))
    foot = float(svg.findall(f"{SVG}path")[0].attrib["d"].rpartition("V")[2])
    labels = [e for e in svg.findall(f"{SVG}text") if 70 < float(e.attrib["y"]) < foot and float(e.attrib["x"]) > 110]
    assert all(left > 110 and right < 684 for left, right in map(extent, labels))
