"""However the bytes are split on their way, a conversation and its ending are the same."""

from __future__ import annotations

import random
import ssl
from typing import TYPE_CHECKING, Final

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from bowout.ending import EventKind, How, Role, Side
from helpers.engines import (
    EnginePair,
    contexts,
    pair,
    read_out,
    send,
    take,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from bowout._core.engine import Engine


BOTH: Final = ["1.2", "1.3"]

#: How the server ends a conversation.
ENDS: Final = ["close_notify", "FIN", "RST", "FIN at a random byte", "garbage"]


def talk(
    ca_contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    turns: list[int],
    ending: str,
    where: int,
    split: Callable[[bytes], list[bytes]],
) -> tuple[bytes, bytes, list[tuple[EventKind, Side]], list[tuple[EventKind, Side]], How, How]:
    """One conversation over a wire that hands its bytes over as `split` says; what both sides made of it."""
    two = pair(*ca_contexts)
    got = {Role.CLIENT: b"", Role.SERVER: b""}

    def move(source: Engine, data: bytes) -> None:
        target = two.other(source)
        for piece in split(data):
            target.receive_data(piece)
            if target.handshake():
                got[target.role] += read_out(target)[0]

    while not (two.client.handshake() & two.server.handshake()):
        move(two.client, take(two.client))
        move(two.server, take(two.server))
    for turn, size in enumerate(turns):
        speaker = two.server if turn % 2 else two.client
        send(speaker, bytes([turn]) * size)
        move(speaker, take(speaker))
    _end(two, ending, where, move)
    for side in (two.client, two.server):
        got[side.role] += read_out(side)[0]
        side.queue_close_notify()
        move(side, take(side))
    return (
        got[Role.CLIENT],
        got[Role.SERVER],
        _folded(two.client),
        _folded(two.server),
        two.client.verdict(),
        two.server.verdict(),
    )


def _end(two: EnginePair, ending: str, where: int, move: Callable[[Engine, bytes], None]) -> None:
    send(two.server, b"last words")
    if ending == "close_notify":
        two.server.queue_close_notify()
    last = take(two.server)
    if ending == "FIN at a random byte":
        last = last[: where % (len(last) + 1)]
    if ending == "garbage":
        at = 5 + where % (len(last) - 5)
        last = last[:at] + bytes([last[at] ^ 0x40]) + last[at + 1 :]
    move(two.server, last)
    if ending.startswith("FIN"):
        two.client.receive_eof()
    if ending == "RST":
        two.client.receive_reset()


def _folded(side: Engine) -> list[tuple[EventKind, Side]]:
    """The events by kind and side; runs of one kind count once."""
    out: list[tuple[EventKind, Side]] = []
    for event in side.timeline.events():
        if not out or out[-1] != (event.kind, event.by):
            out.append((event.kind, event.by))
    return out


@pytest.fixture(scope="module", params=BOTH)
def wires(request: pytest.FixtureRequest, ca: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts for many conversations of one version."""
    return contexts(ca, request.param)


# However a wire splits a conversation: its bytes, events and verdicts are those of the wire that splits nothing.
@given(data=st.data())
@settings(max_examples=400, derandomize=True, deadline=None)
def test_splitting_changes_nothing(wires: tuple[ssl.SSLContext, ssl.SSLContext], data: st.DataObject) -> None:
    turns = data.draw(st.lists(st.sampled_from([1, 5, 100, 17_000, 40_000]), max_size=4), label="turns")
    ending = data.draw(st.sampled_from(ENDS), label="ending")
    where = data.draw(st.integers(0, 99), label="where")
    cuts = random.Random(data.draw(st.integers(0, 1 << 32), label="seed"))  # How much is drawn varies: signatures do.
    finest = data.draw(st.sampled_from([1, 7, 40, 300, 5_000, 20_000]), label="finest")

    def split(stream: bytes) -> list[bytes]:
        pieces, at = [], 0
        size = max(finest, len(stream) // 200)
        while at < len(stream):
            step = cuts.randint(1, 2 * size)
            pieces.append(stream[at : at + step])
            at += step
        return pieces

    whole = talk(wires, turns, ending, where, lambda stream: [stream] if stream else [])
    assert talk(wires, turns, ending, where, split) == whole
