"""Which rows of the thirty endings begin in which situation: who ends first, and what we are at."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from bowout.testing import ENDINGS, You
from helpers.conformance import Case, cases
from helpers.moves import Way

STARTS: Final = ("we start", "the peer starts", "both at once")
STATES: Final = ("read pending", "data unread", "write blocked", "idle", "in handshake")

_PEER: Final = frozenset({You.READ, You.REPLY, You.UNWRAP})
_BOTH: Final = frozenset({"close_notify_crossing"})
_STATES: Final = {
    Way.UNREAD: "data unread",
    Way.CROSSING: "data unread",
    Way.IDLE: "idle",
    Way.READING: "read pending",
    Way.TOGETHER: "read pending",
    Way.SENDING: "write blocked",
}


def situation(case: Case) -> tuple[str, str]:
    """Who starts, and what we are at."""
    you = case.entry.you
    if case.entry.row == 22:
        return STARTS[you is You.HANDSHAKE], "in handshake"
    both = case.way is Way.CROSSING or case.entry.name in _BOTH
    start = STARTS[2] if both else STARTS[you in _PEER]
    if case.way in _STATES:
        return start, _STATES[case.way]
    if you is You.BLOCKED_SEND:
        return start, "write blocked"
    if you is You.UPLOAD:
        return start, "data unread"
    return start, "read pending" if start == STARTS[1] else "idle"


def rows() -> dict[tuple[str, str], set[int]]:
    """The rows of each situation."""
    found: dict[tuple[str, str], set[int]] = defaultdict(set)
    for case in cases():
        found[situation(case)].add(case.entry.row)
    return found


def table() -> str:
    """The same as a table."""
    found = rows()
    lines = [["", *STATES], ["---"] * (len(STATES) + 1)]
    lines += [[f"**{start}**", *(_numbers(found.get((start, state), set())) for state in STATES)] for start in STARTS]
    return (
        "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{len(ENDINGS)} entries, {len(cases()):,} cases."
    )


def _numbers(which: set[int]) -> str:
    return ", ".join(map(str, sorted(which))) or "—"
