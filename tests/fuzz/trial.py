"""Runs a program on an engine, and holds the engine to the invariant after every operation."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from bowout._scripted.records import Direction, RecordSplitter, Undecryptable, header
from bowout._tls_numbers import ALERT, APPLICATION_DATA, HANDSHAKE
from bowout.ending import How, Inbound, Outbound, Role
from bowout.errors import BowoutError
from fuzz.hands import Hands
from fuzz.program import parse

if TYPE_CHECKING:
    from bowout._core.engine import Engine
    from bowout.ending import Ending
    from fuzz.hands import Contexts
    from fuzz.program import FuzzProgram, Operation

#: Application data in both directions; its period is a prime, so that no shift of records looks like the original.
_PERIOD: Final = 65_521
_PATTERN: Final = bytes((at * at + at // 251) & 0xFF for at in range(_PERIOD)) * 8
#: What an engine may hold when it asks for more: one record that is not whole, with its frame.
_ONE_RECORD: Final = 16384 + 256 + 5
#: And what it keeps after the peer's close_notify for whoever goes on in plain text.
_LEFTOVER: Final = 1 << 18
_BUFFER: Final = memoryview(bytearray(1 << 17))

_TICKET_BODY: Final = (7200).to_bytes(4) + bytes(4) + b"\x08" + bytes(8) + (9).to_bytes(2) + bytes(9) + bytes(2)
_TICKET: Final = b"\x04" + len(_TICKET_BODY).to_bytes(3) + _TICKET_BODY


class BrokenInvariant(AssertionError):
    """The engine broke the invariant."""


def check(fact: object, message: str) -> None:
    """Raise `BrokenInvariant` unless `fact`."""
    if not fact:
        raise BrokenInvariant(message)


def pattern(start: int, count: int) -> bytes:
    """`count` bytes of application data, from the byte `start` on."""
    start %= _PERIOD
    return _PATTERN[start : start + count]


class OutputReader:
    """Reads what the engine sends, after the handshake, as its peer would."""

    def __init__(self, direction: Direction, *, tls13: bool) -> None:
        self._direction = direction
        self._tls13 = tls13
        self._splitter = RecordSplitter()
        self.plaintext = 0
        self.close_notifies = 0
        self.ended = ""

    def read(self, data: bytes) -> None:
        """Take what the kernel took."""
        check(not (self.ended and data), f"{len(data)} bytes follow {self.ended}")
        self._splitter.feed(data)
        for record in self._splitter:
            check(not self.ended, f"a record follows {self.ended}")
            try:
                self._take(*self._direction.open(record))
            except Undecryptable:
                raise BrokenInvariant("the engine sent a record that its peer cannot decrypt") from None

    def _take(self, content_type: int, data: bytes) -> None:
        if content_type == APPLICATION_DATA:
            check(data == pattern(self.plaintext, len(data)), "the engine sent what nobody wrote")
            self.plaintext += len(data)
        elif content_type == ALERT:
            check(len(data) == 2, "an alert of another size than two")
            level, code = data
            if code == 0:
                self.close_notifies += 1
                self.ended = "close_notify"
            elif level == 2:
                self.ended = "a fatal alert"
        elif content_type == HANDSHAKE and self._tls13 and data[:1] == b"\x18":
            self._direction.update()


class Trial:
    """One connection, and what is known of it from outside of the engine."""

    def __init__(self, contexts: Contexts, program: FuzzProgram) -> None:
        settings = program.settings
        self._tolerate = settings["truncation"] == "tolerate"
        self._tls13 = settings["tls"] == "1.3"
        self._hands = Hands(
            contexts,
            settings["tls"],
            Role(settings["us"]),
            "tolerate" if self._tolerate else "raise",
            hooked=settings["hook"] == "on",
        )
        self._us: Engine = self._hands.us
        self._reader: OutputReader | None = None
        #: What the peer and the way have written, record by record, and what of it was delivered.
        self._wire: list[bytes] = []
        self._delivered = 0
        #: Application bytes: written by the peer before its close_notify, read by us, written by us.
        self._said = 0
        self._peer_ended = False
        self._read = 0
        self._discarded = 0
        self._written = 0
        self._unsent = 0
        self._input_over = False
        self._fin_sent = False
        self._released = False
        self._lost = False
        self._shut_at: int | None = None
        self._taken = 0
        self._first_failure: tuple[type[BowoutError], str] | None = None

    def run(self, program: FuzzProgram) -> Ending:
        """Carry out all operations; how the connection would end now."""
        for operation in program.operations:
            self._carry_out(operation)
        self._take(0)
        self._look()
        return self._finish()

    def _carry_out(self, operation: Operation) -> None:
        act: Callable[..., None] = getattr(self, f"_do_{operation.name}")
        arguments = (*operation.numbers, operation.data) if operation.name in {"record", "raw"} else operation.numbers
        act(*arguments)
        self._look()

    # -- the handshake -------------------------------------------------------------------------------------------------

    def _do_shake(self) -> None:
        for _ in range(8):
            if self._reader is not None or self._us.failure is not None or self._input_over or self._released:
                return
            self._do_turn()
            self._do_deliver(0)
            self._do_handshake()
            self._do_turn()

    def _do_turn(self) -> None:
        if self._reader is None and not (self._lost or self._fin_sent or self._released):
            flight = self._hands.peer_turn()
            if flight:
                self._wire.append(flight)
            if self._hands.lens is not None:
                self._reader = OutputReader(self._hands.lens, tls13=self._tls13)

    def _do_handshake(self) -> None:
        try:
            done = self._us.handshake()
        except BowoutError as error:
            self._check_failure(error)
        else:
            check(not done or self._us.handshake_done, "a handshake is done and not done")
            if done:
                self._do_turn()  # Our last flight leaves alone: what follows it is the reader's.

    def _do_giveup(self) -> None:
        if not self._us.handshake_done:
            self._us.give_up(functools.partial(BowoutError, "given up"))

    # -- the peer, and whoever is on the way ---------------------------------------------------------------------------

    def _seal(self, content_type: int, data: bytes) -> None:
        pen = self._hands.pen
        if pen is not None:
            self._wire.append(pen.seal(content_type, data))
            if content_type == ALERT and len(data) == 2 and data[1] == 0:
                self._peer_ended = True

    def _do_data(self, count: int) -> None:
        count = min(count, 20_000)
        if not self._peer_ended:
            self._seal(APPLICATION_DATA, pattern(self._said, count))
            self._said += count if self._hands.pen is not None else 0
        else:
            self._seal(APPLICATION_DATA, bytes(count))  # to be ignored

    def _do_alert(self, level: int, code: int) -> None:
        self._seal(ALERT, bytes([level, code]))

    def _do_record(self, content_type: int, data: bytes) -> None:
        if content_type == APPLICATION_DATA:
            self._do_data(len(data))
        else:
            self._seal(content_type, data)

    def _do_ticket(self, start: int, stop: int) -> None:
        self._seal(HANDSHAKE, _TICKET[start : stop or None])

    def _do_keyupdate(self, answer: int) -> None:
        self._seal(HANDSHAKE, b"\x18\0\0\1" + bytes([answer]))
        if self._hands.pen is not None and self._tls13:
            self._hands.pen.update()

    def _do_raw(self, data: bytes) -> None:
        if data:
            self._wire.append(data)

    def _do_garbage(self, size: int) -> None:
        size = min(size, 20_000)
        self._wire.append(header(APPLICATION_DATA, size) + pattern(7, size))

    def _do_flip(self, where: int) -> None:
        wire = bytearray(b"".join(self._wire))
        if wire:
            wire[where % len(wire)] ^= 1 << (where % 8)
            self._wire = [bytes(wire)]

    def _do_cut(self, count: int) -> None:
        wire = b"".join(self._wire)
        self._wire = [wire[: max(0, len(wire) - count)]]

    def _do_skip(self, count: int) -> None:
        self._wire = [b"".join(self._wire)[count:]]

    def _do_swap(self) -> None:
        if len(self._wire) > 1:
            self._wire[-2:] = reversed(self._wire[-2:])

    def _do_again(self) -> None:
        if self._wire and len(self._wire) < 99:
            self._wire.append(self._wire[-1])

    # -- the transport -------------------------------------------------------------------------------------------------

    def _do_deliver(self, count: int) -> None:
        data = self._arriving(count)
        if not data:
            return
        before, late_before = self._held(), self._us.incoming.queue.size
        self._us.receive_data(data)
        if self._us.inbound is Inbound.CLOSE_NOTIFY:
            check(
                self._us.incoming.queue.size <= max(late_before, _LEFTOVER),
                "the engine keeps more than its cap after close_notify",
            )
        elif self._us.inbound not in {Inbound.HANDSHAKE, Inbound.OPEN}:
            check(self._held() <= before, "the engine keeps what nobody will read")

    def _do_pull(self, count: int, size: int) -> None:
        if not self._us.handshake_done:
            return
        memory = bytearray(self._arriving(count))
        if memory:
            self._read_once(size, functools.partial(self._us.receive_and_read, memoryview(memory)))
            memory[:] = bytes(len(memory))  # It may be used again, says the engine.

    def _arriving(self, count: int) -> bytes:
        """What the transport gives next; nothing where it cannot."""
        wire = b"".join(self._wire)
        data = wire[: count or None][: len(_BUFFER)]
        if self._input_over or self._released:
            return b""
        self._wire = [wire[len(data) :]]
        self._delivered += len(data)
        return data

    def _do_fin(self) -> None:
        if not self._released:
            self._input_over = True
            self._us.receive_eof()

    def _do_rst(self) -> None:
        if not self._released:
            self._input_over = self._lost = True
            self._us.receive_reset("reset")

    def _do_lost(self) -> None:
        if not self._released:
            self._lost = True
            self._us.send_failed()

    def _do_take(self, count: int) -> None:
        self._take(count)

    def _take(self, count: int) -> None:
        left = count or (1 << 30)
        while left > 0 and not self._released and (head := self._us.outgoing.head()) is not None:
            check(len(head), "an empty output")
            if self._fin_sent or self._lost:
                self._do_lost()  # So the kernel answers.
                return
            piece = bytes(head[:left])
            left -= len(piece)
            self._us.outgoing.taken(len(piece))
            self._taken += len(piece)
            if self._reader is not None:
                self._reader.read(piece)

    # -- the application -----------------------------------------------------------------------------------------------

    def _do_read(self, count: int) -> None:
        # A stream shakes hands before it reads; so does everybody else who drives an engine.
        if self._us.handshake_done:
            self._read_once(count, self._us.incoming.read_into)

    def _do_discard(self, count: int) -> None:
        before = self._read
        self._read_once(count, self._us.discard)
        self._discarded += self._read - before

    def _read_once(self, count: int, read: Callable[[memoryview], int | None]) -> None:
        view = _BUFFER[: max(1, min(count, len(_BUFFER)))]
        try:
            got = read(view)
        except BowoutError as error:
            self._check_failure(error)
            return
        if got:
            check(got <= len(view), "more was read than there was room for")
            check(self._read + got <= self._said, "the engine hands out bytes that the peer did not send")
            check(view[:got] == pattern(self._read, got), "the engine hands out other bytes than the peer sent")
            self._read += got
        elif got is None:
            check(self._held() <= _ONE_RECORD, "the engine asks for more, and holds more than a record")
        elif read != self._us.discard:
            self._check_end()

    def _check_end(self) -> None:
        """The application was told that this is the end."""
        if self._us.inbound is Inbound.CLOSE_NOTIFY:
            check(self._peer_ended, "the engine has seen a close_notify that the peer did not send")
            check(self._read == self._said, "the engine says that this is the end, and bytes are missing")
        else:
            allowed = self._tolerate and self._us.inbound is Inbound.TRUNCATED_AT_BOUNDARY
            check(allowed, f"the engine says that this is the end, and it is {self._us.inbound}")

    def _do_write(self, count: int) -> None:
        count = max(1, min(count, 200_000))  # `Stream.send` has nothing to do for an empty message.
        try:
            taken = self._us.outgoing.write(memoryview(pattern(self._written, count)))
        except BowoutError:
            # Behind half a handshake message that close_notify cut off, OpenSSL does not write again.
            stuck = self._us.inbound is Inbound.CLOSE_NOTIFY
            check(stuck or self._us.outbound is not Outbound.OPEN, "our direction is open, and refuses to write")
        else:
            check(0 <= taken <= count, "more was written than there was")
            self._written += taken

    def _do_hold(self) -> None:
        if self._us.handshake_done:
            self._us.incoming.hold()

    def _do_notify(self) -> None:
        self._us.queue_close_notify()

    def _do_call(self, leaving: int) -> None:
        self._us.record_call("verb", leaving=bool(leaving & 1))

    def _do_sentfin(self) -> None:
        if not self._released:
            self._fin_sent = True
            self._us.sent_fin()

    def _do_sentrst(self) -> None:
        if not self._released:
            self._us.sent_rst()
            self._released = True

    def _do_leftover(self) -> None:
        if self._us.inbound is Inbound.CLOSE_NOTIFY:
            check(len(self._us.incoming.leftover()) <= self._delivered, "more is left over than ever came")

    def _do_discarded(self, count: int) -> None:
        self._us.incoming.count_discarded(count)
        self._discarded += count

    def _do_unsent(self, count: int) -> None:
        self._us.outgoing.unencrypted = memoryview(bytes(count))
        self._us.outgoing.interrupt()
        self._unsent += count

    def _do_finish(self) -> None:
        self._finish()

    # -- the invariant -------------------------------------------------------------------------------------------------

    def _held(self) -> int:
        """Bytes of input inside of the engine: those that OpenSSL has not read, those before and those behind it."""
        us = self._us
        return us.incoming.queue.size + len(us.incoming.held)

    def _check_failure(self, error: BowoutError) -> None:
        check(self._first_failure is None or self._first_failure == _told(error), "an error is not the first")
        check(self._us.failure is not None, "an error was raised and not latched")

    def _look(self) -> None:
        us = self._us
        check(self._held() + self._read <= self._delivered + self._discarded, "the engine holds more than came")
        failure = us.failure
        check(failure is not None or self._first_failure is None, "a failure is forgotten")
        if failure is not None:
            self._first_failure = self._first_failure or _told(failure)
            check(_told(failure) == self._first_failure, f"{_told(failure)} replaces {self._first_failure}")
        made = self._taken + us.outgoing.queue.size
        if us.outgoing.shut or us.outbound is Outbound.FATAL_ALERT:
            check(self._shut_at is None or made <= self._shut_at, "there is output behind the last")
            self._shut_at = made
        if self._reader is not None:
            check(self._reader.close_notifies <= 1, "a second close_notify")
            check(
                bool(self._reader.close_notifies) == us._halves.close_notify_sent,
                "the engine and its peer disagree on whether close_notify has left",
            )

    def _finish(self) -> Ending:
        """Draw up the ending, and compare it with what is known from outside."""
        ending = self._us.build_ending()
        json.dumps(ending.to_dict())
        check(str(ending), "an ending without words")
        check(ending.received == self._read + len(self._us.incoming.held), "bytes were received and not counted")
        check(ending.discarded == self._discarded + len(self._us.incoming.held), "bytes were discarded and not counted")
        check(ending.sent + ending.unsent == self._written + self._unsent, "bytes were written and not counted")
        if self._reader is not None:
            check(ending.sent == self._reader.plaintext, f"{ending.sent} bytes sent, and not {self._reader.plaintext}")
        if ending.how in {How.CLEAN, How.UNANSWERED}:
            check(not ending.unsent, f"{ending.how}, and bytes of ours never left")
        if ending.how is How.CLEAN:
            check(self._peer_ended, "clean, and the peer sent no close_notify")
            check(self._reader is not None and self._reader.close_notifies, "clean, and ours did not leave")
            check(ending.received == self._said, "clean, and bytes of the peer are missing")
        return ending


def _told(error: BowoutError) -> tuple[type[BowoutError], str]:
    return type(error), str(error)


def run(contexts: Contexts, text: bytes) -> Ending:
    """Run one program: whatever comes, in whatever order, the engine keeps to the invariant of `fuzz.engine`."""
    program = parse(text)
    return Trial(contexts, program).run(program)
