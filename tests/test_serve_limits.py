"""`serve`: who is let in, how many, and how it goes on when the system has no room."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from bowout import How, Stream
from bowout._server import accept
from helpers.runners import Runner
from helpers.served import (
    LOOPBACK,
    Endings,
    asks,
    connect,
    dialled,
    dialled_open,
    echo,
    gate,
    program,
    read_to_end,
    serve,
    tcp,
    visit,
)
from helpers.tasks import in_thread, jobs, settle
from helpers.wire import certificate


class TestLimits:
    def test_a_silent_client_is_given_up_at_the_handshake_timeout(self, run: Runner) -> None:
        async def main() -> tuple[bytes, str]:
            endings = Endings()
            async with serve(echo, handshake_timeout=0.05, on_ending=endings) as server:
                with contextlib.closing(tcp(server.port)) as sock:
                    return await in_thread(lambda: sock.recv(1)), (await endings.one).reason

        end, reason = run(main)
        assert end == b""
        assert reason == "the peer did not finish the handshake within 0.05 s"

    def test_an_idle_connection_is_closed_gracefully(self, run: Runner) -> None:
        async def main() -> tuple[object, How]:
            endings = Endings()
            async with serve(echo, idle_timeout=0.05, on_ending=endings) as server:
                return await visit(server, read_to_end), (await endings.one).how

        assert run(main) == ("close_notify", How.CLEAN)

    def test_a_handler_that_computes_is_not_idle(self, run: Runner) -> None:
        async def main() -> object:
            async def handler(stream: Stream) -> None:
                async with await connect(other) as silent:
                    await silent.receive()  # as long as the other server's idle timeout
                await stream.send(b"computed")

            async with serve(echo, idle_timeout=0.2) as other, serve(handler, idle_timeout=0.05) as server:
                return await visit(server, lambda wire: (read_to_end(wire), bytes(wire.received)))

        assert run(main) == ("close_notify", b"computed")

    def test_a_peer_that_does_not_take_what_is_sent_is_idle(self, run: Runner) -> None:
        async def main() -> How:
            async def handler(stream: Stream) -> None:
                await stream.send(bytes(64 << 20))

            endings = Endings()
            async with serve(handler, idle_timeout=0.05, close_timeout=0.05, on_ending=endings) as server:
                with contextlib.closing(await in_thread(lambda: dialled_open(server.port))):
                    return (await endings.one).how

        assert run(main) is How.UNFLUSHED

    def test_beyond_max_connections_the_others_wait_and_are_served(self, run: Runner) -> None:
        async def main() -> tuple[int, list[bytes]]:
            async def handler(stream: Stream) -> None:
                counts.append(server.counters()["established"])
                async for chunk in stream:
                    await stream.send(chunk)

            counts: list[int] = []
            async with serve(handler, max_connections=2) as server, jobs() as group:
                clients = [group.start(asks, server) for _ in range(20)]
                answers = [await client.result() for client in clients]
            return max(counts), answers

        assert run(main) == (2, [b"ping"] * 20)

    def test_who_has_shaken_hands_waits_longer_than_a_handshake_may_take(self, run: Runner) -> None:
        async def main() -> bytes:
            async def handler(stream: Stream) -> None:
                if not begun.is_set():
                    begun.set()
                    await enough.wait()
                async for chunk in stream:
                    await stream.send(chunk)

            begun, enough, endings = gate(), gate(), Endings()
            async with (
                serve(handler, max_connections=1, handshake_timeout=2.0) as server,
                serve(echo, handshake_timeout=2.5, on_ending=endings) as clock,
            ):
                first = await connect(server)
                await begun.wait()
                second = await connect(server)
                with contextlib.closing(tcp(clock.port)):
                    await endings.one
                assert server.counters()["waiting"] == 1
                enough.set()
                await first.close()
                async with second:
                    await second.send(b"ping")
                    return await second.receive_exactly(4)

        assert run(main) == b"ping"

    def test_silent_clients_cannot_keep_others_out(self, run: Runner) -> None:
        async def main() -> tuple[bytes, bool]:
            async with serve(echo, max_handshakes=4) as server:
                with contextlib.ExitStack() as silent:
                    for _ in range(20):
                        silent.enter_context(contextlib.closing(tcp(server.port)))
                    return await asks(server), server.counters()["evicted"] >= 16

        assert run(main) == (b"ping", True)

    def test_clients_that_stop_in_their_first_message_cannot_either(self, run: Runner) -> None:
        async def main() -> bytes:
            async with serve(echo, max_handshakes=4) as server:
                with contextlib.ExitStack() as stuck:
                    for _ in range(4):
                        stuck.enter_context(contextlib.closing(tcp(server.port))).sendall(b"\x16\x03\x01\x02\x00\x01")
                    while server.counters()["handshaking"] < 4:
                        await settle()
                    async with jobs() as group:
                        clients = [group.start(asks, server) for _ in range(3)]
                        return b"".join([await client.result() for client in clients])

        assert run(main) == b"ping" * 3

    def test_the_one_that_makes_room_is_reset(self, run: Runner) -> None:
        async def main() -> tuple[int, bool, How]:
            endings = Endings()
            async with serve(echo, max_handshakes=1, on_ending=endings) as server:
                with contextlib.closing(tcp(server.port)) as first, contextlib.closing(tcp(server.port)):
                    ending = await endings.one
                    with pytest.raises(ConnectionResetError):
                        await in_thread(lambda: first.recv(1))
                    return server.counters()["evicted"], ending.clean, ending.how

        assert run(main) == (1, False, How.FAILED_HANDSHAKE)


class FlakyListener(socket.socket):
    """Its ``accept`` raises what it is told to, once each."""

    errors: list[int]

    def accept(self) -> tuple[socket.socket, Any]:
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return super().accept()


def flaky(*errors: int) -> FlakyListener:
    listener = FlakyListener()
    listener.bind((LOOPBACK, 0))
    listener.listen()
    listener.errors = list(errors)
    return listener


#: A server whose descriptors run out: clients fill them, and leave again.
STARVED = """
import asyncio, contextlib, logging, resource, socket, ssl, sys, trio
import bowout
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

async def echo(stream):
    async for chunk in stream:
        await stream.send(chunk)

async def main():
    await bowout.serve(echo, sockets=[listener], context=context, drain_on_signals=True, drain_timeout=0)

listener = socket.create_server(("127.0.0.1", 0), backlog=100)
print(listener.getsockname()[1], flush=True)
trio.run(main) if sys.argv[1] == "trio" else asyncio.run(main())
"""


class TestAcceptTrouble:
    @pytest.fixture(autouse=True)
    def quickly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(accept, "BACKOFF_FIRST", 0.001)

    def test_it_backs_off_and_goes_on(self, run: Runner) -> None:
        async def main() -> bytes:
            async with serve(echo, sockets=[flaky(*[errno.EMFILE] * 5)]) as server:
                return await asks(server)

        assert run(main) == b"ping"

    def test_it_says_so_once(self, run: Runner, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            async with serve(echo, sockets=[flaky(*[errno.ENFILE] * 5)]) as server:
                await asks(server)

        run(main)
        assert [record.getMessage() for record in caplog.records] == [
            f"cannot accept connections: {os.strerror(errno.ENFILE)}; retrying"
        ]

    def test_it_says_when_the_trouble_is_over(
        self, run: Runner, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def main() -> None:
            async with serve(echo, sockets=[flaky(errno.ENOBUFS)]) as server:
                await asks(server)

        monkeypatch.setattr(accept, "CALM", 0.0)
        run(main)
        assert [record.getMessage() for record in caplog.records][1:] == ["accepting connections again"]

    def test_a_connection_that_is_gone_before_it_is_accepted_is_no_trouble(
        self, run: Runner, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> bytes:
            async with serve(echo, sockets=[flaky(*[errno.ECONNABORTED] * 40)]) as server:
                return await asks(server)

        assert run(main) == b"ping"
        assert caplog.records == []

    @pytest.mark.parametrize("loop", ["asyncio", "trio"])
    def test_it_survives_the_limit_of_descriptors(self, loop: str, tmp_path: Path) -> None:
        pem = tmp_path / "server.pem"
        certificate().private_key_and_cert_chain_pem.write_to_path(pem)
        with program(STARVED, loop, str(pem)) as process:
            port = int(process.line())
            with contextlib.ExitStack() as many:
                for _ in range(60):
                    many.enter_context(contextlib.closing(tcp(port)))
                told = process.line()
            with dialled(port) as wire:
                wire.send(b"ping")
                wire.read_exactly(4)
            process.process.terminate()
            rest = process.rest()
        assert told == "WARNING cannot accept connections: Too many open files; retrying"
        assert "cannot accept" not in rest
