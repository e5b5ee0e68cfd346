"""The reading verbs of a script: they receive, wait, and expect."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal

from bowout._tls_numbers import CLOSE_NOTIFY
from bowout.testing._arguments import alert_code, listed, octets
from bowout.testing._verbs import Verbs
from bowout.testing._wire import Gone, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable

Sight = Literal["close_notify", "fin", "rst", "alert", "end"]


class ExpectationFailed(AssertionError):
    """The code under test did not do what the script expects. It is raised at the end of the block of the `Peer`."""

    __module__ = "bowout.testing"  # the public name, for tracebacks


class Receiving(Verbs):
    """The reading verbs: they record all that is received. A wait ends with the peer's timeout, or with the test."""

    # -- receiving ----------------------------------------------------------------------------------------------

    def receive(self) -> bytes:
        """Return the next application data; ``b""`` at the other side's close_notify.

        A FIN or an RST before that ends the script.
        """
        self._read_while(lambda: not self._connection.inbox and not self.close_notify_seen, "receive()")
        return self._take(len(self._connection.inbox))

    def read_exactly(self, count: int) -> bytes:
        """Return the next `count` bytes of application data; an earlier end of the data ends the script."""
        self._read_while(
            lambda: len(self._connection.inbox) < count and not self.close_notify_seen, f"read_exactly({count})"
        )
        if len(self._connection.inbox) < count:
            raise Gone(f"close_notify came after {len(self._connection.inbox)} of {count} bytes")
        return self._take(count)

    def read_until(self, separator: bytes) -> bytes:
        """Return application data up to and including `separator`; an earlier end of the data ends the script."""
        inbox, separator = self._connection.inbox, octets(separator, "read_until()")
        self._read_while(lambda: separator not in inbox and not self.close_notify_seen, f"read_until({separator!r})")
        found = inbox.find(separator)
        if found < 0:
            raise Gone(f"close_notify came before {separator!r}")
        return self._take(found + len(separator))

    def wait_for(self, sight: Sight) -> bool:
        """Read on until `sight` is seen of the other side, now or before.

        Args:
            sight: ``"close_notify"``; ``"alert"``: any alert but that; ``"fin"``; ``"rst"``; ``"end"``: any end of its
                direction, with or without close_notify.

        Returns:
            Whether it was seen; False when the other side has left, or the test or the time is over, without it.
        """
        return self._see(sight, f"wait_for({sight!r})")

    def silence(self, seconds: float | None = None) -> None:
        """Send nothing for `seconds`.

        Args:
            seconds: None: until the other side has reset the connection, or the test is over. The TCP connection stays
                open after the other side's FIN, too. Its data is read, except after `stop_reading`.
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
        """Read nothing from now on, so that the other side's sends block as soon as the kernels' buffers are full."""
        # The receive buffer stays as it is: with a window smaller than a segment, the end could take seconds to arrive.
        self._reading = False
        self._recorder.did("stops reading")

    def wait_for_arrival(self) -> None:
        """Wait until data of the other side has arrived, and leave it unread."""
        self._not_in_segment("wait_for_arrival()")
        self._wire.wait_readable()

    # -- expectations -------------------------------------------------------------------------------------------

    def expect_data(self, data: bytes) -> None:
        """Read as many bytes of application data as `data` has, and compare them with it.

        Raises:
            ExpectationFailed: they differ, or there are fewer.
        """
        __tracebackhide__ = True
        data = octets(data, "expect_data()")
        with contextlib.suppress(Gone, Stopped):
            self._read_while(
                lambda: len(self._connection.inbox) < len(data) and not self.close_notify_seen, "expect_data()"
            )
        got = self._take(min(len(data), len(self._connection.inbox)))
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
        """Read on until the alert `name` has come, now or before.

        Raises:
            ExpectationFailed: it did not come.
        """
        __tracebackhide__ = True
        code = alert_code(name)
        self._not_in_segment("expect_alert()")
        with contextlib.suppress(Gone, Stopped):
            while not self._recorder.left and all(alert.code != code for alert in self._recorder.alerts):
                self._driver.read()
        if all(alert.code != code for alert in self._recorder.alerts):
            raise ExpectationFailed(f"expected the alert {name}, and {self._how_it_left()}")

    # -- how it is done -----------------------------------------------------------------------------------------

    def _see(self, sight: Sight, verb: str) -> bool:
        sights = self._sights()
        if sight not in sights:
            raise ValueError(f"sight={sight!r}: it must be one of {listed(sights)}")
        self._not_in_segment(verb)
        seen = sights[sight]
        with contextlib.suppress(Gone, Stopped):
            while not seen():
                if self._recorder.left or not self._driver.read():
                    break
        return seen()

    def _sights(self) -> dict[Sight, Callable[[], bool]]:
        recorder = self._recorder
        return {
            "close_notify": lambda: recorder.close_notify > 0,
            "alert": lambda: any(alert.code != CLOSE_NOTIFY for alert in recorder.alerts),
            "fin": lambda: recorder.fin,
            "rst": lambda: recorder.rst,
            "end": lambda: recorder.close_notify > 0 or recorder.left,
        }

    def _how_it_left(self) -> str:
        if self._recorder.rst:
            return "RST came"
        if self._recorder.fin:
            return "FIN came"
        return "nothing came before the test or the time was over"

    def _read_while(self, wanting: Callable[[], bool], verb: str) -> None:
        self._needs_handshake(verb)
        self._not_in_segment(verb)
        while wanting():
            if self._recorder.left or not self._driver.read():
                raise Gone(f"the other side left, and the script was in {verb}")

    def _take(self, count: int) -> bytes:
        taken = bytes(self._connection.inbox[:count])
        del self._connection.inbox[:count]
        return taken


def _shown(data: bytes) -> str:
    return repr(data) if len(data) <= 60 else f"{data[:60]!r}… ({len(data):,} bytes)"
