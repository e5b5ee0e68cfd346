"""The script language: what a peer can do, as calls on one object."""

from __future__ import annotations

import contextlib

from bowout.testing._receiving import Receiving
from bowout.testing._sending import Sending
from bowout.testing._wire import Gone, Stopped


class Act(Sending, Receiving):
    """One connection, seen by the script that acts on it.

        def my_ending(act: Act) -> None:
            act.handshake()
            act.send(b"half of ")
            act.cut_record(b"a message", at=7)
            act.fin()

    Verbs that send return when the kernel has the bytes. Verbs that receive take note of all that comes: data, alerts,
    close_notify, FIN, RST. No verb waits longer than the peer's ``timeout``, or much longer than the test. A verb that
    cannot go on, since the other side has left or the time is over, ends the script; ``report.error`` says where.
    A script that returns leaves the connection open, and the peer reads on until the other side has left.

    Attributes:
        role: the part of this peer, ``"server"`` or ``"client"``.
        number: which of the peer's connections this is, from 0.
    """

    # -- the test -----------------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Tell the test, which waits in `Peer.wait_ready`."""
        self._signals.ready.set()

    def wait_for_go(self) -> None:
        """Wait until the test calls `Peer.go`, or is over."""
        while not self._signals.go.wait(0.01) and not self._wire.pause(0.01):
            pass

    # -- how it is done -----------------------------------------------------------------------------------------

    def finish(self) -> None:
        """After the script: see how the other side leaves. The peer's own verb."""
        if self._wire.closed:
            return
        if not self._reading:
            self._wire.wait_left()
        with contextlib.suppress(Gone, Stopped):
            while not self._witness.rst and self._session.read():
                pass
