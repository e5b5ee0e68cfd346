"""The fuzz target of the lane in C: the programs and the invariant of `fuzz.engine`, with the bytes through a socket.

Plain data pass through the lane as long as it takes them; before any other operation it is left, as a stream does it.
And whatever comes, the connection ends as without a lane: the two endings tell the same.

    python -m fuzz.engine --lane --time 60        # fuzz for a minute, from the corpus of seeds
    python -m fuzz.engine --lane FILE…            # run these programs, once each, and say how they end
"""

from __future__ import annotations

import array
import difflib
import fcntl
import socket
import termios
from typing import TYPE_CHECKING, Any, Final

from bowout._backends.sockets import SocketCalls
from bowout._connection.channel import MIN_READ, Channel
from bowout.ending import How, Outbound
from fuzz.program import parse
from fuzz.trial import BrokenInvariant, Trial, check, pattern
from helpers.endings import told

if TYPE_CHECKING:
    from bowout.ending import Ending
    from fuzz.hands import Contexts
    from fuzz.program import FuzzProgram, Operation

#: Operations that a stream does without leaving its lane.
_IN_LANE: Final = frozenset({"deliver", "pull", "read", "write", "data", "record", "alert", "keyupdate", "flip", "cut"})
#: Bytes that the kernel is given at most: a socket pair has room for them.
_MOST_IN_KERNEL: Final = 100_000
_OTHERS_FIRST: Final = -2
_ATTEMPTS: Final = 5
#: How often data passed depends on how they were cut.
_COUNT: Final = frozenset({"count"})


class SocketPairTransport(SocketCalls):
    """One end of a socket pair, for a lane that nobody waits for."""

    @property
    def carries_lane(self) -> bool:
        return True

    def begin_lane(self, lane: Any) -> bool:
        return False

    def end_lane(self, *, watched: bool) -> None:
        pass

    def wake(self) -> None:
        pass


class SocketTrial(Trial):
    """A trial over a socket pair, with the lane in C or without.

    Args:
        contexts: those of the handshake.
        program: what will be run.
        in_c: whether application data go through the lane in C as long as it takes them.
        narrow: whether the kernel takes little at once.

    Attributes:
        through_lane: bytes of application data that went through the lane.
    """

    def __init__(self, contexts: Contexts, program: FuzzProgram, *, in_c: bool, narrow: bool = False) -> None:
        super().__init__(contexts, program)
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        if narrow:
            self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self._channel = Channel(self._us, SocketPairTransport(self._ours, "peer"), dry=False)  # type: ignore[arg-type]
        self._channel.has_lane &= in_c
        self.through_lane = 0

    def run(self, program: FuzzProgram) -> Ending:
        """Carry out all operations, as `Trial.run` does."""
        with self._ours, self._theirs:
            return super().run(program)

    def _carry_out(self, operation: Operation) -> None:
        if operation.name not in _IN_LANE:
            self._leave()
        super()._carry_out(operation)

    def _finish(self) -> Ending:
        self._leave()
        return super()._finish()

    def _enter(self) -> Any:
        """Return the lane, entered, or None if it cannot be now."""
        over = self._input_over or self._released or self._lost or self._fin_sent
        if self._channel.lane is None and self._channel.has_lane and self._reader is not None and not over:
            self._channel.enter_lane()
        return self._channel.lane

    def _leave(self) -> None:
        """Leave the lane, and give the engine what the kernel still has."""
        self._channel.leave_lane()
        while count := min(MIN_READ, unread(self._ours)):
            self._channel.receive(count)

    # -- receiving -----------------------------------------------------------------------------------------------------

    def _do_deliver(self, count: int) -> None:
        lane = self._enter()
        if lane is None or unread(self._ours) > _MOST_IN_KERNEL:
            self._leave()
            super()._do_deliver(min(count or _MOST_IN_KERNEL, _MOST_IN_KERNEL))
        elif data := self._arriving(min(count or _MOST_IN_KERNEL, _MOST_IN_KERNEL)):
            self._theirs.sendall(data)
            lane.arrived()

    def _do_pull(self, count: int, size: int) -> None:
        self._do_deliver(count)
        self._do_read(size)

    def _do_read(self, count: int) -> None:
        if self._us.handshake_done:
            self._read_once(count, self._read_through_lane)

    def _read_through_lane(self, view: memoryview) -> int | None:
        lane, total = self._enter(), 0
        while lane is not None and total < len(view):
            count: int = lane.read_into(view[total:])
            if count == _OTHERS_FIRST:
                lane.rested()
                continue
            if count < 0:
                self._leave()
                lane, count = None, _OTHERS_FIRST - count
            self.through_lane += max(0, count)
            total += max(0, count)
            if count == 0:
                return total or None
        if total:
            if lane is None and total < len(view):
                total += self._us.incoming.read_available(view[total:])
            return total
        return self._us.incoming.read_into(view)

    # -- sending -------------------------------------------------------------------------------------------------------

    def _do_write(self, count: int) -> None:
        left = max(1, min(count, _MOST_IN_KERNEL))
        while left > 0 and not self._us.outgoing.size:
            before = self._written
            if not self._write_through_lane(left):
                super()._do_write(left)
            left -= self._written - before
            self._take(0)
            if self._written == before:
                return

    def _write_through_lane(self, count: int) -> bool:
        lane = self._enter()
        if lane is None or self._us.outbound is not Outbound.OPEN:
            return False
        lane.rested()
        sent = lane.send(pattern(self._written, count))
        check(sent is not True, "a lane that has rested wants others to run first")
        if sent is False:
            self._leave()
            return False
        done, chunks, taken, error, noted = sent or (count, [], 0, 0, False)
        check(not error, f"the kernel says {error}")
        if noted:
            self._leave()
        self._us.outgoing.take_over(memoryview(b""), done, chunks, taken)
        self._written += done
        self.through_lane += done
        self._take_from_kernel()
        return True

    def _take(self, count: int) -> None:
        if self._fin_sent or self._lost or self._released:
            super()._take(count)
            return
        while not self._channel.flush():
            self._take_from_kernel()
        self._take_from_kernel()

    def _take_from_kernel(self) -> None:
        while size := unread(self._theirs):
            data = self._theirs.recv(size)
            self._taken += len(data)
            if self._reader is not None:
                self._reader.read(data)


def unread(sock: socket.socket) -> int:
    """Count the bytes that the kernel holds for a reader of `sock`."""
    count = array.array("i", [0])
    fcntl.ioctl(sock, termios.FIONREAD, count)
    return count[0]


def run(contexts: Contexts, text: bytes) -> Ending:
    """Run one program over a kernel that takes little at once; then without the lane and with it, and compare.

    Some programs end in more than one way, since a cut makes random bytes the header of a record: only endings that
    never are alike are a fault.
    """
    program = parse(text)
    SocketTrial(contexts, program, in_c=True, narrow=True).run(program)
    difference: list[str] = []
    for _ in range(_ATTEMPTS):
        ending, other = (SocketTrial(contexts, program, in_c=in_c).run(program) for in_c in (False, True))
        if ending.how is How.FAILED_HANDSHAKE:
            return other  # Nothing went through the lane, and the words have random bytes.
        python, c = (told(each, but_for=_COUNT).splitlines() for each in (ending, other))
        if python == c:
            return other
        difference = list(difflib.unified_diff(python, c, "python", "c", n=1, lineterm=""))
    raise BrokenInvariant("\n".join(["the ending on the lane is another", *difference]))
