"""The verbs of a script that read: they receive, wait, and expect."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal

from bowout.testing._arguments import CLOSE_NOTIFY, alert_code, listed, octets
from bowout.testing._verbs import Verbs
from bowout.testing._wire import Gone, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

Sight = Literal["close_notify", "fin", "rst", "alert", "end"]


class ExpectationFailed(AssertionError):
    """The code under test did not do what the script expects. It is raised where the block of the `Peer` is left."""

    __module__ = "bowout.testing"  # where it is found, for who reads a traceback


class Receiving(Verbs):
    """They take note of all that comes, and wait until the peer's time or the test is over, at most."""

    # -- receiving ----------------------------------------------------------------------------------------------

    def receive(self) -> bytes:
        """The next application data; ``b""`` at the other side's close_notify.

        A FIN or an RST before either ends the script.
        """
        self._read_while(lambda: not self._session.inbox and not self.close_notify_seen, "receive()")
        return self._take(len(self._session.inbox))

    def read_exactly(self, count: int) -> bytes:
        """The next `count` bytes of application data; its end before that ends the script."""
        self._read_while(
            lambda: len(self._session.inbox) < count and not self.close_notify_seen, f"read_exactly({count})"
        )
        if len(self._session.inbox) < count:
            raise Gone(f"close_notify came after {len(self._session.inbox)} of {count} bytes")
        return self._take(count)

    def read_until(self, separator: bytes) -> bytes:
        """Application data up to and with the next `separator`; its end before that ends the script."""
        inbox, separator = self._session.inbox, octets(separator, "read_until()")
        self._read_while(lambda: separator not in inbox and not self.close_notify_seen, f"read_until({separator!r})")
        found = inbox.find(separator)
        if found < 0:
            raise Gone(f"close_notify came before {separator!r}")
        return self._take(found + len(separator))

    def wait_for(self, sight: Sight) -> bool:
        """Read on until something is seen of the other side, now or before.

        Args:
            sight: ``"close_notify"``; ``"alert"``: any alert but that; ``"fin"``; ``"rst"``; ``"end"``: any end of its
                direction, with or without close_notify.

        Returns:
            False if it has left, or the test or the time was over, without it.
        """
        return self._see(sight, f"wait_for({sight!r})")

    def silence(self, seconds: float | None = None) -> None:
        """Say nothing.

        Args:
            seconds: None until the other side has reset the connection, or the test is over: after its FIN, too, the
                TCP connection stays open. What it sends is read, unless after `stop_reading`.
        """
        if seconds is not None:
            self._wire.pause(seconds)
            return
        self._not_in_segment("silence()")
        if self._reading:
            self._see("rst", "silence()")
            self._wire.wait_gone()
        else:
            self._wire.wait_left()

    def stop_reading(self) -> None:
        """Read nothing from here on, so that the other side's sends block as soon as the kernels' buffers are full."""
        # The receive buffer stays as it is: under a window of less than a segment, the end could take seconds to come.
        self._reading = False
        self._witness.did("stops reading")

    def wait_for_arrival(self) -> None:
        """Wait until something of the other side has arrived, and leave it unread."""
        self._not_in_segment("wait_for_arrival()")
        self._wire.wait_readable()

    # -- expectations -------------------------------------------------------------------------------------------

    def expect_data(self, data: bytes) -> None:
        """Read as many bytes of application data, which must be these.

        Raises:
            ExpectationFailed: they are others, or fewer.
        """
        __tracebackhide__ = True
        data = octets(data, "expect_data()")
        with contextlib.suppress(Gone, Stopped):
            self._read_while(
                lambda: len(self._session.inbox) < len(data) and not self.close_notify_seen, "expect_data()"
            )
        got = self._take(min(len(data), len(self._session.inbox)))
        if got != data:
            raise ExpectationFailed(f"expected {_shown(data)}, and got {_shown(got)}")

    def expect_close_notify(self) -> None:
        """Read on to the other side's close_notify.

        Raises:
            ExpectationFailed: it did not come.
        """
        __tracebackhide__ = True
        if not self._see("close_notify", "expect_close_notify()"):
            raise ExpectationFailed(f"expected close_notify, and {self._how_it_left()}")

    def expect_fin(self) -> None:
        """Read on to the other side's FIN.

        Raises:
            ExpectationFailed: it did not come.
        """
        __tracebackhide__ = True
        if not self._see("fin", "expect_fin()"):
            raise ExpectationFailed(f"expected FIN, and {self._how_it_left()}")

    def expect_alert(self, name: str | int) -> None:
        """Read on until this alert has come, now or before.

        Raises:
            ExpectationFailed: it did not come.
        """
        __tracebackhide__ = True
        code = alert_code(name)
        self._not_in_segment("expect_alert()")
        with contextlib.suppress(Gone, Stopped):
            while not self._witness.left and all(alert.code != code for alert in self._witness.alerts):
                self._session.read()
        if all(alert.code != code for alert in self._witness.alerts):
            raise ExpectationFailed(f"expected the alert {name}, and {self._how_it_left()}")

    # -- how it is done -----------------------------------------------------------------------------------------

    def _see(self, sight: Sight, verb: str) -> bool:
        sights = self._sights()
        if sight not in sights:
            raise ValueError(f"there is no sight {sight!r}: known are {listed(sights)}")
        self._not_in_segment(verb)
        seen = sights[sight]
        with contextlib.suppress(Gone, Stopped):
            while not seen():
                if self._witness.left or not self._session.read():
                    break
        return seen()

    def _sights(self) -> dict[Sight, Callable[[], bool]]:
        witness = self._witness
        return {
            "close_notify": lambda: witness.close_notify > 0,
            "alert": lambda: any(alert.code != CLOSE_NOTIFY for alert in witness.alerts),
            "fin": lambda: witness.fin,
            "rst": lambda: witness.rst,
            "end": lambda: witness.close_notify > 0 or witness.left,
        }

    def _how_it_left(self) -> str:
        if self._witness.rst:
            return "RST came"
        if self._witness.fin:
            return "FIN came"
        return "nothing came before the test or the time was over"

    def _read_while(self, wanting: Callable[[], bool], verb: str) -> None:
        self._needs_handshake(verb)
        self._not_in_segment(verb)
        while wanting():
            if self._witness.left or not self._session.read():
                raise Gone(f"the other side left, and the script was in {verb}")

    def _take(self, count: int) -> bytes:
        taken = bytes(self._session.inbox[:count])
        del self._session.inbox[:count]
        return taken


def _shown(data: bytes) -> str:
    return repr(data) if len(data) <= 60 else f"{data[:60]!r}… ({len(data):,} bytes)"
