"""Sending: whole, in order, with back-pressure, and refused where it cannot be."""

from __future__ import annotations

import contextlib
import re
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bowout
from bowout import EventKind, How, Inbound, PeerClosed, Reset, StreamClosed
from helpers.runners import Runner
from helpers.stand_ins import StandIn
from helpers.tasks import in_thread, jobs, settle, turn
from helpers.wire import ROLES, VERSIONS, Role, Version, Wire, deaf, flooding, peer, polite, server_context

both_versions = pytest.mark.parametrize("version", VERSIONS)


def collect(wire: Wire) -> bytes:
    """Read to the end, and answer."""
    wire.handshake()
    return collect_rest(wire)


def collect_rest(wire: Wire) -> bytes:
    """The same, after the handshake."""
    wire.read_to_end()
    with contextlib.suppress(ConnectionError):
        wire.close_notify()
    return bytes(wire.received)


@both_versions
@pytest.mark.parametrize("we", ROLES)
def test_all_that_is_sent_arrives(run: Runner, version: Version, we: Role) -> None:
    data = bytes(range(256)) * 4000

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.send(data)
        await stream.send(bytearray(b"more"))
        await stream.send(memoryview(b"and more"))
        return await stream.close()

    with peer(collect, version=version, we=we) as link:
        ending = run(main)
    assert link.result == data + b"moreand more"
    assert ending.sent == len(data) + 12


def test_sending_nothing_sends_nothing(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.send(b"")
        return await stream.close()

    with peer(collect) as link:
        ending = run(main)
    assert (link.result, ending.sent) == (b"", 0)


@pytest.mark.parametrize("bad", ["text", 5, None])
def test_what_is_no_bytes_is_refused(run: Runner, bad: object) -> None:
    async def main() -> None:
        stream = link.stream()
        with pytest.raises(TypeError):
            await stream.send(bad)  # type: ignore[arg-type]
        stream.abort()

    with peer(lambda wire: None) as link:
        run(main)


def test_concurrent_sends_do_not_interleave(run: Runner) -> None:
    parts = [bytes([letter]) * 400_000 for letter in b"abcd"]

    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            for part in parts:
                group.start(stream.send, part)
                await turn()
        await stream.close()

    with peer(collect, small=True) as link:
        run(main)
    assert link.result == b"".join(parts)


def test_a_send_waits_for_a_slow_reader(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, bytes(4_000_000))
            await settle()
            assert not sender.done
            link.go.set()
            await sender.result()
        await stream.close()

    def read_late(wire: Wire) -> bytes:
        wire.handshake()
        link.await_go()
        wire.read_to_end()
        wire.close_notify()
        return bytes(wire.received)

    with peer(read_late, small=True) as link:
        run(main)
    assert len(link.result) == 4_000_000


@both_versions
@pytest.mark.parametrize("small", [False, True], ids=["", "small buffers"])
def test_both_sides_send_a_lot_at_once(run: Runner, version: Version, small: bool) -> None:
    """Each reads while it sends: neither may stop reading because its own sending is stuck."""
    size = 20 << 20 if not small else 4 << 20

    async def main() -> None:
        client, server = link.stream(), bowout.wrap(theirs.sock, server_context(version), server_side=True)

        async def one(stream: bowout.Stream) -> bowout.Ending:
            async with jobs() as group:
                sender = group.start(stream.send, bytes(size))
                assert await stream.receive_exactly(size) == bytes(size)
                await sender.result()
            return await stream.close()

        async with jobs() as group:
            ends = [group.start(one, stream) for stream in (client, server)]
            for end in ends:
                assert (await end.result()).how is How.CLEAN

    holder: list[Wire] = []

    def lend(wire: Wire) -> None:
        """The peer is another stream: lend it the socket."""
        holder.append(wire)
        wire.link.ready.set()
        wire.hold()

    with peer(lend, version=version, small=small) as link:
        link.await_ready()
        theirs = holder[0]
        run(main)


def test_a_big_send_lets_others_run(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> int:
        stream = link.stream()
        await stream.handshake()
        # A kernel that takes everything at once.
        monkeypatch.setattr(stream._connection._transport, "send", len)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while not done:
                turns += 1
                await turn()

        done = False
        async with jobs() as group:
            group.start(count)
            await turn()
            before = turns
            await stream.send(bytes(20 << 20))
            done = True
        stream.abort()
        return turns - before

    with peer(deaf) as link:
        assert run(main) > 5


# -- refusals --------------------------------------------------------------------------------------------------------


def test_nothing_can_be_sent_after_a_half_close(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.send_eof()
        with pytest.raises(StreamClosed) as caught:
            await stream.send(b"more")
        assert caught.value.ending is not None
        await stream.send_eof()  # a second does nothing
        assert (await stream.close()).how is How.CLEAN

    with peer(polite) as link:
        run(main)


def test_after_the_peers_close_notify_we_may_go_on_sending_in_tls_1_3(run: Runner) -> None:
    def leave_first(wire: Wire) -> bytes:
        wire.handshake()
        wire.close_notify()
        wire.read_to_end()
        return bytes(wire.received)

    async def main() -> How:
        stream = link.stream()
        assert await stream.receive() == b""
        await stream.send(b"still here")
        return (await stream.close()).how

    with peer(leave_first) as link:
        assert run(main) is How.CLEAN
    assert link.result == b"still here"


def test_in_tls_1_2_the_peers_close_notify_ends_our_direction_too(run: Runner) -> None:
    def leave_first(wire: Wire) -> str:
        wire.handshake()
        wire.close_notify()
        end = wire.read_to_end()
        wire.link.ready.set()
        return end

    async def main() -> How:
        stream = link.stream()
        assert await stream.receive() == b""
        await in_thread(link.await_ready)  # it was answered at once, before any close
        with pytest.raises(PeerClosed, match=r"TLS 1\.2"):
            await stream.send(b"too late")
        return (await stream.close()).how

    with peer(leave_first, version="1.2") as link:
        assert run(main) is How.CLEAN
    assert link.result == "close_notify"


def reset_at_once(wire: Wire) -> None:
    wire.handshake()
    wire.link.await_go()
    wire.rst()
    wire.link.ready.set()


@both_versions
@pytest.mark.parametrize(
    ("verb", "arguments"),
    [("send", (b"x" * 100_000,)), ("send", (b"x",)), ("send_eof", ())],
    ids=["send much", "send little", "send_eof"],
)
def test_a_reset_is_told_to_every_sender(
    run: Runner, version: Version, verb: str, arguments: tuple[bytes, ...]
) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        link.go.set()
        await in_thread(link.await_ready)
        for _ in range(2):
            with pytest.raises(Reset) as caught:
                await getattr(stream, verb)(*arguments)
            assert caught.value.ending is not None
        return await stream.close()

    with peer(reset_at_once, version=version) as link:
        ending = run(main)
    assert (ending.how, ending.inbound) == (How.RESET, Inbound.RESET)


def test_a_blocked_send_is_told_of_a_reset(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, bytes(12_000_000))
            await settle()
            link.go.set()
            assert isinstance(await sender.ended(), Reset)
        return await stream.close()

    with peer(reset_at_once) as link:
        ending = run(main)
    assert ending.how is How.RESET
    assert ending.sent + ending.unsent == 12_000_000


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="only Linux can be told when to give up")
@pytest.mark.parametrize("reading", [False, True], ids=["send", "send and receive"])
def test_a_network_that_gives_up_is_not_taken_for_a_reset(run: Runner, *, reading: bool) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        link.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 100)  # ms that a closed window is suffered
        async with jobs() as group:
            sender = group.start(stream.send, bytes(12_000_000))
            reader = group.start(stream.receive) if reading else None
            for error in [await job.ended() for job in (sender, reader) if job]:
                assert isinstance(error, Reset)
                assert re.match("the connection was lost .*: Connection timed out$", str(error))
        return await stream.close()

    with peer(deaf) as link:
        ending = run(main)
    assert str(ending).startswith("reset: the connection was lost (Connection timed out), ")
    ends = [event.kind for event in ending.events if event.kind in {EventKind.CONNECTION_LOST, EventKind.RST}]
    assert (ending.started_by, ends) == (None, [EventKind.CONNECTION_LOST])


def test_a_blocked_send_is_told_of_a_reset_that_the_reader_met(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, bytes(12_000_000))
            reader = group.start(stream.receive)
            await settle()
            link.go.set()
            assert isinstance(await reader.ended(), Reset)
            assert isinstance(await sender.ended(), Reset)
        ending = await stream.close()
        assert ending.sent + ending.unsent == 12_000_000

    with peer(reset_at_once) as link:
        run(main)


def test_a_send_is_not_held_up_by_a_peer_that_floods(run: Runner) -> None:
    """It reads nothing, so our send blocks; the close that follows takes what it sends, up to the cap."""

    async def main() -> bowout.Ending:
        stream = link.stream(linger_bytes=1 << 20)
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, bytes(12_000_000))
            await settle()
            ending = await stream.close(20)
            assert isinstance(await sender.ended(), StreamClosed)
        assert ending.sent + ending.unsent == 12_000_000
        return ending

    with peer(flooding) as link:
        ending = run(main)
    assert (ending.cap_hit, ending.deadline_hit) == (True, False)


@pytest.mark.backends("asyncio", "trio")
def test_any_order_of_sends_and_receives_keeps_every_byte(run: Runner) -> None:
    @given(st.lists(st.tuples(st.sampled_from("sr"), st.integers(1, 5000)), max_size=12))
    def check(steps: list[tuple[str, int]]) -> None:
        to_send = sum(size for step, size in steps if step == "s")
        to_receive = sum(size for step, size in steps if step == "r")

        def answer(wire: Wire) -> bytes:
            wire.handshake()
            if to_receive:
                wire.send(bytes(to_receive))
            return collect_rest(wire)

        async def main() -> bowout.Ending:
            stream = link.stream()
            await stream.handshake()
            for step, size in steps:
                if step == "s":
                    await stream.send(b"s" * size)
                else:
                    assert await stream.receive_exactly(size) == bytes(size)
            return await stream.close()

        with peer(answer) as link:
            ending = run(main)
        assert link.result == b"s" * to_send
        assert (ending.how, ending.received, ending.discarded) == (How.CLEAN, to_receive, 0)

    check()


@pytest.mark.python_lane
def test_reading_waits_while_too_much_waits_for_the_kernel(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a flood of key updates, each of which wants an answer, would fill the memory."""
    monkeypatch.setattr("bowout._connection.connection.OUTPUT_CAP", 0)

    async def main() -> bytes:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, bytes(4_000_000))
            await in_thread(link.await_ready)
            await in_thread(link.await_full)
            for _ in range(5):  # A kernel that is not writable takes a little more all the same.
                stream._connection._transport.wake()
                await settle()
            reader = group.start(stream.receive)
            await settle()
            assert not reader.done
            link.go.set()
            await sender.result()
            data = await reader.result()
        await stream.close()
        return data

    def talk_then_read(wire: Wire) -> None:
        wire.handshake()
        wire.send(b"news")
        link.ready.set()
        link.await_go()
        wire.read_to_end()

    with peer(talk_then_read, small=True) as link:
        assert run(main) == b"news"


def held_up(stream: bowout.Stream) -> None:
    """The next write meets OpenSSL with one half of a handshake message, and can go on when more has come."""
    engine = stream._connection.engine
    write, held_before = engine.outgoing.write, stream._connection.channel.received

    def held(data: memoryview) -> int:
        return 0 if stream._connection.channel.received == held_before else write(data)

    engine.outgoing = StandIn(engine.outgoing, write=held)  # type: ignore[assignment]


def give_then_collect(wire: Wire) -> bytes:
    wire.handshake()
    wire.link.await_go()
    wire.send(b"the other half")
    return collect_rest(wire)


def test_a_send_within_a_handshake_message_waits_for_the_rest_of_it(run: Runner) -> None:
    async def main() -> bytes:
        stream = link.stream()
        await stream.handshake()
        held_up(stream)
        async with jobs() as group:
            sender = group.start(stream.send, b"data")
            await settle()
            link.go.set()
            await sender.result()
        received = await stream.receive()
        await stream.close()
        return received

    with peer(give_then_collect, version="1.2") as link:
        assert run(main) == b"the other half"
    assert link.result == b"data"


def test_what_a_pending_receive_takes_lets_such_a_send_go_on(run: Runner) -> None:
    async def main() -> bytes:
        stream = link.stream()
        await stream.handshake()
        held_up(stream)
        async with jobs() as group:
            reader = group.start(stream.receive)
            sender = group.start(stream.send, b"data")
            await settle()
            link.go.set()
            await sender.result()
            received: bytes = await reader.result()
        await stream.close()
        return received

    with peer(give_then_collect, version="1.2") as link:
        assert run(main) == b"the other half"
    assert link.result == b"data"


def test_such_a_send_goes_on_though_it_is_woken_before_who_receives_the_rest(run: Runner) -> None:
    """Received is not decrypted yet, and nobody would wake it a second time."""

    async def main() -> bytes:
        stream = link.stream()
        await stream.handshake()
        engine = stream._connection.engine
        write = engine.outgoing.write
        engine.outgoing = StandIn(  # type: ignore[assignment]
            engine.outgoing, write=lambda data: write(data) if engine.timeline.received else 0
        )
        async with jobs() as group:
            sender = group.start(stream.send, b"data")
            await settle()
            reader = group.start(stream.receive)
            await settle()
            link.go.set()
            await sender.result()
            received: bytes = await reader.result()
        await stream.close()
        return received

    with peer(give_then_collect, version="1.2") as link:
        assert run(main) == b"the other half"
    assert link.result == b"data"


@pytest.mark.python_lane
def test_such_a_send_fails_when_the_peer_leaves_instead(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        engine = stream._connection.engine
        engine.outgoing = StandIn(engine.outgoing, write=lambda data: 0)  # type: ignore[assignment]
        with pytest.raises(bowout.Truncated):
            await stream.send(b"data")
        stream.abort()

    def leave(wire: Wire) -> None:
        wire.handshake()
        wire.fin()

    with peer(leave, version="1.2") as link:
        run(main)
