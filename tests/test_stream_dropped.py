"""Streams that are forgotten: a warning names them, and their descriptors go."""

from __future__ import annotations

import gc
import re
import warnings
from typing import TYPE_CHECKING

import pytest

import bowout
from helpers.tasks import in_thread, jobs, settle
from helpers.wire import VERSIONS, Version, leaving, peer, polite

if TYPE_CHECKING:
    from helpers.runners import Runner

both_versions = pytest.mark.parametrize("version", VERSIONS)


def forget(held: list[bowout.Stream]) -> None:
    """Drop what is held, which is all that holds it."""
    held.clear()
    gc.collect()


def warned_of(held: list[bowout.Stream]) -> str:
    """Drop the stream, and give the warning that comes of it."""
    with pytest.warns(ResourceWarning, match=r"<bowout\.Stream client .*> was never closed; it was made at ") as told:
        forget(held)
    return str(told[0].message)


@both_versions
def test_a_forgotten_stream_is_named_and_its_peer_sees_no_close_notify(run: Runner, version: Version) -> None:
    async def main() -> None:
        held = [link.stream()]
        await held[0].send(b"order: 1 ton of nuts\n")
        where = re.search(r"made at (.*):\d+$", warned_of(held))
        assert where is not None
        assert where[1].endswith("wire.py")  # where `bowout.wrap` is called for this test
        await settle()
        assert link.sock.fileno() == -1
        await in_thread(link.await_ready)

    with peer(leaving, version=version) as link:
        run(main)
    assert link.result in {"FIN", "RST"}  # RST where a session ticket was unread


def test_a_stream_forgotten_before_its_handshake_is_named(run: Runner) -> None:
    async def main() -> None:
        warned_of([link.stream()])
        await settle()
        assert link.sock.fileno() == -1

    with peer(lambda wire: wire.read_to_tcp_end()) as link:
        run(main)
    assert link.result == "FIN"


def test_a_stream_forgotten_after_a_cancelled_receive_is_named(run: Runner) -> None:
    """The loop goes on watching the descriptor after the wait."""

    async def main() -> None:
        held = [link.stream()]
        await held[0].handshake()
        async with jobs() as group:
            job = group.start(held[0].receive)
            await settle()
            job.cancel()
            await job.ended()
        del job, group
        warned_of(held)
        await settle()
        assert link.sock.fileno() == -1

    with peer(leaving) as link:
        run(main)
    assert link.result in {"FIN", "RST"}


def test_a_stream_that_was_ended_is_forgotten_in_silence(run: Runner) -> None:
    async def main() -> None:
        held = [link.stream()]
        await held[0].handshake()
        await held[0].close()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            forget(held)

    with peer(polite) as link:
        run(main)
