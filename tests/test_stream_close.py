"""Closing: what arrives, what is told, and that it ends, whatever the peer does."""

from __future__ import annotations

import threading

import pytest

import bowout
from bowout import How, Inbound, Outbound, Side, StreamClosed
from helpers.runners import Runner
from helpers.tasks import in_thread, jobs, settle, turn
from helpers.wire import PATIENCE, ROLES, VERSIONS, Role, Version, Wire, deaf, flooding, leaving, peer, polite, silent

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


# -- the peer misbehaves ---------------------------------------------------------------------------------------------


@both_versions
@both_roles
def test_a_silent_peer_costs_the_deadline_and_is_unanswered(run: Runner, version: Version, we: Role) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        return await stream.close(SOON)

    with peer(silent, version=version, we=we) as link:
        ending = run(main)
    assert (ending.how, ending.inbound, ending.deadline_hit) == (How.UNANSWERED, Inbound.OPEN, True)


@both_versions
def test_a_peer_that_leaves_without_an_answer_is_unanswered(run: Runner, version: Version) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        return await stream.close()

    with peer(leaving, version=version) as link:
        ending = run(main)
    assert link.result == "close_notify"
    assert (ending.how, ending.inbound) == (How.UNANSWERED, Inbound.TRUNCATED_AT_BOUNDARY)
    assert not ending.deadline_hit


def test_a_flood_is_read_up_to_the_cap(run: Runner) -> None:
    cap = 3 << 20

    async def main() -> bowout.Ending:
        stream = link.stream(linger_bytes=cap)
        await stream.handshake()
        return await stream.close(20)

    with peer(flooding) as link:
        ending = run(main)
    assert (ending.cap_hit, ending.deadline_hit) == (True, False)
    assert ending.how is How.UNANSWERED
    assert cap * 0.9 < ending.discarded <= cap


def test_a_drip_costs_the_deadline(run: Runner) -> None:
    def drip(wire: Wire) -> None:
        wire.handshake()
        while not link.over.wait(0.02):
            wire.send(b".")

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        ending = await stream.close(SOON)
        link.over.set()
        return ending

    with peer(drip) as link:
        ending = run(main)
    assert (ending.how, ending.deadline_hit) == (How.UNANSWERED, True)
    assert ending.discarded > 0


@both_versions
def test_a_peer_that_never_reads_leaves_us_unflushed(run: Runner, version: Version) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, b"x" * 65_536 * 8)
            await settle()
            sender.cancel()
            await sender.ended()
        return await stream.close(SOON)

    with peer(deaf, small=True, version=version) as link:
        ending = run(main)
    assert ending.unsent > 0
    assert ending.close_notify_sent_at is None


def test_data_after_our_close_notify_is_counted_and_no_error(run: Runner) -> None:
    def reply(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.send(b"x" * 100_000)
        wire.close_notify()

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        return await stream.close()

    with peer(reply) as link:
        ending = run(main)
    assert (ending.how, ending.discarded) == (How.CLEAN, 100_000)


@both_versions
def test_data_that_was_unread_when_we_closed_is_counted(run: Runner, version: Version) -> None:
    def talk(wire: Wire) -> str:
        wire.handshake()
        wire.send(b"line\nunread")
        link.ready.set()
        return polite_end(wire)

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        await in_thread(link.await_ready)
        assert await stream.receive_until(b"\n") == b"line\n"
        return await stream.close()

    with peer(talk, version=version) as link:
        ending = run(main)
    assert link.result == "close_notify"
    assert (ending.how, ending.discarded) == (How.CLEAN, len(b"unread"))


def polite_end(wire: Wire) -> str:
    end = wire.read_to_end()
    wire.close_notify()
    return end


def test_bytes_after_the_peers_close_notify_are_ignored_and_counted(run: Runner) -> None:
    def go_on(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.sock.sendall(wire.encrypt_close_notify() + b"\x17\x03\x03\x00\x04more")
        wire.fin()
        wire.read_to_tcp_end()

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        return await stream.close()

    with peer(go_on) as link:
        ending = run(main)
    assert (ending.how, ending.ignored) == (How.CLEAN, 9)


def test_a_reset_after_the_exchange_is_clean_with_a_late_reset(run: Runner) -> None:
    def reset_late(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.close_notify()
        link.await_go()
        wire.rst()
        link.ready.set()

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.send_eof()
        assert await stream.receive() == b""
        link.go.set()
        await in_thread(link.await_ready)
        return await stream.close()

    with peer(reset_late) as link:
        ending = run(main)
    assert (ending.how, ending.late_reset) == (How.CLEAN, True)


@both_versions
def test_a_reset_instead_of_an_answer_is_a_reset(run: Runner, version: Version) -> None:
    def reset(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.rst()

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        return await stream.close()

    with peer(reset, version=version) as link:
        ending = run(main)
    assert (ending.how, ending.inbound) == (How.RESET, Inbound.RESET)


@both_versions
def test_a_fatal_alert_after_our_close_notify_is_an_alert_ending(run: Runner, version: Version) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        await in_thread(link.await_ready)
        return await stream.close()

    with peer(alert_at_close_notify, version=version) as link:
        ending = run(main)
    assert ending.how is How.ALERT
    assert ending.alert is not None
    assert (ending.alert.name, ending.alert.by) == ("bad_record_mac", Side.PEER)


def alert_at_close_notify(wire: Wire) -> None:
    """Corrupt what comes, so that the peer's OpenSSL answers it with a fatal alert."""
    wire.handshake()
    wire.link.ready.set()
    record = bytearray(wire.sock.recv(1 << 16))
    record[-1] ^= 1
    wire._in.write(record)
    wire.read_to_end()


@both_versions
def test_garbage_instead_of_an_answer_is_an_alert_ending(run: Runner, version: Version) -> None:
    def babble(wire: Wire) -> str:
        wire.handshake()
        wire.read_to_end()
        wire.garbage()
        return wire.read_to_tcp_end()

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        return await stream.close()

    with peer(babble, version=version) as link:
        ending = run(main)
    assert (ending.how, ending.inbound) == (How.ALERT, Inbound.UNDECRYPTABLE)


def test_garbage_and_then_a_reset_ends_at_once(run: Runner) -> None:
    """A socket that was reset is readable for ever: nothing may wait for it."""

    def babble(wire: Wire) -> None:
        wire.handshake()
        wire.garbage()
        wire.rst()
        link.ready.set()

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        await in_thread(link.await_ready)
        return await stream.close(20)

    with peer(babble) as link:
        ending = run(main)
    assert ending.how is How.ALERT
    assert not ending.deadline_hit


# -- whenever and however often --------------------------------------------------------------------------------------


def test_a_pending_receive_is_told_that_we_closed(run: Runner) -> None:
    async def main() -> BaseException | None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            reader = group.start(stream.receive)
            await settle()
            await stream.close()
            return await reader.ended()

    with peer(polite) as link:
        error = run(main)
    assert isinstance(error, StreamClosed)


def test_a_pending_iteration_just_stops(run: Runner) -> None:
    async def main() -> list[bytes]:
        stream = link.stream()
        await stream.handshake()

        async def collect() -> list[bytes]:
            return [chunk async for chunk in stream]

        async with jobs() as group:
            reader = group.start(collect)
            await settle()
            await stream.close()
            return await reader.result()

    with peer(polite) as link:
        assert run(main) == []


def test_a_second_close_gives_the_same_ending(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        first = await stream.close()
        assert await stream.close() is first
        assert await stream.aclose() is first
        assert stream.ending is first

    with peer(polite) as link:
        run(main)


def test_closes_from_two_tasks_share_one_ending(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            first, second = group.start(stream.close, SOON), group.start(stream.close, SOON)
            assert await first.result() is await second.result()

    with peer(silent) as link:
        run(main)


def test_the_shorter_of_two_deadlines_counts(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            patient = group.start(stream.close, 10_000)
            await settle()
            hasty = group.start(stream.close, SOON)
            assert await hasty.result() is await patient.result()
            return await patient.result()

    with peer(silent) as link:
        assert run(main).deadline_hit


def test_a_longer_second_deadline_changes_nothing(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            hasty = group.start(stream.close, SOON)
            await settle()
            group.start(stream.close, 10_000)
            return await hasty.result()

    with peer(silent) as link:
        assert run(main).deadline_hit


def test_a_close_with_no_time_sends_close_notify_all_the_same(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        return await stream.close(0)

    with peer(leaving) as link:
        ending = run(main)
    assert link.result == "close_notify"
    assert ending.close_notify_sent_at is not None


def test_a_close_before_the_handshake_is_a_failed_handshake(run: Runner) -> None:
    async def main() -> bowout.Ending:
        return await link.stream().close()

    with peer(lambda wire: wire.read_to_tcp_end()) as link:
        ending = run(main)
    assert ending.how is How.FAILED_HANDSHAKE
    assert link.result == "FIN"


def test_a_close_during_a_stalled_handshake_ends_it(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        async with jobs() as group:
            shaking = group.start(stream.handshake)
            waiting = group.start(stream.receive)
            await settle()
            ending = await stream.close(20)
            assert isinstance(await shaking.ended(), StreamClosed)
            assert isinstance(await waiting.ended(), StreamClosed)
        return ending

    with peer(lambda wire: wire.hold()) as link:
        ending = run(main)
    assert (ending.how, ending.deadline_hit) == (How.FAILED_HANDSHAKE, False)


def test_receive_send_and_close_at_once(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            reader = group.start(stream.receive)
            sender = group.start(stream.send, b"s" * 1_000_000)
            closer = group.start(stream.close)
            assert isinstance(await reader.ended(), StreamClosed)
            assert isinstance(await sender.ended(), StreamClosed | None)
            return await closer.result()

    with peer(polite, small=True) as link:
        ending = run(main)
    assert link.result == "close_notify"
    assert ending.how is How.CLEAN


@pytest.mark.parametrize("verb", ["receive", "send", "send_eof", "handshake", "unwrap", "receive_exactly"])
def test_every_verb_after_a_close_says_so_and_carries_the_ending(run: Runner, verb: str) -> None:
    arguments = {"send": (b"x",), "receive_exactly": (1,)}.get(verb, ())

    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        ending = await stream.close()
        if verb == "handshake":
            await stream.handshake()  # it was done
            return
        with pytest.raises(StreamClosed) as caught:
            await getattr(stream, verb)(*arguments)
        assert caught.value.ending is ending

    with peer(polite) as link:
        run(main)


def test_the_descriptor_is_closed_when_close_returns(run: Runner) -> None:
    async def main() -> int:
        stream = link.stream()
        await stream.handshake()
        await stream.close()
        return link.sock.fileno()

    with peer(polite) as link:
        assert run(main) == -1


def test_wait_ended_is_told_by_whoever_ends_it(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            waiter = group.start(stream.wait_ended)
            await settle()
            assert not waiter.done
            ending = await stream.close()
            assert await waiter.result() is ending

    with peer(polite) as link:
        run(main)


# -- abort -----------------------------------------------------------------------------------------------------------


@both_versions
def test_an_abort_is_a_reset_at_the_peer(run: Runner, version: Version) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        await stream.send(b"hello")
        await in_thread(link.await_ready)
        return stream.abort()

    def read(wire: Wire) -> str:
        wire.handshake()
        wire.read_exactly(5)
        link.ready.set()
        return wire.read_to_end()

    with peer(read, version=version) as link:
        ending = run(main)
    assert link.result == "RST"
    assert (ending.how, ending.outbound, ending.started_by) == (How.ABORTED, Outbound.RESET, Side.WE)


def test_an_abort_ends_a_close_that_waits(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            closer = group.start(stream.close, 10_000)
            await settle()
            ending = stream.abort()
            assert ending.how is How.ABORTED
            assert await closer.result() is ending

    with peer(deaf) as link:
        run(main)


def test_an_abort_ends_a_close_that_waits_for_a_send(run: Runner) -> None:
    events: list[bowout.Event] = []

    async def main() -> None:
        stream = link.stream(on_event=events.append)
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, b"x" * 12_000_000)
            await settle()
            closer = group.start(stream.close, 10_000)
            await settle()
            ending = stream.abort()
            assert isinstance(await sender.ended(), StreamClosed)
            assert await closer.result() is ending
        assert ending.sent + ending.unsent == 12_000_000

    with peer(deaf) as link:
        run(main)
    assert events[-1].kind is bowout.EventKind.RELEASED  # nothing happens to a connection that is gone


def test_an_abort_ends_whoever_waits(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            reader, sender = group.start(stream.receive), group.start(stream.send, b"x" * 12_000_000)
            await settle()
            stream.abort()
            assert isinstance(await reader.ended(), StreamClosed)
            assert isinstance(await sender.ended(), StreamClosed)

    with peer(deaf) as link:
        run(main)


def test_an_abort_after_the_end_changes_nothing(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        ending = await stream.close()
        assert stream.abort() is ending

    with peer(polite) as link:
        run(main)


def test_a_unix_socket_closes_as_well(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        return await stream.close()

    with peer(polite, unix=True) as link:
        ending = run(main)
    assert link.result == "close_notify"
    assert ending.how is How.CLEAN


def test_a_busy_close_does_not_spin(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wait of a close is for news: a peer that says nothing more must not make it look again and again."""
    looks: list[tuple[bool, bool]] = []

    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        transport = stream._connection._transport
        real = transport.wait

        async def counted(*, read: bool, write: bool) -> None:
            looks.append((read, write))
            await real(read=read, write=write)

        monkeypatch.setattr(transport, "wait", counted)
        await stream.close(SOON)

    def fin_first(wire: Wire) -> None:
        wire.handshake()
        wire.fin()
        wire.hold()

    with peer(fin_first) as link:
        run(main)
    assert len(looks) <= 4


def test_an_abort_ends_a_close_that_reads_a_flood(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream(linger_bytes=1 << 40)
        await stream.handshake()
        async with jobs() as group:
            closer = group.start(stream.close, 10_000)
            for _ in range(5):
                await turn()
            ending = stream.abort()
            assert await closer.result() is ending
        assert ending.how is How.ABORTED

    with peer(flooding) as link:
        run(main)


@pytest.mark.parametrize("verb", ["close", "unwrap"])
def test_an_abort_between_two_slices_of_a_flood_is_not_waited_for(
    run: Runner, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """The descriptor is gone then: there is nothing to wait for, and the loop would refuse to."""
    monkeypatch.setattr("bowout._connection._DRAIN_SLICE", 1)

    async def main() -> None:
        stream = link.stream(linger_bytes=1 << 40)
        await stream.handshake()
        backend = stream._connection.backend
        real = backend.checkpoint

        async def abort_meanwhile() -> None:
            stream.abort()
            await real()

        async with jobs() as group:
            sender = group.start(stream.send, b"x" * 12_000_000)
            await settle()
            monkeypatch.setattr(backend, "checkpoint", abort_meanwhile)
            leaver = group.start(getattr(stream, verb), 10_000)
            error = await leaver.ended()
            assert isinstance(error, StreamClosed if verb == "unwrap" else type(None))
            assert isinstance(await sender.ended(), StreamClosed)
        assert stream.ending is not None
        assert stream.ending.how is How.ABORTED

    with peer(flooding) as link:
        run(main)


def test_an_abort_while_unwrap_reads_a_flood_is_not_waited_for(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bowout._connection._DRAIN_SLICE", 1)

    async def main() -> None:
        stream = link.stream(linger_bytes=1 << 40)
        await stream.handshake()
        backend = stream._connection.backend
        real = backend.checkpoint

        async def abort_meanwhile() -> None:
            stream.abort()
            await real()

        monkeypatch.setattr(backend, "checkpoint", abort_meanwhile)
        with pytest.raises(StreamClosed):
            await stream.unwrap(10_000)
        assert stream.ending is not None
        assert stream.ending.how is How.ABORTED

    with peer(flooding) as link:
        run(main)


def test_a_send_that_ends_while_a_close_lets_others_run_is_not_waited_for(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The close has to look again: nobody will wake it."""
    monkeypatch.setattr("bowout._connection._DRAIN_SLICE", 1)
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
        real = backend.checkpoint

        async def let_the_send_end() -> None:
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


def test_an_abort_and_a_cancellation_at_once_leave_one_ending(run: Runner) -> None:
    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            closer = group.start(stream.close, 10_000)
            await settle()
            ending = stream.abort()
            closer.cancel()
            await closer.ended()
            assert stream.ending is ending

    with peer(deaf) as link:
        run(main)


def test_where_the_kernel_does_not_tell_what_has_arrived_a_close_waits_a_little(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bowout._connection._FIN_PATIENCE", 0.05)
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


def test_a_cap_of_nothing_still_sends_close_notify_and_fin(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream(linger_bytes=0)
        await stream.handshake()
        return await stream.close(20)

    with peer(leaving, version="1.2") as link:
        ending = run(main)
    assert link.result == "close_notify"
    assert (ending.outbound, ending.cap_hit, ending.deadline_hit) == (Outbound.FIN_SENT, True, False)
