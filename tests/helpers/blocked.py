"""A loop that is blocked until a deadline is over, and peers that do their part meanwhile."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from helpers.tasks import jobs, settle
from helpers.wire import Link, Wire

BRIEF: Final = 2.0
"""A deadline that passes while the loop is blocked, in seconds: a busy machine must block the loop before it passes."""


async def meanwhile(link: Link, verb: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Call `verb`, block the loop while the peer does its part, until `BRIEF` is over, and give what it comes to."""
    async with jobs() as group:
        job = group.start(verb)
        await settle()  # It goes as far as it can, and the deadline is still to come.
        began = time.monotonic()
        link.go.set()
        link.await_ready()
        time.sleep(max(0.0, began + 1.1 * BRIEF - time.monotonic()))  # noqa: ASYNC251  (it is to block)
    return await job.result()


def answers(wire: Wire) -> None:
    """Answer a close_notify, and say when the answer has been sent."""
    wire.handshake()
    wire.read_to_end()
    wire.link.await_go()
    wire.close_notify()
    wire.fin()
    wire.link.ready.set()
    wire.hold()


def ends_tls(wire: Wire) -> None:
    """Answer a close_notify, and keep the connection."""
    wire.handshake()
    wire.read_to_end()
    wire.link.await_go()
    wire.close_notify()
    wire.link.ready.set()
    wire.hold()


def sends_its_flight(wire: Wire) -> None:
    """Answer the first message of a handshake, and say when the answer has been sent."""
    wire.pull()
    wire.link.await_go()
    with contextlib.suppress(ssl.SSLWantReadError):
        wire.tls.do_handshake()
    wire.flush()
    wire.link.ready.set()
    wire.handshake()
    wire.read_to_end()
