"""Every ending of the catalogue, played by a server: each has the verdict that is right for it."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from bowout.check import Finding, Verdict
from bowout.check._judge import Run
from bowout.errors import HandshakeAlert, HandshakeError, HandshakeReset, HandshakeTimeout, HandshakeTruncated
from bowout.testing import ENDINGS, GREETING, LATE, Entry, Peer, TLSVersion
from helpers.checking import BRISK, PATIENT, prepared, probe

OK, NOTE, WARN, FAIL, LOSS = Verdict.OK, Verdict.NOTE, Verdict.WARN, Verdict.FAIL, Verdict.DATA_LOSS

#: For each ending the probe that meets it, and its verdict, in TLS 1.2 and in 1.3 if they differ. Of two verdicts, the
#: network decides: an RST may overtake what was sent before it.
TABLE: Final[dict[str, tuple[str, Verdict | set[Verdict], Verdict | None]]] = {
    "close_notify_then_fin": ("reply-end", OK, None),
    "answers_close_notify": ("answers", OK, None),
    "close_notify_tcp_open": ("reply-end", OK, None),
    "close_notify_then_reads_on": ("reply-end", OK, None),
    "close_notify_crossing": ("answers", OK, None),
    "fin_at_boundary": ("reply-end", FAIL, None),
    "fin_inside_record": ("reply-end", LOSS, None),
    "fin_inside_header": ("reply-end", LOSS, None),
    # Nobody can see that what was cut is close_notify.
    "fin_inside_close_notify": ("reply-end", LOSS, None),
    "rst_before_close_notify": ("reply-end", FAIL, None),
    "rst_answers_close_notify": ("answers", WARN, None),
    "rst_right_after_close_notify": ("reply-end", {OK, FAIL}, None),
    "rst_after_close_notify": ("reply-end", OK, None),
    "silent_after_close_notify": ("answers", WARN, NOTE),
    "never_reads": ("answers", WARN, None),
    "fin_answers_close_notify": ("answers", WARN, None),
    "fin_inside_record_answers_close_notify": ("answers", WARN, None),
    "data_after_half_close": ("half-close", OK, None),
    "data_after_our_close_notify": ("answers", OK, None),
    "floods_after_close_notify": ("answers", WARN, NOTE),
    "drips_after_close_notify": ("answers", WARN, NOTE),
    "data_after_close_notify": ("reply-end", OK, None),
    "garbage_after_close_notify": ("reply-end", OK, None),
    "second_close_notify": ("reply-end", OK, None),
    # The reader is told that something is wrong: nothing passes for complete.
    "fatal_alert_before_close_notify": ("reply-end", WARN, None),
    "fatal_alert_after_close_notify": ("answers", WARN, None),
    "warning_alert": ("reply-end", OK, WARN),
    "warning_alert_storm": ("reply-end", WARN, None),
    "user_canceled_then_close_notify": ("reply-end", OK, None),
    "user_canceled_then_fin": ("reply-end", FAIL, None),
    "unknown_alert": ("reply-end", WARN, None),
    "fatal_close_notify": ("reply-end", WARN, OK),  # TLS 1.3 ignores the level
    "two_alerts_in_a_record": ("reply-end", WARN, None),
    "split_alert": ("reply-end", WARN, None),
    "empty_alert": ("reply-end", WARN, None),
    "plaintext_close_notify": ("reply-end", WARN, None),
    "tickets_before_close_notify": ("reply-end", OK, None),
    "tickets_between_close_notify": ("answers", OK, None),
    "tickets_after_close_notify": ("reply-end", OK, None),
    "key_update_then_data": ("reply-end", OK, None),
    "key_update_requested_then_close_notify": ("reply-end", OK, None),
    "key_update_after_our_close_notify": ("answers", OK, None),
    "key_update_storm": ("reply-end", OK, None),
    "renegotiation_then_close_notify": ("reply-end", OK, None),
    "renegotiation_while_closing": ("answers", OK, None),
    "close_notify_with_last_data": ("reply-end", OK, None),
    "close_notify_byte_by_byte": ("reply-end", OK, None),
    "last_flight_unread": ("answers", OK, None),
    "empty_records_before_close_notify": ("reply-end", OK, None),
    "empty_record_storm": ("reply-end", WARN, None),
    "answers_when_told": ("answers", WARN, NOTE),
    "idle_until_closed": ("answers", OK, None),
    "says_quit": ("answers", OK, None),
    "every_second_is_silent": ("answers", OK, None),  # the first is not
    "close_notify_then_plaintext": ("reply-end", OK, None),
}
#: Endings in the handshake: nothing is known of the end of a connection that never began.
HANDSHAKES: Final[dict[str, type[HandshakeError]]] = {
    "fin_in_handshake": HandshakeTruncated,
    "rst_in_handshake": HandshakeReset,
    "alert_in_handshake": HandshakeAlert,
    "close_notify_in_handshake": HandshakeTruncated,
    "silent_in_handshake": HandshakeTimeout,
}
#: Endings that the probe has to sit out.
SITTING: Final = frozenset(
    {
        "silent_after_close_notify",
        "floods_after_close_notify",
        "drips_after_close_notify",
        "answers_when_told",
    }
)
CASES: Final[list[tuple[Entry, TLSVersion]]] = [
    (entry, tls) for entry in ENDINGS.values() for tls, role, _ in entry.cases() if role == "server"
]


async def checked(entry: Entry, tls: TLSVersion, name: str) -> Finding:
    """Probe a server that plays `entry`; of its connections, the first."""
    with Peer(entry, tls=tls, connections=None) as peer:
        pace = BRISK if entry.name in SITTING else PATIENT
        check = prepared(peer.port, peer.client_context(), pace=pace)
        if name == "half-close":
            check.baseline = Run(received=len(GREETING + LATE))
        return await probe(name, check)


def test_the_tables_know_each_ending() -> None:
    played = {entry.name for entry, _ in CASES}
    assert TABLE.keys() | HANDSHAKES.keys() == played
    assert not TABLE.keys() & HANDSHAKES.keys()


@pytest.mark.parametrize(
    ("entry", "tls"), [case for case in CASES if case[0].name in TABLE], ids=lambda value: getattr(value, "name", value)
)
def test_an_ending_has_its_verdict(entry: Entry, tls: TLSVersion) -> None:
    name, verdict, in_13 = TABLE[entry.name]
    if in_13 is not None and tls == "1.3":
        verdict = in_13
    found = asyncio.run(checked(entry, tls, name))
    assert found.verdict in (verdict if isinstance(verdict, set) else {verdict}), found
    assert found.ending is not None
    assert found.facts["end"]


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
@pytest.mark.parametrize("name", HANDSHAKES)
def test_an_end_in_the_handshake_is_an_error(name: str, tls: TLSVersion) -> None:
    async def main() -> None:
        pace = BRISK if name != "silent_in_handshake" else type(BRISK)(opening=0.4)
        with Peer(name, tls=tls, connections=None) as peer:
            await probe("reply-end", prepared(peer.port, peer.client_context(), pace=pace))

    with pytest.raises(HANDSHAKES[name]):
        asyncio.run(main())
