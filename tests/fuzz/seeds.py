"""The seeds of the corpus: the thirty endings as programs, each in both versions of TLS, and how each must end.

    python -m fuzz.seeds        # write them anew

Row by row as the project's list of endings has them. Rows of many connections, deadlines and cancellation are the
stream's, not the engine's: tests/test_stream_machine.py has those.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from bowout.ending import How
from fuzz.engine import SEEDS

_BOTH: Final = ("1.3", "1.2")
_CLOSE: Final = "notify; take 0"
_READ: Final = "deliver 0; read 65536; read 65536"

#: Row, name, program, and the verdict, or one for each of TLS 1.3 and 1.2; None: not in that version.
ENDINGS: Final[tuple[tuple[int, str, str, How | tuple[How | None, How | None]], ...]] = (
    (1, "close_notify_then_fin", f"shake; data 5; alert 1 0; {_READ}; fin; {_CLOSE}; sentfin", How.CLEAN),
    (2, "close_notify_then_silence", f"shake; data 5; alert 1 0; {_READ}; write 9; {_CLOSE}", How.CLEAN),
    (3, "crossing_close_notifies", f"shake; {_CLOSE}; alert 1 0; {_READ}; fin", How.CLEAN),
    (4, "fin_at_a_boundary", f"shake; data 5; {_READ}; fin; read 9; {_CLOSE}", How.TRUNCATED),
    (4, "fin_at_a_boundary_tolerated", f"truncation tolerate; shake; data 5; {_READ}; fin; read 9", How.TRUNCATED),
    (5, "fin_inside_a_record", f"shake; data 5; data 9; cut 3; {_READ}; fin; read 9; read 9", How.TRUNCATED),
    (5, "fin_inside_a_header", f"shake; data 0; data 5; deliver 25; skip 9999; fin; read 9; {_CLOSE}", How.TRUNCATED),
    (6, "rst_before_close_notify", f"shake; data 5; deliver 0; rst; read 9; read 9; {_CLOSE}", How.RESET),
    (6, "rst_after_close_notify", f"shake; alert 1 0; {_READ}; {_CLOSE}; rst", How.CLEAN),
    (7, "silence_after_our_close_notify", f"shake; call 1; {_CLOSE}; sentfin; discard 9", How.UNANSWERED),
    (8, "nobody_reads_us", "shake; write 65536; take 20000; call 1; notify; discard 9; sentfin", How.ABORTED),
    (9, "bare_fin_after_our_close_notify", f"shake; call 1; {_CLOSE}; fin; discard 9", How.UNANSWERED),
    (10, "data_after_our_close_notify", f"shake; {_CLOSE}; data 9; data 99; alert 1 0; {_READ}; read 9", How.CLEAN),
    (
        11,
        "a_flood_after_our_close_notify",
        f"shake; call 1; {_CLOSE}; " + "data 16384; deliver 0; discard 65536; " * 5,
        How.UNANSWERED,
    ),
    (
        12,
        "garbage_after_its_close_notify",
        f"shake; alert 1 0; garbage 99; {_READ}; {_CLOSE}; garbage 9; deliver 0",
        How.CLEAN,
    ),
    (
        12,
        "more_after_its_close_notify_than_is_kept",
        f"shake; alert 1 0; {'data 16384; ' * 20}{'deliver 0; ' * 3}discard 9; {'garbage 9999; ' * 9}{_READ}; {_CLOSE}",
        How.CLEAN,
    ),
    (13, "fatal_alert", f"shake; data 5; alert 2 80; {_READ}; {_CLOSE}", How.ALERT),
    (13, "fatal_alert_after_our_close_notify", f"shake; {_CLOSE}; alert 2 80; {_READ}", How.ALERT),
    (14, "a_warning", f"shake; alert 1 80; data 5; alert 1 0; {_READ}; {_CLOSE}", (How.ALERT, How.CLEAN)),
    (15, "user_canceled_then_close_notify", f"shake; alert 1 90; alert 1 0; {_READ}; {_CLOSE}", How.CLEAN),
    (15, "user_canceled_then_fin", f"shake; alert 1 90; deliver 0; fin; read 9; {_CLOSE}", How.TRUNCATED),
    (16, "unknown_alert", f"shake; alert 2 200; {_READ}", How.ALERT),
    (16, "close_notify_at_level_fatal", f"shake; alert 2 0; {_READ}; {_CLOSE}", (How.CLEAN, How.ALERT)),
    (17, "two_alerts_in_a_record", f"shake; record 21 01000100; {_READ}", How.ALERT),
    (17, "a_split_alert", f"shake; record 21 01; record 21 00; {_READ}", How.ALERT),
    (17, "an_empty_alert", f"shake; record 21 -; {_READ}", How.ALERT),
    (18, "close_notify_in_plain_text", f"shake; raw 15030300020100; {_READ}", How.ALERT),
    (
        19,
        "tickets_all_over",
        f"us client; shake; ticket 0 0; data 5; ticket 0 0; {_CLOSE}; ticket 0 0; alert 1 0; {_READ}; read 9",
        (How.CLEAN, None),
    ),
    (
        19,
        "half_a_ticket_then_the_rest",
        f"us client; shake; ticket 0 20; {_READ}; write 9; notify; ticket 20 0; alert 1 0; {_READ}; take 0",
        (How.CLEAN, None),
    ),
    (
        20,
        "key_updates",
        f"shake; keyupdate 1; data 5; keyupdate 0; {_READ}; write 9; keyupdate 1; alert 1 0; {_READ}; {_CLOSE}",
        (How.CLEAN, None),
    ),
    (
        20,
        "a_key_update_owed_to_a_cut_write",
        f"shake; keyupdate 1; {_READ}; write 40000; take 17000; rst; read 9",
        (How.RESET, None),
    ),
    (
        21,
        "hello_request",
        f"us client; shake; record 22 00000000; data 5; alert 1 0; {_READ}; {_CLOSE}",
        (None, How.CLEAN),
    ),
    (
        21,
        "hello_request_while_closing",
        f"shake; {_CLOSE}; record 22 00000000; alert 1 0; {_READ}; take 0",
        (None, How.CLEAN),
    ),
    (
        22,
        "close_notify_in_the_handshake",
        "turn; skip 9999; raw 15030300020100; deliver 0; handshake",
        How.FAILED_HANDSHAKE,
    ),
    (22, "fin_in_the_handshake", "handshake; turn; cut 40; deliver 0; handshake; fin; handshake", How.FAILED_HANDSHAKE),
    (22, "rst_in_the_handshake", "handshake; turn; rst; handshake; handshake", How.FAILED_HANDSHAKE),
    (22, "alert_in_the_handshake", "handshake; raw 15030300020228; deliver 0; handshake", How.FAILED_HANDSHAKE),
    (
        22,
        "plain_text_in_the_handshake",
        "handshake; raw 485454502f312e3120323030204f4b; deliver 0; handshake",
        How.FAILED_HANDSHAKE,
    ),
    (
        22,
        "we_give_up_the_handshake",
        "handshake; turn; giveup; deliver 0; handshake; call 1; notify",
        How.FAILED_HANDSHAKE,
    ),
    (23, "close_notify_byte_by_byte", "shake; data 5; alert 1 0; " + "deliver 9; read 9; " * 8 + _CLOSE, How.CLEAN),
    (
        24,
        "our_last_flight_with_input_unread",
        f"shake; data 16384; deliver 0; write 65536; {_CLOSE}; sentfin; read 65536",
        How.UNANSWERED,
    ),
    (
        25,
        "empty_records_before_close_notify",
        f"shake; data 0; data 0; data 0; alert 1 0; {_READ}; {_CLOSE}",
        How.CLEAN,
    ),
    (
        28,
        "we_close_inside_the_reaction",
        f"shake; data 4; {_READ}; call 1; {_CLOSE}; alert 1 0; deliver 0; discard 9",
        How.CLEAN,
    ),
    (
        30,
        "plain_text_after_close_notify",
        f"shake; {_CLOSE}; alert 1 0; raw 32323020676f206f6e; {_READ}; leftover",
        How.CLEAN,
    ),
    (0, "we_reset", f"shake; write 9; take 0; sentrst; {_READ}", How.ABORTED),
    (0, "a_record_that_was_changed", f"shake; data 5; data 9; flip 40; {_READ}; take 0", How.ALERT),
    (0, "records_in_another_order", f"shake; data 5; data 9; swap; {_READ}; take 0", How.ALERT),
    (0, "a_record_again", f"shake; data 5; again; {_READ}; take 0", How.ALERT),
    (0, "our_send_failed", f"shake; write 40000; take 20000; lost; data 5; {_READ}; fin; read 9", How.RESET),
    (0, "without_the_hook", f"hook off; shake; data 5; alert 1 0; {_READ}; {_CLOSE}", How.CLEAN),
    (
        23,
        "close_notify_with_the_last_data_in_one_call",
        f"shake; data 9999; pull 0 100; read 65536; data 16384; alert 1 0; pull 9000 9; {_READ}; read 9; {_CLOSE}",
        How.CLEAN,
    ),
    (
        19,
        "half_a_ticket_then_close_notify",
        f"us client; shake; ticket 0 20; alert 1 0; {_READ}; write 9; {_CLOSE}; sentfin",
        (How.ABORTED, None),
    ),
)


def seeds() -> dict[str, str]:
    """Every seed's file name and text; clients and servers take turns, where a program does not say."""
    made = {}
    for number, (row, name, text, verdicts) in enumerate(ENDINGS):
        for which, version in enumerate(_BOTH):
            verdict = verdicts[which] if isinstance(verdicts, tuple) else verdicts
            if verdict is not None:
                role = "" if "us client" in text else f"us {('client', 'server')[(number + which) % 2]}\n"
                lines = "".join(f"{line.strip()}\n" for line in text.split(";") if line.strip())
                where = f"row {row} of the thirty endings" if row else "more"
                made[f"{row:02}_{name}_tls{version}.txt"] = (
                    f"# {where}: {name.replace('_', ' ')}\n# ends: {verdict.value}\ntls {version}\n{role}{lines}"
                )
    return made


def main() -> int:
    """Write them."""
    SEEDS.mkdir(parents=True, exist_ok=True)
    for old in SEEDS.glob("*.txt"):
        old.unlink()
    for name, text in seeds().items():
        Path(SEEDS, name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
