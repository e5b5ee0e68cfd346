"""`serve`: what is told of connections: log records, callbacks, counters."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bowout
from bowout import (
    Ending,
    Event,
    EventKind,
    How,
    Inbound,
    IncompleteRead,
    LimitExceeded,
    MisuseError,
    Outbound,
    Side,
    Stream,
    StreamClosed,
    Truncated,
)
from bowout._server.drain_log import DrainLog
from helpers.runners import Runner
from helpers.served import (
    LOOPBACK,
    Endings,
    Failure,
    asks,
    connect,
    echo,
    nothing,
    read_to_end,
    serve,
    tcp,
    visit,
)
from helpers.tasks import in_thread, settle
from helpers.wire import client_context, server_context


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
            "truncated: the peer's FIN came at a record boundary, without close_notify"
            " (left by an exception: Truncated)"
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


class TestForgery:
    """What a peer has chosen must not forge a line of a log, nor move a terminal's cursor."""

    EVIL = "c\n2000-01-01 ERROR bowout._server.serve forged\x1b[2J\u202e"
    SHOWN = "c\\n2000-01-01 ERROR bowout._server.serve forged\\x1b[2J\\u202e"

    @pytest.mark.parametrize("abstract", [False, True])
    def test_the_name_of_a_unix_client(
        self,
        run: Runner,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
        abstract: bool,
    ) -> None:
        async def main() -> tuple[Ending, set[str], str, str]:
            def on_event(peer: str, event: Event) -> None:
                seen.update((peer, event.detail))

            async def handler(stream: Stream) -> None:
                seen.update((stream.peer, repr(stream)))
                raise Failure

            seen, endings = set[str](), Endings()
            async with serve(handler, path="socket", on_ending=endings, on_event=on_event) as server:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.bind(f"\0{self.EVIL}{os.getpid()}" if abstract else self.EVIL)
                    sock.connect("socket")
                    async with bowout.connect("localhost", 1, context=client_context(), over=sock) as stream:
                        with pytest.raises(bowout.PeerError):
                            await stream.receive()
                    ending = await endings.one
                return ending, seen, str(await server.drain()), ending.ladder()

        monkeypatch.chdir(tmp_path)
        with caplog.at_level(logging.DEBUG, "bowout"):
            ending, seen, report, ladder = run(main)
        assert ending.peer == (f"\\x00{self.SHOWN}{os.getpid()}" if abstract else self.SHOWN)
        assert [text for text in seen if not text.isprintable()] == []
        for record in caplog.records:
            assert record.getMessage().isprintable()
        assert "forged" in caplog.text
        assert all(line.isprintable() for line in [*report.splitlines(), *ladder.splitlines()])

    def test_an_ending_of_whatever_origin(self) -> None:
        ending = Ending(
            how=How.RESET,
            started_by=Side.PEER,
            outbound=Outbound.LOST,
            inbound=Inbound.RESET,
            peer=self.EVIL,
            reason=self.EVIL,
        )
        log = DrainLog(1)
        log.add(ending, slow=False)
        assert self.EVIL.partition("\n")[2] not in str(log.report(0.0)).splitlines()
        assert all(line.isprintable() for line in str(log.report(0.0)).splitlines())


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
            wrap: list[type[Failure]] = []

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
                wrap.append(Failure)  # serve() has shown the context a ClientHello by now
                with contextlib.closing(tcp(server.port)) as first:
                    return await in_thread(lambda: first.recv(1)), await asks(server)

        assert run(main) == (b"", b"ping")
        assert [record.getMessage() for record in caplog.records] == ["an accepted connection could not be set up"]
