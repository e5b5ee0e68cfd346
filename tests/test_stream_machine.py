"""A stream in every order of things: tasks, bytes, time and the peer are moved by hand, one step at a time.

What must always hold: the bytes received are a prefix of those sent, and b"" comes only after the peer's close_notify
and everything before it; every close, abort and cancelled close leaves a closed descriptor and an ending, no later than
its deadline; at most one close_notify leaves, nothing after it, and none after half a message; an ending is clean only
where both close_notify were seen and nothing was lost; no task is left.

    HYPOTHESIS_PROFILE=thorough python -m pytest tests/test_stream_machine.py      # for longer
"""

from __future__ import annotations

import contextlib
import functools
import ssl
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import event, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from bowout._connection.closer import Closer
from bowout._connection.connection import Connection
from bowout._core import winddown
from bowout._core.engine import Engine
from bowout._core.incoming import Incoming
from bowout._core.winddown import Step, next_step
from bowout._options import StreamOptions
from bowout.ending import How, Role
from bowout.errors import BowoutError, IncompleteRead
from helpers.simulation import (
    Cancelled,
    Loop,
    Scope,
    SimulatedBackend,
    SimulatedEvent,
    SimulatedTask,
    SimulatedTransport,
)
from helpers.wire import NAME, client_context, server_context

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from bowout._stream import Stream
    from bowout.ending import OnError, TruncationPolicy
    from helpers.wire import Version

SIZES: Final = st.sampled_from([1, 2, 100, 16384, 16385, 70_000])
BYTES: Final = st.sampled_from([1, 3, 5, 24, 31, 300, 5000, 17_000, 1 << 20])
#: Seconds; 0 is what can be done at once.
TIMEOUTS: Final = st.sampled_from([0.0, 0.3, 5.0])
#: What ends things happens rarely: otherwise there is not much to end.
RARELY: Final = st.sampled_from([True] + [False] * 5)
DELAYS: Final = st.sampled_from([0.005, 0.011, 0.2, 0.6, 1.0, 5.0])
_PATTERN: Final = bytes((at * at + at // 251) & 0xFF for at in range(65_521))


@functools.cache
def context(role: Role, version: Version, *, ours: bool) -> ssl.SSLContext:
    """Contexts are dear, and an example is cheap."""
    del ours  # Each side has its own: a stream changes the one that it is given.
    return client_context(version) if role is Role.CLIENT else server_context(version)


def stretch(start: int, count: int) -> bytes:
    """So much of the peer's data, from there on."""
    start %= len(_PATTERN)
    return (_PATTERN * (2 + count // len(_PATTERN)))[start : start + count]


class MachinePeer:
    """OpenSSL at the other end."""

    def __init__(self, context: ssl.SSLContext, transport: SimulatedTransport, *, server_side: bool) -> None:
        self._transport = transport
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else NAME
        self._tls = context.wrap_bio(self._in, self._out, server_side=server_side, server_hostname=name)
        self.shook_hands = False
        #: On their way to the stream.
        self.flight = bytearray()
        self.fin_queued = False
        self.gone = False
        self.said = 0
        self.close_notify_sent = False
        self.spoilt = False
        self.heard = bytearray()
        self.close_notify_heard = False
        self.failed = False

    def take(self, count: int) -> None:
        """Read what comes from the stream."""
        data = self._transport.leave(count)
        if self.gone or (self.shook_hands and not data):
            return
        assert not self.close_notify_heard, "something follows close_notify"
        self._in.write(data)
        try:
            if not self.shook_hands:
                self._tls.do_handshake()
                self.shook_hands = True
            self._read()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.failed = True  # We have sent an alert, or refuse the handshake.
        self._emit()

    def _read(self) -> None:
        try:
            while data := self._tls.read(1 << 16):
                self.heard += data
        except ssl.SSLZeroReturnError:
            pass
        self.close_notify_heard = True
        assert not self._in.pending, "something follows close_notify"

    def _emit(self) -> None:
        data = self._out.read()
        if not self.fin_queued:
            self.flight += data

    @property
    def talks(self) -> bool:
        """It can send application data."""
        return self.shook_hands and not (self.close_notify_sent or self.fin_queued or self.gone or self.failed)

    def say(self, count: int) -> None:
        """Send application data."""
        self._tls.write(stretch(self.said, count))
        self.said += count
        self._emit()

    def close_notify(self) -> None:
        """Send it."""
        self.close_notify_sent = True
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        self._emit()

    def garbage(self) -> None:
        """A record that cannot be decrypted."""
        self.spoilt = True
        self.flight += b"\x17\x03\x03\x00\x40" + bytes(64)


class StreamMachine(RuleBasedStateMachine):
    """One stream, its peer and the kernel between them."""

    @initialize(
        version=st.sampled_from(["1.3", "1.2"]),
        role=st.sampled_from(list(Role)),
        like_trio=st.booleans(),
        truncation=st.sampled_from(["raise", "tolerate"]),
        on_error=st.sampled_from(["truncate", "close"]),
        tells=st.booleans(),
        shake=st.sampled_from([True] * 7 + [False]),
        helpful=st.booleans(),
    )
    def begin(
        self,
        version: Version,
        role: Role,
        like_trio: bool,
        truncation: TruncationPolicy,
        on_error: OnError,
        tells: bool,
        shake: bool,
        helpful: bool,
    ) -> None:
        client = role is Role.CLIENT
        self.helpful = helpful
        self.tolerate = truncation == "tolerate"
        self.vouch_anyway = on_error == "close"
        self.loop = Loop(like_trio=like_trio)
        self.transport = SimulatedTransport(self.loop)
        self.transport.tells = tells
        other = Role.SERVER if client else Role.CLIENT
        self.peer = MachinePeer(context(other, version, ours=False), self.transport, server_side=client)
        self.stream: Stream = StreamOptions(
            context=context(role, version, ours=True),
            role=role,
            server_hostname=NAME if client else None,
            truncation=truncation,
            on_error=on_error,
            handshake_timeout=3.0,
        ).stream(SimulatedBackend(self.loop), self.transport)
        self.received = bytearray()
        self.ends = 0
        self.messages: list[int] = []
        self.sent_whole: set[int] = set()
        self.deadlines: dict[SimulatedTask, float] = {}
        self.ending_tasks: list[SimulatedTask] = []
        self.unwraps: list[SimulatedTask] = []
        self.stays: list[SimulatedEvent] = []
        if shake:
            self.spawn("handshake", self.stream.handshake())
            for _ in range(9):
                self.settle()

    def spawn(self, name: str, coroutine: Coroutine[Any, Any, Any]) -> SimulatedTask:
        return self.loop.spawn(name, coroutine)

    @rule()
    def settle(self) -> None:
        """Everything moves as it does on a good day."""
        self.loop.run()
        self.peer.take(1 << 20)
        self.arrive(1 << 20)
        self.loop.run()

    def arrive(self, count: int) -> None:
        data = bytes(self.peer.flight[:count])
        del self.peer.flight[:count]
        if data:
            self.transport.arrive(data)
        if self.peer.fin_queued and not self.peer.flight and not self.transport.fin_received:
            self.transport.arrive_fin()

    # -- the application -----------------------------------------------------------------------------------------------

    @rule(count=SIZES)
    def receive(self, count: int) -> None:
        async def receive() -> None:
            data = await self.stream.receive(count)
            self.received += data
            if not data:
                self.note_end()

        self.spawn("receive", receive())

    @rule(count=SIZES)
    def receive_exactly(self, count: int) -> None:
        async def receive() -> None:
            try:
                self.received += await self.stream.receive_exactly(count)
            except IncompleteRead as end:
                self.received += end.partial
                self.note_end()

        self.spawn("receive_exactly", receive())

    def note_end(self) -> None:
        """The stream says that it has given everything."""
        if not (self.tolerate and self.peer.fin_queued and not self.peer.close_notify_sent):
            assert self.peer.close_notify_sent, 'b"" without a close_notify'
            assert len(self.received) == self.peer.said, f'b"" after {len(self.received)} of {self.peer.said} bytes'

    @rule(count=SIZES)
    def send(self, count: int) -> None:
        if len(self.messages) == 200:
            return
        number = len(self.messages)
        self.messages.append(count)

        async def send() -> None:
            await self.stream.send(bytes([number]) * count)
            self.sent_whole.add(number)

        self.spawn("send", send())

    @rule(chance=RARELY)
    def send_eof(self, chance: bool) -> None:
        if chance:
            self.spawn("send_eof", self.stream.send_eof())

    @rule(timeout=TIMEOUTS, chance=RARELY)
    def close(self, timeout: float, chance: bool) -> None:
        if not chance:
            return
        task = self.spawn("close", self.stream.close(timeout))
        self.deadlines[task] = timeout
        self.ending_tasks.append(task)

    @rule(timeout=TIMEOUTS, chance=RARELY)
    def unwrap(self, timeout: float, chance: bool) -> None:
        if not chance:
            return
        task = self.spawn("unwrap", self.stream.unwrap(timeout))
        self.unwraps.append(task)

    @rule(chance=RARELY)
    def abort(self, chance: bool) -> None:
        if chance:
            assert self.stream.abort() is self.stream.ending
            assert self.transport.closed

    @rule(chance=RARELY)
    def stay(self, chance: bool) -> None:
        """A block that stays until it is told to leave by an error, or is cancelled."""
        if not chance:
            return
        told = SimulatedEvent(self.loop)
        self.stays.append(told)

        async def block() -> None:
            async with self.stream:
                await told.wait()
                raise ValueError

        self.ending_tasks.append(self.spawn("block", block()))

    @precondition(lambda self: self.stays)
    @rule()
    def fail_in_a_block(self) -> None:
        self.stays.pop().set()

    @rule(which=st.integers(0, 9), latest=st.booleans())
    def cancel(self, which: int, latest: bool) -> None:
        running = [task for task in self.loop.tasks if not task.done]
        if running:
            task = running[-1 if latest else which % len(running)]
            note(f"cancels {task.name}")
            task.cancel()

    # -- the loop, the kernel and the clock ----------------------------------------------------------------------------

    @rule(which=st.integers(0, 5))
    def step(self, which: int) -> None:
        self.loop.step(which)

    @rule()
    def run(self) -> None:
        self.loop.run()

    @rule(delay=DELAYS)
    def pass_time(self, delay: float) -> None:
        self.loop.run()
        self.loop.advance(delay)
        for task, timeout in self.deadlines.items():
            late = task.began_at is not None and self.loop.now >= task.began_at + timeout
            assert task.done or not late, f"{task.name} is late"

    @rule(most=st.sampled_from([7, 1000, 1 << 16]), capacity=st.sampled_from([0, 10, 20_000, 1 << 16]))
    def tighten(self, most: int, capacity: int) -> None:
        self.transport.most, self.transport.capacity = most, capacity

    # -- the peer ------------------------------------------------------------------------------------------------------

    @rule(count=BYTES)
    def peer_reads(self, count: int) -> None:
        self.peer.take(count)

    @rule(count=BYTES)
    def peer_arrives(self, count: int) -> None:
        self.arrive(count)

    @precondition(lambda self: self.peer.talks)
    @rule(count=SIZES)
    def peer_says(self, count: int) -> None:
        self.peer.say(count)

    @precondition(lambda self: self.peer.talks)
    @rule(chance=RARELY)
    def peer_sends_close_notify(self, chance: bool) -> None:
        if chance:
            self.peer.close_notify()

    @rule(chance=RARELY)
    def peer_sends_garbage(self, chance: bool) -> None:
        if chance and not self.peer.fin_queued:
            self.peer.garbage()

    @rule(lost=st.sampled_from([0, 0, 3]), chance=RARELY)
    def peer_sends_fin(self, lost: int, chance: bool) -> None:
        if chance and not self.peer.fin_queued:
            if lost and self.peer.flight:
                del self.peer.flight[-lost:]
                self.peer.spoilt = True
            self.peer.fin_queued = True

    @rule(chance=RARELY)
    def peer_resets(self, chance: bool) -> None:
        if chance:
            self.peer.gone = self.peer.fin_queued = self.peer.spoilt = True
            self.peer.flight.clear()
            self.transport.arrive_reset()

    # -- what must hold ------------------------------------------------------------------------------------------------

    @invariant()
    def received_is_a_prefix(self) -> None:
        if hasattr(self, "received"):
            assert self.received == stretch(0, len(self.received)), "received what was not sent"
            assert len(self.received) <= self.peer.said

    @invariant()
    def tasks_fail_as_they_may(self) -> None:
        for task in self.loop.tasks if hasattr(self, "loop") else ():
            if not task.done or task.error is None:
                continue
            if isinstance(task.error, Cancelled):
                assert task.cancelled, f"{task.name} was cancelled by nobody"
            elif not (isinstance(task.error, ValueError) and task.name.startswith("block")):
                assert isinstance(task.error, BowoutError), f"{task.name} raised {task.error!r}"

    @invariant()
    def who_ends_has_ended(self) -> None:
        for task in self.ending_tasks if hasattr(self, "ending_tasks") else ():
            if task.done and not self.never_began(task) and not self.left_it_to_another(task):
                assert self.stream.ending is not None, f"{task.name} left no ending"
                assert self.transport.closed, f"{task.name} left the descriptor open"

    def never_began(self, task: SimulatedTask) -> bool:
        """It was cancelled before its first step."""
        return isinstance(task.error, Cancelled) and task.began_at is None

    def left_it_to_another(self, task: SimulatedTask) -> bool:
        """It waited for the end that another makes, and was cancelled: that leaves the other alone."""
        others = [other for other in self.ending_tasks + self.unwraps if other is not task and not other.done]
        return isinstance(task.error, Cancelled) and bool(others)

    @invariant()
    def close_notify_vouches(self) -> None:
        if not hasattr(self, "peer"):
            return
        heard = bytes(self.peer.heard)
        at = 0
        while at < len(heard):
            number = heard[at]
            length = min(self.messages[number], len(heard) - at)
            assert heard[at : at + length] == bytes([number]) * length, "messages are mixed"
            at += length
            # RFC 5246 section 7.2.1: in TLS 1.2 the peer's is answered at once, whatever waits.
            answered = self.stream.tls_version == "TLSv1.2" and self.peer.close_notify_sent
            if at == len(heard) and self.peer.close_notify_heard and not (self.vouch_anyway or answered):
                assert length == self.messages[number], "close_notify after half a message"

    def teardown(self) -> None:
        if not hasattr(self, "stream"):
            return
        self.loop.run()
        friendly = self.all_is_well()
        note(f"ends {'well' if friendly else 'somehow'}")
        last = self.spawn("last close", self.stream.close(1.0))
        self.ending_tasks.append(last)
        self.loop.run()
        for _ in range(20 if self.helpful else 0):
            self.help_to_end()
        self.loop.advance(1.0)
        self.loop.run()
        assert last.done, "the last close takes longer than its deadline"
        self.peer.take(1 << 20)
        for told in self.stays:
            told.set()
        self.loop.run()
        left = [task.name for task in self.loop.tasks if not task.done]
        assert not left, f"left: {left}"
        self.who_ends_has_ended()
        self.tasks_fail_as_they_may()
        self.close_notify_vouches()
        self.look_at_the_ending()
        if friendly:
            self.look_at_a_good_ending()

    def all_is_well(self) -> bool:
        """Nobody has done anything that stands in the way of a clean end."""
        stream, peer = self.stream, self.peer
        spoilt = peer.spoilt or peer.fin_queued or peer.gone or peer.failed or not peer.shook_hands
        ours = (
            stream.ending
            or stream._connection.closer.leaving
            or stream._connection.engine.outgoing.interrupted
            or self.stays
        )
        return self.helpful and not spoilt and not ours and stream._connection.engine.handshake_done

    def help_to_end(self) -> None:
        """The peer reads, and answers close_notify; some time passes."""
        self.transport.most = self.transport.capacity = 1 << 20
        self.peer.take(1 << 20)
        if self.peer.close_notify_heard and self.peer.talks:
            self.peer.close_notify()
        self.arrive(1 << 20)
        self.loop.run()
        self.loop.advance(0.02)

    def look_at_a_good_ending(self) -> None:
        assert self.stream.ending is not None
        assert self.stream.ending.how is How.CLEAN
        assert self.peer.close_notify_heard
        assert self.sent_whole <= set(self.peer.heard), "what was sent is lost"

    def look_at_the_ending(self) -> None:
        ending = self.stream.ending
        assert ending is not None
        note(f"{ending}")
        event(f"ends {ending.how}")
        readable = len(self.stream._buffer)  # It stays so after the peer's bad end.
        assert ending.received == len(self.received) + readable + ending.discarded
        clean = ending.how is How.CLEAN
        if ending.how in {How.CLEAN, How.UNANSWERED}:
            assert ending.unsent == 0
        if clean:
            assert self.peer.close_notify_sent
            assert ending.received == self.peer.said, "clean, and bytes of the peer are missing"
            assert ending.close_notify_sent_at is not None
        hurried = ending.deadline_hit or ending.cap_hit or ending.late_reset or ending.reason
        if clean and not hurried and self.transport.tells and not self.peer.gone:
            self.peer.take(1 << 20)
            self.close_notify_vouches()
            assert self.peer.close_notify_heard, "clean, and the peer never sees our close_notify"
            heard = set(self.peer.heard)
            assert self.sent_whole <= heard, "clean, and what was sent is lost"


TestStreamMachine = StreamMachine.TestCase
# The number of examples is the profile's: see tests/conftest.py.
TestStreamMachine.settings = settings(stateful_step_count=60)


# -- a stream that is broken -------------------------------------------------------------------------------------------


def lose_a_byte(broken: pytest.MonkeyPatch) -> None:
    read = Connection.read_into

    async def lose(self: Connection, view: memoryview) -> int:
        return max(0, await read(self, view) - 1)

    broken.setattr(Connection, "read_into", lose)


def leave_the_descriptor_open(broken: pytest.MonkeyPatch) -> None:
    broken.setattr(SimulatedTransport, "close", lambda self, **_: None)


def vouch_for_half_a_message(broken: pytest.MonkeyPatch) -> None:
    broken.setattr(Engine, "say_goodbye", Engine.queue_close_notify)


def close_without_lingering(broken: pytest.MonkeyPatch) -> None:
    def hasty(*states: Any, **facts: Any) -> Step:
        step = next_step(*states, **facts)
        return Step.RELEASE if step is Step.LINGER else step

    broken.setattr(winddown, "next_step", hasty)


def forget_the_deadline(broken: pytest.MonkeyPatch) -> None:
    broken.setattr(SimulatedBackend, "move_on_at", lambda self, when: Scope(self._loop, when + 60))


def take_every_end_for_close_notify(broken: pytest.MonkeyPatch) -> None:
    broken.setattr(Incoming, "input_exhausted", lambda self: self.end())


def swallow_a_cancelled_close(broken: pytest.MonkeyPatch) -> None:
    broken.setattr(Closer, "finish_now", lambda self, *, notify: None)


def receive_all(machine: StreamMachine) -> None:
    machine.peer_says(100)
    machine.receive(100)
    machine.settle()


def receive_what_was_cut(machine: StreamMachine) -> None:
    machine.peer_says(100)
    machine.peer_sends_fin(3, chance=True)
    machine.receive(100)
    machine.settle()


def close_against_silence(machine: StreamMachine) -> None:
    machine.close(0.3, chance=True)
    machine.pass_time(0.6)


def cancel_a_send(machine: StreamMachine) -> None:
    machine.send(70_000)
    machine.run()
    machine.cancel(0, latest=True)


def cancel_a_close(machine: StreamMachine) -> None:
    machine.close(5.0, chance=True)
    machine.run()
    machine.cancel(0, latest=True)


def end_well(machine: StreamMachine) -> None:
    machine.send(100)
    machine.peer_says(100)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[StreamMachine]:
    """One that is driven by hand, from the end of its handshake on."""
    module = sys.modules[__name__]
    monkeypatch.setattr(module, "note", lambda _: None)
    monkeypatch.setattr(module, "event", lambda _: None)
    made = StreamMachine()
    made.begin(
        version="1.3",
        role=Role.CLIENT,
        like_trio=False,
        truncation="raise",
        on_error="truncate",
        tells=True,
        shake=True,
        helpful=True,
    )
    yield made
    made.stream.abort()  # A broken stream may have left its connection open.


def play(machine: StreamMachine, scenario: Callable[[StreamMachine], None]) -> None:
    """What Hypothesis does with a scenario that it has found."""
    scenario(machine)
    machine.run()
    for look in (machine.received_is_a_prefix, machine.tasks_fail_as_they_may, machine.who_ends_has_ended):
        look()
    machine.teardown()


BROKEN: Final = [
    (lose_a_byte, receive_all),
    (leave_the_descriptor_open, close_against_silence),
    (vouch_for_half_a_message, cancel_a_send),
    (close_without_lingering, end_well),
    (forget_the_deadline, close_against_silence),
    (take_every_end_for_close_notify, receive_what_was_cut),
    (swallow_a_cancelled_close, cancel_a_close),
]


@pytest.mark.parametrize(("sabotage", "scenario"), BROKEN)
def test_the_machine_knows_a_stream_that_is_broken(
    machine: StreamMachine,
    monkeypatch: pytest.MonkeyPatch,
    sabotage: Callable[[pytest.MonkeyPatch], None],
    scenario: Callable[[StreamMachine], None],
) -> None:
    sabotage(monkeypatch)
    with pytest.raises(AssertionError):
        play(machine, scenario)


@pytest.mark.parametrize("scenario", {scenario.__name__: scenario for _, scenario in BROKEN}.values())
def test_the_machine_knows_a_stream_that_is_whole(
    machine: StreamMachine, scenario: Callable[[StreamMachine], None]
) -> None:
    play(machine, scenario)
    assert machine.stream.ending is not None
