"""What the end of stdin does to ``bowout connect``: half-close, wait or close, and what of a late answer is printed."""

from __future__ import annotations

import asyncio
import contextlib
import select
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

import pytest

from bowout import How
from bowout.cli.connect.conversation import Behaviour, Conversation, OnEof
from bowout.cli.console.countdown import Countdown
from bowout.cli.console.signals import LeaveSignals
from helpers.commands import connect, listening
from helpers.wire import VERSIONS, Version, Wire, peer

if TYPE_CHECKING:
    from helpers.runners import Runner

HINT: Final = "hint: the peer may take the end of stdin, our close_notify, for a hang-up: --on-eof wait sends none"
QUESTION: Final = b"question\n"
ANSWER: Final = b"late answer\n"
#: Passes of the loop in which everything happens that needs no wait.
SOME_PASSES: Final = 50


class Script:
    """A console on which a question is typed, and which keeps what is shown."""

    interactive = False
    waiting = 0

    def __init__(self) -> None:
        self._typed = [QUESTION]
        self.ended = asyncio.Event()
        self.shown = b""

    async def read(self) -> bytes:
        if self._typed:
            return self._typed.pop()
        self.ended.set()
        return b""

    def stop_reading(self) -> bool:
        return False

    def start_line(self) -> None:
        pass

    def put(self, data: bytes) -> None:
        self.shown += data

    async def write(self, data: bytes) -> None:
        self.put(data)

    async def finish(self) -> None:
        pass

    async def close(self) -> None:
        pass


def answering_when_told(wire: Wire) -> str:
    """Answer a question when the test says so, but never who has hung up meanwhile: that fails."""
    wire.handshake()
    wire.read_exactly(len(QUESTION))
    wire.link.await_go()
    assert not select.select([wire.sock], [], [], 0)[0], "something came after the question"
    wire.send(ANSWER)
    wire.close_notify()
    return wire.read_to_end()


@pytest.mark.backends("asyncio")
@pytest.mark.parametrize("version", VERSIONS)
def test_wait_sends_nothing_at_the_end_of_stdin(version: Version, run: Runner) -> None:
    with peer(answering_when_told, version=version) as link:

        async def main() -> tuple[How, bytes]:
            console = Script()
            behaviour = Behaviour(on_eof=OnEof.WAIT, eof_wait=None)
            conversation = asyncio.create_task(Conversation(link.stream(), behaviour, LeaveSignals()).run(console))
            await console.ended.wait()
            for _ in range(SOME_PASSES):
                await asyncio.sleep(0)
            link.go.set()
            return (await conversation).how, console.shown

        assert run(main) == (How.CLEAN, ANSWER)
    assert link.result == "close_notify"


@pytest.mark.backends("asyncio")
def test_eof_wait_counts_from_the_peers_last_data(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[float | None] = []
    start = Countdown.start

    def counting(countdown: Countdown, seconds: float | None) -> None:
        counted.append(seconds)
        start(countdown, seconds)

    def dripping(wire: Wire) -> str:
        wire.handshake()
        wire.read_to_end()
        for _ in range(3):
            wire.link.await_go()
            wire.link.go.clear()
            wire.send(b".")
        wire.link.await_go()
        wire.close_notify()
        return wire.read_to_tcp_end()

    class Telling(Script):
        def put(self, data: bytes) -> None:
            super().put(data)
            link.go.set()

    monkeypatch.setattr(Countdown, "start", counting)
    with peer(dripping) as link:
        link.go.set()
        console = Telling()

        async def main() -> None:
            await Conversation(link.stream(), Behaviour(eof_wait=1000), LeaveSignals()).run(console)

        run(main)
    assert console.shown == b"..."
    assert counted == [1000] * 4, "once at the end of stdin, and once for all that came"


def ending_at_a_close_notify(wire: Wire) -> str:
    wire.handshake()
    end = wire.read_to_end()
    wire.send(ANSWER)
    wire.close_notify()
    return end


def test_wait_has_an_end_and_what_comes_after_it_is_printed() -> None:
    with listening(ending_at_a_close_notify) as server:
        done = connect(server, "--on-eof", "wait", "--eof-wait", "0.1", "--trace", stdin=QUESTION)
    assert (done.status, done.out) == (0, ANSWER)
    assert done.last == "clean: we sent close_notify, the peer answered"
    silent, said = (done.err.index(text) for text in ("note: the peer was silent for 0.1 s", "alert write:warning:"))
    assert silent < said, "close_notify came before the end of the wait"


def test_a_peer_that_leaves_with_a_bare_fin_then_has_not_truncated_anything() -> None:
    def answering_and_leaving(wire: Wire) -> str:
        wire.handshake()
        wire.read_exactly(len(QUESTION))
        wire.send(ANSWER)
        return wire.read_to_end()

    with listening(answering_and_leaving) as server:
        done = connect(server, "--on-eof", "wait", "--eof-wait", "0.1", stdin=QUESTION)
    assert (done.status, done.out) == (0, ANSWER)
    assert done.last.startswith("unanswered: ")


def test_wait_lasts_no_longer_than_the_line_to_quit_on() -> None:
    def prompting(wire: Wire) -> str:
        wire.handshake()
        wire.read_exactly(len(QUESTION))
        wire.send(b"first\nlogin: ")
        return wire.read_to_end()

    options = ("--on-eof", "wait", "--eof-wait", "1000", "--quit-on", "login")
    with listening(prompting) as server:
        done = connect(server, *options, stdin=QUESTION)
    assert (done.status, done.out, server.results) == (0, b"first\nlogin: ", ["close_notify"])


# -- half-close: the hint


@pytest.mark.parametrize("version", VERSIONS)
def test_a_half_close_without_an_answer_has_a_hint(version: Version) -> None:
    def hanging_up(wire: Wire) -> str:
        wire.handshake()
        end = wire.read_to_end()
        wire.close_notify()
        return end

    with listening(hanging_up, version=version) as server:
        done = connect(server, stdin=QUESTION)
    assert (done.status, done.out, done.err.splitlines()[0]) == (0, b"", HINT)


def test_an_answer_that_breaks_off_has_the_hint_too() -> None:
    def breaking_off(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.sock.sendall(wire.encrypt(ANSWER)[:-3])
        wire.fin()
        wire.read_to_tcp_end()

    with listening(breaking_off) as server:
        done = connect(server, stdin=QUESTION)
    assert (done.status, HINT in done.err.splitlines()) == (4, True)


@pytest.mark.parametrize("question", [b"", QUESTION])
def test_who_asks_nothing_or_gets_an_answer_needs_no_hint(question: bytes) -> None:
    def answering(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.send(bytes(wire.received))
        wire.close_notify()

    with listening(answering) as server:
        done = connect(server, stdin=question)
    assert (done.status, done.out) == (0, question)
    assert done.err == "clean: we sent close_notify, the peer answered\n"


# -- the last close prints what arrives


@pytest.mark.parametrize("version", VERSIONS)
def test_an_answer_after_eof_wait_is_printed(version: Version) -> None:
    def late(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        assert wire.read_to_tcp_end() == "FIN"  # The close has begun.
        wire.send(ANSWER)
        wire.close_notify()

    with listening(late, version=version) as server:
        done = connect(server, "--eof-wait", "0.1", "--timeout", "60", stdin=QUESTION)
    assert (done.status, done.out) == (0, ANSWER)
    assert done.err.startswith("note: the peer was silent for 0.1 s after the end of stdin: closing\n")


def test_an_answer_that_does_not_end_in_time_is_not_passed_off_as_whole() -> None:
    def beginning(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.read_to_tcp_end()
        wire.send(ANSWER)
        wire.hold()

    with listening(beginning) as server:
        done = connect(server, "--eof-wait", "0.1", "--timeout", "1", stdin=QUESTION)
    assert (done.status, done.out) == (1, ANSWER)
    assert "error: the peer had begun to answer" in done.err


@pytest.mark.parametrize("inside", [False, True], ids=["at a boundary", "inside a record"])
def test_an_answer_that_is_cut_after_eof_wait_is_not_passed_off_as_whole(inside: bool) -> None:
    def cutting(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.read_to_tcp_end()
        wire.send(ANSWER)
        if inside:
            wire.sock.sendall(wire.encrypt(ANSWER)[:-1])
        wire.fin()

    with listening(cutting) as server:
        done = connect(server, "--eof-wait", "0.1", "--timeout", "60", stdin=QUESTION)
    assert (done.status, done.out) == (1, ANSWER)
    assert "error: the peer had begun to answer, and left without close_notify" in done.err


def test_a_flood_after_eof_wait_has_an_end() -> None:
    def flooding(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.read_to_tcp_end()
        with contextlib.suppress(ConnectionError):
            while not wire.link.over.is_set():
                wire.send(bytes(1 << 16))

    with listening(flooding) as server:
        done = connect(server, "--eof-wait", "0.1", "--timeout", "1000", stdin=QUESTION)
    assert done.status == 1
    assert done.last == "unanswered: we sent close_notify, the peer kept on sending, gave up at the byte cap"


def test_a_late_line_to_quit_on_is_the_last_that_is_printed() -> None:
    def late(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.read_to_tcp_end()
        wire.send(b"one\nQUIT\nthree\n")
        wire.close_notify()

    with listening(late) as server:
        done = connect(server, "--eof-wait", "0.1", "--quit-on", "QUIT", stdin=QUESTION)
    assert done.out == b"one\nQUIT\n"


def test_who_asked_to_leave_wants_no_more_of_it() -> None:
    with listening(ending_at_a_close_notify) as server:
        done = connect(server, "--on-eof", "close", stdin=QUESTION)
    assert (done.status, done.out) == (0, b"")
    assert "12 B discarded unread" in done.last


# -- the countdown


@pytest.mark.backends("asyncio")
class TestCountdown:
    def test_it_hears_what_came_while_the_loop_was_blocked(self, run: Runner) -> None:
        async def main() -> bool:
            loop = asyncio.get_running_loop()
            countdown = Countdown()
            countdown.start(0.01)
            over = asyncio.create_task(countdown.over())
            heard = asyncio.Event()

            def hear() -> None:
                countdown.start(1000)
                heard.set()

            loop.call_soon(lambda: loop.call_soon(lambda: loop.call_soon(hear)))
            while (countdown.left or 0) > 0:
                pass  # This blocks the loop until time is up.
            await heard.wait()
            for _ in range(SOME_PASSES):
                await asyncio.sleep(0)
            ended = over.done()
            over.cancel()
            return ended

        assert not run(main)

    def test_it_stands_still_while_it_is_held(self, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main() -> list[float | None]:
            countdown = Countdown()
            now = 0.0
            monkeypatch.setattr(countdown, "_loop", SimpleNamespace(time=lambda: now))
            countdown.start(10)
            now = 1.0
            seen = [countdown.left]
            with countdown.held():
                now = 5.0
                seen.append(countdown.left)
            now = 6.0
            return [*seen, countdown.left]

        assert run(main) == [9, None, 8]

    def test_without_a_start_it_has_no_end(self, run: Runner) -> None:
        async def main() -> float | None:
            countdown = Countdown()
            over = asyncio.create_task(countdown.over())
            await asyncio.sleep(0)
            countdown.start(None)
            await asyncio.sleep(0)
            left = countdown.left
            countdown.start(0)
            await over
            return left

        assert run(main) is None
