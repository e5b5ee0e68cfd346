"""The lane in C: how it is chosen, what it leaves to Python, and that an ending is the same on both lanes.

`make lane` runs the tests of streams and servers on it, too.
"""

from __future__ import annotations

import gc
import os
import socket
import ssl
import subprocess
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import bowout
from bowout import _lane
from bowout._lane import VARIABLE
from helpers.kernel import wait_full
from helpers.lanes import told
from helpers.runners import Runner
from helpers.tasks import in_thread, jobs, settle
from helpers.wire import NAME, ROLES, VERSIONS, Role, Version, Wire, client_context, peer

native: Any = pytest.importorskip("bowout._lane._native", reason="it was built without a C compiler")
both_versions = pytest.mark.parametrize("version", VERSIONS)

Use = Callable[[bowout.Stream], Any]


@pytest.fixture
def lane_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_lane, "native", native)


# -- the choice


def chosen(wanted: str | None, more: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if wanted is not None:
        environment[VARIABLE] = wanted
    program = f"{more}\nimport bowout.lane; print(bowout.lane.name, bowout.lane.why_python, sep='|')"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (None, "python|BOWOUT_LANE is not c\n"),
        ("", "python|BOWOUT_LANE is not c\n"),
        ("python", "python|BOWOUT_LANE is not c\n"),
        ("c", "c|\n"),
        (" C ", "c|\n"),
    ],
)
def test_the_environment_chooses(wanted: str | None, said: str) -> None:
    assert chosen(wanted).stdout == said


def test_another_lane_is_refused() -> None:
    done = chosen("rust")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ImportError: BOWOUT_LANE is 'rust': it must be c or python, or unset" in done.stderr


def test_where_c_was_not_built_that_is_told() -> None:
    missing = "import sys; sys.modules['bowout._lane._native'] = None"
    assert chosen(None, missing).stdout.startswith("python|")
    done = chosen("c", missing)
    assert done.returncode == 1
    assert "ImportError: BOWOUT_LANE=c, but there is no lane in C: it is built where bowout is installed" in done.stderr


def test_an_interpreter_without_a_gil_is_refused() -> None:
    done = chosen("c", "import sys; sys._is_gil_enabled = lambda: False")
    assert done.returncode == 1
    assert "this interpreter has no GIL, on which the lane in C depends" in done.stderr


# -- which SSL it is


def ssl_object(incoming: ssl.MemoryBIO) -> ssl.SSLObject:
    return client_context("1.3").wrap_bio(incoming, ssl.MemoryBIO(), server_hostname=NAME)


def test_a_call_that_makes_two_connections_has_no_lane() -> None:
    """Which of them it returned is not known."""
    incoming = ssl.MemoryBIO()
    tls, lane = native.open(lambda: (ssl_object(incoming), ssl_object(incoming))[0], incoming)
    assert (type(tls), lane) == (ssl.SSLObject, None)


def test_a_call_that_returns_another_connection_has_no_lane() -> None:
    incoming = ssl.MemoryBIO()
    _, lane = native.open(lambda: ssl_object(ssl.MemoryBIO()), incoming)
    assert lane is None
    assert incoming.pending == 0


def test_what_the_call_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        native.open(lambda: 1 // 0, ssl.MemoryBIO())


def test_a_lane_does_not_outlive_its_connection() -> None:
    incoming = ssl.MemoryBIO()
    tls, lane = native.open(lambda: ssl_object(incoming), incoming)
    lost = weakref.ref(tls)
    with pytest.raises(RuntimeError, match="the lane was left"):
        lane.read(1)
    with pytest.raises(RuntimeError, match="the lane was left"):
        lane.leave()
    del tls, lane
    gc.collect()
    assert lost() is None


def test_an_ssl_object_outlives_its_lane() -> None:
    """Its BIOs are its own again."""
    incoming = ssl.MemoryBIO()
    tls, lane = native.open(lambda: ssl_object(incoming), incoming)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        memory = memoryview(bytearray(1 << 18))
        lane.enter(ours.fileno(), memory, memory, True)
        with pytest.raises(RuntimeError, match="entered already"):
            lane.enter(ours.fileno(), memory, memory, True)
        del lane
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()


def test_memory_that_is_too_small_is_refused() -> None:
    incoming = ssl.MemoryBIO()
    _, lane = native.open(lambda: ssl_object(incoming), incoming)
    small = memoryview(bytearray(1000))
    with pytest.raises(ValueError, match="too small"):
        lane.enter(0, small, small, True)


# -- the same ending on both


async def echo(stream: bowout.Stream) -> None:
    for size in (1, 100, 20_000, 3, 50_000, 7, 64, 64, 64):
        await stream.send(bytes(size))
        assert await stream.receive_exactly(size) == bytes(size)


async def download(stream: bowout.Stream) -> None:
    await stream.send(b"?")
    total, buffer = 0, bytearray(70_000)
    while total < 300_000:
        total += await stream.receive_into(buffer)
        total += len(await stream.receive(1000))


async def lines(stream: bowout.Stream) -> None:
    await stream.send(b"one\ntwo\nthree")
    assert [await stream.receive_until(b"\n") for _ in range(2)] == [b"one\n", b"two\n"]


async def to_the_end(stream: bowout.Stream) -> None:
    await stream.send(b"last words")
    await stream.send_eof()
    while await stream.receive():
        pass


def answers(wire: Wire) -> str:
    """Send back what comes, record by record; for one question mark, much."""
    wire.handshake()
    while wire.read():
        data = bytes(wire.received)
        wire.received.clear()
        wire.send(bytes(400_000) if data == b"?" else data)
    wire.close_notify()
    wire.hold()  # A FIN might come before the end of the close, or after it.
    return "read"


@both_versions
@pytest.mark.parametrize("we", ROLES)
@pytest.mark.parametrize("use", [echo, lines, to_the_end], ids=lambda use: use.__name__)
def test_an_ending_is_the_same_on_both_lanes(
    run: Runner, monkeypatch: pytest.MonkeyPatch, version: Version, we: Role, use: Use
) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        await use(stream)
        return await stream.close()

    endings = []
    for lane in (None, native):
        monkeypatch.setattr(_lane, "native", lane)
        with peer(answers, version=version, we=we) as link:
            endings.append(told(run(main)))
    assert endings[0] == endings[1]


@both_versions
def test_a_download_is_whole(run: Runner, lane_in_c: None, version: Version) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        await download(stream)
        return await stream.close()

    with peer(answers, version=version) as link:
        assert run(main).how is bowout.How.CLEAN


def test_what_a_cancelled_wait_gets_is_not_lost(run: Runner, lane_in_c: None) -> None:
    async def main() -> bytes:
        stream = link.stream()
        await stream.handshake()
        await stream.send(b"a")
        assert await stream.receive() == b"a"
        async with jobs() as group:
            reader = group.start(stream.receive)
            await settle()
            reader.cancel()
            await settle()
        await stream.send(b"b")
        data: bytes = await stream.receive()
        await stream.close()
        return data

    with peer(answers) as link:
        assert run(main) == b"b"


def test_a_wait_that_is_cancelled_as_its_lane_is_left_leaves_nothing(run: Runner, lane_in_c: None) -> None:
    async def main() -> bytes:
        stream = link.stream()
        await stream.handshake()
        await stream.send(b"a")
        assert await stream.receive() == b"a"
        async with jobs() as group:
            reader = group.start(stream.receive)
            await settle()
            reader.cancel()
            stream.observe(None)  # It needs the engine, and the reader has not heard of its cancellation.
            await settle()
        await stream.send(b"b")
        data: bytes = await stream.receive()
        await stream.send(b"c")
        data += await stream.receive()
        await stream.close()
        return data

    with peer(answers) as link:
        assert run(main) == b"bc"


def test_a_full_kernel_is_waited_for(run: Runner, lane_in_c: None) -> None:
    """What it takes in part is told by the byte, as ever."""
    much = bytes(range(256)) * 4000

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, much)
            await in_thread(lambda: wait_full(link.sock))
            assert not sender.done
            link.go.set()
            await sender.result()
        return await stream.close()

    def reads_late(wire: Wire) -> bytes:
        wire.handshake()
        wire.link.await_go()
        wire.read_to_end()
        wire.close_notify()
        wire.fin()
        return bytes(wire.received)

    with peer(reads_late, small=True) as link:
        ending = run(main)
    assert link.result == much
    assert (ending.sent, ending.unsent, ending.how) == (len(much), 0, bowout.How.CLEAN)


def test_an_observer_gets_every_event(run: Runner, lane_in_c: None) -> None:
    """So the lane is left when one comes."""
    seen: list[bowout.Event] = []

    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        await stream.send(b"1")
        assert await stream.receive() == b"1"
        stream.observe(seen.append)
        await stream.send(b"22")
        assert await stream.receive_exactly(2) == b"22"
        await stream.close()

    with peer(answers) as link:
        run(main)
    data = [(event.sent, event.received) for event in seen if event.kind is bowout.EventKind.DATA]
    assert data == [(2, 0), (0, 2)]


def test_connections_leave_nothing_behind(run: Runner, lane_in_c: None) -> None:
    """The collector has nothing to do: ended connections are freed at once."""

    async def main() -> Any:
        stream = link.stream()
        await stream.handshake()
        await echo(stream)
        lost = weakref.ref(stream._connection)
        await stream.close()
        return lost

    gc.disable()
    try:
        with peer(answers) as link:
            assert run(main)() is None
    finally:
        gc.enable()
