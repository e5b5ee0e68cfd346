"""asyncio's streams over TLS: half-close, the data before the error, servers, and their drain."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

import bowout
from bowout import How
from bowout.asyncio import (
    Policy,
    TLSStreamReader,
    TLSStreamWriter,
    create_server,
    drain,
    open_connection,
    open_unix_connection,
    start_server,
    start_unix_server,
)
from bowout.testing import Act, Peer, client_context, default_ca, server_context
from helpers.runners import Runner
from helpers.tasks import in_thread

pytestmark = pytest.mark.backends("asyncio", "uvloop")

MUCH: Final = bytes(range(256)) * (8 << 10)  # 2 MiB
VERSIONS: Final = ("1.2", "1.3")


def contexts(tls: Any = None) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return client_context(default_ca(), tls), server_context(default_ca(), tls)


async def to(peer: Peer, **options: Any) -> tuple[TLSStreamReader, TLSStreamWriter]:
    return await open_connection(
        peer.host, peer.port, ssl=peer.client_context(), server_hostname="localhost", **options
    )


async def end(writer: TLSStreamWriter) -> bowout.Ending:
    writer.close()
    with contextlib.suppress(bowout.PeerError):
        await writer.wait_closed()
    assert writer.ending is not None
    return writer.ending


def says(data: bytes, then: Callable[[Act], None]) -> Callable[[Act], None]:
    def script(act: Act) -> None:
        act.handshake()
        act.send(data)
        then(act)
        act.ready()

    return script


def peer_has_sent(writer: TLSStreamWriter) -> bool:
    events: Any = writer.transport._protocol._timeline.events()  # type: ignore[attr-defined]
    return any(event.received for event in events)


async def in_time(seen: Callable[[], bool]) -> None:
    while not seen():  # noqa: ASYNC110  (nothing tells of it)
        await asyncio.sleep(0)


class TestReadingBeforeAnError:
    """The peer has said b"one\\ntwo" and left without close_notify: no read hides it, and none loses a byte."""

    @pytest.fixture
    def cut(self, run: Runner) -> Callable[..., Any]:
        def cut(use: Callable[[TLSStreamReader], Any]) -> Any:
            async def main() -> Any:
                with Peer(says(b"one\ntwo", Act.fin)) as peer:
                    reader, writer = await to(peer)
                    await in_time(lambda: reader.exception() is not None)
                    result = await use(reader)
                    with pytest.raises(bowout.Truncated):
                        await reader.read(1)
                    ending = await end(writer)
                    assert ending.how is How.TRUNCATED
                    return result

            return run(main)

        return cut

    def test_some(self, cut: Any) -> None:
        async def use(reader: TLSStreamReader) -> None:
            assert await reader.read(3) == b"one"
            assert not reader.at_eof()
            assert await reader.read(100) == b"\ntwo"

        cut(use)

    def test_all(self, cut: Any) -> None:
        async def use(reader: TLSStreamReader) -> None:
            for _ in range(2):
                with pytest.raises(bowout.Truncated):
                    await reader.read()
            assert await reader.read(100) == b"one\ntwo"

        cut(use)

    def test_exactly(self, cut: Any) -> None:
        async def use(reader: TLSStreamReader) -> None:
            assert await reader.readexactly(2) == b"on"
            with pytest.raises(bowout.Truncated):
                await reader.readexactly(6)
            assert await reader.readexactly(5) == b"e\ntwo"

        cut(use)

    def test_lines(self, cut: Any) -> None:
        async def use(reader: TLSStreamReader) -> None:
            lines = aiter(reader)
            assert await anext(lines) == b"one\n"
            with pytest.raises(bowout.Truncated):
                await anext(lines)
            with pytest.raises(bowout.Truncated):
                await reader.readuntil(b"\n")
            assert await reader.read(100) == b"two"

        cut(use)

    def test_a_reader_that_waits_is_woken(self, run: Runner) -> None:
        def script(act: Act) -> None:
            act.handshake()
            act.send(b"one")
            act.wait_for_go()
            act.fin()

        async def main() -> None:
            with Peer(script) as peer:
                reader, writer = await to(peer)
                assert await reader.readexactly(1) == b"o"
                waiting = asyncio.ensure_future(reader.readexactly(10))
                await asyncio.sleep(0)
                peer.go()
                with pytest.raises(bowout.Truncated):
                    await waiting
                assert await reader.read(10) == b"ne"
                with pytest.raises(bowout.Truncated):
                    await writer.drain()
                await end(writer)

        run(main)

    def test_all_that_was_read_when_it_is_cancelled_stays(self, run: Runner) -> None:
        async def main() -> None:
            with Peer(says(b"one", Act.wait_for_go)) as peer:
                reader, writer = await to(peer)
                waiting = asyncio.ensure_future(reader.read())
                await in_time(lambda: peer_has_sent(writer))
                await asyncio.sleep(0)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert await reader.read(10) == b"one"
                peer.go()
                await end(writer)

        run(main)

    def test_to_the_clean_end(self, run: Runner) -> None:
        async def main() -> None:
            with Peer(says(MUCH, Act.close_notify)) as peer:
                reader, writer = await to(peer, limit=1000)
                assert await reader.read() == MUCH
                assert reader.at_eof()
                assert (await end(writer)).how is How.CLEAN

        run(main)


class TestBothEndsOfAStream:
    @pytest.mark.parametrize("tls", VERSIONS)
    def test_a_conversation(self, run: Runner, tls: Any) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            length = int(await reader.readline())
            data = await reader.readexactly(length)
            writer.write(data[::-1])
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def main() -> None:
            client, server = contexts(tls)
            listening = await start_server(serve, "127.0.0.1", 0, ssl=server)
            async with listening:
                port = listening.sockets[0].getsockname()[1]
                reader, writer = await open_connection("127.0.0.1", port, ssl=client, server_hostname="localhost")
                writer.write(f"{len(MUCH)}\n".encode() + MUCH)
                await writer.drain()
                assert await reader.read() == MUCH[::-1]
                assert (await end(writer)).how is How.CLEAN

        run(main)

    def test_half_closed(self, run: Runner) -> None:
        async def main() -> None:
            client, server = contexts()
            ended: asyncio.Future[bowout.Ending] = asyncio.get_running_loop().create_future()

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                assert isinstance(writer, TLSStreamWriter)
                data = await reader.read()
                writer.write(data[::-1])
                ended.set_result(await end(writer))

            listening = await start_server(serve, "127.0.0.1", 0, ssl=server)
            port = listening.sockets[0].getsockname()[1]
            reader, writer = await open_connection("127.0.0.1", port, ssl=client, server_hostname="localhost")
            writer.write(MUCH)
            assert writer.can_write_eof()
            writer.write_eof()
            assert await reader.read() == MUCH[::-1]
            assert (await end(writer)).how is How.CLEAN
            assert (await ended).how is How.CLEAN
            assert await drain(listening) == []

        run(main)

    def test_over_a_unix_socket(self, run: Runner, tmp_path: Path) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()
            await writer.wait_closed()

        async def main() -> None:
            client, server = contexts()
            path = str(tmp_path / "socket")
            listening = await start_unix_server(serve, path, ssl=server)
            reader, writer = await open_unix_connection(path, ssl=client, server_hostname="localhost")
            writer.write(b"hello\n")
            assert await reader.read() == b"hello\n"
            assert (await end(writer)).how is How.CLEAN
            await drain(listening)

        run(main)

    def test_without_tls(self, run: Runner) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.read())
            writer.close()
            await writer.wait_closed()

        async def main() -> None:
            listening = await start_server(serve, "127.0.0.1", 0)
            reader, writer = await open_connection(*listening.sockets[0].getsockname())
            writer.write(b"plain")
            writer.write_eof()
            assert await reader.read() == b"plain"
            writer.close()
            await writer.wait_closed()
            assert writer.ending is None
            with pytest.raises(bowout.MisuseError, match="has no TLS"):
                await drain(listening)
            listening.close()

        run(main)

    @pytest.mark.parametrize("tls", VERSIONS)
    def test_upgraded(self, run: Runner, tls: Any) -> None:
        """STARTTLS by ``writer.start_tls`` on both sides, on a loop that is not ours."""

        async def main() -> None:
            client, server = contexts(tls)
            policy = Policy(close_timeout=20)

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                assert isinstance(writer, TLSStreamWriter)
                assert await reader.readline() == b"STARTTLS\n"
                writer.write(b"OK\n")
                await writer.start_tls(server, policy=policy)
                writer.write(await reader.readline())
                await end(writer)

            listening = await start_server(serve, "127.0.0.1", 0)
            reader, writer = await open_connection(*listening.sockets[0].getsockname())
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"OK\n"
            await writer.start_tls(client, server_hostname="localhost")
            writer.write(b"secret\n")
            assert await reader.read() == b"secret\n"
            assert (await end(writer)).how is How.CLEAN
            listening.close()

        run(main)

    @pytest.mark.parametrize("early", ["the first message of TLS", "something else"])
    def test_upgraded_with_something_read_ahead(self, run: Runner, early: str) -> None:
        """What came before ``start_tls`` is TLS, and nothing else: an attacker's text is not read after it."""

        async def main() -> None:
            client, server = contexts()
            results: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

            async def serve(reader: Any, writer: asyncio.StreamWriter) -> None:
                assert isinstance(writer, TLSStreamWriter)
                assert await reader.readline() == b"STARTTLS\n"
                await in_time(lambda: reader._buffer)
                try:
                    await writer.start_tls(server)
                    results.set_result(await reader.readline())
                    await end(writer)
                except bowout.HandshakeError as error:
                    results.set_result(error)

            listening = await start_server(serve, "127.0.0.1", 0)
            _, writer = await open_connection(*listening.sockets[0].getsockname())
            writer.write(b"STARTTLS\n")
            if early == "something else":
                writer.write(b"inserted\n")
                assert isinstance(await results, bowout.NotTLS)
            else:
                await writer.start_tls(client, server_hostname="localhost")
                writer.write(b"secret\n")
                assert await results == b"secret\n"
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            listening.close()

        run(main)

    def test_a_server_keeps_the_writer_of_asyncio(self, run: Runner) -> None:
        """Newer versions of Python close the transport of a writer that is forgotten."""

        async def main() -> None:
            client, server = contexts()
            forgotten: list[bool] = []

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                gc.collect()
                others = [other for other in gc.get_objects() if type(other) is asyncio.StreamWriter]
                forgotten.append(not any(other.transport is writer.transport for other in others))
                writer.write(await reader.readline())
                await end(writer)  # type: ignore[arg-type]

            listening = await start_server(serve, "127.0.0.1", 0, ssl=server)
            address = listening.sockets[0].getsockname()
            reader, writer = await open_connection(*address, ssl=client, server_hostname="localhost")
            writer.write(b"question\n")
            assert await reader.read() == b"question\n"
            assert (await end(writer)).how is How.CLEAN
            assert forgotten == [False]
            listening.close()

        run(main)

    def test_a_wait_for_the_end_is_cancelled_and_repeated(self, run: Runner) -> None:
        def script(act: Act) -> None:
            act.handshake()
            act.receive()
            act.wait_for_go()
            act.close_notify()

        async def main() -> None:
            with Peer(script) as peer:
                _, writer = await to(peer)
                writer.close()
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0):
                        await writer.wait_closed()
                peer.go()
                await writer.wait_closed()
                assert writer.ending is not None
                assert writer.ending.how is How.CLEAN

        run(main)


class TestDrainOfAServer:
    def test_a_connection_that_is_being_accepted(self, run: Runner) -> None:
        async def main() -> None:
            _, server = contexts()
            draining: asyncio.Future[asyncio.Task[list[bowout.Ending]]] = asyncio.get_running_loop().create_future()

            def make() -> asyncio.Protocol:
                draining.set_result(asyncio.create_task(drain(listening)))
                return asyncio.Protocol()

            listening: Any = await create_server(make, "127.0.0.1", 0, ssl=server)
            reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
            (ending,) = await (await draining)
            assert ending.how is How.FAILED_HANDSHAKE
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()

        run(main)

    def test_every_client_sees_the_end(self, run: Runner) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello\n")
            await reader.read()

        async def main() -> None:
            client, server = contexts()
            listening = await start_server(serve, "127.0.0.1", 0, ssl=server)
            address = listening.sockets[0].getsockname()
            opened = [await open_connection(*address, ssl=client, server_hostname="localhost") for _ in range(100)]
            for reader, _ in opened:
                assert await reader.readline() == b"hello\n"
            draining = asyncio.ensure_future(drain(listening))
            for reader, writer in opened:
                assert await reader.read() == b""
                assert (await end(writer)).how is How.CLEAN
            endings = await draining
            assert [ending.how for ending in endings] == [How.CLEAN] * 100
            with pytest.raises(ConnectionRefusedError):
                await open_connection(*address, ssl=client, server_hostname="localhost")

        run(main)

    def test_a_silent_client_does_not_hold_it_up(self, run: Runner) -> None:
        def script(act: Act) -> None:
            act.handshake()
            act.stop_reading()
            act.wait_for_go()

        async def main() -> None:
            _, server = contexts()
            made = asyncio.Event()

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                made.set()

            listening = await start_server(serve, "127.0.0.1", 0, ssl=server)
            address = listening.sockets[0].getsockname()
            with Peer(script, role="client", connect_to=address) as peer:
                await made.wait()
                (ending,) = await drain(listening, timeout=0.05)
                peer.go()
            assert ending.how is How.ABORTED

        run(main)

    @pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), ("soon", TypeError), (float("nan"), ValueError)])
    def test_wrong_arguments(self, run: Runner, timeout: Any, error: Any) -> None:
        async def main() -> None:
            _, server = contexts()
            listening = await start_server(lambda reader, writer: None, "127.0.0.1", 0, ssl=server)
            with pytest.raises(error):
                await drain(listening, timeout)
            assert listening.is_serving()
            listening.close()

        run(main)


def test_a_server_that_reads_a_truncated_request(run: Runner) -> None:
    async def main() -> None:
        _, server = contexts()
        seen: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert isinstance(writer, TLSStreamWriter)
            try:
                seen.set_result(await reader.read())
            except bowout.Truncated as error:
                seen.set_result(error)
            await end(writer)

        listening = await start_server(serve, "127.0.0.1", 0, ssl=server)
        address = listening.sockets[0].getsockname()
        with Peer(says(b"half a request", Act.fin), role="client", connect_to=address) as peer:
            assert isinstance(await seen, bowout.Truncated)
            await in_thread(peer.wait_ready)
            await drain(listening)

    run(main)


def test_a_socket_that_is_connected_already(run: Runner) -> None:
    async def main() -> None:
        with Peer(says(b"hello", Act.close_notify)) as peer:
            sock = socket.create_connection(peer.address)
            reader, writer = await open_connection(sock=sock, ssl=peer.client_context(), server_hostname="localhost")
            assert await reader.read() == b"hello"
            assert (await end(writer)).how is How.CLEAN

    run(main)
