"""asyncio's protocol over TLS: what the application is told, in which order, and what its transport does."""

from __future__ import annotations

import asyncio
import gc
import logging
import ssl
import time
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

import bowout
from bowout import EventKind, How, Inbound, Side
from bowout.asyncio import Policy, TLSTransport, create_connection, start_tls
from bowout.testing import Act, Peer
from helpers.asyncio_apps import BufferedApp, RecordingApp, ending_of
from helpers.runners import Runner
from helpers.tasks import in_thread, turn

pytestmark = pytest.mark.backends("asyncio", "uvloop")

MUCH: Final = bytes(range(256)) * (64 << 10)  # 16 MiB
#: What fits into the buffers of any kernel.
SOME: Final = MUCH[: 1 << 16]
SOON: Final = 0.05

Script = Callable[[Act], None]
Use = Callable[[RecordingApp, Peer], Awaitable[Any]]


async def connected(peer: Peer, app: RecordingApp | None = None, **options: Any) -> RecordingApp:
    app = app or RecordingApp()
    options = {"ssl": peer.client_context(), "server_hostname": "localhost", "ssl_shutdown_timeout": 30, **options}
    await create_connection(lambda: app, peer.host, peer.port, **options)
    return app


@pytest.fixture
def meet(run: Runner) -> Callable[..., Any]:
    """Run ``use(app, peer)`` with a connection to a peer that plays a script."""

    def meet(script: Script, use: Use, *, tls: Any = "1.3", **options: Any) -> Any:
        async def main() -> Any:
            with Peer(script, tls=tls) as peer:
                return await use(await connected(peer, **options), peer)

        return run(main)

    return meet


def answer_then(end: Callable[[Act], None]) -> Script:
    def script(act: Act) -> None:
        act.handshake()
        act.send(b"answer")
        end(act)

    return script


async def in_time(seen: Callable[[], bool]) -> None:
    while not seen():  # noqa: ASYNC110  (nothing tells of it)
        await asyncio.sleep(0)


def read_all(act: Act) -> None:
    act.handshake()
    while act.receive():
        pass
    act.close_notify()
    act.fin()


class TestTheEndOfTheirDirection:
    @pytest.mark.parametrize("tls", ["1.2", "1.3"])
    def test_close_notify_is_the_end(self, meet: Any, tls: str) -> None:
        async def use(app: RecordingApp, peer: Peer) -> None:
            await app.ended.wait()
            assert app.told == ["made", "data", "eof"]
            assert app.transport.is_closing() is (tls == "1.2")  # There it ends both directions.
            app.transport.close()
            assert await app.lost is None
            assert app.data == b"answer"
            assert ending_of(app.transport).how is How.CLEAN

        meet(answer_then(lambda act: act.close_notify()), use, tls=tls)

    @pytest.mark.parametrize("tls", ["1.2", "1.3"])
    def test_fin_alone_is_an_error_after_the_data(self, meet: Any, tls: str) -> None:
        async def use(app: RecordingApp, peer: Peer) -> None:
            error = await app.lost
            assert app.told == ["made", "data", "lost"]
            assert app.data == b"answer"
            assert isinstance(error, bowout.Truncated)
            assert isinstance(error, OSError)
            assert error.ending is ending_of(app.transport)
            assert app.transport.is_closing()

        meet(answer_then(lambda act: act.fin()), use, tls=tls)

    @pytest.mark.parametrize(
        "policy",
        [Policy(truncation="tolerate"), Policy(tolerant_hosts=["LOCALHOST."])],
        ids=["everywhere", "for one host"],
    )
    def test_it_is_tolerated_and_logged(self, meet: Any, policy: Policy, caplog: pytest.LogCaptureFixture) -> None:
        async def use(app: RecordingApp, peer: Peer) -> None:
            await app.ended.wait()
            app.transport.close()
            assert await app.lost is None
            assert app.told == ["made", "data", "eof", "lost"]
            assert ending_of(app.transport).how is How.TRUNCATED

        with caplog.at_level(logging.WARNING, "bowout.asyncio"):
            meet(answer_then(lambda act: act.fin()), use, policy=policy)
        (record,) = caplog.records
        assert record.getMessage().startswith("truncation tolerated: localhost (127.0.0.1:")

    def test_another_host_is_not_tolerated(self, meet: Any) -> None:
        async def use(app: RecordingApp, peer: Peer) -> None:
            assert isinstance(await app.lost, bowout.Truncated)

        meet(answer_then(lambda act: act.fin()), use, policy=Policy(tolerant_hosts=["old.example"]))

    def test_inside_a_record_it_is_never_tolerated(self, meet: Any) -> None:
        async def use(app: RecordingApp, peer: Peer) -> None:
            error = await app.lost
            assert isinstance(error, bowout.Truncated)
            assert error.inside_record

        def end(act: Act) -> None:
            act.cut_record(b"half", at=3)
            act.fin()

        meet(answer_then(end), use, policy=Policy(truncation="tolerate"))

    def test_an_application_that_does_not_keep_it_open(self, meet: Any) -> None:
        async def main(app: RecordingApp, peer: Peer) -> None:
            app.keep_open = False
            assert await app.lost is None
            assert app.told == ["made", "data", "eof", "lost"]
            assert ending_of(app.transport).how is How.CLEAN

        def script(act: Act) -> None:
            act.handshake()
            act.read_exactly(1)
            act.send(b"answer")
            act.close_notify()

        async def use(app: RecordingApp, peer: Peer) -> None:
            app.keep_open = False
            app.transport.write(b"?")
            await main(app, peer)

        meet(script, use)

    def test_half_closed_by_them(self, meet: Any) -> None:
        def script(act: Act) -> None:
            act.handshake()
            act.close_notify()
            act.read_exactly(len(MUCH))
            act.receive()

        async def use(app: RecordingApp, peer: Peer) -> None:
            await app.ended.wait()
            app.transport.write(MUCH)
            app.transport.close()
            assert await app.lost is None
            assert ending_of(app.transport).how is How.CLEAN
            assert ending_of(app.transport).sent == len(MUCH)

        meet(script, use)

    def test_half_closed_by_us(self, meet: Any) -> None:
        def script(act: Act) -> None:
            act.handshake()
            act.expect_data(b"question")
            assert act.receive() == b""
            act.send(MUCH)
            act.close_notify()

        async def use(app: RecordingApp, peer: Peer) -> None:
            assert app.transport.can_write_eof()
            app.transport.write(b"question")
            app.transport.write_eof()
            app.transport.write_eof()
            with pytest.raises(bowout.MisuseError, match="after write_eof") as late:
                app.transport.write(b"too late")
            assert isinstance(late.value, RuntimeError)  # As asyncio's transports raise.
            await app.lost  # Both directions have ended.
            assert app.data == MUCH
            assert ending_of(app.transport).how is How.CLEAN

        meet(script, use)

    def test_in_tls_12_a_half_close_is_not_offered(self, meet: Any) -> None:
        async def use(app: RecordingApp, peer: Peer) -> None:
            assert not app.transport.can_write_eof()
            app.transport.close()
            await app.lost

        meet(read_all, use, tls="1.2")

    def test_what_was_written_before_their_end_in_tls_12_is_reported(self, meet: Any) -> None:
        def script(act: Act) -> None:
            act.handshake()
            act.stop_reading()
            act.wait_for_go()
            act.close_notify()

        async def use(app: RecordingApp, peer: Peer) -> None:
            app.transport.write(MUCH)
            peer.go()
            error = await app.lost
            assert isinstance(error, bowout.PeerClosed | bowout.SendTimeout)
            assert ending_of(app.transport).unsent

        meet(script, use, tls="1.2", ssl_shutdown_timeout=SOON)


class TestTransportReading:
    def test_a_buffered_protocol(self, run: Runner) -> None:
        def much(act: Act) -> None:
            act.send(MUCH)
            act.close_notify()

        async def main() -> None:
            with Peer(answer_then(much)) as peer:
                inner = RecordingApp()
                context = peer.client_context()
                await create_connection(
                    lambda: BufferedApp(inner), peer.host, peer.port, ssl=context, server_hostname="localhost"
                )
                await inner.ended.wait()
                inner.transport.close()
                assert await inner.lost is None
                assert inner.data == b"answer" + MUCH

        run(main)

    def test_nothing_is_delivered_while_paused(self, meet: Any) -> None:
        async def use(app: RecordingApp, peer: Peer) -> None:
            app.transport.pause_reading()
            app.transport.pause_reading()
            assert not app.transport.is_reading()
            app.transport.write(b"?")
            await in_thread(peer.wait_ready)
            assert app.data == b""
            app.transport.resume_reading()
            app.transport.resume_reading()
            assert app.transport.is_reading()
            error = await app.lost
            assert app.data == b"answer"
            assert isinstance(error, bowout.Truncated)

        def script(act: Act) -> None:
            act.handshake()
            act.read_exactly(1)
            act.send(b"answer")
            act.fin()
            act.ready()

        meet(script, use)

    def test_paused_within_the_data(self, run: Runner) -> None:
        """What came in the same read stays until the application wants it, and an RST does not destroy it."""

        class Pauses(RecordingApp):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.pause_reading()
                asyncio.get_running_loop().call_soon(self.transport.resume_reading)

        async def main() -> None:
            def script(act: Act) -> None:
                act.handshake()
                act.read_exactly(1)
                with act.one_segment():
                    for _ in range(20):
                        act.send(bytes(20_000))
                act.rst()

            with Peer(script) as peer:
                app = await connected(peer, Pauses())
                app.transport.write(b"?")
                assert isinstance(await app.lost, bowout.Reset)
                assert len(app.data) % 20_000 == 0 or app.data

        run(main)

    def test_a_peer_that_floods_is_held_up(self, meet: Any) -> None:
        def script(act: Act) -> None:
            act.handshake()
            act.ready()
            act.flood(64 << 20)

        async def use(app: RecordingApp, peer: Peer) -> None:
            app.transport.pause_reading()
            await in_thread(peer.wait_ready)
            assert len(app.data) < 1 << 20
            app.transport.abort()
            await app.lost

        meet(script, use)

    def test_closed_from_inside_the_data(self, run: Runner) -> None:
        class Closes(RecordingApp):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.write(b"bye")
                self.transport.close()

        async def main() -> None:
            def script(act: Act) -> None:
                act.handshake()
                act.send(b"quit")
                act.expect_data(b"bye")
                assert act.receive() == b""
                act.close_notify()

            with Peer(script) as peer:
                app = await connected(peer, Closes())
                assert await app.lost is None
                assert ending_of(app.transport).how is How.CLEAN
                report = await in_thread(peer.wait)
            assert report.error is None
            assert report.close_notify == 1

        run(main)

    def test_a_key_update_is_answered(self, meet: Any) -> None:
        def script(act: Act) -> None:
            act.handshake()
            act.key_update(request=True)
            act.send(b"answer")
            act.expect_data(b"thanks")
            act.close_notify()

        async def use(app: RecordingApp, peer: Peer) -> None:
            await app.receive_exactly(6)
            app.transport.write(b"thanks")
            await app.ended.wait()
            app.transport.close()
            assert await app.lost is None
            kinds = [(event.kind, event.by) for event in ending_of(app.transport).events]
            assert (EventKind.KEY_UPDATE, Side.WE) in kinds

        meet(script, use)


class TestTransportWriting:
    @pytest.mark.parametrize("tls", ["1.2", "1.3"])
    def test_everything_is_sent_before_the_end(self, meet: Any, tls: str) -> None:
        def script(act: Act) -> None:
            act.handshake()
            act.wait_for_go()
            act.expect_data(MUCH)
            assert act.receive() == b""
            act.close_notify()

        async def use(app: RecordingApp, peer: Peer) -> None:
            data = bytearray(MUCH)
            app.transport.write(data)
            data[:] = bytes(len(data))  # What was written is not changed by it.
            assert app.told[-1] == "pause"
            assert app.transport.get_write_buffer_size() > 0
            app.transport.close()
            peer.go()
            assert await app.lost is None
            ending = ending_of(app.transport)
            assert (ending.how, ending.sent, ending.unsent) == (How.CLEAN, len(MUCH), 0)
            report = await in_thread(peer.wait)
            assert report.error is None, str(report)

        meet(script, use, tls=tls)

    def test_pieces_of_every_kind(self, meet: Any) -> None:
        def script(act: Act) -> None:
            act.handshake()
            act.expect_data(b"abcdefgh" * 3)
            act.receive()
            act.close_notify()

        async def use(app: RecordingApp, peer: Peer) -> None:
            for piece in (b"ab", bytearray(b"cd"), memoryview(b"ef"), memoryview(bytearray(b"gh")), b""):
                app.transport.write(piece)
            app.transport.writelines([b"abcd", bytearray(b"efgh"), memoryview(b"abcdefgh")])
            app.transport.writelines([])
            app.transport.close()
            await app.lost
            report = await in_thread(peer.wait)
            assert report.error is None, str(report)

        meet(script, use)

    def test_what_is_no_bytes(self, meet: Any) -> None:
        async def use(app: RecordingApp, peer: Peer) -> None:
            for wrong in ("text", 7, None):
                with pytest.raises(TypeError):
                    app.transport.write(wrong)
            app.transport.close()
            await app.lost

        meet(read_all, use)

    def test_flow_control(self, meet: Any) -> None:
        def script(act: Act) -> None:
            act.handshake()
            act.wait_for_go()
            read_rest(act)

        def read_rest(act: Act) -> None:
            while act.receive():
                pass
            act.close_notify()

        async def use(app: RecordingApp, peer: Peer) -> None:
            transport = app.transport
            transport.set_write_buffer_limits(high=1000, low=10)
            assert transport.get_write_buffer_limits() == (10, 1000)
            with pytest.raises(ValueError, match="high"):
                transport.set_write_buffer_limits(high=1, low=2)
            while app.writable.is_set():
                transport.write(bytes(100_000))
            peer.go()
            await app.writable.wait()
            assert app.told == ["made", "pause", "resume"]
            assert transport.get_write_buffer_size() <= 10
            transport.set_write_buffer_limits()
            transport.close()
            assert await app.lost is None

        meet(script, use)

    def test_a_peer_that_takes_nothing(self, meet: Any) -> None:
        def script(act: Act) -> None:
            act.handshake()
            act.stop_reading()
            act.wait_for_go()

        async def use(app: RecordingApp, peer: Peer) -> None:
            app.transport.write(MUCH)
            app.transport.write(b"and this")
            app.transport.close()
            error = await app.lost
            ending: Any = ending_of(app.transport)
            assert isinstance(error, bowout.SendTimeout)
            assert isinstance(error, TimeoutError)
            assert ending.deadline_hit
            assert ending.sent + ending.unsent == len(MUCH) + 8
            peer.go()

        meet(script, use, ssl_shutdown_timeout=SOON)

    def test_after_the_end_nothing_is_written(self, meet: Any, caplog: pytest.LogCaptureFixture) -> None:
        async def use(app: RecordingApp, peer: Peer) -> None:
            app.transport.close()
            for _ in range(4):
                app.transport.write(b"too late")
            assert not caplog.records
            app.transport.write(b"too late")
            assert caplog.records
            app.transport.write_eof()
            app.transport.close()
            assert await app.lost is None
            assert ending_of(app.transport).sent == 0

        meet(read_all, use)

    def test_a_file(self, meet: Any, tmp_path: Path, backend: str) -> None:
        if backend == "uvloop":
            pytest.skip("uvloop has no sendfile")
        file = tmp_path / "file"
        file.write_bytes(MUCH)

        def script(act: Act) -> None:
            act.handshake()
            act.wait_for_go()
            act.expect_data(MUCH)
            act.receive()
            act.close_notify()

        async def use(app: RecordingApp, peer: Peer) -> None:
            loop = asyncio.get_running_loop()
            with file.open("rb") as source:
                sending = loop.create_task(loop.sendfile(app.transport, source))
                while not app.transport.get_write_buffer_size():
                    await turn()
                peer.go()  # It reads only now: so the file has to wait.
                assert await sending == len(MUCH)
            app.transport.close()
            assert await app.lost is None
            report = await in_thread(peer.wait)
            assert report.error is None, str(report)

        meet(script, use)


class TestTransportEnding:
    def test_abort_is_a_reset(self, meet: Any) -> None:
        async def use(app: RecordingApp, peer: Peer) -> None:
            app.transport.write(MUCH)
            app.transport.abort()
            app.transport.abort()
            assert app.transport.is_closing()
            assert await app.lost is None
            assert ending_of(app.transport).how is How.ABORTED
            report = await in_thread(peer.wait)
            assert report.rst

        meet(read_all, use)

    def test_their_reset_is_an_error(self, meet: Any) -> None:
        async def use(app: RecordingApp, peer: Peer) -> None:
            error = await app.lost
            assert isinstance(error, ConnectionResetError)
            assert isinstance(error, bowout.Reset)
            assert ending_of(app.transport).how is How.RESET

        def script(act: Act) -> None:
            act.handshake()
            act.rst()

        meet(script, use)

    def test_their_reset_after_their_close_notify(self, meet: Any) -> None:
        def script(act: Act) -> None:
            act.handshake()
            act.close_notify()
            act.wait_for_go()
            act.rst()

        async def use(app: RecordingApp, peer: Peer) -> None:
            await app.ended.wait()
            peer.go()
            assert isinstance(await app.lost, bowout.Reset)
            assert app.told == ["made", "eof", "lost"]
            assert ending_of(app.transport).how is How.RESET

        meet(script, use)

    @pytest.mark.parametrize("tls", ["1.2", "1.3"])
    def test_their_reset_is_told_to_a_writer_that_reads_nothing(self, meet: Any, tls: str) -> None:
        def script(act: Act) -> None:
            act.handshake()
            act.stop_reading()
            act.wait_for_go()
            act.rst()

        async def use(app: RecordingApp, peer: Peer) -> None:
            app.transport.pause_reading()
            app.transport.write(MUCH)
            assert not app.writable.is_set()
            peer.go()
            assert isinstance(await app.lost, bowout.Reset)
            assert app.told == ["made", "pause", "resume", "lost"]
            assert ending_of(app.transport).unsent > 0

        meet(script, use, tls=tls)

    @pytest.mark.parametrize("tls", ["1.2", "1.3"])
    def test_data_that_wait_for_the_reader_come_before_their_reset(self, run: Runner, tls: Any) -> None:
        """Who waits to write is asked to resume at once; who reads is told after the data, however late it reads."""

        def script(act: Act) -> None:
            act.handshake()
            act.send(SOME[:3000])
            act.stop_reading()
            act.wait_for_go()
            act.rst()

        class Slow(RecordingApp):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                if len(self.data) == 1000:
                    self.transport.pause_reading()

        async def main() -> None:
            with Peer(script, tls=tls) as peer:
                app = Slow()
                await create_connection(
                    lambda: BufferedApp(app),
                    peer.host,
                    peer.port,
                    ssl=peer.client_context(),
                    server_hostname="localhost",
                )
                await app.receive_exactly(1000)
                app.transport.write(MUCH)
                peer.go()
                await app.writable.wait()
                assert app.transport.is_closing()
                app.transport.write(b"too late")
                assert app.told == ["made", "data", "pause", "resume"]
                app.transport.resume_reading()
                assert isinstance(await app.lost, bowout.Reset)
                assert app.data == SOME[:3000]

        run(main)

    @pytest.mark.parametrize("name", ["data_received", "eof_received", "pause_writing"])
    def test_a_cancellation_from_a_callback_is_the_callbacks_error(self, meet: Any, name: str) -> None:
        """As in asyncio, where only KeyboardInterrupt and SystemExit pass through the loop."""

        async def use(app: RecordingApp, peer: Peer) -> None:
            def cancel(*_: object) -> None:
                raise asyncio.CancelledError

            complaints: list[Any] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))
            setattr(app, name, cancel)
            app.transport.write(MUCH if name == "pause_writing" else b"?")
            if name == "pause_writing":
                app.transport.close()
            error = await app.lost
            assert len(complaints) == 1, complaints
            assert name in complaints[0]
            if name == "pause_writing":
                assert (error, ending_of(app.transport).how) == (None, How.CLEAN)
            else:
                assert isinstance(error, asyncio.CancelledError)
                assert ending_of(app.transport).reason == "left by an exception: CancelledError"

        meet(answer_then(lambda act: act.close_notify()) if name != "pause_writing" else read_all, use)

    def test_an_interruption_in_pause_writing_tears_nothing(self, meet: Any) -> None:
        async def use(app: RecordingApp, peer: Peer) -> None:
            def interrupt() -> None:
                raise KeyboardInterrupt

            app.pause_writing = interrupt  # type: ignore[method-assign]
            with pytest.raises(KeyboardInterrupt):
                app.transport.write(MUCH)
            app.transport.close()
            assert await app.lost is None
            assert ending_of(app.transport).sent == len(MUCH)
            assert ending_of(app.transport).how is How.CLEAN

        meet(read_all, use)

    def test_a_blocked_loop_loses_nothing(self, meet: Any) -> None:
        """The deadline of the close passes while the loop is blocked; the peer's answer is there when it runs again."""

        def script(act: Act) -> None:
            act.handshake()
            act.receive()
            act.send(SOME)
            act.close_notify()
            act.fin()
            act.ready()

        async def use(app: RecordingApp, peer: Peer) -> None:
            app.transport.close()
            await asyncio.sleep(0)
            peer.wait_ready()  # It blocks the loop.
            time.sleep(2 * SOON)  # noqa: ASYNC251  (likewise)
            assert await app.lost is None
            ending = ending_of(app.transport)
            assert ending.how is How.CLEAN, ending.ladder()
            assert ending.discarded == len(SOME)

        meet(script, use, ssl_shutdown_timeout=SOON)

    def test_the_transport_below_is_closed_by_another(self, meet: Any) -> None:
        async def use(app: RecordingApp, peer: Peer) -> None:
            app.transport.get_protocol()
            lower = app.transport._protocol._underlying._transport
            lower.close()
            error = await app.lost
            assert isinstance(error, bowout.Reset)
            assert "the transport under TLS was closed" in str(error)
            assert ending_of(app.transport).started_by is not Side.PEER

        meet(read_all, use)

    @pytest.mark.parametrize("callback", ["data_received", "eof_received", "connection_made"])
    def test_an_error_of_the_application(self, run: Runner, callback: str) -> None:
        class ApplicationError(Exception):
            pass

        def fail(*args: Any) -> None:
            raise ApplicationError

        async def main() -> None:
            complaints: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
            with Peer(answer_then(lambda act: act.close_notify())) as peer:
                app = RecordingApp()
                setattr(app, callback, fail)
                if callback == "connection_made":
                    with pytest.raises(ApplicationError):
                        await connected(peer, app)
                else:
                    await connected(peer, app)
                assert isinstance(await app.lost, ApplicationError)
                report = await in_thread(peer.wait)
            assert report.close_notify == 0
            assert callback in complaints[0]["message"]
            assert isinstance(complaints[0]["exception"], ApplicationError)
            if callback != "connection_made":
                assert ending_of(app.transport).reason == "left by an exception: ApplicationError"

        run(main)

    @pytest.mark.backends("asyncio")  # uvloop ends the transport, and swallows the interruption.
    def test_an_interruption_within_the_application_tears_nothing(self, run: Runner) -> None:
        """Ctrl-C in a callback ends the loop's run, and no connection: it can go on when the loop runs again."""

        class Interrupted(RecordingApp):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                if len(self.data) == len(b"answer"):
                    raise KeyboardInterrupt

        apps: list[RecordingApp] = []

        async def main(peer: Peer) -> None:
            apps.append(Interrupted())
            await connected(peer, apps[0])
            await asyncio.sleep(60)

        async def again(peer: Peer) -> None:
            (app,) = apps
            peer.go()
            app.lost = asyncio.get_running_loop().create_future()
            app.transport.write(b"more")
            while bytes(app.data) != b"answer and more":  # noqa: ASYNC110  (nothing tells of it)
                await asyncio.sleep(0.001)
            app.transport.close()
            assert await app.lost is None
            assert ending_of(app.transport).how is How.CLEAN

        def script(act: Act) -> None:
            act.handshake()
            act.send(b"answer")
            act.wait_for_go()
            act.read_exactly(4)
            act.send(b" and more")
            act.receive()
            act.close_notify()

        with Peer(script) as peer, asyncio.Runner() as runner:
            with pytest.raises(KeyboardInterrupt):
                runner.run(main(peer))
            runner.run(again(peer))

    def test_it_is_told_to_whoever_asks(self, meet: Any) -> None:
        endings: list[bowout.Ending] = []

        async def use(app: RecordingApp, peer: Peer) -> None:
            transport = app.transport
            assert isinstance(transport, TLSTransport)
            assert transport.get_extra_info("ending") is None
            assert transport.get_extra_info("no such fact", 7) == 7
            assert isinstance(transport.get_extra_info("sslcontext"), ssl.SSLContext)
            assert isinstance(transport.get_extra_info("ssl_object"), ssl.SSLObject)
            assert transport.get_extra_info("cipher")[1] == "TLSv1.3"
            assert transport.get_extra_info("peercert")["subjectAltName"]
            assert transport.get_extra_info("peername") == (peer.host, peer.port)
            assert transport.get_extra_info("socket") is not None
            assert repr(transport) == f"<bowout.asyncio.TLSTransport client 127.0.0.1:{peer.port}: open>"
            transport.close()
            await app.lost
            assert endings == [ending_of(transport)]
            assert repr(transport).endswith(f": {endings[0]}>")
            assert endings[0].peer == f"127.0.0.1:{peer.port}"

        meet(read_all, use, policy=Policy(on_ending=endings.append))

    def test_an_observer_that_fails_is_logged(self, meet: Any, caplog: pytest.LogCaptureFixture) -> None:
        async def use(app: RecordingApp, peer: Peer) -> None:
            app.transport.close()
            assert await app.lost is None

        def fail(ending: bowout.Ending) -> None:
            raise RuntimeError("mine")

        meet(read_all, use, policy=Policy(on_ending=fail))
        assert caplog.messages == ["on_ending failed"]

    def test_a_cancellation_from_an_observer_is_logged_too(self, meet: Any, caplog: pytest.LogCaptureFixture) -> None:
        async def use(app: RecordingApp, peer: Peer) -> None:
            app.transport.close()
            assert await app.lost is None

        def cancel(ending: bowout.Ending) -> None:
            raise asyncio.CancelledError

        meet(read_all, use, policy=Policy(on_ending=cancel))
        assert caplog.messages == ["on_ending failed"]

    def test_an_interruption_in_an_observer_closes_the_descriptor(self, meet: Any) -> None:
        async def use(app: RecordingApp, peer: Peer) -> None:
            sock = app.transport.get_extra_info("socket")
            with pytest.raises(KeyboardInterrupt):
                app.transport._protocol.abort()
            assert await app.lost is None
            assert ending_of(app.transport).how is How.ABORTED
            await in_time(lambda: sock.fileno() < 0)

        def interrupt(ending: bowout.Ending) -> None:
            raise KeyboardInterrupt

        meet(read_all, use, policy=Policy(on_ending=interrupt))

    def test_a_forgotten_transport_warns(self, run: Runner) -> None:
        async def main() -> None:
            with Peer(read_all) as peer, warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                app = await connected(peer)
                app.transport._protocol._underlying._transport.set_protocol(asyncio.Protocol())
                app.transport._protocol._underlying._transport.abort()
                app.transport = None
                del app
                await asyncio.sleep(0)
                gc.collect()
            assert any("unclosed transport <bowout.asyncio.TLSTransport client" in str(w.message) for w in caught)

        run(main)


class TestTransportHandshake:
    def test_a_certificate_for_another_name(self, run: Runner) -> None:
        async def main() -> None:
            with Peer(read_all) as peer:
                app = RecordingApp()
                with pytest.raises(ssl.SSLCertVerificationError) as caught:
                    await connected(peer, app, server_hostname="other.example")
                assert isinstance(caught.value, bowout.CertificateError)
                assert caught.value.ending is not None
                assert app.told == []

        run(main)

    def test_a_silent_peer(self, run: Runner) -> None:
        async def main() -> None:
            with Peer(lambda act: act.silence()) as peer, pytest.raises(bowout.HandshakeTimeout):
                await connected(peer, ssl_handshake_timeout=SOON)

        run(main)

    def test_a_blocked_loop(self, run: Runner) -> None:
        """The peer's answer has come when the loop runs again, after the deadline."""

        async def main() -> None:
            began = asyncio.Event()
            loop = asyncio.get_running_loop()

            def script(act: Act) -> None:
                loop.call_soon_threadsafe(began.set)  # The connection is there, and the handshake is not done.
                read_all(act)

            with Peer(script) as peer:
                task = asyncio.ensure_future(connected(peer, ssl_handshake_timeout=0.2))
                await began.wait()
                time.sleep(0.5)  # noqa: ASYNC251  (it blocks the loop)
                app = await task
                app.transport.close()
                await app.lost

        run(main)

    def test_cancelled_at_every_await(self, run: Runner) -> None:
        """The guard of all tests finds a descriptor that is left."""

        async def main() -> None:
            for steps in range(1, 40):
                with Peer(read_all) as peer:
                    task = asyncio.ensure_future(connected(peer))
                    for _ in range(steps):
                        await asyncio.sleep(0)
                    task.cancel()
                    try:
                        app = await task
                    except asyncio.CancelledError:
                        continue
                    app.transport.close()
                    await app.lost

        run(main)

    @pytest.mark.parametrize(
        ("arguments", "error", "text"),
        [
            ({"ssl": "context"}, TypeError, "ssl must be an SSLContext"),
            ({"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, ValueError, "cannot be a client's"),
            ({"ssl": True, "server_hostname": None}, ValueError, "server_hostname"),
            ({"ssl_handshake_timeout": 0}, ValueError, "ssl_handshake_timeout"),
            ({"ssl_shutdown_timeout": float("nan")}, ValueError, "ssl_shutdown_timeout"),
            ({"server_hostname": ""}, ValueError, "checks the server's name"),
            ({"server_hostname": "no name"}, ValueError, "no name"),
        ],
    )
    def test_wrong_arguments_open_nothing(self, run: Runner, arguments: Any, error: Any, text: str) -> None:
        async def main() -> None:
            context = ssl.create_default_context()
            with pytest.raises(error, match=text):
                await create_connection(
                    RecordingApp, None, 1, **{"ssl": context, "server_hostname": "localhost", **arguments}
                )

        run(main)


class TestTransportStartTLS:
    @pytest.mark.parametrize("depth", [1, 3])
    @pytest.mark.parametrize("tls", ["1.2", "1.3"])
    def test_over_itself(self, run: Runner, depth: int, tls: Any) -> None:
        """TLS in TLS: each layer ends cleanly before the next one does."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            with Peer(read_all, tls=tls) as made:
                server, client = made.server_context(), made.client_context()
            servers: list[RecordingApp] = []

            def accepted() -> RecordingApp:
                servers.append(RecordingApp())
                return servers[-1]

            listener = await loop.create_server(accepted, "127.0.0.1", 0)
            port = listener.sockets[0].getsockname()[1]
            ours, app = await loop.create_connection(RecordingApp, "127.0.0.1", port)
            await in_time(lambda: bool(servers))
            theirs = servers[0].transport
            endings = []
            for _ in range(depth):
                theirs, ours = await asyncio.gather(
                    start_tls(theirs, servers[0], server, server_side=True),
                    start_tls(ours, app, client, server_hostname="localhost"),
                )
                endings.append((theirs, ours))
            ours.write(SOME)
            assert await servers[0].receive_exactly(len(SOME)) == SOME
            ours.close()
            await servers[0].ended.wait()
            theirs.close()
            assert await app.lost is None
            assert await servers[0].lost is None
            for pair in endings:
                assert [ending_of(end).how for end in pair] == [How.CLEAN, How.CLEAN]
            listener.close()
            await listener.wait_closed()

        run(main)

    def test_a_transport_that_is_closing(self, run: Runner) -> None:
        async def main() -> None:
            with Peer(read_all) as peer:
                loop = asyncio.get_running_loop()
                transport, app = await loop.create_connection(RecordingApp, peer.host, peer.port)
                transport.close()
                with pytest.raises(ConnectionAbortedError):
                    await start_tls(transport, app, peer.client_context(), server_hostname="localhost")
                with pytest.raises(TypeError):
                    await start_tls(asyncio.BaseTransport(), app, peer.client_context(), server_hostname="x")
                await app.lost

        run(main)


def test_the_ending_is_that_of_a_stream(run: Runner) -> None:
    """The same script, the same ending, but for the times, and the order of what happens at once."""

    def facts(ending: bowout.Ending) -> Any:
        return (
            ending.how,
            ending.inbound,
            ending.outbound,
            ending.started_by,
            {(event.kind, event.by) for event in ending.events} - {(EventKind.FIN, Side.PEER)},
        )

    async def main() -> None:
        for end in (Act.close_notify, Act.fin, Act.rst):
            with Peer(answer_then(end), connections=2) as peer:
                app = await connected(peer)
                await app.ended.wait()
                app.transport.close()
                await app.lost
                stream = await bowout.connect(peer.host, peer.port, context=peer.client_context())
                try:
                    while await stream.receive():
                        pass
                except bowout.PeerError:
                    pass
                await stream.close()
            assert stream.ending is not None
            assert facts(ending_of(app.transport)) == facts(stream.ending)
            assert ending_of(app.transport).inbound is not Inbound.OPEN

    run(main)
