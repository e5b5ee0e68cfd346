"""Callbacks of asyncio's applications that raise anything: the carrier is closed, and the application is told."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

import pytest

import bowout
from bowout import How
from bowout.asyncio import Policy, create_connection, start_tls
from bowout.testing import Act, Peer
from helpers.asyncio_apps import RecordingApp, ending_of
from helpers.runners import Runner
from helpers.tasks import in_thread
from helpers.wire import PATIENCE

pytestmark = pytest.mark.backends("asyncio", "uvloop")

MUCH: Final = bytes(16 << 20)


class OwnInterruption(BaseException):
    """Neither an Exception nor one of those that end the loop's run."""


#: What asyncio's own transports treat as they treat an Exception.
REPORTED: Final = [asyncio.CancelledError, OwnInterruption]
#: What ends the loop's run.
ENDING_THE_RUN: Final = [KeyboardInterrupt, SystemExit]

Complaints = list[dict[str, Any]]


def raising(kind: type[BaseException]) -> Callable[..., Any]:
    def fail(*args: Any) -> None:
        raise kind

    return fail


def polite(act: Act) -> None:
    act.handshake()
    act.ready()
    while act.receive():
        pass
    act.close_notify()
    act.fin()


def answer(act: Act) -> None:
    act.handshake()
    act.send(b"answer")
    act.close_notify()
    act.receive()


async def connected(peer: Peer, app: RecordingApp, **options: Any) -> None:
    options = {"ssl": peer.client_context(), "ssl_shutdown_timeout": PATIENCE, **options}
    await create_connection(lambda: app, peer.host, peer.port, server_hostname="localhost", **options)


def note_complaints() -> Complaints:
    complaints: Complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    return complaints


def run_until_interrupted(
    backend: str,
    kind: type[BaseException],
    begin: Callable[[], Coroutine[Any, Any, Any]],
    go_on: Callable[[], Coroutine[Any, Any, Any]],
) -> None:
    """Run a loop until `kind` comes out of it, and then run it on."""

    async def main() -> None:
        await begin()
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=loop_factory_of(backend)) as runner:
        with pytest.raises(kind):
            runner.run(main())
        runner.run(go_on())


def loop_factory_of(backend: str) -> Callable[[], asyncio.AbstractEventLoop]:
    if backend == "uvloop":
        import uvloop  # noqa: PLC0415  (an optional extra)

        return uvloop.new_event_loop
    return asyncio.SelectorEventLoop


@pytest.fixture
def failing_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """A handler of the log that raises what the test's parameter says."""

    class FailingHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise request.param

    logger, handler = logging.getLogger("bowout.asyncio"), FailingHandler()
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


class TestOnEnding:
    """The guard of all tests finds a descriptor that is left."""

    @pytest.mark.parametrize("kind", REPORTED)
    @pytest.mark.parametrize("verb", ["close", "abort"])
    def test_what_it_raises_is_logged(
        self, run: Runner, kind: type[BaseException], verb: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def main() -> None:
            with Peer(polite) as peer:
                app = RecordingApp()
                await connected(peer, app, policy=Policy(on_ending=raising(kind)))
                getattr(app.transport, verb)()
                assert await app.lost is None
                assert ending_of(app.transport).how is (How.CLEAN if verb == "close" else How.ABORTED)

        run(main)
        assert caplog.messages == ["on_ending failed"]

    @pytest.mark.parametrize("kind", ENDING_THE_RUN)
    def test_what_ends_the_run_comes_after_the_close(self, backend: str, kind: type[BaseException]) -> None:
        apps: list[RecordingApp] = []

        async def begin() -> None:
            apps.append(RecordingApp())
            await connected(peer, apps[0], policy=Policy(on_ending=raising(kind)))
            asyncio.get_running_loop().call_soon(apps[0].transport.abort)

        async def go_on() -> None:
            assert await apps[0].lost is None
            assert ending_of(apps[0].transport).how is How.ABORTED

        with Peer(polite) as peer:
            run_until_interrupted(backend, kind, begin, go_on)

    @pytest.mark.parametrize("kind", ENDING_THE_RUN)
    def test_it_is_told_while_the_transport_calls_us(self, run: Runner, kind: type[BaseException]) -> None:
        """The peer's end comes from a transport that we simulate: what it makes of the exception is its own affair."""

        async def main() -> None:
            with Peer(polite) as peer:
                app = RecordingApp()
                await connected(peer, app, policy=Policy(on_ending=raising(kind)))
                protocol = app.transport._protocol
                lower = protocol._underlying._transport
                with pytest.raises(kind):
                    protocol.connection_lost(ConnectionResetError())
                assert isinstance(await app.lost, bowout.Reset)
                lower.abort()  # It ends in earnest, too.

        run(main)

    @pytest.mark.parametrize("failing_log", [RuntimeError("disk"), OwnInterruption()], indirect=True)
    @pytest.mark.usefixtures("failing_log")
    def test_a_log_that_fails_after_it(self, run: Runner) -> None:
        async def main() -> None:
            with Peer(polite) as peer:
                app = RecordingApp()
                await connected(peer, app, policy=Policy(on_ending=raising(RuntimeError)))
                with pytest.raises((RuntimeError, OwnInterruption)):
                    app.transport.abort()
                assert await app.lost is None

        run(main)

    @pytest.mark.parametrize("failing_log", [RuntimeError("disk")], indirect=True)
    @pytest.mark.usefixtures("failing_log")
    def test_a_drain_ends_the_others_too(self, run: Runner) -> None:
        async def main() -> None:
            with Peer(polite) as made:
                server, client = made.server_context(), made.client_context()
            servers: list[RecordingApp] = []

            def accepted() -> RecordingApp:
                servers.append(RecordingApp())
                return servers[-1]

            policy = Policy(on_ending=raising(RuntimeError))
            listening: Any = await bowout.asyncio.create_server(accepted, "127.0.0.1", 0, ssl=server, policy=policy)
            port = listening.sockets[0].getsockname()[1]
            apps = [RecordingApp() for _ in range(3)]
            for app in apps:
                factory: Any = lambda app=app: app  # noqa: E731
                await create_connection(factory, "127.0.0.1", port, ssl=client, server_hostname="localhost")
                app.transport.pause_reading()  # So it does not answer.
            for app in servers:
                await app.made.wait()
            with pytest.raises(RuntimeError, match="disk"):
                await bowout.asyncio.drain(listening, timeout=0)
            for app in servers:
                await app.lost
            for app in apps:
                app.transport.abort()
                await app.lost

        run(main)


class TestTheApplication:
    @pytest.mark.parametrize("kind", REPORTED)
    @pytest.mark.parametrize("callback", ["data_received", "eof_received", "connection_made"])
    def test_it_is_treated_as_an_exception_is(self, run: Runner, kind: type[BaseException], callback: str) -> None:
        async def main() -> None:
            complaints = note_complaints()
            with Peer(answer) as peer:
                app = RecordingApp()
                setattr(app, callback, raising(kind))
                if callback == "connection_made":
                    with pytest.raises(kind):
                        await connected(peer, app)
                else:
                    await connected(peer, app)
                assert isinstance(await app.lost, kind)
                report = await in_thread(peer.wait)
            assert report.close_notify == 0
            assert [complaint["message"] for complaint in complaints] == [
                f"Fatal error: protocol.{callback}() call failed."
            ]
            assert isinstance(complaints[0]["exception"], kind)
            if callback != "connection_made":
                ending = ending_of(app.transport)
                assert ending.reason == f"left by an exception: {kind.__name__}"
                assert ending.how is not How.RESET

        run(main)

    @pytest.mark.parametrize("kind", ENDING_THE_RUN)
    def test_what_ends_the_run_holds_up_no_close(self, backend: str, kind: type[BaseException]) -> None:
        """The close goes on when the loop runs on, and not at its deadline."""
        apps: list[RecordingApp] = []

        async def begin() -> None:
            apps.append(RecordingApp())
            apps[0].resume_writing = raising(kind)  # type: ignore[method-assign]
            await connected(peer, apps[0])
            apps[0].transport.write(MUCH)
            apps[0].transport.close()
            peer.go()

        async def go_on() -> None:
            assert await apps[0].lost is None
            ending = ending_of(apps[0].transport)
            assert (ending.how, ending.sent, ending.deadline_hit) == (How.CLEAN, len(MUCH), False)

        def script(act: Act) -> None:
            act.handshake()
            act.wait_for_go()
            act.expect_data(MUCH)
            assert act.receive() == b""
            act.close_notify()

        with Peer(script) as peer:
            run_until_interrupted(backend, kind, begin, go_on)

    @pytest.mark.parametrize("kind", REPORTED)
    def test_flow_control_that_fails_ends_nothing(self, run: Runner, kind: type[BaseException]) -> None:
        async def main() -> None:
            complaints = note_complaints()
            with Peer(polite) as peer:
                app = RecordingApp()
                app.pause_writing = app.resume_writing = raising(kind)  # type: ignore[method-assign]
                await connected(peer, app)
                app.transport.write(MUCH)
                app.transport.close()
                assert await app.lost is None
                assert (ending_of(app.transport).how, ending_of(app.transport).sent) == (How.CLEAN, len(MUCH))
            assert [complaint["message"] for complaint in complaints] == [
                "protocol.pause_writing() failed",
                "protocol.resume_writing() failed",
            ]

        run(main)


class FaultyCarrier:
    """A transport that fails where ours has no choice but to call it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def write_eof(self) -> None:
        raise RuntimeError("no FIN of mine")


class TestTheCarrier:
    def test_one_that_fails_at_each_attempt_to_leave_is_closed(self, run: Runner) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            with Peer(polite) as peer:
                app = RecordingApp()
                app.told.append("made")  # Before TLS.
                lower, _ = await loop.create_connection(asyncio.Protocol, peer.host, peer.port)
                carrier: Any = FaultyCarrier(lower)
                upgraded = await start_tls(carrier, app, peer.client_context(), server_hostname="localhost")
                with pytest.raises(RuntimeError, match="no FIN"):
                    upgraded.close()
                assert isinstance(await app.lost, RuntimeError)
                assert lower.is_closing()

        run(main)

    def test_an_abort_without_a_spare_descriptor_closes_it(self, run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main() -> None:
            with Peer(polite) as peer:
                app = RecordingApp()
                await connected(peer, app)
                with monkeypatch.context() as patch:
                    patch.setattr(os, "dup", raising(OSError))
                    app.transport.abort()
                assert await app.lost is None

        run(main)
