"""What to do next in a close, drawn from the half-states alone.

The stream asks `next_step` after everything it does, and does what it says. The exploration in the tests walks every
interleaving of two peers through this same function.
"""

from __future__ import annotations

import enum

from bowout._core.states import INBOUND_SAID_ALL
from bowout.ending import Inbound, Outbound


class Step(enum.StrEnum):
    """The next thing a close has to do."""

    #: Hand what is queued to the kernel, reading meanwhile: a peer that writes before it reads must not block us.
    FLUSH = "flush"
    #: End our direction of the TCP connection.
    FIN = "FIN"
    #: Read and discard until the peer has ended, so that no RST destroys our last flight.
    LINGER = "linger"
    #: Close the descriptor.
    RELEASE = "release"


def next_step(
    outbound: Outbound,
    inbound: Inbound,
    *,
    output_queued: bool,
    fin_sent: bool,
    fin_received: bool,
    all_arrived: bool,
) -> Step:
    """Say what the close does next.

    Args:
        outbound: our half-state.
        inbound: the peer's half-state.
        output_queued: the engine holds bytes that the kernel has not taken.
        fin_sent: our FIN was sent.
        fin_received: the peer's FIN or RST was read; nothing more can come.
        all_arrived: the peer's TCP has acknowledged everything that we sent.
    """
    if outbound in {Outbound.LOST, Outbound.RESET} or inbound is Inbound.RESET:
        return Step.RELEASE
    if output_queued:
        return Step.FLUSH
    if not fin_sent:
        return Step.FIN
    if fin_received:
        return Step.RELEASE
    # TLS is over both ways and the peer's kernel has every byte of ours: a peer that keeps the TCP connection open has
    # no claim on our time, whether it said its close_notify, or a fatal alert, or what nobody can decrypt.
    if inbound in INBOUND_SAID_ALL and all_arrived:
        return Step.RELEASE
    return Step.LINGER
