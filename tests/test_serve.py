"""`serve`: who is let in, what a handler's end is to its peer, and what is told of it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

import bowout
from bowout import (
    CertificateError,
    Ending,
    Event,
    EventKind,
    HandshakeAlert,
    HandshakeReset,
    How,
    IncompleteRead,
    LimitExceeded,
    MisuseError,
    Outbound,
    Stream,
    StreamClosed,
    Truncated,
    _acceptor,
)
from helpers.runners import Runner
from helpers.served import (
    LOOPBACK,
    Endings,
    asks,
    connect,
    dialled,
    echo,
    gate,
    program,
    read_to_end,
    serve,
    sleep_for_ever,
    tcp,
    visit,
)
from helpers.tasks import in_thread, jobs, on_trio, settle
from helpers.wire import VERSIONS, Version, Wire, authority, certificate, client_context, server_context

both_versions = pytest.mark.parametrize("version", VERSIONS)


async def nothing(stream: Stream) -> None:
    """Return at once."""


class Failure(Exception):
    """What a handler of a test raises."""


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
            with socket.socket() as sock, pytest.raises(MisuseError, match="listening"):
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
            ({"max_handshakes": 0}, "max_handshakes"),
            ({"idle_timeout": 0}, "idle_timeout"),
            ({"on_drain": "later"}, "on_drain"),
            ({"host": "localhost", "path": "socket"}, "one of them"),
            ({"port": 1, "sockets": []}, "one of them"),
            ({"sockets": []}, "no sockets"),
            ({"context": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}, "cannot be a server's"),
            ({"context": None}, "SSLContext"),
        ],
    )
    def test_arguments_that_cannot_be_meant(self, options: dict[str, Any], match: str) -> None:
        with pytest.raises(MisuseError, match=match):
            bowout.serve(nothing, **{"context": server_context(), **options})

    @pytest.mark.parametrize("name", ["drain_timeout", "handshake_timeout", "close_timeout", "idle_timeout"])
    @pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
    def test_nothing_waits_for_ever(self, name: str, seconds: float) -> None:
        with pytest.raises(ValueError, match=name):
            bowout.serve(nothing, context=server_context(), **{name: seconds})  # type: ignore[arg-type]

    def test_a_handler_that_cannot_be_called(self) -> None:
        with pytest.raises(MisuseError, match="coroutine function"):
            bowout.serve("handler", context=server_context())  # type: ignore[arg-type]

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


class TestLog:
    def failing(self, run: Runner, error: Callable[[], Exception]) -> None:
        async def main() -> None:
            async def handler(stream: Stream) -> None:
                raise error()

            endings = Endings()
            async with serve(handler, on_ending=endings) as server:
                await visit(server, read_to_end)
                await endings.one

        run(main)

    @pytest.mark.parametrize(
        "error",
        [Failure, lambda: MisuseError("twice"), lambda: OSError("the disk")],
        ids=["its own", "misuse", "system"],
    )
    def test_a_failure_is_logged_once_with_its_traceback(
        self, run: Runner, caplog: pytest.LogCaptureFixture, error: Callable[[], Exception]
    ) -> None:
        self.failing(run, error)
        logged = [record for record in caplog.records if record.levelno > logging.INFO]
        assert [(record.name, record.levelname, bool(record.exc_info)) for record in logged] == [
            ("bowout.server", "ERROR", True)
        ]

    @pytest.mark.parametrize(
        "error",
        [
            lambda: Truncated("cut", inside_record=False),
            lambda: IncompleteRead("too early", partial=b"", expected=1),
            lambda: StreamClosed("ours"),
            lambda: LimitExceeded("a long line"),
            lambda: ExceptionGroup("tasks", [Truncated("cut", inside_record=False), StreamClosed("ours")]),
        ],
        ids=["truncated", "incomplete", "closed", "too long", "group"],
    )
    def test_bad_manners_are_quiet(
        self, run: Runner, caplog: pytest.LogCaptureFixture, error: Callable[[], Exception]
    ) -> None:
        self.failing(run, error)
        assert [record for record in caplog.records if record.levelno > logging.INFO] == []

    def test_an_unclean_ending_is_one_line_at_info(self, run: Runner, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            endings = Endings()
            async with serve(echo, on_ending=endings) as server:
                await visit(server, lambda wire: wire.fin())
                await endings.one

        with caplog.at_level(logging.INFO, "bowout.server"):
            run(main)
        [record] = caplog.records
        assert record.getMessage().endswith(
            "truncated: the peer's FIN came at a record boundary, without close_notify (left by Truncated)"
        )

    def test_a_clean_ending_is_at_debug(self, run: Runner, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> None:
            endings = Endings()
            async with serve(nothing, on_ending=endings) as server:
                await visit(server, read_to_end)
                await endings.one

        with caplog.at_level(logging.DEBUG, "bowout.server"):
            run(main)
        assert [record.levelname for record in caplog.records] == ["DEBUG"]


class TestObserving:
    def test_a_failing_on_ending_is_logged_and_harmless(self, run: Runner, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> bytes:
            def on_ending(ending: Ending) -> None:
                raise Failure

            async with serve(echo, on_ending=on_ending) as server:
                await asks(server)
                return await asks(server)

        assert run(main) == b"ping"
        assert {record.getMessage() for record in caplog.records} == {"on_ending failed"}

    def test_on_event_is_told_the_peer_and_the_event(self, run: Runner) -> None:
        async def main() -> tuple[set[str], list[EventKind]]:
            def on_event(peer: str, event: Event) -> None:
                seen.append((peer, event.kind))

            seen: list[tuple[str, EventKind]] = []
            async with serve(echo, on_event=on_event) as server:
                await asks(server)
            return {peer for peer, _ in seen}, [kind for _, kind in seen]

        peers, kinds = run(main)
        assert [peer.rpartition(":")[0] for peer in peers] == [LOOPBACK]
        assert kinds[0] is EventKind.CONNECTED
        assert {EventKind.HANDSHAKE_DONE, EventKind.CLOSE_NOTIFY, EventKind.RELEASED} <= set(kinds)

    def test_a_failing_on_event_is_logged_and_harmless(self, run: Runner, caplog: pytest.LogCaptureFixture) -> None:
        async def main() -> bytes:
            def on_event(peer: str, event: Event) -> None:
                raise Failure

            async with serve(echo, on_event=on_event) as server:
                return await asks(server)

        assert run(main) == b"ping"
        assert {record.getMessage() for record in caplog.records} == {"on_event failed"}

    def test_counters_tell_what_is_now(self, run: Runner) -> None:
        async def main() -> tuple[int, int, int]:
            async with serve(echo) as server, await connect(server) as stream:
                await stream.send(b"x")
                await stream.receive()
                with contextlib.closing(tcp(server.port)):
                    while not server.counters()["handshaking"]:
                        await settle()
                    counters = server.counters()
            return counters["established"], counters["handshaking"], counters["accepted"]

        assert run(main) == (1, 1, 2)

    def test_counters_tell_the_endings_by_kind(self, run: Runner) -> None:
        async def main() -> Counter[str]:
            endings = Endings()
            async with serve(echo, on_ending=endings) as server:
                await asks(server)
                await visit(server, lambda wire: wire.fin())
                await visit(server, lambda wire: wire.rst())
                tcp(server.port).close()
                await endings.wait(4)
                return Counter({name: count for name, count in server.counters().items() if name.startswith("ended")})

        assert +run(main) == {"ended_clean": 1, "ended_truncated": 1, "ended_reset": 1, "ended_failed_handshake": 1}

    def test_a_connection_that_cannot_be_taken_over_does_not_end_the_accepting(
        self, run: Runner, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> tuple[bytes, bytes]:
            context = server_context()
            wrap = [Failure]

            class Picky(ssl.SSLObject):
                def __init__(self, *_: Any, **__: Any) -> None:
                    pass

                @classmethod
                def _create(cls, *args: Any, **kwargs: Any) -> ssl.SSLObject:
                    if wrap:
                        raise wrap.pop()
                    created: ssl.SSLObject = ssl.SSLObject._create(*args, **kwargs)  # type: ignore[attr-defined]
                    return created

            context.sslobject_class = Picky
            async with serve(echo, context=context) as server:
                with contextlib.closing(tcp(server.port)) as first:
                    return await in_thread(lambda: first.recv(1)), await asks(server)

        assert run(main) == (b"", b"ping")
        assert [record.getMessage() for record in caplog.records] == ["a connection could not be taken over"]


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
                serve(handler, max_connections=1, handshake_timeout=0.1) as server,
                serve(echo, handshake_timeout=0.2, on_ending=endings) as clock,
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


def dialled_open(port: int) -> socket.socket:
    """A client that has shaken hands and then does nothing."""
    sock = tcp(port, receive_buffer=16 << 10)
    tls_in, tls_out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(tls_in, tls_out, server_hostname="localhost")
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            sock.sendall(tls_out.read())
            tls_in.write(sock.recv(1 << 14))
        else:
            sock.sendall(tls_out.read())
            return sock


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
        monkeypatch.setattr(_acceptor, "_BACKOFF_FIRST", 0.001)

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
            f"cannot accept connections: {os.strerror(errno.ENFILE)}; trying again until it gets better"
        ]

    def test_it_says_when_the_trouble_is_over(
        self, run: Runner, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def main() -> None:
            async with serve(echo, sockets=[flaky(errno.ENOBUFS)]) as server:
                await asks(server)

        monkeypatch.setattr(_acceptor, "_CALM", 0.0)
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
        assert told == "WARNING cannot accept connections: Too many open files; trying again until it gets better"
        assert "cannot accept" not in rest


def names_of(wire: Wire) -> set[str]:
    """The DNS names in the server's certificate."""
    fields: Any = wire.tls.getpeercert()
    return {str(value) for kind, value in fields["subjectAltName"] if kind == "DNS"}


def context_naming(name: str) -> ssl.SSLContext:
    """A server's context with a certificate for `name`."""
    return server_context(None, name, "peer.test")


class TestCertificates:
    @staticmethod
    def write(path: Path, *names: str) -> Path:
        path.write_bytes(authority().issue_cert(*names).private_key_and_cert_chain_pem.bytes())
        return path

    def test_a_new_one_is_used_for_new_connections(self, run: Runner, tmp_path: Path) -> None:
        new = self.write(tmp_path / "new.pem", "peer.test", "new.test")

        async def main() -> set[str]:
            async with serve(echo) as server:
                server.reload_certificate(new)
                names: set[str] = await visit(server, names_of)
                return names

        assert "new.test" in run(main)

    def test_established_connections_do_not_notice(self, run: Runner, tmp_path: Path) -> None:
        new = self.write(tmp_path / "new.pem", "peer.test")

        async def main() -> bytes:
            async with serve(echo) as server, await connect(server) as stream:
                server.reload_certificate(new)
                await stream.send(b"ping")
                return await stream.receive_exactly(4)

        assert run(main) == b"ping"

    def test_a_pair_that_does_not_fit_leaves_the_old_one(self, run: Runner, tmp_path: Path) -> None:
        one, other = authority().issue_cert("a.test"), authority().issue_cert("b.test")
        one.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        other.private_key_pem.write_to_path(tmp_path / "key.pem")

        async def main() -> set[str]:
            async with serve(echo) as server:
                with pytest.raises(ssl.SSLError):
                    server.reload_certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
                names: set[str] = await visit(server, names_of)
                return names

        assert "peer.test" in run(main)

    def test_a_missing_file_leaves_the_old_one(self, run: Runner, tmp_path: Path) -> None:
        async def main() -> bytes:
            async with serve(echo) as server:
                with pytest.raises(FileNotFoundError):
                    server.reload_certificate(tmp_path / "missing.pem")
                return await asks(server)

        assert run(main) == b"ping"

    def test_an_encrypted_key_without_a_password_is_an_error(self, run: Runner, tmp_path: Path) -> None:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

        leaf = authority().issue_cert(LOOPBACK)
        key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
        encrypted = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
        path = tmp_path / "encrypted.pem"
        path.write_bytes(encrypted + leaf.cert_chain_pems[0].bytes())

        async def main() -> bytes:
            async with serve(echo) as server:
                with pytest.raises(ssl.SSLError):
                    server.reload_certificate(path)
                server.reload_certificate(path, password="secret")
                return await asks(server)

        assert run(main) == b"ping"

    def test_one_of_a_mapping_is_reloaded_by_its_name(self, run: Runner, tmp_path: Path) -> None:
        new = self.write(tmp_path / "new.pem", "peer.test", "new.test")

        async def main() -> set[str]:
            async with serve(echo, sni={"Peer.Test": server_context()}) as server:
                server.reload_certificate(new, name="peer.test")
                names: set[str] = await visit(server, names_of)
                return names

        assert "new.test" in run(main)

    @pytest.mark.parametrize("sni", [None, {"a.test": server_context()}])
    def test_a_name_that_is_not_there_is_misuse(self, run: Runner, sni: Any) -> None:
        async def main() -> None:
            async with serve(echo, sni=sni) as server:
                with pytest.raises(MisuseError, match=r"b\.test"):
                    server.reload_certificate("cert.pem", name="b.test")

        run(main)


class TestSNI:
    def names(self, run: Runner, sni: Any, version: Version = "1.3") -> set[str]:
        async def main() -> set[str]:
            async with serve(echo, sni=sni) as server:
                names: set[str] = await visit(server, names_of, version)
                return names

        return run(main)

    @both_versions
    def test_a_mapping_chooses_by_name(self, run: Runner, version: Version) -> None:
        assert "chosen.test" in self.names(run, {"Peer.Test": context_naming("chosen.test")}, version)

    def test_a_function_chooses_by_name(self, run: Runner) -> None:
        asked: list[str] = []

        def choose(name: str) -> ssl.SSLContext:
            asked.append(name)
            return context_naming("chosen.test")

        assert "chosen.test" in self.names(run, choose)
        assert asked == ["peer.test"]

    @pytest.mark.parametrize("sni", [{"other.test": server_context()}, lambda name: None])
    def test_every_other_name_is_served_by_the_main_context(self, run: Runner, sni: Any) -> None:
        assert "localhost" in self.names(run, sni)

    def test_no_name_is_served_by_the_main_context(self, run: Runner) -> None:
        async def main() -> bytes:
            context = client_context()
            async with (
                serve(echo, sni={"127.0.0.1": context_naming("other.test")}) as server,
                bowout.connect(LOOPBACK, server.port, context=context) as stream,
            ):
                await stream.send(b"ping")
                return await stream.receive_exactly(4)

        assert run(main) == b"ping"

    @pytest.mark.parametrize("result", [Failure, "no context"])
    def test_a_failing_function_fails_that_handshake(
        self, run: Runner, caplog: pytest.LogCaptureFixture, result: Any
    ) -> None:
        async def main() -> str:
            def choose(name: str) -> ssl.SSLContext:
                if result is Failure:
                    raise Failure
                return result  # type: ignore[no-any-return]

            async with serve(echo, sni=choose) as server:
                with pytest.raises(HandshakeAlert) as caught:
                    await connect(server, server_hostname="peer.test")
                return caught.value.alert.name

        assert run(main) == "internal_error"
        assert [record.getMessage() for record in caplog.records] == ["the sni function failed"]

    def test_the_endings_of_a_chosen_context_know_as_much(self, run: Runner) -> None:
        async def main() -> Ending:
            endings = Endings()
            async with serve(nothing, sni={"peer.test": server_context()}, on_ending=endings) as server:
                await visit(server, read_to_end)
                return await endings.one

        assert EventKind.TICKET in {event.kind for event in run(main).events}

    def test_a_mapping_that_wants_more_of_clients_than_the_main_context_is_misuse(self) -> None:
        strict = server_context()
        strict.verify_mode = ssl.CERT_REQUIRED
        with pytest.raises(MisuseError, match="main context"):
            serve(echo, sni={"strict.test": strict})

    def test_a_function_that_wants_more_is_refused_at_the_handshake(self, run: Runner) -> None:
        async def main() -> None:
            strict = server_context()
            strict.verify_mode = ssl.CERT_REQUIRED
            async with serve(echo, sni=lambda name: strict) as server:
                with pytest.raises(HandshakeAlert):
                    await connect(server, server_hostname="peer.test")

        run(main)


def mutual_context(version: Version | None) -> ssl.SSLContext:
    """A server's context that requires a client's certificate."""
    context = server_context(version)
    authority().configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class TestClientCertificates:
    @both_versions
    def test_it_is_on_the_stream(self, run: Runner, version: Version) -> None:
        async def main() -> tuple[bool, Any]:
            async def handler(stream: Stream) -> None:
                seen.append((stream.peer_certificate() is not None, stream.peer_certificate_fields()))

            seen: list[tuple[bool, Any]] = []
            context = client_context()
            authority().issue_cert("client.test").configure_cert(context)
            async with (
                serve(handler, context=mutual_context(version)) as server,
                await connect(server, context=context) as stream,
            ):
                await stream.receive()
            return seen[0]

        there, fields = run(main)
        assert there
        assert ("DNS", "client.test") in fields["subjectAltName"]

    @both_versions
    def test_without_one_the_client_is_refused(self, run: Runner, version: Version) -> None:
        assert self.refused(run, version, client_context()) == (How.FAILED_HANDSHAKE, 0)

    @both_versions
    def test_with_one_of_a_stranger_the_client_is_refused(self, run: Runner, version: Version) -> None:
        import trustme  # noqa: PLC0415

        context = client_context()
        trustme.CA().issue_cert("client.test").configure_cert(context)
        assert self.refused(run, version, context) == (How.FAILED_HANDSHAKE, 0)

    @staticmethod
    def refused(run: Runner, version: Version, context: ssl.SSLContext) -> tuple[How, int]:
        async def main() -> tuple[How, int]:
            async def handler(stream: Stream) -> None:
                called.append(stream)

            called: list[Stream] = []
            endings = Endings()
            async with serve(handler, context=mutual_context(version), on_ending=endings) as server:
                with pytest.raises((HandshakeAlert, bowout.AlertReceived, HandshakeReset, bowout.Reset)):
                    # In TLS 1.3 the client is done before the server has looked at its certificate.
                    async with await connect(server, context=context) as stream:
                        await stream.receive()
                return (await endings.one).how, len(called)

        return run(main)


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


def test_a_client_that_does_not_trust_us_is_a_failed_handshake(run: Runner) -> None:
    async def main() -> tuple[How, str | None]:
        endings = Endings()
        async with serve(echo, on_ending=endings) as server:
            with pytest.raises(CertificateError):
                await connect(server, context=ssl.create_default_context())
            ending = await endings.one
            return ending.how, ending.alert.name if ending.alert else None

    assert run(main) == (How.FAILED_HANDSHAKE, "unknown_ca")
