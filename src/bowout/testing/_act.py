"""The script language: a peer's verbs, as methods of one object."""

from __future__ import annotations

import contextlib

from bowout.testing._receiving import Receiving
from bowout.testing._sending import Sending
from bowout.testing._wire import Gone, Stopped


class Act(Sending, Receiving):
    """One connection, as its script uses it.

        def my_ending(act: Act) -> None:
            act.handshake()
            act.send(b"half of ")
            act.cut_record(b"a message", at=7)
            act.fin()

    Verbs that send return when the kernel has the bytes. Verbs that receive record all that arrives: data, alerts,
    close_notify, FIN, RST. No verb waits longer than the peer's ``timeout``, or much longer than the test. A verb that
    cannot go on, since the other side has left or the time is over, ends the script; ``report.error`` says where.
    When a script returns, the connection stays open, and the peer reads on until the other side has left.

    Attributes:
        role: the role of this peer, ``"server"`` or ``"client"``.
        number: the index of this connection among the peer's connections, from 0.
    """

    # -- the test -----------------------------------------------------------------------------------------------

    def ready(self) -> None:
        """Wake a test that waits in `Peer.wait_ready`."""
        self._signals.ready.set()

    def wait_for_go(self) -> None:
        """Wait until the test calls `Peer.go`, or is over."""
        while not self._signals.go.wait(0.01) and not self._wire.pause(0.01):
            pass

    # -- how it is done -----------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Read on after the script, to see how the other side leaves. The peer calls it, not a script."""
        if self._wire.closed:
            return
        if not self._reading:
            self._wire.wait_left()
        with contextlib.suppress(Gone, Stopped):
            while not self._recorder.rst and self._driver.read():
                pass
