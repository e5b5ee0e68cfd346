"""What a transport owes to a stream, on every loop, and on one that cannot watch descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar, TypeVarTuple

import pytest
import trio

from bowout import _backends
from bowout._backends import Transport
from bowout._backends.asyncio_completion import CompletionTransport
from bowout._backends.asyncio_readiness import ReadinessTransport
from bowout._backends.sockets import peer_name
from bowout._names import host_port
from helpers import runners
from helpers.kernel import wait_full
from helpers.runners import BACKENDS, Runner
from helpers.tasks import cancelled, in_thread, jobs, settle, turn
from helpers.wire import PATIENCE, tcp_pair

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class WithoutReaders(asyncio.SelectorEventLoop):
    """A loop like the proactor of Windows: its own socket calls work, watching a descriptor does not.

    The base class itself removes what its socket calls added, by number (bowout would give a socket), and a turn late:
    the proactor has no selector that could mind that the descriptor is closed by then.
    """

    def add_reader(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        raise NotImplementedError

    def remove_reader(self, fd: Any) -> bool:
        if isinstance(fd, int):
            with contextlib.suppress(OSError):
                return super().remove_reader(fd)
            return False
        raise NotImplementedError

    def add_writer(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        raise NotImplementedError

    def remove_writer(self, fd: Any) -> bool:
        if isinstance(fd, int):
            with contextlib.suppress(OSError):
                return super().remove_writer(fd)
            return False
        raise NotImplementedError


class RunnerWithoutReaders(Runner):
    """Runs on that loop."""

    def __init__(self) -> None:
        super().__init__("asyncio")

    def __call__(self, async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        return runners._run_asyncio(async_fn, args, self.deadline, WithoutReaders)


@pytest.fixture(params=[*BACKENDS, "asyncio without readers"])
def run(request: pytest.FixtureRequest) -> Runner:
    return RunnerWithoutReaders() if request.param not in BACKENDS else Runner(request.param)


class Ends:
    """Our transport, and the other end's plain socket."""

    def __init__(self, *, small: bool = False) -> None:
        self.ours, self.theirs = tcp_pair(small=small)
        self.theirs.settimeout(PATIENCE)
        self.transport: Transport = _backends.current().transport(self.ours, "")
        self.buffer = memoryview(bytearray(1 << 16))

    async def receive(self) -> bytes:
        """Wait for something."""
        while (count := self.transport.receive_into(self.buffer)) is None:
            await self.transport.wait(read=True, write=False)
        return bytes(self.buffer[:count])

    def fill(self) -> int:
        """Send until neither kernel takes any more."""
        total = 0

        def send_more() -> None:
            nonlocal total
            while (count := self.transport.send(memoryview(bytes(1 << 14)))) is not None:
                total += count

        wait_full(self.ours, send_more)
        return total

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.transport.close()
        self.theirs.close()


def test_a_wait_ends_when_there_is_something_to_read(run: Runner) -> None:
    async def main() -> bytes:
        async with Ends() as ends, jobs() as group:
            reader = group.start(ends.receive)
            await settle()
            assert not reader.done
            ends.theirs.sendall(b"hello")
            return await reader.result()

    assert run(main) == b"hello"


def test_the_end_of_input_is_read_as_zero(run: Runner) -> None:
    async def main() -> bytes:
        async with Ends() as ends, jobs() as group:
            reader = group.start(ends.receive)
            await settle()
            ends.theirs.shutdown(socket.SHUT_WR)
            return await reader.result()

    assert run(main) == b""


def test_a_reset_is_an_oserror(run: Runner) -> None:
    async def main() -> BaseException | None:
        async with Ends() as ends, jobs() as group:
            reader = group.start(ends.receive)
            await settle()
            ends.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            ends.theirs.close()
            return await reader.ended()

    assert isinstance(run(main), ConnectionResetError)


def test_a_wait_ends_when_there_is_room_to_send(run: Runner) -> None:
    async def main() -> int:
        async with Ends(small=True) as ends:
            total = ends.fill()

            async def send_more() -> int:
                chunk = memoryview(bytes(1 << 14))
                while (count := ends.transport.send(chunk)) is None:
                    await ends.transport.wait(read=False, write=True)
                return count

            async with jobs() as group:
                sender = group.start(send_more)
                await settle()
                assert not sender.done
                received = 0
                while received < total:
                    received += len(await in_thread(lambda: ends.theirs.recv(1 << 16)))
                return await sender.result()

    assert run(main) > 0


@pytest.mark.parametrize("directions", [(True, False), (False, True), (True, True), (False, False)])
def test_wake_ends_every_wait(run: Runner, directions: tuple[bool, bool]) -> None:
    read, write = directions

    async def main() -> None:
        async with Ends(small=True) as ends, jobs() as group:
            ends.fill()
            waits = [group.start(lambda: ends.transport.wait(read=read, write=write)) for _ in range(3)]
            await settle()
            assert not any(wait.done for wait in waits)
            ends.transport.wake()
            for wait in waits:
                await wait.result()

    run(main)


@pytest.mark.parametrize("directions", [(True, False), (False, True), (True, True), (False, False)])
def test_closing_ends_every_wait(run: Runner, directions: tuple[bool, bool]) -> None:
    read, write = directions

    async def main() -> None:
        async with Ends(small=True) as ends, jobs() as group:
            ends.fill()
            waits = [group.start(lambda: ends.transport.wait(read=read, write=write)) for _ in range(2)]
            await settle()
            ends.transport.close()
            for wait in waits:
                await wait.result()

    run(main)


def test_waiting_for_either_ends_at_the_first(run: Runner) -> None:
    async def main() -> bytes:
        async with Ends(small=True) as ends, jobs() as group:
            ends.fill()
            wait = group.start(lambda: ends.transport.wait(read=True, write=True))
            await settle()
            ends.theirs.sendall(b"news")
            await wait.result()
            return await ends.receive()

    assert run(main) == b"news"


def test_one_waits_for_reading_while_another_waits_for_writing(run: Runner) -> None:
    async def main() -> None:
        async with Ends(small=True) as ends, jobs() as group:
            ends.fill()
            writer = group.start(lambda: ends.transport.wait(read=False, write=True))
            reader = group.start(ends.receive)
            both = group.start(lambda: ends.transport.wait(read=True, write=True))
            await settle()
            ends.theirs.sendall(b"x")
            assert await reader.result() == b"x"
            await both.result()
            assert not writer.done
            ends.transport.wake()
            await writer.result()

    run(main)


def test_a_cancelled_wait_loses_nothing_and_leaves_the_others(run: Runner) -> None:
    async def main() -> bytes:
        async with Ends() as ends, jobs() as group:
            first = group.start(lambda: ends.transport.wait(read=True, write=False))
            await settle()
            second = group.start(ends.receive)
            await settle()
            first.cancel()
            await first.ended()
            await settle()
            assert not second.done
            ends.theirs.sendall(b"still here")
            return await second.result()

    assert run(main) == b"still here"


def test_a_cancelled_wait_for_either_can_be_repeated(run: Runner) -> None:
    async def main() -> bytes:
        async with Ends(small=True) as ends, jobs() as group:
            ends.fill()
            wait = group.start(lambda: ends.transport.wait(read=True, write=True))
            await settle()
            wait.cancel()
            assert isinstance(await wait.ended(), cancelled())  # and no group of them
            ends.theirs.sendall(b"again")
            await ends.transport.wait(read=True, write=True)
            return await ends.receive()

    assert run(main) == b"again"


class Mover:
    """Takes what arrives, or gives what there is, whoever calls it."""

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        self.taken = b""
        self.left = 1 << 20

    def take(self) -> bool:
        count = self.ends.transport.receive_into(self.ends.buffer)
        self.taken += self.ends.buffer[: count or 0]
        return count is not None

    def give(self) -> bool:
        while self.left:
            count = self.ends.transport.send(memoryview(bytes(min(self.left, 1 << 14))))
            if count is None:
                return False
            self.left -= count
        return True

    async def give_all(self) -> None:
        while not self.give():
            await self.ends.transport.wait_writable(self.give)


def test_what_arrives_is_taken(run: Runner) -> None:
    async def main() -> bytes:
        async with Ends() as ends, jobs() as group:
            mover = Mover(ends)
            for word in (b"one ", b"two"):
                wait = group.start(lambda: ends.transport.wait_readable(mover.take))
                await settle()
                assert not wait.done
                ends.theirs.sendall(word)
                await wait.result()
            return mover.taken

    assert run(main) == b"one two"


def test_what_there_is_room_for_is_given(run: Runner) -> None:
    async def main() -> tuple[int, int]:
        async with Ends(small=True) as ends, jobs() as group:
            mover = Mover(ends)
            giver = group.start(mover.give_all)
            await settle()
            assert not giver.done
            received = 0
            while received < 1 << 20:
                received += len(await in_thread(lambda: ends.theirs.recv(1 << 16)))
            await giver.result()
            return mover.left, received

    assert run(main) == (0, 1 << 20)


def test_wake_ends_the_waits_to_move(run: Runner) -> None:
    async def main() -> bytes:
        async with Ends(small=True) as ends, jobs() as group:
            mover = Mover(ends)
            taker = group.start(lambda: ends.transport.wait_readable(mover.take))
            giver = group.start(mover.give_all)
            await settle()
            mover.left = 0
            ends.transport.wake()
            await taker.result()
            await giver.result()
            ends.theirs.sendall(b"not for the one who was woken")
            await settle()
            return mover.taken

    assert run(main) == b""


def test_a_cancelled_wait_readable_takes_nothing(run: Runner) -> None:
    async def main() -> tuple[bytes, bytes]:
        async with Ends() as ends, jobs() as group:
            mover = Mover(ends)
            taker = group.start(lambda: ends.transport.wait_readable(mover.take))
            await settle()
            taker.cancel()
            await taker.ended()
            ends.theirs.sendall(b"for the next")
            await settle()
            return mover.taken, await ends.receive()

    assert run(main) == (b"", b"for the next")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_nobody_waits_for_does_not_keep_the_loop_busy(loop: Any) -> None:
    async def main() -> tuple[bool, bool, bytes]:
        async with Ends() as ends, jobs() as group:
            assert isinstance(ends.transport, ReadinessTransport)
            mover = Mover(ends)
            taker = group.start(lambda: ends.transport.wait_readable(mover.take))
            await settle()
            ends.theirs.sendall(b"x")
            await taker.result()
            between = ends.transport._reading.watched
            ends.theirs.sendall(b"y")
            await settle()
            return between, ends.transport._reading.watched, await ends.receive()

    assert Runner(loop)(main) == (True, False, b"y")


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_reset_that_follows_data_is_met_by_the_next_wait(loop: Any) -> None:
    async def main() -> tuple[bytes, BaseException | None]:
        async with Ends() as ends, jobs() as group:
            mover = Mover(ends)
            taker = group.start(lambda: ends.transport.wait_readable(mover.take))
            await settle()
            ends.theirs.sendall(b"last")
            ends.theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            ends.theirs.close()
            await taker.result()
            return mover.taken, await group.start(ends.receive).ended()

    taken, error = Runner(loop)(main)
    assert (taken, type(error)) == (b"last", ConnectionResetError)


def test_closing_twice_is_no_error(run: Runner) -> None:
    async def main() -> None:
        async with Ends() as ends:
            ends.transport.close()
            ends.transport.close()
            ends.transport.wake()
            ends.transport.send_fin()

    run(main)


def test_a_detached_socket_is_open_and_the_callers(run: Runner) -> None:
    async def main() -> bytes:
        async with Ends() as ends:
            with (await ends.transport.detach())[0] as sock:
                ends.transport.close()
                sock.sendall(b"mine")
                return await in_thread(lambda: ends.theirs.recv(100))

    assert run(main) == b"mine"


def test_a_detached_socket_leaves_nobody_waiting(run: Runner) -> None:
    async def main() -> bytes:
        async with Ends() as ends, jobs() as group:
            wait = group.start(lambda: ends.transport.wait(read=True, write=False))
            await settle()
            with (await ends.transport.detach())[0] as sock:
                await wait.ended()
                ends.theirs.sendall(b"to the new owner")
                sock.settimeout(PATIENCE)
                return await in_thread(lambda: sock.recv(100))

    assert run(main) == b"to the new owner"


def test_all_has_arrived_when_the_peers_kernel_says_so(run: Runner) -> None:
    async def main() -> tuple[int | None, bool]:
        async with Ends(small=True) as ends:
            first = ends.transport.unacknowledged()
            ends.fill()
            return first, (ends.transport.unacknowledged() or 0) > 0

    assert run(main) == (0, True)


def test_whether_all_has_arrived_is_unknown_of_a_closed_socket(run: Runner) -> None:
    async def main() -> int | None:
        async with Ends() as ends:
            ends.transport.close()
            return ends.transport.unacknowledged()

    assert run(main) is None


def test_the_loop_decides_the_transport() -> None:
    async def kind() -> type:
        async with Ends() as ends:
            await turn()
            return type(ends.transport)

    assert Runner("asyncio")(kind) is ReadinessTransport
    assert RunnerWithoutReaders()(kind) is CompletionTransport


def test_without_a_loop_there_is_no_backend() -> None:
    with pytest.raises(RuntimeError, match="running event loop"):
        _backends.current()


@pytest.mark.parametrize(
    ("host", "port", "name"),
    [
        ("example.org", 443, "example.org:443"),
        ("127.0.0.1", 1, "127.0.0.1:1"),
        ("::1", 2, "[::1]:2"),
        ("fe80::1%lo", 3, "[fe80::1%lo]:3"),
    ],
)
def test_a_peers_name_has_brackets_where_it_needs_them(host: str, port: int, name: str) -> None:
    assert host_port(host, port) == name


def test_a_peer_without_a_name_has_none() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_name(ours) == ""
    assert peer_name(ours) == ""  # closed


@pytest.mark.parametrize("directions", [(True, False), (True, True)])
def test_a_socket_that_somebody_else_waits_for_is_an_error_on_trio(directions: tuple[bool, bool]) -> None:
    read, write = directions

    async def main() -> BaseException | None:
        async with Ends(small=True) as ends, jobs() as group:
            ends.fill()
            intruder = group.start(trio.lowlevel.wait_readable, ends.ours)
            await settle()
            wait = group.start(lambda: ends.transport.wait(read=read, write=write))
            error = await wait.ended()
            intruder.cancel()
            return error

    error = Runner("trio")(main)
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, trio.BusyResourceError)
