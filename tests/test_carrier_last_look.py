"""A deadline that passes while the loop is blocked, over a stream: the last look gives it turns of the loop."""

from __future__ import annotations

from typing import Any

import pytest

import bowout
from bowout import How, Stream
from helpers.blocked import BRIEF, answers, ends_tls, meanwhile, sends_its_flight
from helpers.carriers import WHERE, Bare, Kind, carry
from helpers.peers import require_module
from helpers.runners import BACKENDS, Backend, Runner
from helpers.tasks import turn
from helpers.wire import NAME, PATIENCE, Link, Wire, client_context, our_context, peer, silent

everywhere = pytest.mark.parametrize(("loop", "kind"), WHERE)
#: The carrier between whose socket and whose reader there are the most steps, on both of its loops.
in_steps = pytest.mark.parametrize(("loop", "kind"), [("asyncio", "pair"), ("uvloop", "pair")])


@pytest.fixture
def run(loop: Backend) -> Runner:
    """As elsewhere, but a test chooses the event loops together with the carriers that they have."""
    require_module(loop)
    return Runner(loop)


async def over(link: Link, kind: Kind, **options: Any) -> Stream:
    """Our end of `link` as a stream over a carrier; the handshake is still to come."""
    options = {"close_timeout": PATIENCE, "handshake_timeout": PATIENCE, **options}
    carrier = await carry(kind, link.sock)
    return bowout.wrap(carrier, our_context(link.version, "client"), server_hostname=NAME, **options)


@everywhere
def test_a_close_sees_the_answer_that_came_while_the_loop_was_blocked(run: Runner, kind: Kind) -> None:
    async def main() -> bowout.Ending:
        stream = await over(link, kind, close_timeout=BRIEF)
        await stream.handshake()
        ending: bowout.Ending = await meanwhile(link, stream.close)
        return ending

    with peer(answers) as link:
        ending = run(main)
    assert (ending.how, ending.deadline_hit) == (How.CLEAN, False), ending


@in_steps
def test_a_close_sees_the_answer_that_is_longer_than_one_receive(run: Runner, kind: Kind) -> None:
    """What a reader of asyncio holds is less than the kernel holds: the loop has to bring it in several pieces."""
    last_words = bytes(300_000)

    def answers_at_length(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.link.await_go()
        wire.send(last_words)
        wire.close_notify()
        wire.fin()
        wire.link.ready.set()
        wire.hold()

    async def main() -> bowout.Ending:
        stream = await over(link, kind, close_timeout=BRIEF)
        await stream.handshake()
        ending: bowout.Ending = await meanwhile(link, stream.close)
        return ending

    with peer(answers_at_length) as link:
        ending = run(main)
    assert (ending.how, ending.discarded) == (How.CLEAN, len(last_words)), ending


@in_steps
def test_an_unwrap_sees_the_answer_that_came_while_the_loop_was_blocked(run: Runner, kind: Kind) -> None:
    async def main() -> bytes:
        stream = await over(link, kind)
        await stream.handshake()
        (_, writer), rest = await meanwhile(link, lambda: stream.unwrap(BRIEF))
        writer.close()
        return bytes(rest)

    with peer(ends_tls) as link:
        assert run(main) == b""


@in_steps
def test_a_handshake_sees_what_came_while_the_loop_was_blocked(run: Runner, kind: Kind) -> None:
    async def main() -> str | None:
        stream = await over(link, kind, handshake_timeout=BRIEF)
        await meanwhile(link, stream.handshake)
        await stream.close()
        return stream.tls_version

    with peer(sends_its_flight) as link:
        assert run(main) == "TLSv1.3"


class Layered(Bare):
    """A carrier that takes some turns of the loop to pass on what it has received, as other layers in between do."""

    async def receive(self, max_bytes: int) -> bytes:
        data = await super().receive(max_bytes)
        for _ in range(3):
            await turn()
        return data


@pytest.mark.parametrize("loop", BACKENDS)
def test_a_close_sees_the_answer_through_layers(run: Runner) -> None:
    async def main() -> bowout.Ending:
        carrier = Layered(await carry("anyio", link.sock))
        stream = bowout.wrap(carrier, client_context(), server_hostname=NAME, close_timeout=BRIEF)
        await stream.handshake()
        ending: bowout.Ending = await meanwhile(link, stream.close)
        return ending

    with peer(answers) as link:
        ending = run(main)
    assert (ending.how, ending.deadline_hit) == (How.CLEAN, False), ending


@everywhere
def test_a_close_without_an_answer_ends_as_ever(run: Runner, kind: Kind) -> None:
    async def main() -> bowout.Ending:
        stream = await over(link, kind)
        await stream.handshake()
        return await stream.close(0.1)

    with peer(silent) as link:
        ending = run(main)
    assert (ending.how, ending.deadline_hit) == (How.UNANSWERED, True), ending
