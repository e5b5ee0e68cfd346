"""A model of two peers and the wire between them, every interleaving of which is walked.

Each peer is moved by the real `Halves`, `verdict` and `WindDown`; only what surrounds them is modelled: what OpenSSL
makes of records, and what a driver, two kernels and a network do. Silence needs no event of its own: it is every path
on which a peer's events do not happen.

The kernels' rule that all of this is about: a descriptor that is closed with unread input, or that input reaches after
it was closed, answers with an RST, and an RST destroys what is on its way in both directions.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bowout._core import states
from bowout._core.states import Halves, Signal
from bowout._core.winddown import Goal, Step, WindDown
from bowout.ending import How, Inbound, Outbound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Verdict = Callable[..., How]


class Symbol(enum.IntEnum):
    """What passes over the wire. PART and REST are one record that the kernel took in two pieces."""

    DATA = 0
    PART = 1
    REST = 2
    CLOSE_NOTIFY = 3
    #: A record that cannot be decrypted.
    BAD = 4
    FATAL_ALERT = 5
    #: Data after a close_notify, which no peer may send.
    LATE = 6
    FIN = 7
    RST = 8


_PAYLOAD: Final = frozenset(Symbol) - {Symbol.FIN, Symbol.RST}
#: These end a close from outside; it must not need them.
_WAYS_OUT: Final = ("deadline", "abort()")
_DEADLINE: Final = 1.0
_WHOLE: Final = frozenset({Symbol.DATA, Symbol.REST})


class Told(enum.IntEnum):
    """The first error that this side's application could have met."""

    NOTHING = 0
    TRUNCATED = 1
    RESET = 2
    ALERT = 3


class ModelPeer(NamedTuple):
    """One side: its half-states, its application and its kernel."""

    outbound: Outbound = Outbound.OPEN
    inbound: Inbound = Inbound.OPEN
    close_notify_sent: bool = False
    #: Engine: what waits for the kernel.
    queue: tuple[Symbol, ...] = ()
    #: The kernel's receive buffer.
    inbox: tuple[Symbol, ...] = ()
    #: The kernel was told of an RST: it takes nothing more.
    refused: bool = False
    to_send: int = 0
    #: It may send one of these, against the rules: BAD or LATE.
    offence: Symbol | None = None
    #: Records of data that were written, and records that were delivered or counted as discarded.
    written: int = 0
    got: int = 0
    inside: bool = False
    leaving: bool = False
    #: It left otherwise than by a close() that ran to its end: its bytes may be lost, and nobody else is to blame.
    gave_up: bool = False
    leaving_when_cut: bool = False
    fin_sent: bool = False
    fin_received: bool = False
    input_ended: bool = False
    reset_seen: bool = False
    cut_off: bool = False
    told: Told = Told.NOTHING
    #: The truth, kept apart from the half-states: what the kernel took, and what was read.
    notify_out: bool = False
    notify_in: bool = False
    alert: bool = False
    how: How | None = None

    @property
    def ended(self) -> bool:
        return self.how is not None


class World(NamedTuple):
    """Two peers and what is on the way between them."""

    a: ModelPeer
    b: ModelPeer
    to_b: tuple[Symbol, ...] = ()
    to_a: tuple[Symbol, ...] = ()

    def mirrored(self) -> World:
        return World(self.b, self.a, self.to_a, self.to_b)


def _halves(peer: ModelPeer) -> Halves:
    halves = Halves()
    halves.outbound, halves.inbound, halves.close_notify_sent = peer.outbound, peer.inbound, peer.close_notify_sent
    return halves


#: An outbound direction never goes to the left. Written down here once more, apart from the table.
_ORDER: Final = {
    state: place
    for place, group in enumerate(
        (
            {Outbound.HANDSHAKE},
            {Outbound.OPEN},
            {Outbound.CLOSE_NOTIFY_QUEUED},
            {Outbound.CLOSE_NOTIFY_SENT},
            {Outbound.FIN_SENT, Outbound.CUT, Outbound.FATAL_ALERT},
            {Outbound.RESET, Outbound.LOST},
        )
    )
    for state in group
}


class _ModelEngine:
    """What a `WindDown` asks of an engine, told of a peer of the model."""

    handshake_done = True
    unencrypted = b""
    has_news = False  # What it holds is delivered or counted when it is read.

    def __init__(self, peer: ModelPeer, *, arrived: bool) -> None:
        self.peer = peer
        self.arrived = arrived
        self.said_goodbye = False
        self.facts = self.halves = self.timeline = self.incoming = self.outgoing = self.queue = self

    outbound = property(lambda self: self.peer.outbound)
    inbound = property(lambda self: self.peer.inbound)
    fin_sent = property(lambda self: self.peer.fin_sent)
    input_ended = property(lambda self: Signal.FIN_AT_BOUNDARY if self.peer.input_ended else None)
    size = property(lambda self: len(self.peer.queue))

    def say_goodbye(self) -> None:
        self.said_goodbye = True

    def record(self, *_: object) -> None:
        pass

    def unacknowledged(self) -> int:
        return 0 if self.arrived else 1


def _wind_down(world: World, goal: Goal, *, notify: bool) -> tuple[WindDown, _ModelEngine]:
    engine = _ModelEngine(world.a, arrived=not world.to_b)
    wind_down = WindDown(
        engine,  # type: ignore[arg-type]  # It is as much of one as is needed.
        linger_bytes=1,
        scratch=memoryview(b""),
        unacknowledged=engine.unacknowledged,
    )
    wind_down.notify(allowed=notify)
    wind_down.begin(goal, deadline=_DEADLINE)
    return wind_down, engine


class Violation(AssertionError):
    """An invariant does not hold; its text is the way there."""


class Exploration:
    """All worlds that can be reached.

    Args:
        tls12: both peers follow TLS 1.2, otherwise 1.3.
        records: how many records of data the two applications may send.
        capacity: how many symbols a kernel holds of its own output, and how many of its input.
        gentle: nobody aborts, is cancelled, vanishes, or meets a deadline.
        offence: what the second peer may send once, against the rules.
        purge: an RST also destroys what the receiving kernel holds unread, as some kernels do.
        verdict: another one than the real one, to see the exploration fail.

    Attributes:
        hows: the pairs of verdicts with which both ended.
    """

    def __init__(
        self,
        *,
        tls12: bool = False,
        records: tuple[int, int] = (1, 1),
        capacity: int = 1,
        gentle: bool = False,
        offence: Symbol | None = None,
        purge: bool = False,
        verdict: Verdict = states.verdict,
    ) -> None:
        self.tls12 = tls12
        self.capacity = capacity
        self.gentle = gentle
        self.offence = offence
        self.purge = purge
        self.verdict = verdict
        self.start = World(ModelPeer(to_send=records[0]), ModelPeer(to_send=records[1], offence=offence))
        self.hows: set[frozenset[How]] = set()
        self._moves: dict[tuple[Outbound, Inbound, bool, Signal], tuple[Outbound, Inbound, bool]] = {}
        self._steps: dict[tuple[Any, ...], tuple[bool, Step]] = {}

    def run(self) -> int:
        """Walk everything, breadth first, and return the number of worlds; two that mirror each other are one.

        Raises:
            Violation: with the shortest way to the world that breaks an invariant.
        """
        parents: dict[World, tuple[World, str] | None] = {self.start: None}
        todo = deque([self.start])
        while todo:
            world = todo.popleft()
            broken, final = "", True
            try:
                for name, after in self.events(world):
                    final = final and name.endswith(_WAYS_OUT)
                    if after not in parents and after.mirrored() not in parents:
                        parents[after] = (world, name)
                        todo.append(after)
            except AssertionError as error:
                broken = str(error)
            broken = broken or self._broken(world, final=final)
            if broken:
                raise Violation(f"{broken}\n{_way(world, parents)}")
        return len(parents)

    # -- what can happen -----------------------------------------------------------------------------------------

    def events(self, world: World) -> Iterator[tuple[str, World]]:
        """Everything that can happen next."""
        for name, after in self._events_of_a(world):
            yield f"a: {name}", after
        for name, after in self._events_of_a(world.mirrored()):
            yield f"b: {name}", after.mirrored()

    def _events_of_a(self, world: World) -> Iterator[tuple[str, World]]:
        yield from self._network(world)
        if not world.a.ended:
            yield from self._transport(world)
            yield from self._offence(world)
            yield from self._closing(world) if world.a.leaving else self._application(world)

    def _network(self, world: World) -> Iterator[tuple[str, World]]:
        """The next thing on the wire reaches the kernel of b."""
        if not world.to_b:
            return
        symbol, rest = world.to_b[0], world.to_b[1:]
        a, b = world.a, world.b
        name = f"{symbol.name} arrives"
        if symbol is Symbol.RST:
            inbox = () if self.purge else b.inbox
            yield name, World(a, b._replace(inbox=(*inbox, symbol), refused=True), (), ())
        elif b.ended:
            if symbol is Symbol.FIN or b.refused:
                yield name, world._replace(to_b=rest)
            else:
                yield f"{name} where nobody is", World(a, b._replace(refused=True), (), (Symbol.RST,))
        elif symbol is Symbol.FIN or len(b.inbox) < self.capacity:
            yield name, World(a, b._replace(inbox=(*b.inbox, symbol)), rest, world.to_a)

    def _transport(self, world: World) -> Iterator[tuple[str, World]]:
        a = world.a
        if a.inbox:
            yield f"reads {a.inbox[0].name}", world._replace(a=self._read(a))
        if a.queue and a.refused:
            yield "send fails", world._replace(a=self._lose(a))
        elif a.queue and len(world.to_b) < self.capacity:
            yield f"kernel takes {a.queue[0].name}", self._take(world)
            if a.queue[0] is Symbol.DATA:
                part = world._replace(a=a._replace(queue=(Symbol.REST, *a.queue[1:])), to_b=(*world.to_b, Symbol.PART))
                yield "kernel takes half of DATA", part

    def _offence(self, world: World) -> Iterator[tuple[str, World]]:
        a = world.a
        state = Outbound.CLOSE_NOTIFY_SENT if a.offence is Symbol.LATE else Outbound.OPEN
        if a.offence is not None and a.outbound is state and not a.queue:
            queue = (*a.queue, a.offence)
            yield f"sends {a.offence.name}", world._replace(a=a._replace(queue=queue, offence=None))

    def _application(self, world: World) -> Iterator[tuple[str, World]]:
        a = world.a
        writable = a.outbound is Outbound.OPEN
        if writable and a.to_send and not a.queue:
            sent = a._replace(queue=(Symbol.DATA,), to_send=a.to_send - 1, written=a.written + 1)
            yield "send()", world._replace(a=sent)
        if writable:
            yield "send_eof()", world._replace(a=self._queue_close_notify(a))
        leaving = a._replace(leaving=True)
        yield "close()", self._next(world._replace(a=leaving))[0]
        if not self.gentle:
            cut = leaving._replace(gave_up=True, cut_off=True)
            yield "left by an error", world._replace(a=cut)
            yield "abort()", self._abort(world)
            yield "vanishes", self._release(world._replace(a=cut))
            yield "cancelled", self._cancelled(world)

    def _closing(self, world: World) -> Iterator[tuple[str, World]]:
        a = world.a
        if not self.gentle:
            yield "abort()", self._abort(world)
            yield (
                "deadline",
                self._at_once(world._replace(a=a._replace(gave_up=True)), Goal.CLOSE, notify=not a.cut_off),
            )
        world, step = self._next(world)
        match step:
            case Step.FIN:
                yield "sends FIN", self._fin(world)
            case Step.RELEASE if not a.inbox:  # A driver reads what is there before it asks.
                yield "releases", self._release(world)
            case _:
                pass

    # -- what it does --------------------------------------------------------------------------------------------

    def _next(self, world: World) -> tuple[World, Step]:
        """Ask a `WindDown` that has time what comes next; it may have queued close_notify by then."""
        a = world.a
        arrived = not world.to_b
        key = a.outbound, a.inbound, bool(a.queue), a.fin_sent, a.input_ended, arrived, a.cut_off
        if key not in self._steps:
            wind_down, engine = _wind_down(world, Goal.CLOSE, notify=not a.cut_off)
            step = wind_down.next_step(0.0)
            if engine.said_goodbye:
                engine.peer = self._queue_close_notify(a)
            if step is Step.WRITE:  # It has had its chance to read and write.
                step = wind_down.next_step(0.0)
            self._steps[key] = engine.said_goodbye, step
        said_goodbye, step = self._steps[key]
        return (world._replace(a=self._queue_close_notify(a)) if said_goodbye else world), step

    def _at_once(self, world: World, goal: Goal, *, notify: bool) -> World:
        """Have a `WindDown` whose time is over end the connection, with a driver that only now can run."""
        wind_down, engine = _wind_down(world, goal, notify=notify)
        while True:
            engine.peer, engine.said_goodbye, engine.arrived = world.a, False, not world.to_b
            step = wind_down.next_step(_DEADLINE)
            if engine.said_goodbye:
                world = world._replace(a=self._queue_close_notify(world.a))
            match step:
                case Step.RELEASE:
                    return self._release(world)
                case Step.FIN:
                    world = self._fin(world)
                case _:
                    world = self._read_and_write(world)

    def _read_and_write(self, world: World) -> World:
        a = world.a
        while a.inbox:
            a = self._read(a)
        world = world._replace(a=a)
        while world.a.queue and not world.a.refused and len(world.to_b) < self.capacity:
            world = self._take(world)
        return world

    def _apply(self, peer: ModelPeer, signal: Signal) -> ModelPeer:
        """Move the real `Halves`; what they do is remembered, since it is asked for a million times."""
        key = peer.outbound, peer.inbound, peer.close_notify_sent, signal
        if key not in self._moves:
            halves = _halves(peer)
            halves.apply(signal, tls12=self.tls12)
            self._moves[key] = halves.outbound, halves.inbound, halves.close_notify_sent
        outbound, inbound, sent = self._moves[key]
        assert _ORDER[outbound] >= _ORDER[peer.outbound], f"{peer.outbound} went back to {outbound}"
        assert inbound is peer.inbound or peer.inbound is Inbound.OPEN, f"{peer.inbound} was not the end"
        moved = peer._replace(outbound=outbound, inbound=inbound, close_notify_sent=sent)
        if outbound is peer.outbound:
            return moved
        made = {Outbound.CLOSE_NOTIFY_QUEUED: Symbol.CLOSE_NOTIFY, Outbound.FATAL_ALERT: Symbol.FATAL_ALERT}
        return self._queued(moved, made[outbound]) if outbound in made else moved

    def _queued(self, peer: ModelPeer, symbol: Symbol) -> ModelPeer:
        assert not peer.notify_out, "something follows a close_notify"
        assert Symbol.CLOSE_NOTIFY not in peer.queue, "something follows a close_notify"
        return peer._replace(queue=(*peer.queue, symbol))

    def _queue_close_notify(self, peer: ModelPeer) -> ModelPeer:
        return self._apply(peer, Signal.QUEUE_CLOSE_NOTIFY)

    def _take(self, world: World) -> World:
        a = world.a
        symbol = a.queue[0]
        a = a._replace(queue=a.queue[1:])
        if symbol is Symbol.CLOSE_NOTIFY:
            a = self._apply(a._replace(notify_out=True), Signal.CLOSE_NOTIFY_TAKEN)
        return world._replace(a=a, to_b=(*world.to_b, symbol))

    def _lose(self, peer: ModelPeer) -> ModelPeer:
        if not peer.leaving and peer.told is Told.NOTHING and peer.queue and peer.queue[0] in _WHOLE:
            peer = peer._replace(told=Told.RESET)  # By the send that was under way.
        return self._apply(peer._replace(queue=(), reset_seen=True), Signal.LOSE)

    def _read(self, a: ModelPeer) -> ModelPeer:
        symbol, a = a.inbox[0], a._replace(inbox=a.inbox[1:])
        is_open = a.inbound is Inbound.OPEN
        match symbol:
            case Symbol.FIN:
                a = a._replace(fin_received=True, input_ended=True)
                if a.reset_seen:  # After a failed send a FIN is what is left to see of the RST.
                    return self._end(a, Signal.RST, Told.RESET)
                signal = Signal.FIN_INSIDE_RECORD if a.inside else Signal.FIN_AT_BOUNDARY
                return self._end(a._replace(leaving_when_cut=is_open and a.leaving), signal, Told.TRUNCATED)
            case Symbol.RST:
                return self._end(self._lose(a._replace(input_ended=True)), Signal.RST, Told.RESET)
            case _ if not is_open:
                late = symbol is not Symbol.LATE and a.inbound is Inbound.CLOSE_NOTIFY
                assert not late, "something follows a close_notify"
                return a
            case Symbol.CLOSE_NOTIFY:
                return self._apply(a._replace(notify_in=True), Signal.CLOSE_NOTIFY)
            case Symbol.BAD:
                return self._end(a._replace(alert=True), Signal.BAD_RECORD, Told.ALERT)
            case Symbol.FATAL_ALERT:
                return self._end(a._replace(alert=True), Signal.FATAL_ALERT, Told.ALERT)
            case _:
                return a._replace(inside=symbol is Symbol.PART, got=a.got + (symbol in _WHOLE))

    def _end(self, a: ModelPeer, signal: Signal, told: Told) -> ModelPeer:
        if a.inbound is Inbound.OPEN and not a.leaving and a.told is Told.NOTHING:
            a = a._replace(told=told)
        return self._apply(a, signal)

    def _fin(self, world: World) -> World:
        a = self._apply(world.a._replace(fin_sent=True), Signal.SEND_FIN)
        return world._replace(a=a, to_b=world.to_b if a.refused else (*world.to_b, Symbol.FIN))

    def _abort(self, world: World) -> World:
        a = self._apply(world.a._replace(gave_up=True, cut_off=True, leaving=True), Signal.SEND_RST)
        if not a.refused:
            world = world._replace(to_b=(Symbol.RST,), to_a=())
        return world._replace(a=self._ended(a._replace(refused=True)))

    def _cancelled(self, world: World) -> World:
        """Leave without waiting: try close_notify, unless half a message would be vouched for; read what is there."""
        a = world.a._replace(leaving=True, gave_up=True)
        whole = not a.queue
        return self._at_once(world._replace(a=a if whole else a._replace(cut_off=True)), Goal.LEAVE, notify=whole)

    def _release(self, world: World) -> World:
        """Close the descriptor. A kernel with unread input answers with an RST, otherwise with a FIN."""
        a, to_b, to_a = world.a, world.to_b, world.to_a
        unread = any(symbol in _PAYLOAD for symbol in a.inbox)
        if unread and not a.refused:
            a, to_b, to_a = a._replace(refused=True), (Symbol.RST,), ()
        elif not a.fin_sent and not a.refused:
            to_b = (*to_b, Symbol.FIN)
        return World(self._ended(a), world.b, to_b, to_a)

    def _ended(self, a: ModelPeer) -> ModelPeer:
        unsent = any(symbol in _WHOLE for symbol in a.queue)
        how = self.verdict(_halves(a), handshake_completed=True, leaving_when_cut=a.leaving_when_cut, unsent=unsent)
        return a._replace(how=how, inbox=(), queue=(), to_send=0, leaving=True)

    # -- what must hold ------------------------------------------------------------------------------------------

    def _broken(self, world: World, *, final: bool) -> str:
        """The first invariant that `world` breaks, in words, or nothing."""
        for side, other in ((world.a, world.b), (world.b, world.a)):
            broken = _hang(side, other) if final else ""
            broken = broken or (_lie(side, other) if side.how else "")
            if broken:
                return broken
        if world.a.how and world.b.how:
            self.hows.add(frozenset({world.a.how, world.b.how}))
        return self._rough(world, final=final) if self.gentle else ""

    def _rough(self, world: World, *, final: bool) -> str:
        """Where nobody gave up, nobody may be hurt."""
        a, b = world.a, world.b
        if self.offence is None and Symbol.RST in (*world.to_a, *world.to_b, *a.inbox, *b.inbox):
            return "an RST, though both closed gracefully"
        if a.how and b.how and final:
            if (a.how, b.how) != (How.CLEAN, How.CLEAN):
                return f"both closed gracefully, but {a.how} and {b.how}"
            if (a.got, b.got) != (b.written, a.written):
                return "both closed gracefully, but bytes were lost"
        return ""


def _hang(side: ModelPeer, other: ModelPeer) -> str:
    """Nothing but a deadline can happen any more. Is that the other's doing?"""
    if side.leaving and not side.ended and (other.ended or other.leaving):
        return "a close waits, and not for the other's application"
    return ""


def _lie(side: ModelPeer, other: ModelPeer) -> str:
    """Hold an ending against what really happened."""
    how = side.how
    exchanged = side.notify_in and side.notify_out and not (side.cut_off and side.outbound is Outbound.RESET)
    if how is How.CLEAN and side.fin_received and not side.notify_in:
        return "a FIN without close_notify is called clean"
    if (how is How.CLEAN) != exchanged:
        return f"{how}, but close_notify received: {side.notify_in}, sent: {side.notify_out}"
    if how is How.CLEAN and side.got != other.written:
        return "clean, but bytes that the peer sent before its close_notify were lost"
    if how is How.CLEAN and other.ended and not (other.gave_up or other.alert) and other.got != side.written:
        return "clean, but bytes that we sent were lost, though the peer closed gracefully"
    # What the application was told by an error, the ending says, too. A send that failed had only heard of an RST; why
    # it came, what was held may still say.
    expected = {Told.TRUNCATED: {How.TRUNCATED}, Told.RESET: {How.RESET, How.ALERT}, Told.ALERT: {How.ALERT}}
    if how not in expected.get(side.told, {how}):
        return f"the application was told {side.told.name}, but the ending says {how}"
    evidence = {
        How.RESET: side.reset_seen,
        How.ALERT: side.alert,
        How.ABORTED: side.cut_off,
        How.UNANSWERED: side.notify_out and not side.notify_in,
        How.UNFLUSHED: not side.notify_out,
        How.TRUNCATED: side.fin_received and not side.notify_in,
    }
    return "" if how is None or evidence.get(how, True) else f"{how}, and nothing of the kind happened"


def _way(world: World, parents: dict[World, tuple[World, str] | None]) -> str:
    steps = [f"   = {world}"]
    at = parents[world]
    while at is not None:
        steps.append(f"   {at[1]}")
        at = parents[at[0]]
    return "\n".join(reversed(steps))
