"""An exception out of nowhere, Ctrl-C for example, strikes blocking code: no descriptor stays, and no verdict lies."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

import pytest

import bowout.blocking
from bowout import How, MisuseError, Outbound
from bowout.blocking import SyncStream, TLSSocket
from helpers.blocking import InThread, socket_of, stream_of, wait_until_waiting
from helpers.stand_ins import StandIn
from helpers.wire import VERSIONS, Link, Version, Wire, deaf, leaving, peer, silent

#: The package whose steps are interrupted, the core under it included.
PACKAGE: Final = str(Path(bowout.__file__).parent)
both_versions = pytest.mark.parametrize("version", VERSIONS)


class ForeignException(BaseException):
    """Not one that the library could know."""


def interrupt_when_waiting(stream: SyncStream | TLSSocket) -> InThread[None]:
    """Send this process a SIGINT when the main thread waits."""

    def work() -> None:
        wait_until_waiting(stream)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    return InThread(work)


# -- in a wait: nothing is lost ---------------------------------------------------------------------------------------


@both_versions
def test_ctrl_c_in_a_receive_leaves_the_block_with_close_notify(version: Version) -> None:
    with peer(leaving, version=version) as link:
        stream = stream_of(link)
        stream.handshake()
        interrupter = interrupt_when_waiting(stream)
        with pytest.raises(KeyboardInterrupt), stream:
            stream.receive()
        interrupter.result()
        assert stream.ending is not None
        assert stream.ending.outbound is Outbound.FIN_SENT
    assert link.result == "close_notify"


def test_a_receive_that_was_interrupted_can_go_on() -> None:
    def script(wire: Wire) -> str:
        wire.handshake()
        wire.send(b"ab")
        wire.link.await_go()
        wire.send(b"cd")
        return wire.read_to_end()

    with peer(script) as link:
        stream = stream_of(link, close_timeout=5)
        stream.handshake()
        interrupter = interrupt_when_waiting(stream)
        with pytest.raises(KeyboardInterrupt):
            stream.receive_exactly(4)
        interrupter.result()
        link.go.set()
        assert stream.receive_exactly(4) == b"abcd"
        stream.close()
    assert link.result == "close_notify"


def test_ctrl_c_in_a_send_leaves_half_a_message_without_close_notify() -> None:
    with peer(deaf, small=True) as link:
        stream = stream_of(link)
        stream.handshake()
        interrupter = interrupt_when_waiting(stream)
        with pytest.raises(KeyboardInterrupt), stream:
            stream.send(bytes(32 << 20))
        interrupter.result()
        assert stream.ending is not None
        assert stream.ending.how is How.UNFLUSHED or stream.ending.how is How.ABORTED
        assert stream.ending.unsent > 0


def test_ctrl_c_in_a_close_closes_the_descriptor_and_is_raised() -> None:
    with peer(silent) as link:
        stream = stream_of(link)
        stream.handshake()
        interrupter = interrupt_when_waiting(stream)
        with pytest.raises(KeyboardInterrupt):
            stream.close()
        interrupter.result()
        assert stream.ending is not None
        assert "interrupted by KeyboardInterrupt" in str(stream.ending.to_dict())
        assert stream.socket is None
    assert link.result == "close_notify"


def test_ctrl_c_in_an_unwrap_closes() -> None:
    with peer(silent) as link:
        stream = stream_of(link)
        stream.handshake()
        interrupter = interrupt_when_waiting(stream)
        with pytest.raises(KeyboardInterrupt):
            stream.unwrap()
        interrupter.result()
        assert stream.ending is not None
        assert stream.socket is None


def test_ctrl_c_in_a_handshake_closes() -> None:
    def script(wire: Wire) -> str:
        wire.hold()
        return ""

    with peer(script) as link:
        stream = stream_of(link)
        interrupter = interrupt_when_waiting(stream)
        with pytest.raises(KeyboardInterrupt):
            stream.handshake()
        interrupter.result()
        assert stream.ending is not None
        assert stream.ending.how is How.FAILED_HANDSHAKE


def test_ctrl_c_in_a_socket_leaves_it_usable() -> None:
    with peer(leaving) as link:
        sock = socket_of(link)
        interrupter = interrupt_when_waiting(sock)
        with pytest.raises(KeyboardInterrupt):
            sock.recv(1)
        interrupter.result()
        sock.close()
    assert link.result == "close_notify"


# -- a signal handler that uses the stream ----------------------------------------------------------------------------


@contextlib.contextmanager
def on_sigint(handler: Callable[[], object]) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, lambda *_: handler())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_may_close_while_its_thread_waits() -> None:
    with peer(leaving) as link:
        stream = stream_of(link, close_timeout=5)
        stream.handshake()
        with on_sigint(stream.close):
            interrupter = interrupt_when_waiting(stream)
            assert list(stream) == []
        interrupter.result()
        assert stream.ending is not None
    assert link.result == "close_notify"


def test_a_handler_may_close_while_its_thread_sends() -> None:
    """The send below it cannot go on; the close sends the rest of it, for its bytes were accepted."""
    size = 8 << 20

    def script(wire: Wire) -> tuple[str, int]:
        wire.handshake()
        wire.link.await_go()
        end = wire.read_to_end()
        wire.close_notify()
        return end, len(wire.received)

    with peer(script, small=True) as link:
        stream = stream_of(link)
        stream.handshake()

        def close() -> None:
            link.go.set()
            stream.close()

        with on_sigint(close):
            interrupter = interrupt_when_waiting(stream)
            stream.send(bytes(size))
        interrupter.result()
    assert link.result == ("close_notify", size)


@pytest.mark.parametrize("verb", ["receive", "recv"])
def test_what_arrived_while_the_thread_could_not_run_counts_although_the_time_is_over(verb: str) -> None:
    """A handler holds the thread up, beyond the deadline of the receive under it; a stopped process would, too."""

    def script(wire: Wire) -> str:
        wire.handshake()
        wire.link.await_go()
        wire.send(b"in time")
        wire.link.ready.set()
        return wire.read_to_end()

    with peer(script) as link:
        held: SyncStream | TLSSocket
        if verb == "receive":
            held = stream_of(link, timeout=0.5, close_timeout=5)
            held.handshake()
        else:
            held = socket_of(link, close_timeout=5)
            held.settimeout(0.5)

        def hold_up() -> None:
            over = time.monotonic() + 0.5
            link.go.set()
            link.await_ready()
            while time.monotonic() <= over:
                time.sleep(0.05)

        with on_sigint(hold_up):
            interrupter = interrupt_when_waiting(held)
            got = held.recv(100) if isinstance(held, TLSSocket) else held.receive()
        interrupter.result()
        assert got == b"in time"
        held.close()


def test_a_handler_cannot_send_below_a_send() -> None:
    raised: list[BaseException] = []

    def send() -> None:
        try:
            stream.send(b"below")
        except MisuseError as error:
            raised.append(error)
        link.go.set()

    def script(wire: Wire) -> str:
        wire.handshake()
        wire.link.await_go()
        return wire.read_to_end()

    with peer(script, small=True) as link:
        stream = stream_of(link, close_timeout=5)
        stream.handshake()
        with on_sigint(send):
            interrupter = interrupt_when_waiting(stream)
            stream.send(bytes(8 << 20))
        interrupter.result()
        stream.close()
    assert len(raised) == 1
    assert link.result == "close_notify"


# -- in a step: the connection is torn --------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["send", "receive_into"])
@both_versions
def test_what_was_torn_apart_sends_nothing_more(version: Version, direction: str) -> None:
    def script(wire: Wire) -> str:
        wire.handshake()
        wire.link.await_go()  # Else the client could have it with the end of the handshake.
        wire.send(b"hello")
        wire.link.ready.set()
        return wire.read_to_end()

    with peer(script, version=version) as link:
        stream = stream_of(link)
        stream.handshake()
        link.go.set()
        link.await_ready()
        channel = stream._connection._channel
        transport = channel.transport

        def strike(*_: object) -> None:
            channel.transport = transport  # once
            raise ForeignException

        channel.transport = StandIn(transport, **{direction: strike})
        with pytest.raises(ForeignException):
            stream.send(b"sent") if direction == "send" else stream.receive()
        ending = stream.ending
        assert ending is not None
        assert (ending.how, ending.outbound, ending.alert) == (How.ABORTED, Outbound.CUT, None)
        with pytest.raises(bowout.StreamClosed, match="interrupted"):
            stream.send(b"more")
        assert stream.close() is ending
    assert link.result in {"FIN", "RST"}


class StrikeAt:
    """Raises at one of the lines that the package runs in this thread."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.struck = False
        #: The functions that it struck, from the inside to the outside.
        self.where: list[str] = []

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(PACKAGE):
            return None
        # A signal's handler is not run between the end of a ``with`` block and the release of its lock, as a function
        # that traces is: there, only the beginning of each function counts.
        where = "call" if file.endswith("_monitor.py") else "line"
        if event == where and not self.struck:
            self._left -= 1
            if self._left <= 0:
                self.where = [each.name for each in traceback.extract_stack(frame)][::-1]
                if not {"__del__", "drop"} & set(self.where):  # A finalizer raises to nobody.
                    self.struck = True
                    raise ForeignException
        return self


def converse(link: Link) -> SyncStream | None:
    """Use a stream in each way, and return it; None if none was made."""
    stream = None
    try:
        stream = stream_of(link, close_timeout=5)
        with stream:
            stream.send(b"question")
            stream.receive_exactly(3)
            stream.receive_until(b"r")
            stream.close()
    except ForeignException:
        pass
    return stream


def converse_by_socket(link: Link) -> TLSSocket | None:
    """The same with a socket."""
    sock = None
    try:
        sock = socket_of(link, close_timeout=5)
        with sock:
            sock.sendall(b"question")
            sock.recv(3)
    except ForeignException:
        pass
    return sock


def answering(wire: Wire) -> str:
    """Answer a question, and a close."""
    try:
        wire.handshake()
        wire.read_exactly(8)
        wire.send(b"answer")
        end = wire.read_to_end()
        if end == "close_notify":
            wire.close_notify()
    except (AssertionError, EOFError, OSError):
        return "cut"
    return end


@pytest.mark.parametrize("talk", [converse, converse_by_socket], ids=lambda talk: talk.__name__)
def test_wherever_it_strikes_the_descriptor_goes_and_the_ending_is_true(
    talk: Callable[[Link], SyncStream | TLSSocket | None],
) -> None:
    """At every 23rd line that is run, each in a conversation of its own, until one comes to its end."""
    at = 1
    while True:
        with peer(answering) as link:
            sock = link.sock
            strike = StrikeAt(at)
            with warnings.catch_warnings():
                # Before there is a stream, its pieces are closed by their finalizers, which say so.
                warnings.simplefilter("ignore", ResourceWarning)
                sys.settrace(strike)
                try:
                    held = talk(link)
                finally:
                    sys.settrace(None)
            with contextlib.closing(held or sock):  # which is still the caller's, if there is nothing else
                # The block was not entered, or is left by nothing but these lines.
                at_the_edge = strike.where[:1] in (["__enter__"], ["__exit__"], ["_real_close"])
                if held is not None and not at_the_edge:
                    assert sock.fileno() < 0, (at, strike.where)
                    assert held.ending is not None, (at, strike.where)
            clean = held is not None and held.ending is not None and held.ending.how is How.CLEAN
        if not strike.struck:
            assert clean
            return
        assert not clean or link.result == "close_notify", (at, strike.where)
        at += 23
