"""`Server.drain`: whom it ends at once, whom it lets finish, whom it cuts off, and what it reports."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

import bowout
from bowout import DrainReport, Ending, How, Inbound, Outbound, Server, Side, Stream, StreamClosed
from bowout._server import drain
from bowout._server.drain_log import NAMED, DrainLog
from helpers.runners import Runner
from helpers.served import (
    Endings,
    connect,
    dialled,
    dialled_open,
    echo,
    gate,
    program,
    read_to_end,
    serve,
    sleep_for_ever,
    tcp,
    visit,
)
from helpers.tasks import cancelled, in_thread, jobs, on_trio, settle
from helpers.wire import VERSIONS, Link, Version, Wire, certificate, our_context, peer

both_versions = pytest.mark.parametrize("version", VERSIONS)

#: A deadline that no drain here is to reach.
LONG = 20.0


async def asked(stream: Stream, question: bytes = b"ping") -> Stream:
    """A client whose connection is established, and idle again."""
    await stream.send(question)
    await stream.receive_exactly(len(question))
    return stream


async def some_ticks() -> None:
    """Wait until a drain has looked around a few times: for as long as another server gives a handshake."""
    async with serve(echo, handshake_timeout=3 * drain.DRAIN_TICK, on_ending=(clock := Endings())) as other:
        with contextlib.closing(tcp(other.port)):
            await clock.one


class Busy:
    """A handler in the middle of an answer, until it is told to go on."""

    def __init__(self) -> None:
        self.begun = gate()
        self.go_on = gate()
        self.streams: list[Stream] = []

    async def __call__(self, stream: Stream) -> None:
        self.streams.append(stream)
        await stream.receive()
        self.begun.set()
        await self.go_on.wait()
        await stream.send(b"answer")


class TestIdle:
    @both_versions
    def test_it_gets_close_notify_at_once(self, run: Runner, version: Version) -> None:
        async def main() -> tuple[str, DrainReport]:
            def script(wire: Wire) -> str:
                wire.send(b"ping")
                wire.read_exactly(4)
                idle.set()
                return read_to_end(wire)

            idle = threading.Event()
            async with jobs() as group, serve(echo, version=version) as server:
                client = group.start(visit, server, script, version)
                await in_thread(idle.wait)
                report = await server.drain(LONG)
                return await client.result(), report

        end, report = run(main)
        assert end == "close_notify"
        assert (report.counts, report.cut) == ({How.CLEAN: 1}, 0)

    def test_one_that_never_asked_anything_is_idle(self, run: Runner) -> None:
        async def main() -> int:
            async with serve(echo) as server, await connect(server) as stream:
                while not server.counters()["established"]:
                    await settle()
                async with jobs() as group:
                    group.start(receive_all, stream)
                    return (await server.drain(LONG)).cut

        assert run(main) == 0

    def test_the_receive_of_its_handler_ends_with_stream_closed(self, run: Runner) -> None:
        async def main() -> BaseException | None:
            async def handler(stream: Stream) -> None:
                async with jobs() as inner:
                    errors.append(await inner.start(stream.receive).ended())

            errors: list[BaseException | None] = []
            async with jobs() as group, serve(handler) as server:
                client = group.start(visit, server, read_to_end)
                while not server.counters()["established"]:
                    await settle()
                await server.drain(LONG)
                await client.result()
            return errors[0]

        assert isinstance(run(main), StreamClosed)

    def test_its_close_keeps_the_time_that_it_has(self, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        """The handler's StreamClosed leaves the block: that must not hurry the close that caused it."""

        async def main() -> Ending:
            def script(wire: Wire) -> None:
                assert wire.read() == b""
                told.set()
                assert go_on.wait(20)
                wire.close_notify()

            told, go_on, endings = threading.Event(), threading.Event(), Endings()
            async with jobs() as group, serve(sends_nothing, on_ending=endings, close_timeout=LONG) as server:
                group.start(visit, server, script)
                while not server.counters()["established"]:
                    await settle()
                drain = group.start(server.drain, LONG)
                await in_thread(told.wait)
                await some_ticks()  # longer than leaving a block by an error waits
                go_on.set()
                await drain.result()
                return await endings.one

        async def sends_nothing(stream: Stream) -> None:
            await stream.receive()

        monkeypatch.setattr(bowout._stream, "ERROR_PATIENCE", drain.DRAIN_TICK)
        monkeypatch.setattr(drain, "NEWCOMER", LONG)
        ending = run(main)
        assert (ending.how, ending.reason) == (How.CLEAN, "")

    def test_it_ends_although_its_handler_does_not_leave(self, run: Runner) -> None:
        async def main() -> tuple[str, DrainReport, list[How]]:
            async def handler(stream: Stream) -> None:
                with contextlib.suppress(StreamClosed):
                    await stream.receive()
                hows.append((await stream.wait_ended()).how)

            hows: list[How] = []
            async with jobs() as group, serve(handler) as server:
                client = group.start(visit, server, read_to_end)
                while not server.counters()["established"]:
                    await settle()
                report = await server.drain(LONG)
                return await client.result(), report, hows

        end, report, hows = run(main)
        assert (end, report.cut, hows) == ("close_notify", 0, [How.CLEAN])

    def test_a_handler_that_is_cancelled_in_its_close_cuts_it_short(self, run: Runner) -> None:
        """It is the handler's close: nobody else goes on with it."""

        async def main() -> Ending:
            async def handler(stream: Stream) -> None:
                with contextlib.suppress(StreamClosed):
                    await stream.receive()
                async with jobs() as inner:
                    close = inner.start(stream.close)
                    await settle()
                    close.cancel()

            def script(wire: Wire) -> None:
                assert wire.read() == b""
                assert ended.wait(20)

            ended, endings = threading.Event(), Endings()
            async with jobs() as group, serve(handler, on_ending=endings, close_timeout=LONG) as server:
                group.start(visit, server, script)
                while not server.counters()["established"]:
                    await settle()
                await server.drain(LONG)
                ended.set()
                return await endings.one

        ending = run(main)
        assert (ending.how, ending.reason) == (How.UNANSWERED, "the close was cancelled")

    def test_told_to_end_its_receive_the_handler_says_goodbye(self, run: Runner) -> None:
        async def main() -> tuple[bytes, DrainReport]:
            async def handler(stream: Stream) -> None:
                async for chunk in stream:
                    await stream.send(chunk)
                await stream.send(b"bye")

            async with serve(handler, on_drain="end_receive") as server:
                stream = await asked(await connect(server))
                async with jobs() as group:
                    drain = group.start(server.drain, LONG)
                    last = b"".join([chunk async for chunk in stream])
                    await stream.close()
                    return last, await drain.result()

        last, report = run(main)
        assert last == b"bye"
        assert report.counts == {How.CLEAN: 1}

    def test_a_request_that_has_arrived_is_served_before_its_receive_is_ended(self, run: Runner) -> None:
        async def main() -> bytes:
            async with serve(echo, on_drain="end_receive") as server:
                stream = await asked(await connect(server))
                await stream.send(b"late")
                async with jobs() as group:
                    drain = group.start(server.drain, LONG)
                    last = b"".join([chunk async for chunk in stream])
                    await stream.close()
                    await drain.result()
                return last

        assert run(main) == b"late"

    def test_what_has_come_by_the_time_a_receive_is_told_to_end_is_received(self, run: Runner) -> None:
        wires: list[Wire] = []

        def script(wire: Wire) -> None:
            wire.handshake()
            wires.append(wire)
            wire.link.ready.set()
            wire.hold()

        async def main() -> bytes:
            stream = link.stream()
            await stream.handshake()
            await in_thread(lambda: link.ready.wait(LONG))
            async with jobs() as group:
                reader = group.start(stream.receive)
                await settle()
                wires[0].send(b"late")
                stream._connection.end_receive()
                received = await reader.result()
            stream.abort()
            return received

        with peer(script, we="server") as link:
            assert run(main) == b"late"

    def test_a_request_that_has_arrived_is_served_before_it_is_closed(self, run: Runner) -> None:
        async def main() -> list[bytes]:
            async with serve(echo) as server:
                streams = [await asked(await connect(server)) for _ in range(10)]
                for stream in streams:
                    await stream.send(b"late")
                async with jobs() as group:
                    drain = group.start(server.drain, LONG)
                    answers = [await stream.receive() for stream in streams]
                    for stream in streams:
                        await stream.close()
                    await drain.result()
                return answers

        assert run(main) == [b"late"] * 10

    def test_left_alone_it_is_there_until_the_deadline(self, run: Runner) -> None:
        async def main() -> int:
            async with serve(echo, on_drain="wait") as server, contextlib.aclosing(await asked(await connect(server))):
                return (await server.drain(0.1)).cut

        assert run(main) == 1

    def test_one_that_sends_while_it_receives_is_not_taken_for_idle(self, run: Runner) -> None:
        async def main() -> tuple[bytes, int]:
            async def handler(stream: Stream) -> None:
                async with jobs() as inner:
                    reader = inner.start(stream.receive)
                    await settle()
                    await stream.send(b"first half, ")
                    sent.set()
                    await stream.draining.wait()
                    await some_ticks()
                    await stream.send(b"second half")
                    reader.cancel()

            sent = gate()
            async with serve(handler) as server, await connect(server) as stream:
                await sent.wait()
                async with jobs() as group:
                    drain = group.start(server.drain, LONG)
                    whole = b"".join([chunk async for chunk in stream])
                    await stream.close()
                    return whole, (await drain.result()).cut

        assert run(main) == (b"first half, second half", 0)


class TestBusy:
    def test_it_finishes(self, run: Runner) -> None:
        async def main() -> tuple[bytes, DrainReport]:
            busy = Busy()
            async with serve(busy) as server, await connect(server) as stream:
                await stream.send(b"request")
                await busy.begun.wait()
                async with jobs() as group:
                    drain = group.start(server.drain, LONG)
                    await settle()
                    assert not drain.done
                    busy.go_on.set()
                    answer = await stream.receive()
                    await stream.close()
                    return answer, await drain.result()

        answer, report = run(main)
        assert answer == b"answer"
        assert (report.connections, report.counts) == (1, {How.CLEAN: 1})

    def test_its_handler_can_poll_for_the_drain(self, run: Runner) -> None:
        async def main() -> list[bool]:
            busy = Busy()
            async with serve(busy) as server, await connect(server) as stream:
                await stream.send(b"request")
                await busy.begun.wait()
                seen = [busy.streams[0].draining.is_set()]
                async with jobs() as group:
                    group.start(server.drain, LONG)
                    await settle()
                    seen.append(busy.streams[0].draining.is_set())
                    busy.go_on.set()
                    await stream.close()
                return seen

        assert run(main) == [False, True]

    def test_its_handler_can_wait_for_the_drain(self, run: Runner) -> None:
        async def main() -> bytes:
            async def handler(stream: Stream) -> None:
                await stream.send(b"begun")
                await stream.draining.wait()
                await stream.send(b", drained")

            async with serve(handler) as server, await connect(server) as stream:
                text = await stream.receive_exactly(5)
                async with jobs() as group:
                    group.start(server.drain, LONG)
                    text += await stream.receive_exactly(9)
                    await stream.close()
                return text

        assert run(main) == b"begun, drained"

    def test_when_it_becomes_idle_it_is_ended(self, run: Runner) -> None:
        async def main() -> int:
            async def handler(stream: Stream) -> None:
                await busy(stream)
                await stream.receive()

            busy = Busy()
            async with serve(handler) as server, await connect(server) as stream:
                await stream.send(b"request")
                await busy.begun.wait()
                async with jobs() as group:
                    drain = group.start(server.drain, LONG)
                    await settle()
                    busy.go_on.set()
                    assert b"".join([chunk async for chunk in stream]) == b"answer"
                    await stream.close()
                    return (await drain.result()).cut

        assert run(main) == 0


class TestDeadline:
    @both_versions
    def test_what_is_left_gets_close_notify_and_is_named(self, run: Runner, version: Version) -> None:
        async def main() -> tuple[str, DrainReport, BaseException | None]:
            async def handler(stream: Stream) -> None:
                await stream.send(b"ready")
                try:
                    await sleep_for_ever()
                except BaseException as error:
                    seen.append(error)
                    raise

            def script(wire: Wire) -> str:
                wire.read_exactly(5)
                ready.set()
                return read_to_end(wire)

            seen: list[BaseException] = []
            ready = threading.Event()
            async with jobs() as group, serve(handler, version=version) as server:
                client = group.start(visit, server, script, version)
                await in_thread(ready.wait)
                report = await server.drain(0.05)
                assert isinstance(seen[0], cancelled())
                return await client.result(), report, seen[0]

        end, report, _ = run(main)
        assert end == "close_notify"
        assert report.cut == 1
        assert [ending.reason for ending in report.slow] == ["the drain's deadline"]

    def test_half_a_message_is_not_vouched_for(self, run: Runner) -> None:
        async def main() -> Ending:
            async def handler(stream: Stream) -> None:
                begun.set()
                await stream.send(bytes(64 << 20))

            begun, go = gate(), threading.Event()
            async with jobs() as group, serve(handler) as server:
                group.start(visit, server, lambda _: go.wait(20))
                await begun.wait()
                report = await server.drain(0.05)
                go.set()
                return report.slow[0]

        ending = run(main)
        assert ending.close_notify_sent_at is None
        assert ending.unsent > 0

    def test_a_failed_handler_that_is_still_closing_is_not_vouched_for(self, run: Runner) -> None:
        """Its stream is being cut with a bare FIN, behind data that the peer does not take; the drain hurries that."""

        async def main() -> Outbound:
            async def handler(stream: Stream) -> None:
                async with jobs() as inner:
                    sender = inner.start(stream.send, bytes(64 << 20))
                    await settle()
                    sender.cancel()
                failed.set()
                raise ValueError("after half a message")

            failed, go = gate(), threading.Event()
            async with jobs() as group, serve(handler, close_timeout=LONG, on_error="truncate") as server:
                group.start(visit, server, lambda _: go.wait(20))
                await failed.wait()
                report = await server.drain(0)
                go.set()
                return report.slow[0].outbound

        assert run(main) not in {Outbound.CLOSE_NOTIFY_SENT, Outbound.FIN_SENT, Outbound.CLOSE_NOTIFY_QUEUED}

    def test_a_handler_that_goes_on_for_a_while_is_counted_all_the_same(
        self, run: Runner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def main() -> tuple[DrainReport, list[How]]:
            async def handler(stream: Stream) -> None:
                await stream.send(b"ready")
                try:
                    await sleep_for_ever()
                finally:
                    await stubborn(go_on.wait)

            go_on, endings = gate(), Endings()
            async with serve(handler, on_ending=endings) as server:
                stream = await connect(server)
                await stream.receive()
                report = await server.drain(0)
                await stream.close()
                go_on.set()
            return report, [ending.how for ending in endings.all]

        monkeypatch.setattr(drain, "LAST_PATIENCE", 0.05)
        report, told = run(main)
        assert (report.connections, report.cut, len(told)) == (1, 1, 1)

    def test_a_silent_peer_costs_no_more_than_the_deadline(self, run: Runner) -> None:
        async def main() -> DrainReport:
            def script(wire: Wire) -> None:
                wire.read_to_end()
                go.wait(20)

            go = threading.Event()
            async with jobs() as group, serve(echo, close_timeout=LONG) as server:
                group.start(visit, server, script)
                while not server.counters()["established"]:
                    await settle()
                report = await server.drain(0.1)
                go.set()
                return report

        report = run(main)
        assert report.counts == {How.UNANSWERED: 1}
        assert report.cut == 1

    def test_nothing_to_end(self, run: Runner) -> None:
        async def main() -> DrainReport:
            async with serve(echo) as server:
                return await server.drain(0)

        report = run(main)
        assert (report.connections, report.counts, report.cut) == (0, {}, 0)


async def stubborn(wait: Callable[[], Awaitable[object]]) -> None:
    """Wait, whatever cancels it."""
    if on_trio():
        with trio.CancelScope(shield=True):
            await wait()
        return
    while True:
        try:
            await wait()
        except cancelled():
            continue
        return


class TestArrivals:
    def test_nobody_is_let_in_any_more(self, run: Runner) -> None:
        async def main() -> None:
            async with serve(echo) as server:
                await server.drain()
                with pytest.raises(bowout.ConnectRefused):
                    await connect(server)

        run(main)

    @pytest.fixture
    def patient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A drain that waits for who says nothing as long as this machine may take."""
        for name in ("_FIRST_REQUEST", "_FIRST_BYTE", "NEWCOMER"):
            monkeypatch.setattr(drain, name, LONG)

    @pytest.mark.usefixtures("patient")
    def test_who_waits_in_the_backlog_is_served(self, run: Runner) -> None:
        async def main() -> tuple[list[bytes], int]:
            busy = Busy()

            async def handler(stream: Stream) -> None:
                await (echo if busy.begun.is_set() else busy)(stream)

            async with serve(handler, max_connections=1) as server:
                first = await connect(server)
                await first.send(b"request")
                await busy.begun.wait()
                async with jobs() as group:
                    sockets = [await in_thread(lambda: tcp(server.port)) for _ in range(3)]
                    assert server.counters()["accepted"] <= 2  # one may be accepted before the first is established
                    clients = [group.start(ask_over, sock) for sock in sockets]
                    drain = group.start(server.drain, LONG)
                    await settle()
                    busy.go_on.set()
                    await first.close()
                    answers = [await client.result() for client in clients]
                    return answers, (await drain.result()).connections

        assert run(main) == ([b"ping"] * 3, 4)

    @pytest.mark.usefixtures("patient")
    def test_who_is_in_the_handshake_is_served(self, run: Runner) -> None:
        async def main() -> tuple[bytes, DrainReport]:
            async with serve(echo) as server:
                sock = await in_thread(lambda: tcp(server.port))
                while not server.counters()["handshaking"]:
                    await settle()
                async with jobs() as group:
                    drain = group.start(server.drain, LONG)
                    await settle()
                    return await ask_over(sock), await drain.result()

        answer, report = run(main)
        assert answer == b"ping"
        assert (report.connections, report.counts) == (1, {How.CLEAN: 1})

    @pytest.mark.usefixtures("patient")
    def test_who_was_in_the_handshake_may_take_its_time_to_ask(self, run: Runner) -> None:
        async def main() -> bytes:
            async with serve(echo) as server:
                sock = await in_thread(lambda: tcp(server.port))
                while not server.counters()["handshaking"]:
                    await settle()
                async with jobs() as group:
                    group.start(server.drain, LONG)
                    context = our_context("1.3", "client")
                    async with bowout.connect("localhost", 1, context=context, over=sock) as stream:
                        await some_ticks()
                        await stream.send(b"ping")
                        return await stream.receive_exactly(4)

        assert run(main) == b"ping"

    def test_who_stays_in_the_handshake_is_cut_off(self, run: Runner) -> None:
        async def main() -> tuple[bytes, DrainReport]:
            async with serve(echo) as server:
                with contextlib.closing(tcp(server.port)) as sock:
                    while not server.counters()["handshaking"]:
                        await settle()
                    report = await server.drain(0.05)
                    return await in_thread(lambda: sock.recv(1)), report

        end, report = run(main)
        assert end == b""
        assert [ending.how for ending in report.slow] == [How.FAILED_HANDSHAKE]

    @pytest.fixture
    def hasty(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A drain that has less patience with those who say nothing."""
        for name in ("_FIRST_REQUEST", "_FIRST_BYTE", "NEWCOMER"):
            monkeypatch.setattr(drain, name, 0.2)

    @pytest.mark.usefixtures("hasty")
    @pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half a ClientHello"])
    def test_who_has_connected_and_says_no_more_is_not_waited_for(self, run: Runner, said: bytes) -> None:
        async def main() -> tuple[bytes, DrainReport]:
            async with serve(echo, handshake_timeout=LONG) as server:
                with contextlib.closing(tcp(server.port)) as sock:
                    sock.sendall(said)
                    while not server.counters()["handshaking"]:
                        await settle()
                    report = await server.drain(LONG)
                    with contextlib.suppress(ConnectionResetError):
                        return await in_thread(lambda: sock.recv(1)), report
                    return b"", report

        end, report = run(main)
        assert end == b""
        assert (report.counts, report.cut) == ({How.FAILED_HANDSHAKE: 1}, 0)
        assert [ending.reason for ending in report.unclean] == ["the drain did not wait for it any longer"]

    @pytest.mark.usefixtures("hasty")
    @both_versions
    def test_who_has_shaken_hands_and_asks_nothing_is_not_waited_for(self, run: Runner, version: Version) -> None:
        async def main() -> DrainReport:
            async with serve(echo, close_timeout=LONG, version=version) as server:
                with contextlib.closing(await in_thread(lambda: dialled_open(server.port))):
                    return await server.drain(LONG)

        report = run(main)
        assert (report.counts, report.cut) == ({How.UNANSWERED: 1}, 0)

    @pytest.mark.usefixtures("hasty")
    def test_nor_are_those_who_wait_for_room(self, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each of them gets close_notify, though no handler was ever called; one that has asked is served."""
        monkeypatch.setattr(drain, "NEWCOMER", LONG)  # for their answers

        async def main() -> tuple[list[str], bytes, DrainReport]:
            def script(sock: socket.socket) -> str:
                wire = Wire(sock, our_context("1.3", "client"), server_side=False, link=Link(sock, "1.3", "client"))
                wire.handshake()
                return read_to_end(wire)

            async def handler(stream: Stream) -> None:
                await (echo if busy.begun.is_set() else busy)(stream)

            busy = Busy()
            async with jobs() as group, serve(handler, max_connections=1) as server:
                # When there is no room, nobody is accepted any more: these come before that.
                sockets = [tcp(server.port) for _ in range(4)]
                while server.counters()["handshaking"] < len(sockets):
                    await settle()
                first = await connect(server)
                await first.send(b"request")
                await busy.begun.wait()
                clients = [group.start(in_thread, partial(script, sock)) for sock in sockets[1:]]
                asking = await bowout.connect("localhost", 1, context=our_context("1.3", "client"), over=sockets[0])
                await asking.send(b"ping")
                while server.counters()["waiting"] < len(sockets):
                    await settle()
                drain = group.start(server.drain, LONG)
                ends = [await client.result() for client in clients]
                for sock in sockets[1:]:
                    sock.close()
                busy.go_on.set()
                await first.receive()
                await first.close()
                answer = await asking.receive_exactly(4)
                await asking.close()
                return ends, answer, await drain.result()

        ends, answer, report = run(main)
        assert ends == ["close_notify"] * 3
        assert answer == b"ping"
        assert (report.counts, report.cut) == ({How.CLEAN: 5}, 0)

    def test_the_backlog_is_left_to_others_when_the_server_is_stopped(self, run: Runner) -> None:
        async def main() -> int:
            busy = Busy()
            with contextlib.suppress(KeyError), contextlib.ExitStack() as cleanup:
                async with serve(busy, max_connections=1) as server:
                    stream = await connect(server)
                    cleanup.callback(stream.abort)
                    await stream.send(b"request")
                    await busy.begun.wait()
                    for _ in range(3):
                        cleanup.enter_context(contextlib.closing(tcp(server.port)))
                    raise KeyError
            return int(server.counters()["accepted"])

        assert run(main) <= 2


async def ask_over(sock: socket.socket) -> bytes:
    """Ask an echo server over a connected socket."""
    context = our_context("1.3", "client")
    async with bowout.connect("localhost", 1, context=context, over=sock) as stream:
        await stream.send(b"ping")
        return await stream.receive_exactly(4)


class TestSeveral:
    def test_a_second_drain_hurries_the_first(self, run: Runner) -> None:
        async def main() -> tuple[bool, int]:
            busy = Busy()
            async with jobs() as group, serve(busy) as server, contextlib.aclosing(await connect(server)) as stream:
                await stream.send(b"request")
                await busy.begun.wait()
                first = group.start(server.drain, LONG)
                await settle()
                second = await server.drain(0)
                return await first.result() is second, second.cut

        assert run(main) == (True, 1)

    def test_a_second_drain_cannot_delay_the_first(self, run: Runner) -> None:
        async def main() -> int:
            busy = Busy()
            async with jobs() as group, serve(busy) as server, contextlib.aclosing(await connect(server)) as stream:
                await stream.send(b"request")
                await busy.begun.wait()
                group.start(server.drain, 0.05)
                await settle()
                return (await server.drain(LONG)).cut

        assert run(main) == 1

    def test_a_drain_after_the_drain_gives_the_same_report(self, run: Runner) -> None:
        async def main() -> bool:
            async with serve(echo) as server:
                return await server.drain() is await server.drain()

        assert run(main)

    def test_cancelled_it_goes_on(self, run: Runner) -> None:
        async def main() -> tuple[bytes, DrainReport]:
            busy = Busy()
            async with jobs() as group, serve(busy) as server, await connect(server) as stream:
                await stream.send(b"request")
                await busy.begun.wait()
                first = group.start(server.drain, LONG)
                await settle()
                first.cancel()
                await first.ended()
                second = group.start(server.drain, LONG)
                busy.go_on.set()
                answer = await stream.receive()
                await stream.close()
                return answer, await second.result()

        answer, report = run(main)
        assert answer == b"answer"
        assert report.counts == {How.CLEAN: 1}

    def test_it_lives_on_for_whoever_else_waits(self, run: Runner) -> None:
        async def main() -> int:
            busy = Busy()
            async with jobs() as group, serve(busy) as server, contextlib.aclosing(await connect(server)) as stream:
                await stream.send(b"request")
                await busy.begun.wait()
                first, waiter = group.start(server.drain, 0.1), group.start(server.wait_drained)
                await settle()
                first.cancel()
                return (await waiter.result()).cut

        assert run(main) == 1

    def test_a_handler_may_ask_for_it(self, run: Runner) -> None:
        async def main() -> DrainReport:
            async def handler(stream: Stream) -> None:
                await servers[0].drain(0.05)

            servers: list[Server] = []
            async with serve(handler) as server:
                servers.append(server)
                async with contextlib.aclosing(await connect(server)):
                    return await server.wait_drained()

        assert run(main).cut == 1

    def test_leaving_the_block_by_an_error_ends_the_waiting(self, run: Runner) -> None:
        async def main() -> BaseException | None:
            async with jobs() as group:
                with contextlib.suppress(KeyError):
                    async with serve(echo) as server:
                        waiter = group.start(server.wait_drained)
                        await settle()
                        raise KeyError
                return await waiter.ended()

        assert isinstance(run(main), StreamClosed)

    def test_after_such_an_end_there_is_nothing_to_drain(self, run: Runner) -> None:
        async def main() -> None:
            with contextlib.suppress(KeyError):
                async with serve(echo) as server:
                    raise KeyError
            with pytest.raises(StreamClosed, match="before it was drained"):
                await server.drain()

        run(main)

    def test_leaving_the_block_normally_drains(self, run: Runner) -> None:
        async def main() -> tuple[bytes, DrainReport]:
            async with jobs() as group:
                async with serve(echo) as server:
                    client = group.start(receive_all, await asked(await connect(server)))
                return await client.result(), await server.drain()

        end, report = run(main)
        assert end == b""
        assert report.counts == {How.CLEAN: 1}


async def receive_all(stream: Stream) -> bytes:
    async with stream:
        return b"".join([chunk async for chunk in stream])


#: A server that signals drain, and its report.
SIGNALLED = """
import asyncio, ssl, sys, trio
import bowout

async def handler(stream):
    async for chunk in stream:
        if chunk == b"stay":
            await stream.send(b"staying")
            await (trio.sleep(60) if sys.argv[1] == "trio" else asyncio.sleep(60))
        await stream.send(chunk)

async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2])
    async with bowout.serve(handler, "127.0.0.1", context=context, drain_on_signals=True, drain_timeout=60) as server:
        print(server.port, flush=True)
        report = await server.wait_drained()
        print(report.cut, *(how.value for how in report.counts))

if sys.argv[1] == "trio":
    trio.run(main)
elif sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


class TestSignals:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_drains(self, backend: str, tmp_path: Path, number: signal.Signals) -> None:
        with program(SIGNALLED, backend, str(self.pem(tmp_path))) as process:
            with dialled(int(process.line())) as wire:
                wire.send(b"ping")
                wire.read_exactly(4)
                process.signal(number)
                assert read_to_end(wire) == "close_notify"
            assert process.rest() == "0 clean\n"

    def test_a_second_signal_hurries(self, backend: str, tmp_path: Path) -> None:
        with program(SIGNALLED, backend, str(self.pem(tmp_path))) as process:
            port = int(process.line())
            with dialled(port) as wire:
                wire.send(b"stay")
                wire.read_exactly(7)
                process.signal(signal.SIGTERM)
                while True:  # The drain has begun when nobody is let in any more.
                    try:
                        tcp(port).close()
                    except (ConnectionRefusedError, ConnectionResetError):
                        break
                process.signal(signal.SIGTERM)
                assert read_to_end(wire) == "close_notify"
            assert process.rest().startswith("1 ")

    def test_a_signal_as_soon_as_the_block_has_begun_drains(self, backend: str, tmp_path: Path) -> None:
        text = SIGNALLED.replace("print(server.port, flush=True)", "import os; os.kill(os.getpid(), 15)")
        with program(text, backend, str(self.pem(tmp_path))) as process:
            assert process.rest() == "0\n"

    def test_afterwards_signals_do_what_they_did_before(self, run: Runner) -> None:
        async def noted() -> None:
            handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
            async with serve(echo, drain_on_signals=True):
                pass
            assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers

        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            run(noted)
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        finally:
            signal.signal(signal.SIGTERM, before)

    @staticmethod
    def pem(directory: Path) -> Path:
        path = directory / "server.pem"
        certificate().private_key_and_cert_chain_pem.write_to_path(path)
        return path


def ending(how: How = How.CLEAN, peer: str = "192.0.2.1:4711", **facts: Any) -> Ending:
    inbound = Inbound.CLOSE_NOTIFY if how is How.CLEAN else Inbound.RESET
    return Ending(how=how, started_by=Side.WE, outbound=Outbound.FIN_SENT, inbound=inbound, peer=peer, **facts)


class TestReport:
    @staticmethod
    def report() -> DrainReport:
        log = DrainLog(1200)
        log.came()
        for _ in range(1193):
            log.add(ending(), slow=False)
        log.add(ending(How.UNANSWERED), slow=True)
        for number in range(7):
            log.add(ending(How.RESET, f"192.0.2.{number}:1"), slow=False)
        return log.report(2.5)

    def test_in_a_few_lines(self) -> None:
        assert str(self.report()) == (
            "drained 1,201 connections in 2.50 s: 1,193 clean, 1 unanswered, 7 reset\n"
            "1 still there at the deadline:\n"
            "  192.0.2.1:4711: unanswered: we sent close_notify, the peer left with a bare FIN\n"
            "unclean:\n"
            "  192.0.2.0:1: reset: the peer reset the connection\n"
            "  192.0.2.1:1: reset: the peer reset the connection\n"
            "  192.0.2.2:1: reset: the peer reset the connection\n"
            "  192.0.2.3:1: reset: the peer reset the connection\n"
            "  192.0.2.4:1: reset: the peer reset the connection\n"
            "  … and 2 more"
        )

    def test_of_nothing(self) -> None:
        assert str(DrainLog(0).report(0.0)) == "drained 0 connections in 0.00 s: nothing to end"

    def test_of_one(self) -> None:
        log = DrainLog(1)
        log.add(ending(), slow=False)
        assert str(log.report(1.0)) == "drained 1 connection in 1.00 s: 1 clean"

    def test_as_json(self) -> None:
        log = DrainLog(2)
        log.add(slow := ending(How.UNANSWERED), slow=True)
        log.add(unclean := ending(How.RESET), slow=False)
        assert json.loads(json.dumps(log.report(1.23456789).to_dict())) == {
            "version": 1,
            "connections": 2,
            "counts": {"unanswered": 1, "reset": 1},
            "slow": [slow.to_dict()],
            "unclean": [unclean.to_dict()],
            "cut": 1,
            "duration": 1.234568,
        }

    def test_it_names_no_more_than_it_can_hold(self) -> None:
        log = DrainLog(0)
        for _ in range(NAMED + 1):
            log.add(ending(How.RESET), slow=True)
        report = log.report(0.0)
        assert (len(report.slow), report.cut) == (NAMED, NAMED + 1)
