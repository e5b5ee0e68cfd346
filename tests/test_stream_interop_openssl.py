"""Both situations of the origin, and the cancel variant, against a real ``openssl s_server -state``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

import bowout
from bowout import How, Side, Stream, StreamClosed
from helpers.openssl import OpenSSLServer, openssl_server
from helpers.runners import Runner
from helpers.tasks import cancelled, in_thread, jobs, settle
from helpers.wire import VERSIONS, Version, client_context

Leave = Callable[[OpenSSLServer], Awaitable[bowout.Ending]]

CLOSE_NOTIFY = "SSL3 alert read:warning:close notify"


@pytest.fixture(params=VERSIONS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenSSLServer]:
    version: Version = request.param
    with openssl_server(version, tmp_path) as running:
        yield running


async def connect(server: OpenSSLServer) -> Stream:
    return await bowout.connect("127.0.0.1", server.port, context=client_context())


async def situation_1(server: OpenSSLServer) -> bowout.Ending:
    """The server's line says that it is time to leave, and we close in reaction to that read."""
    stream = await connect(server)
    server.say("please quit")
    line = await stream.receive_until(b"\n")
    assert line == b"please quit\n"
    return await stream.close()


async def situation_2(server: OpenSSLServer) -> bowout.Ending:
    """A read waits for the server while another task closes."""
    stream = await connect(server)
    async with jobs() as group:
        reader = group.start(stream.receive)
        await settle()
        ending = await stream.close()
        assert isinstance(await reader.ended(), StreamClosed)
    return ending


async def cancel_variant(server: OpenSSLServer) -> bowout.Ending:
    """The pending read is cancelled first, and then we close."""
    stream = await connect(server)
    async with jobs() as group:
        reader = group.start(stream.receive)
        await settle()
        reader.cancel()
        assert isinstance(await reader.ended(), cancelled())
    return await stream.close()


SITUATIONS = pytest.mark.parametrize("leave", [situation_1, situation_2, cancel_variant])


@SITUATIONS
def test_the_server_reads_our_close_notify_and_shuts_down(run: Runner, server: OpenSSLServer, leave: Leave) -> None:
    run(leave, server)
    server.expect(CLOSE_NOTIFY)
    server.expect("shutting down SSL")
    server.expect("CONNECTION CLOSED")


@SITUATIONS
def test_the_server_sees_no_error_and_takes_the_next_connection(
    run: Runner, server: OpenSSLServer, leave: Leave
) -> None:
    async def twice() -> None:
        await leave(server)
        await in_thread(lambda: server.expect("CONNECTION CLOSED"))
        await leave(server)

    run(twice)
    server.expect("CONNECTION CLOSED", times=2)
    assert "error" not in server.text.lower()


@SITUATIONS
def test_the_ending_is_clean_or_unanswered_and_ours(run: Runner, server: OpenSSLServer, leave: Leave) -> None:
    ending = run(leave, server)
    assert ending.how in {How.CLEAN, How.UNANSWERED}
    assert ending.started_by is Side.WE
    assert ending.close_notify_sent_at is not None


def test_a_half_close_reaches_the_server_and_its_line_still_comes(run: Runner, tmp_path: Path) -> None:
    async def main() -> bytes:
        stream = await connect(running)
        running.say("first")
        assert await stream.receive_until(b"\n") == b"first\n"
        await stream.send(b"bye\n")
        await stream.send_eof()
        rest = b"".join([chunk async for chunk in stream])
        await stream.close()
        return rest

    with openssl_server("1.3", tmp_path) as running:
        assert run(main) == b""  # s_server leaves at our close_notify: what counts is that nothing was an error
        running.expect(CLOSE_NOTIFY)
        assert "bye" in running.text


def test_an_abort_is_an_error_at_the_server(run: Runner, server: OpenSSLServer) -> None:
    async def main() -> How:
        stream = await connect(server)
        server.say("go")
        await stream.receive_until(b"\n")
        return stream.abort().how

    assert run(main) is How.ABORTED
    server.expect("ERROR|error")
    assert CLOSE_NOTIFY not in server.text
