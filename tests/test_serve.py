"""`serve`: where it listens, and what the end of a handler is to its peer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import bowout
from bowout import (
    How,
    MisuseError,
    Outbound,
    Stream,
    Truncated,
)
from helpers.runners import Runner
from helpers.served import (
    LOOPBACK,
    Endings,
    Failure,
    asks,
    connect,
    dialled_open,
    echo,
    gate,
    nothing,
    read_to_end,
    serve,
    sleep_for_ever,
    visit,
)
from helpers.tasks import in_thread, jobs, on_trio, settle
from helpers.wire import VERSIONS, Version, Wire, client_context, server_context

both_versions = pytest.mark.parametrize("version", VERSIONS)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


class TestWhere:
    @pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
    @pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
    def test_no_host_is_every_family_on_one_port(self, run: Runner, address: str) -> None:
        async def main() -> bytes:
            async with (
                serve(echo, host=None) as server,
                bowout.connect(address, server.port, context=client_context()) as stream,
            ):
                await stream.send(b"ping")
                return await stream.receive_exactly(4)

        assert run(main) == b"ping"

    def test_addresses_tell_the_port_that_was_free(self, run: Runner) -> None:
        async def main() -> bool:
            async with serve(echo) as server:
                return bool(server.addresses == [(LOOPBACK, server.port)] and server.port > 0)

        assert run(main)

    @pytest.mark.backends("asyncio", "trio")  # uvloop asks the system itself, in a thread of its own
    def test_nobody_waits_while_its_name_is_looked_up(self, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main() -> bool:
            async with serve(echo, host="localhost") as server:
                return bool(server.addresses)

        def watched(*args: Any, **options: Any) -> Any:
            flags = args[5] if len(args) > 5 else options.get("flags", 0)
            if not flags & socket.AI_NUMERICHOST:  # trio asks that first, which takes no time
                threads.add(threading.current_thread())
            return getaddrinfo(*args, **options)

        threads: set[threading.Thread] = set()
        getaddrinfo = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", watched)
        assert run(main)
        assert threads
        assert threading.current_thread() not in threads

    def test_sockets_of_ones_own(self, run: Runner) -> None:
        async def main() -> bytes:
            async with serve(echo, sockets=[socket.create_server((LOOPBACK, 0))]) as server:
                return await asks(server)

        assert run(main) == b"ping"

    def test_sockets_that_do_not_listen_are_misuse(self, run: Runner) -> None:
        async def main() -> None:
            with socket.socket() as sock, pytest.raises(ValueError, match="listening"):
                await serve(echo, sockets=[sock])

        run(main)

    def test_a_unix_socket(self, run: Runner, tmp_path: Path) -> None:
        async def main() -> tuple[bytes, list[object]]:
            path = tmp_path / "socket"
            async with serve(echo, path=path) as server:
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(str(path))
                async with bowout.connect("localhost", 1, context=client_context(), over=sock) as stream:
                    await stream.send(b"ping")
                    return await stream.receive_exactly(4), server.addresses

        assert run(main) == (b"ping", [str(tmp_path / "socket")])

    def test_a_unix_socket_has_no_port(self, run: Runner, tmp_path: Path) -> None:
        async def main() -> None:
            async with serve(echo, path=tmp_path / "socket") as server:
                with pytest.raises(MisuseError, match="no TCP port"):
                    _ = server.port

        run(main)

    def test_the_clients_of_a_unix_socket_are_numbered(self, run: Runner, tmp_path: Path) -> None:
        async def main() -> str:
            endings = Endings()
            async with serve(nothing, path=tmp_path / "socket", on_ending=endings):
                sock = socket.socket(socket.AF_UNIX)
                sock.connect(str(tmp_path / "socket"))
                async with bowout.connect("localhost", 1, context=client_context(), over=sock) as stream:
                    await stream.receive()
                return (await endings.one).peer

        assert run(main) == "unix#1"

    def test_the_path_is_gone_when_the_block_is_left(self, run: Runner, tmp_path: Path) -> None:
        async def main() -> None:
            async with serve(echo, path=tmp_path / "socket"):
                assert (tmp_path / "socket").exists()

        run(main)
        assert not (tmp_path / "socket").exists()

    def test_the_path_is_gone_when_the_block_is_cancelled(self, run: Runner, tmp_path: Path) -> None:
        async def main() -> None:
            async def block() -> None:
                async with serve(echo, path=tmp_path / "socket"):
                    await sleep_for_ever()

            async with jobs() as group:
                job = group.start(block)
                await settle()
                job.cancel()

        run(main)
        assert not (tmp_path / "socket").exists()

    def test_the_path_of_a_successor_is_left(self, run: Runner, tmp_path: Path) -> None:
        path = tmp_path / "socket"

        async def main() -> bool:
            with socket.socket(socket.AF_UNIX) as successor:
                async with serve(echo, path=path):
                    path.unlink()
                    successor.bind(str(path))
                return path.exists()

        assert run(main)

    def test_during_a_drain_the_path_is_free_for_a_successor(self, run: Runner, tmp_path: Path) -> None:
        path = tmp_path / "socket"

        async def main() -> bool:
            async with serve(echo, path=path) as old:
                await old.drain()
                async with serve(echo, path=path):
                    await settle()
                    return path.exists()

        assert run(main)

    def test_two_servers_share_a_port(self, run: Runner) -> None:
        async def main() -> list[str]:
            def named(name: str) -> Callable[[Stream], Any]:
                async def handler(stream: Stream) -> None:
                    await stream.send(name.encode())

                return handler

            async def ask() -> str:
                async with await connect(first) as stream:
                    return (await stream.receive()).decode()

            async with (
                serve(named("one"), host=LOOPBACK, reuse_port=True) as first,
                serve(named("two"), host=LOOPBACK, port=first.port, reuse_port=True) as second,
            ):
                assert second.port == first.port
                for _ in range(200):
                    answers.append(await ask())
                    if len(set(answers)) == 2:
                        break
            return answers

        answers: list[str] = []
        assert set(run(main)) == {"one", "two"}


class TestMisuse:
    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"max_connections": 0}, "max_connections"),
            ({"reuse_port": ""}, "reuse_port"),
            ({"drain_on_signals": ""}, "drain_on_signals"),
            ({"max_handshakes": 0}, "max_handshakes"),
            ({"idle_timeout": 0}, "idle_timeout"),
            ({"on_drain": "later"}, "on_drain"),
            ({"host": "localhost", "path": "socket"}, "only one of these"),
            ({"port": 1, "sockets": []}, "only one of these"),
            ({"sockets": []}, "no sockets"),
            (
                {"context": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
                r"is ssl\.create_default_context\(ssl\.Purpose\.CLIENT_AUTH",
            ),
            ({"context": None}, "SSLContext"),
            ({"on_ending": []}, "on_ending"),
            ({"on_event": "print"}, "on_event"),
        ],
    )
    def test_arguments_that_cannot_be_meant(self, options: dict[str, Any], match: str) -> None:
        with pytest.raises((TypeError, ValueError), match=match):
            bowout.serve(nothing, **{"context": server_context(), **options})

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"host": ""}, "every address"),
            ({"host": "a\0b"}, "neither a host.s name nor an address"),
            ({"port": -1}, "from 0 to"),
            ({"port": 65536}, "from 0 to"),
            ({"path": ""}, "path"),
            ({"path": Path()}, "path"),
            ({"path": "\0abstract"}, "path"),
            ({"backlog": 0}, "backlog"),
            ({"alpn": []}, "alpn"),
            ({"sni": {"": server_context()}}, "sni"),
            ({"sni": {".": server_context()}}, "sni"),
            ({"sni": {"*.a.test": server_context()}}, "function"),
        ],
    )
    def test_wrong_values(self, options: dict[str, Any], match: str) -> None:
        with pytest.raises(ValueError, match=match):
            bowout.serve(nothing, **{"context": server_context(), **options})

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"host": 5}, "host must be a str, not int"),
            ({"host": b"localhost"}, "host must be a str, not bytes"),
            ({"port": "80"}, "write 80"),
            ({"port": True}, "bool"),
            ({"port": 80.0}, "float"),
            ({"path": 5}, "path"),
            ({"path": b"socket"}, "path"),
            ({"backlog": None}, "backlog"),
            ({"backlog": True}, "backlog"),
            ({"sockets": 3}, "list of sockets, not int"),
            ({"sockets": [3]}, "one of them is int"),
            ({"sni": {"a.test": "server.pem"}}, "SSLContext"),
            ({"sni": {5: server_context()}}, "sni"),
            ({"sni": [server_context()]}, "sni"),
            ({"proxy_protocol": "require"}, "proxy_protocol"),
            ({"proxy_protocol": None}, "proxy_protocol"),
            ({"proxy_protocol": 1}, "proxy_protocol"),
        ],
    )
    def test_wrong_types(self, options: dict[str, Any], match: str) -> None:
        with pytest.raises(TypeError, match=match):
            bowout.serve(nothing, **{"context": server_context(), **options})

    @pytest.mark.parametrize("name", ["drain_timeout", "handshake_timeout", "close_timeout", "idle_timeout"])
    @pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
    def test_nothing_waits_for_ever(self, name: str, seconds: float) -> None:
        with pytest.raises(ValueError, match=name):
            bowout.serve(nothing, context=server_context(), **{name: seconds})  # type: ignore[arg-type]

    def test_a_second_use(self, run: Runner) -> None:
        async def main() -> None:
            serving = serve(nothing)
            async with serving:
                pass
            with pytest.raises(MisuseError, match="once"):
                await serving

        run(main)

    def test_signals_in_another_thread(self, run: Runner) -> None:
        async def main() -> None:
            with pytest.raises(MisuseError, match="main thread"):
                await serve(nothing, drain_on_signals=True)

        thread = threading.Thread(target=run, args=(main,))
        failures: list[threading.ExceptHookArgs] = []
        before, threading.excepthook = threading.excepthook, failures.append
        thread.start()
        thread.join()
        threading.excepthook = before
        assert failures == []

    def test_an_address_in_use_is_raised_as_it_is(self, run: Runner) -> None:
        async def main() -> None:
            async with serve(nothing) as server:
                with pytest.raises(OSError, match="cannot listen on"):
                    await serve(nothing, host=LOOPBACK, port=server.port)

        run(main)


class TestEndOfAHandler:
    """close_notify vouches for everything before it: what the client sees on the wire."""

    @both_versions
    def test_it_returns_and_the_peer_gets_close_notify(self, run: Runner, version: Version) -> None:
        async def main() -> tuple[object, How]:
            async def handler(stream: Stream) -> None:
                await stream.send(b"whole")

            endings = Endings()
            async with serve(handler, version=version, on_ending=endings) as server:
                seen = await visit(server, lambda wire: (read_to_end(wire), bytes(wire.received)), version)
                return seen, (await endings.one).how

        assert run(main) == (("close_notify", b"whole"), How.CLEAN)

    @both_versions
    def test_it_fails_and_the_peer_gets_a_bare_fin(self, run: Runner, version: Version) -> None:
        async def main() -> tuple[object, Outbound]:
            async def handler(stream: Stream) -> None:
                await stream.send(b"half")
                raise Failure

            endings = Endings()
            async with serve(handler, version=version, on_ending=endings) as server:
                seen = await visit(server, read_to_end, version)
                return seen, (await endings.one).outbound

        assert run(main) == ("FIN", Outbound.CUT)

    def test_it_fails_where_messages_mark_their_own_end(self, run: Runner) -> None:
        async def main() -> object:
            async def handler(stream: Stream) -> None:
                raise Failure

            async with serve(handler, on_error="close") as server:
                return await visit(server, read_to_end)

        assert run(main) == "close_notify"

    @both_versions
    def test_it_is_cancelled_and_the_peer_gets_close_notify(self, run: Runner, version: Version) -> None:
        async def main() -> object:
            async def handler(stream: Stream) -> None:
                await stream.send(b"whole")
                await sleep_for_ever()

            def script(wire: Wire) -> str:
                wire.read_exactly(5)
                told.set()
                return read_to_end(wire)

            told = threading.Event()
            async with jobs() as group:
                with contextlib.suppress(Failure):
                    async with serve(handler, version=version) as server:
                        client = group.start(visit, server, script, version)
                        await in_thread(told.wait)
                        raise Failure
                return await client.result()

        assert run(main) == "close_notify"

    def test_it_is_cancelled_in_the_middle_of_a_send_and_the_peer_gets_none(self, run: Runner) -> None:
        async def main() -> tuple[object, bool]:
            async def handler(stream: Stream) -> None:
                async with jobs() as inner:
                    sender = inner.start(stream.send, bytes(64 << 20))
                    await settle()
                    stuck.set()
                    await sender.ended()

            def script(wire: Wire) -> str:
                assert go.wait(20)
                return wire.read_to_end()

            stuck, go, endings = gate(), threading.Event(), Endings()
            async with jobs() as group:
                with contextlib.suppress(Failure):
                    async with serve(handler, on_ending=endings) as server:
                        client = group.start(visit, server, script)
                        await stuck.wait()
                        raise Failure
                go.set()
                return await client.result(), (await endings.one).close_notify_sent_at is None

        end, none_sent = run(main)
        assert end in {"FIN", "RST"}
        assert none_sent

    def test_a_failure_touches_no_other_connection(self, run: Runner) -> None:
        async def main() -> bytes:
            async def handler(stream: Stream) -> None:
                async for chunk in stream:
                    if chunk == b"fail":
                        raise Failure
                    await stream.send(chunk)

            async with serve(handler) as server, await connect(server) as other:
                await other.send(b"ping")
                await other.receive_exactly(4)
                async with await connect(server) as failing:
                    await failing.send(b"fail")
                    with pytest.raises(Truncated):
                        await failing.receive()
                await other.send(b"pong")
                return await other.receive_exactly(4)

        assert run(main) == b"pong"

    @pytest.mark.backends("trio")
    def test_a_group_of_a_cancellation_and_an_error_ends_no_other_connection(self, run: Runner) -> None:
        """Under trio the cancelled part of the group vanishes in the job's scope; the rest must not end the server."""

        async def handler(stream: Stream) -> None:
            async def fail_late() -> None:
                try:
                    await trio.sleep_forever()
                finally:
                    raise Failure

            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail_late)
                with trio.CancelScope(shield=True):
                    await stream.send(b"ready")
                await stream.receive()

        async def main() -> How:
            endings = Endings()
            async with serve(handler, on_ending=endings, on_drain="wait") as server, await connect(server) as stream:
                await stream.receive_exactly(5)
                await server.drain(0)
                return (await endings.one).how

        assert run(main) in {How.CLEAN, How.UNANSWERED}


async def wait_for(awaitable: Awaitable[object]) -> None:
    await awaitable


class TestBlock:
    def test_its_own_error_comes_out_as_it_is(self, run: Runner) -> None:
        async def main() -> None:
            async with serve(echo) as server, await connect(server):
                raise Failure

        with pytest.raises(Failure):
            run(main)

    def test_its_own_error_comes_out_of_a_cancelled_scope(self, run: Runner) -> None:
        async def main() -> BaseException | None:
            async def block() -> None:
                async with serve(echo):
                    try:
                        await sleep_for_ever()
                    finally:
                        raise Failure

            async with jobs() as group:
                job = group.start(block)
                await settle()
                job.cancel()
                return await job.ended()

        assert isinstance(run(main), Failure)

    def test_a_cancellation_cancels_the_handlers(self, run: Runner) -> None:
        async def main() -> How:
            async def block() -> None:
                async with serve(handler, on_ending=endings) as server:
                    servers.append(server)
                    await sleep_for_ever()

            async def handler(stream: Stream) -> None:
                begun.set()
                await sleep_for_ever()

            servers: list[Any] = []
            begun, endings = gate(), Endings()
            async with jobs() as group:
                job = group.start(block)
                await settle()
                client = group.start(visit, servers[0], read_to_end)
                await begun.wait()
                job.cancel()
                await job.ended()
                assert await client.result() == "close_notify"
                return (await endings.one).how

        assert run(main) in {How.CLEAN, How.UNANSWERED}

    def test_an_awaited_server_can_be_cancelled(self, run: Runner) -> None:
        async def main() -> bool:
            async with jobs() as group:
                job = group.start(wait_for, serve(echo))
                await settle()
                job.cancel()
                return isinstance(await job.ended(), trio.Cancelled if on_trio() else asyncio.CancelledError)

        assert run(main)

    def test_a_cancellation_of_its_drain_comes_out(self, run: Runner) -> None:
        async def main() -> BaseException | None:
            async def block() -> None:
                async with serve(handler, sockets=[listener]):
                    await begun.wait()

            async def handler(stream: Stream) -> None:
                begun.set()
                await sleep_for_ever()

            begun, listener = gate(), socket.create_server((LOOPBACK, 0))
            port = listener.getsockname()[1]
            async with jobs() as group:
                job = group.start(block)
                with contextlib.closing(await in_thread(lambda: dialled_open(port))):
                    await begun.wait()
                    await settle()
                    job.cancel()
                    return await job.ended()

        assert isinstance(run(main), (asyncio.CancelledError, trio.Cancelled))

    def test_what_is_no_exception_ends_the_server(self, run: Runner) -> None:
        class Enough(BaseException):
            pass

        async def main() -> None:
            async def handler(stream: Stream) -> None:
                raise Enough

            async with serve(handler) as server:
                with contextlib.closing(await in_thread(lambda: dialled_open(server.port))):
                    await sleep_for_ever()

        with pytest.raises(BaseExceptionGroup) as caught:
            run(main)
        assert caught.group_contains(Enough)

    def test_after_it_nobody_listens(self, run: Runner) -> None:
        async def main() -> None:
            async with serve(echo) as server:
                pass
            with pytest.raises(bowout.ConnectRefused):
                await connect(server)

        run(main)
