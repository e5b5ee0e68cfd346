"""Closing where the peer misbehaves: it ends, and the ending says what was wrong."""

from __future__ import annotations

import select

import pytest

import bowout
from bowout import How, Inbound, Outbound, Side
from helpers.runners import Runner
from helpers.tasks import in_thread, jobs, settle
from helpers.wire import PATIENCE, ROLES, VERSIONS, Role, Version, Wire, deaf, flooding, leaving, peer, silent

both_versions = pytest.mark.parametrize("version", VERSIONS)
both_roles = pytest.mark.parametrize("we", ROLES)

SOON = 0.3
"""A deadline that is meant to be reached, in seconds."""


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


def test_a_close_notify_that_comes_before_all_was_sent_is_not_clean_in_tls_1_2(run: Runner) -> None:
    """We have to answer it at once (RFC 5246 section 7.2.1), so what waits for the kernel never leaves."""

    async def main() -> tuple[BaseException | None, bowout.Ending]:
        stream = link.stream()
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, bytes(1 << 20))
            await settle()
            link.go.set()
            assert await stream.receive() == b""
            error = await sender.ended()
        return error, await stream.close()

    def ends_first(wire: Wire) -> str:
        wire.handshake()
        wire.link.await_go()
        wire.close_notify()
        return wire.read_to_end()

    with peer(ends_first, version="1.2", small=True) as link:
        error, ending = run(main)
    assert isinstance(error, bowout.PeerClosed)
    assert link.result == "close_notify"
    assert (ending.how, ending.clean, ending.started_by) == (How.UNFLUSHED, False, Side.PEER)
    assert ending.sent + ending.unsent == 1 << 20
    assert str(ending).startswith("unflushed: the peer sent close_notify, we answered, and a send was cut short, ")


@pytest.mark.parametrize("silent_then", [True, False])
def test_a_message_cut_short_and_vouched_for_is_not_clean(run: Runner, *, silent_then: bool) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream(on_error="close")
        await stream.handshake()
        async with jobs() as group:
            sender = group.start(stream.send, bytes(1 << 20))
            await settle()
            sender.cancel()
        link.go.set()
        return await stream.close(SOON if silent_then else None)

    def reads_late(wire: Wire) -> str:
        wire.handshake()
        wire.link.await_go()
        end = wire.read_to_end()
        if silent_then:
            wire.hold()
        else:
            wire.close_notify()
        return end

    with peer(reads_late, small=True) as link:
        ending = run(main)
    assert link.result == "close_notify"
    assert (ending.how, ending.unsent > 0) == (How.UNFLUSHED, True)
    assert "and a send was cut short" in str(ending)


@both_versions
@both_roles
def test_our_fatal_alert_is_not_destroyed_by_what_the_peer_still_sends(run: Runner, version: Version, we: Role) -> None:
    """A descriptor that is closed at once answers with RST, and the peer never reads the alert."""

    async def main() -> None:
        stream = link.stream()
        await stream.handshake()
        with pytest.raises(bowout.ProtocolViolation):
            await stream.receive()

    def goes_on(wire: Wire) -> str:
        wire.handshake()
        wire.garbage()
        fin = select.poll()
        fin.register(wire.sock, select.POLLRDHUP)
        assert fin.poll(PATIENCE * 1000), "our FIN never came"
        for _ in range(5):
            wire.sock.sendall(b"more")
        return wire.read_to_end()

    with peer(goes_on, version=version, we=we) as link:
        run(main)
    assert link.result in {"SSLV3_ALERT_BAD_RECORD_MAC", "SSL/TLS_ALERT_BAD_RECORD_MAC"}


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
        wire.send(b".")
        link.ready.set()
        while not link.over.wait(0.02):
            wire.send(b".")

    async def main() -> bowout.Ending:
        stream = link.stream()
        await stream.handshake()
        await in_thread(link.await_ready)
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


def test_a_cap_of_nothing_still_sends_close_notify_and_fin(run: Runner) -> None:
    async def main() -> bowout.Ending:
        stream = link.stream(linger_bytes=0)
        await stream.handshake()
        return await stream.close(20)

    with peer(leaving, version="1.2") as link:
        ending = run(main)
    assert link.result == "close_notify"
    assert (ending.outbound, ending.cap_hit, ending.deadline_hit) == (Outbound.FIN_SENT, True, False)
