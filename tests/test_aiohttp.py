"""The connector for aiohttp, on plain event loops; tests/reach has it on those of `bowout.asyncio`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bowout.testing import Act, Opening, Peer, Script
from helpers.peers import require_module
from helpers.runners import Runner
from helpers.tasks import in_thread, settle

require_module("aiohttp")

import aiohttp  # noqa: E402  (skipped where it is not installed)

import bowout.aiohttp  # noqa: E402
from bowout.aiohttp import TCPConnector  # noqa: E402

pytestmark = pytest.mark.backends("asyncio", "uvloop")

BODY = b"all that there is to say"
TO_THE_END = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
BY_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)


def answering(head: bytes, end: Callable[[Act], object], body: bytes = BODY) -> Script:
    """Answer one request, and end when the application has the head."""

    def script(act: Act) -> None:
        act.handshake()
        act.read_until(b"\r\n\r\n")
        act.send(head + body)
        act.wait_for_go()
        end(act)

    return script


def answer_close(act: Act) -> None:
    act.wait_for("close_notify")
    act.close_notify()
    act.fin()


def stay(act: Act) -> None:
    """Never answer a close_notify."""
    act.wait_for("fin")
    act.silence()


@contextlib.asynccontextmanager
async def session_with(peer: Peer, **options: Any) -> AsyncIterator[aiohttp.ClientSession]:
    connector = TCPConnector(ssl=peer.client_context(), **options)
    async with aiohttp.ClientSession(f"https://localhost:{peer.port}", connector=connector) as session:
        yield session


async def get(session: aiohttp.ClientSession, peer: Peer) -> bytes:
    async with session.get("/") as response:
        peer.go()
        return await response.read()


async def read_on(content: aiohttp.StreamReader) -> None:
    """Read byte by byte to the end."""
    while await content.read(1):
        pass


# -- bodies -----------------------------------------------------------------------------------------------------------


def test_a_body_that_a_reset_cuts_off_raises(run: Runner) -> None:
    with Peer(answering(TO_THE_END, Act.rst, BODY[:10])) as peer:

        async def main() -> None:
            async with session_with(peer) as session:
                with pytest.raises(aiohttp.ClientPayloadError, match="not completed") as caught:
                    await get(session, peer)
                assert isinstance(caught.value.__cause__, ConnectionResetError)

        run(main)


def test_aiohttp_alone_takes_it_for_whole(run: Runner) -> None:
    """If it did not, the connector would be needless."""
    with Peer(answering(TO_THE_END, Act.rst, BODY[:10])) as peer:

        async def main() -> bytes:
            connector = aiohttp.TCPConnector(ssl=peer.client_context())
            async with aiohttp.ClientSession(f"https://localhost:{peer.port}", connector=connector) as session:
                return await get(session, peer)

        assert run(main) == BODY[:10]


def test_a_body_that_is_read_in_parts_raises_at_its_end(run: Runner) -> None:
    with Peer(answering(TO_THE_END, Act.rst, BODY[:10])) as peer:

        async def main() -> bytes:
            async with session_with(peer) as session, session.get("/") as response:
                first = await response.content.read(4)
                peer.go()
                with pytest.raises(aiohttp.ClientPayloadError):
                    await read_on(response.content)
                return first

        assert run(main) == BODY[:4]


@pytest.mark.parametrize("head", [TO_THE_END, BY_LENGTH], ids=["to the end", "by length"])
def test_a_body_that_ends_well_is_whole(run: Runner, head: bytes) -> None:
    def end(act: Act) -> None:
        if head is TO_THE_END:
            act.close_notify()
            act.fin()
        else:
            answer_close(act)

    with Peer(answering(head, end)) as peer:

        async def main() -> bytes:
            async with session_with(peer) as session:
                return await get(session, peer)

        assert run(main) == BODY
        assert (peer.wait().close_notify, peer.report.rst) == (1, False)


def test_a_reset_after_a_whole_body_is_none_of_its_business(run: Runner) -> None:
    with Peer(answering(BY_LENGTH, Act.rst)) as peer:

        async def main() -> bytes:
            async with session_with(peer) as session, session.get("/") as response:
                body = await response.content.readexactly(len(BODY))
                peer.go()
                await in_thread(peer.wait)
                return body + await response.read()

        assert run(main) == BODY


def test_a_connection_is_used_again(run: Runner) -> None:
    def script(act: Act) -> None:
        act.handshake()
        for _ in range(3):
            act.read_until(b"\r\n\r\n")
            act.send(BY_LENGTH + BODY)
        answer_close(act)

    with Peer(script) as peer:

        async def main() -> list[bytes]:
            async with session_with(peer) as session:
                return [await get(session, peer) for _ in range(3)]

        assert run(main) == [BODY] * 3
        assert peer.wait().close_notify == 1


# -- closing ----------------------------------------------------------------------------------------------------------


def test_closing_the_session_sends_close_notify_on_any_loop(run: Runner) -> None:
    with Peer(answering(BY_LENGTH, answer_close)) as peer:

        async def main() -> None:
            async with session_with(peer) as session:
                await get(session, peer)

        run(main)
        report = peer.wait()
    assert (report.close_notify, report.fin, report.rst) == (1, True, False)


def test_without_time_it_aborts(run: Runner) -> None:
    with Peer(answering(BY_LENGTH, answer_close)) as peer:

        async def main() -> None:
            async with session_with(peer, ssl_shutdown_timeout=0) as session:
                await get(session, peer)

        run(main)
        assert peer.wait().close_notify == 0


def test_abort_ssl_aborts(run: Runner) -> None:
    with Peer(answering(BY_LENGTH, answer_close)) as peer:

        async def main() -> None:
            connector = TCPConnector(ssl=peer.client_context())
            session = aiohttp.ClientSession(f"https://localhost:{peer.port}", connector=connector)
            await get(session, peer)
            await connector.close(abort_ssl=True)
            await session.close()

        run(main)
        assert peer.wait().close_notify == 0


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_close_waits_for_connections_that_aiohttp_has_given_up(run: Runner) -> None:
    """After `Connection: close` it closes one and forgets it; the loop must not be closed before that has ended."""

    def end(act: Act) -> None:
        act.wait_for("close_notify")
        act.ready()
        act.wait_for_go()
        act.close_notify()
        act.fin()

    head = BY_LENGTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    def script(act: Act) -> None:
        act.handshake()
        act.read_until(b"\r\n\r\n")
        act.send(head + BODY)
        end(act)

    with Peer(script) as peer:

        async def main() -> None:
            async with session_with(peer, ssl_shutdown_timeout=30) as session:
                async with session.get("/") as response:
                    await response.read()
                await in_thread(peer.wait_ready)
                closing = asyncio.create_task(session.close())
                await settle()
                assert not closing.done()
                peer.go()
                await closing

        run(main)
        gc.collect()
        report = peer.wait()
    assert (report.close_notify, report.fin, report.rst) == (1, True, False)


def test_a_peer_that_never_answers_costs_at_most_the_timeout(run: Runner) -> None:
    with Peer(answering(BY_LENGTH, stay)) as peer:

        async def main() -> None:
            async with session_with(peer, ssl_shutdown_timeout=0.1) as session:
                await get(session, peer)

        run(main)


class DeafTransport:
    """A transport that ignores `close`, as one would that has no deadline of its own."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def close(self) -> None:
        """Do nothing."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def test_a_transport_that_is_never_done_is_aborted(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bowout.aiohttp, "_GRACE", 0.1)
    made: Any = aiohttp.client_proto.ResponseHandler.connection_made

    def connection_made(self: Any, transport: Any) -> None:
        made(self, DeafTransport(transport))

    monkeypatch.setattr(aiohttp.client_proto.ResponseHandler, "connection_made", connection_made)
    head = BY_LENGTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with Peer(answering(head, lambda act: act.wait_for("end"))) as peer:

        async def main() -> None:
            async with session_with(peer, ssl_shutdown_timeout=0.1) as session:
                await get(session, peer)

        run(main)
        assert peer.wait().close_notify == 0


def test_a_cancelled_close_leaves_the_connections_to_end_by_themselves(run: Runner) -> None:
    def end(act: Act) -> None:
        act.wait_for("close_notify")
        act.ready()
        act.wait_for_go()
        act.close_notify()
        act.fin()

    def script(act: Act) -> None:
        act.handshake()
        act.read_until(b"\r\n\r\n")
        act.send(BY_LENGTH + BODY)
        end(act)

    with Peer(script) as peer:

        async def main() -> None:
            connector = TCPConnector(ssl=peer.client_context(), ssl_shutdown_timeout=30)
            session = aiohttp.ClientSession(f"https://localhost:{peer.port}", connector=connector)
            async with session.get("/") as response:
                await response.read()
            closing = asyncio.create_task(session.close())
            await in_thread(peer.wait_ready)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            peer.go()
            await in_thread(peer.wait)
            await session.close()
            await connector.close()

        run(main)
        assert (peer.report.close_notify, peer.report.rst) == (1, False)


def test_the_tunnel_of_a_proxy_is_no_connection_of_its_own(run: Runner) -> None:
    """Its protocol is never told that it is lost: TLS took its place."""

    def connect(opening: Opening) -> None:
        assert opening.read_until(b"\r\n\r\n").startswith(b"CONNECT localhost:443 ")
        opening.send(b"HTTP/1.1 200 OK\r\n\r\n")

    with Peer(answering(BY_LENGTH, answer_close), opening=connect) as peer:

        async def main() -> bytes:
            connector = TCPConnector(ssl=peer.client_context(), ssl_shutdown_timeout=10_000)  # it need not wait at all
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get("https://localhost/", proxy=f"http://127.0.0.1:{peer.port}") as response,
            ):
                peer.go()
                return await response.read()

        assert run(main) == BODY
        assert peer.wait().close_notify == 1


# -- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout", "error"), [(-1, ValueError), (float("inf"), ValueError), (None, TypeError), ("5", TypeError)]
)
def test_a_timeout_that_is_none_is_refused(run: Runner, timeout: Any, error: type[Exception]) -> None:
    async def main() -> None:
        with pytest.raises(error, match="ssl_shutdown_timeout must be"):
            TCPConnector(ssl_shutdown_timeout=timeout)

    run(main)


def test_options_are_those_of_aiohttp(run: Runner) -> None:
    async def main() -> int:
        async with TCPConnector(limit=7) as connector:
            with pytest.raises(TypeError, match="no_such_option"):
                TCPConnector(no_such_option=1)
            return connector.limit

    assert run(main) == 7


def test_an_aiohttp_that_is_made_otherwise_is_refused(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    class OtherHandler:
        def __init__(self, loop: object) -> None:
            """Have none of the attributes."""

    monkeypatch.setattr("aiohttp.connector.ResponseHandler", OtherHandler)

    async def main() -> None:
        with pytest.raises(RuntimeError, match=rf"aiohttp {aiohttp.__version__}.*install"):
            TCPConnector()

    run(main)


@pytest.mark.backends("asyncio")
def test_without_a_loop_it_says_so(backend: str) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        TCPConnector()


@pytest.mark.backends("asyncio")
def test_without_aiohttp_it_names_the_extra(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, "bowout.aiohttp")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'bowout\[aiohttp\]'"):
        importlib.import_module("bowout.aiohttp")
