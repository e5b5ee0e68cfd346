"""Closing: what arrives, in both directions, and how both sides end."""

from __future__ import annotations

import threading

import pytest

import bowout
from bowout import EventKind, How, Inbound, Outbound, Side, StreamClosed
from helpers.runners import Runner
from helpers.tasks import in_thread, jobs, settle, this_task, turn
from helpers.wire import PATIENCE, ROLES, VERSIONS, Role, Version, Wire, deaf, peer, polite

both_versions = pytest.mark.parametrize("version", VERSIONS)
both_roles = pytest.mark.parametrize("we", ROLES)

SOON = 0.3
"""A deadline that is meant to be reached, in seconds."""


# -- the peer answers ------------------------------------------------------------------------------------------------


@both_versions
@both_roles
def test_a_close_exchanges_close_notify(run: Runner, version: Version, we: Role) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        return await stream.close()

    with peer(polite, version=version, we=we) as link:
        ending = run(main)
    assert link.result == "close_notify"
    assert (ending.how, ending.started_by) == (How.CLEAN, Side.WE)
    assert (ending.outbound, ending.inbound) == (Outbound.FIN_SENT, Inbound.CLOSE_NOTIFY)


@both_versions
@both_roles
def test_a_close_after_the_peers_close_notify_is_clean_and_the_peers(run: Runner, version: Version, we: Role) -> None:
    def leave_first(wire: Wire) -> str:
        wire.handshake()
        wire.close_notify()
        return wire.read_to_end()

    async def main() -> bowout.Ending:
        stream = link.stream()
        assert await stream.receive() == b""
        return await stream.close()

    with peer(leave_first, version=version, we=we) as link:
        ending = run(main)
    assert link.result == "close_notify"
    assert (ending.how, ending.started_by) == (How.CLEAN, Side.PEER)


@both_versions
def test_close_notify_alerts_that_cross_are_clean(run: Runner, version: Version) -> None:
    def leave_at_once(wire: Wire) -> str:
        wire.handshake()
        wire.close_notify()
        link.ready.set()
        return wire.read_to_end()

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        await in_thread(link.await_ready)  # it is in our kernel, and nobody has read it
        return await stream.close()

    with peer(leave_at_once, version=version) as link:
        ending = run(main)
    assert link.result == "close_notify"
    assert (ending.how, ending.started_by) == (How.CLEAN, Side.WE)


@both_versions
def test_the_peer_gets_a_fin_after_our_close_notify_and_no_reset(run: Runner, version: Version) -> None:
    def talkative(wire: Wire) -> tuple[str, str]:
        wire.handshake()
        wire.send(b"unread" * 1000)
        return wire.read_to_end(), wire.read_to_tcp_end()

    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        await stream.close()

    with peer(talkative, version=version) as link:
        run(main)
    assert link.result == ("close_notify", "FIN")


@pytest.mark.parametrize("size", [0, 1000, 1 << 20])
def test_what_came_first_is_told_first(run: Runner, size: int) -> None:
    """A close may read a FIN before it has decrypted the close_notify before it."""

    def talks_and_leaves(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        if size:
            wire.tls.write(bytes(size))
        wire.close_notify()
        wire.fin()

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        return await stream.close()

    with peer(talks_and_leaves) as link:
        ending = run(main)
    wanted = {EventKind.DATA, EventKind.CLOSE_NOTIFY, EventKind.FIN}
    theirs = [event.kind for event in ending.events if event.by is Side.PEER and event.kind in wanted]
    told = [EventKind.DATA] * bool(size) + [EventKind.CLOSE_NOTIFY, EventKind.FIN]
    assert theirs == told[: len(theirs)], ending  # A close that has all need not wait for the FIN.


def test_a_close_ends_though_the_peer_keeps_the_tcp_connection(run: Runner) -> None:
    def stay(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.close_notify()
        wire.hold()

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        return await stream.close(timeout=20)

    with peer(stay) as link:
        ending = run(main)
    assert ending.how is How.CLEAN
    assert not ending.deadline_hit


def test_a_reply_that_starts_after_our_half_close_is_received_whole(run: Runner) -> None:
    def reply_late(wire: Wire) -> str:
        wire.handshake()
        end = wire.read_to_end()
        link.await_go()
        wire.send(b"reply " * 50_000)
        wire.close_notify()
        return end

    async def main() -> tuple[bytes, bowout.Ending]:
        stream = link.stream()
        await stream.send(b"request")
        await stream.send_eof()
        async with jobs() as group:
            reply = group.start(stream.receive_exactly, 300_000)
            await settle()
            link.go.set()
            return await reply.result(), await stream.close()

    with peer(reply_late) as link:
        reply, ending = run(main)
    assert link.result == "close_notify"
    assert reply == b"reply " * 50_000
    assert ending.how is How.CLEAN


# -- nothing sent is lost --------------------------------------------------------------------------------------------


def test_an_upload_arrives_whole_while_the_peer_reports_progress(run: Runner) -> None:
    size = 1 << 20

    def report(wire: Wire) -> str:
        wire.handshake()
        sent_at = 0
        while wire.read():
            if len(wire.received) - sent_at > 1 << 14:
                sent_at = len(wire.received)
                wire.send(b"%d\n" % sent_at)
        link.result_size = len(wire.received)  # type: ignore[attr-defined]
        wire.close_notify()
        return "close_notify"

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.send(b"u" * size)
        return await stream.close()

    for _ in range(5):
        with peer(report) as link:
            ending = run(main)
        assert link.result_size == size  # type: ignore[attr-defined]
        assert ending.how is How.CLEAN


def test_a_response_arrives_whole_though_a_request_is_left_unread(run: Runner) -> None:
    size = 6_000_000

    def pipeline(wire: Wire) -> int:
        wire.handshake()
        wire.send(b"GET /1\n")
        wire.send(b"GET /2\n")
        link.await_go()
        assert wire.read_to_end() == "close_notify"
        return len(wire.received)

    async def main() -> None:
        stream = link.stream()
        await stream.receive_until(b"\n")
        async with jobs() as group:
            sender = group.start(stream.send, b"r" * size)
            await settle()
            link.go.set()
            await sender.result()
        await stream.close()

    with peer(pipeline, we="server") as link:
        run(main)
    assert link.result == size


def test_a_close_waits_for_the_send_in_flight_to_a_slow_reader(run: Runner) -> None:
    size = 12_000_000

    def read_slowly(wire: Wire) -> int:
        wire.handshake()
        link.await_go()
        assert wire.read_to_end() == "close_notify"
        wire.close_notify()
        return len(wire.received)

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, b"s" * size)
            await settle()
            closer = group.start(stream.close, 20)
            await settle()
            assert not sender.done
            link.go.set()
            await sender.result()
            return await closer.result()

    with peer(read_slowly) as link:
        ending = run(main)
    assert link.result == size
    assert (ending.how, ending.unsent, ending.sent) == (How.CLEAN, 0, size)


def test_a_send_that_the_deadline_cuts_is_told_by_the_byte(run: Runner) -> None:
    size = 12_000_000

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, b"s" * size)
            await settle()
            ending = await stream.close(SOON)
            assert isinstance(await sender.ended(), StreamClosed)
        return ending

    with peer(deaf) as link:
        ending = run(main)
    assert (ending.how, ending.deadline_hit) == (How.UNFLUSHED, True)
    assert 0 < ending.sent < size
    assert ending.sent + ending.unsent == size


def test_what_an_ending_calls_sent_is_what_the_peer_can_decrypt(run: Runner) -> None:
    def read_at_last(wire: Wire) -> int:
        wire.handshake()
        link.await_go()
        assert wire.read_to_end() == "FIN"
        return len(wire.received)

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, b"s" * 12_000_000)
            await settle()
            ending = await stream.close(SOON)
            await sender.ended()
        link.go.set()
        return ending

    with peer(read_at_last) as link:
        ending = run(main)
    assert link.result == ending.sent


def test_a_send_that_waits_for_its_turn_is_refused_by_a_close(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            group.start(stream.send, b"1" * 4_000_000)
            await settle()
            second = group.start(stream.send, b"2")
            await settle()
            closer = group.start(stream.close, 20)
            await settle()
            link.go.set()
            assert isinstance(await second.ended(), StreamClosed)
            return await closer.result()

    def read_later(wire: Wire) -> int:
        wire.handshake()
        link.await_go()
        wire.read_to_end()
        wire.close_notify()
        return len(wire.received)

    with peer(read_later, small=True) as link:
        ending = run(main)
    assert link.result == 4_000_000
    assert (ending.how, ending.unsent) == (How.CLEAN, 0)


def test_a_close_hears_of_a_sender_that_is_cancelled_as_its_turn_comes(run: Runner) -> None:
    """The turn then passes on without a send: who waits for the last turn must be told all the same."""

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            first = group.start(stream.send, b"1" * 4_000_000)
            await settle()
            second = group.start(stream.send, b"2")
            await settle()
            closer = group.start(stream.close, 20)
            await settle()
            # The turn passes to the second as the first is cancelled, and it never takes it.
            first.cancel()
            second.cancel()
            await first.ended()
            await settle()
            link.go.set()
            return await closer.result()

    def read_later(wire: Wire) -> None:
        wire.handshake()
        link.await_go()
        wire.read_to_end()

    with peer(read_later, small=True) as link:
        ending = run(main)
    assert not ending.deadline_hit


def test_a_unix_socket_closes_as_well(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        return await stream.close()

    with peer(polite, unix=True) as link:
        ending = run(main)
    assert link.result == "close_notify"
    assert ending.how is How.CLEAN


def test_a_send_that_ends_while_a_close_lets_others_run_is_not_waited_for(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The close has to look again: nobody will wake it."""
    monkeypatch.setattr("bowout._core.winddown.SLICE", 1)
    reading = threading.Event()

    def talk_then_read(wire: Wire) -> str:
        wire.handshake()
        wire.send(b"news")
        assert reading.wait(PATIENCE)
        how = wire.read_to_end()
        wire.close_notify()
        return how

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        backend = stream._connection.backend
        real, closer = backend.checkpoint, this_task()

        async def let_the_send_end() -> None:
            if this_task() is not closer:  # The sender, if the kernel took more of it meanwhile.
                await real()
                return
            monkeypatch.setattr(backend, "checkpoint", real)
            reading.set()
            while not sender.done:
                await turn()

        async with jobs() as group:
            sender = group.start(stream.send, b"x" * 12_000_000)
            await settle()
            assert not sender.done
            monkeypatch.setattr(backend, "checkpoint", let_the_send_end)
            return await stream.close()

    with peer(talk_then_read) as link:
        ending = run(main)
    assert link.result == "close_notify"
    assert (ending.how, ending.sent, ending.deadline_hit) == (How.CLEAN, 12_000_000, False)


def test_where_the_kernel_does_not_tell_what_has_arrived_a_close_waits_a_little(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bowout._core.winddown.FIN_PATIENCE", 0.05)
    monkeypatch.setattr("bowout._backends.sockets.SocketTransport.unacknowledged", lambda self: None)

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        return await stream.close(20)

    def stay(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.close_notify()
        wire.hold()

    with peer(stay) as link:
        ending = run(main)
    assert (ending.how, ending.deadline_hit) == (How.CLEAN, False)
