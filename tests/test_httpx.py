"""httpx over bowout: answers that are whole or an error, connections that are used again, and ends that are clean."""

from __future__ import annotations

import logging
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpcore
import httpx
import pytest

import bowout.httpcore
from bowout import AlertReceived, Ending, How, Reset, Stream, Truncated
from bowout.httpcore._pool import WatchedPool
from bowout.testing import Act, Peer
from helpers.peers import ROOT
from helpers.runners import Runner
from helpers.served import serve
from helpers.sites import BODY, Site, by_length, nothing_more, site, then_leave, to_the_end
from helpers.tasks import in_thread, jobs, settle
from helpers.wire import PATIENCE, VERSIONS, Version, client_context

sys.path.insert(0, str(ROOT / "examples" / "truncation"))
from answers import BODY as WHOLE
from answers import ENDS, FRAMINGS, End, answer, close_notify, fin_at_boundary, fin_inside_record, rst

both_versions = pytest.mark.parametrize("version", VERSIONS)
#: The one framing of an answer that cannot tell by itself whether the answer is whole.
BY_THE_END: Final = "the end of the connection"


@asynccontextmanager
async def client(*, timeout: float | None = PATIENCE, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client over bowout. A close that a test does not hurry has time."""
    options = {"verify": client_context(), "close_timeout": PATIENCE, **options}
    async with httpx.AsyncClient(transport=bowout.httpcore.transport(**options), timeout=timeout) as made:
        yield made


def ending_of(response: httpx.Response) -> Ending:
    ending = response.extensions["network_stream"].get_extra_info("ending")
    assert isinstance(ending, Ending)
    return ending


# -- answers and connections -----------------------------------------------------------------------------------------


@both_versions
def test_requests_share_a_connection_that_ends_clean(run: Runner, version: Version) -> None:
    async def main() -> None:
        async with site(version=version) as served:
            async with client() as http:
                answers = [await http.post(served.url, content=b"x" * 100_000) for _ in range(3)]
                assert [one.content for one in answers] == [BODY] * 3
            assert (await served.ended())[0].how is How.CLEAN
            assert served.requests == [3]
            assert ending_of(answers[-1]).how is How.CLEAN

    run(main)


@both_versions
def test_an_answer_up_to_close_notify_is_whole(run: Runner, version: Version) -> None:
    async def main() -> None:
        async with site(to_the_end, version=version) as served, client() as http:
            answers = [await http.get(served.url) for _ in range(2)]
            assert [one.content for one in answers] == [BODY] * 2
            assert [one.how for one in await served.ended(2)] == [How.CLEAN] * 2
            assert ending_of(answers[0]).clean

    run(main)


@both_versions
@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("end", ENDS)
def test_half_an_answer_is_an_error(run: Runner, version: Version, framing: str, end: End) -> None:
    async def main(port: int, context: ssl.SSLContext) -> BaseException | None:
        async with client(verify=context) as http:
            with pytest.raises(httpx.ReadError) as caught:
                await http.get(f"https://localhost:{port}/")
            return caught.value.__cause__

    with Peer(answer(framing, end), tls=version) as peer:
        cause = run(main, peer.port, peer.client_context())
    assert isinstance(cause, Reset if end is rst else Truncated)
    assert cause.ending is not None


@both_versions
@pytest.mark.parametrize(
    ("framing", "end"), [(BY_THE_END, close_notify), *(("Content-Length", end) for end in [close_notify, *ENDS])]
)
def test_a_whole_answer_is_whole_whatever_follows(run: Runner, version: Version, framing: str, end: End) -> None:
    async def main(port: int, context: ssl.SSLContext) -> list[bytes]:
        async with client(verify=context) as http:
            return [(await http.get(f"https://localhost:{port}/")).content for _ in range(2)]

    with Peer(answer(framing, end, WHOLE), tls=version, connections=2) as peer:
        assert run(main, peer.port, peer.client_context()) == [WHOLE] * 2


@pytest.mark.parametrize(
    "truncation",
    ["tolerate", {"localhost": "tolerate"}, lambda host: "tolerate" if host == "localhost" else "raise"],
    ids=["all", "mapping", "function"],
)
def test_a_truncation_that_is_tolerated_is_logged(
    run: Runner, truncation: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bowout")

    async def main(port: int, context: ssl.SSLContext) -> bytes:
        async with client(verify=context, truncation=truncation) as http:
            return (await http.get(f"https://localhost:{port}/")).content

    with Peer(answer(BY_THE_END, fin_at_boundary)) as peer:
        assert run(main, peer.port, peer.client_context()) == WHOLE[: len(WHOLE) // 2]
    (record,) = [record for record in caplog.records if record.name == "bowout"]
    assert (record.levelname, "truncated" in record.getMessage()) == ("INFO", True)
    assert record.getMessage().startswith(f"127.0.0.1:{peer.port}: a FIN without close_notify was taken for the end")


@pytest.mark.parametrize(
    ("truncation", "end"),
    [("tolerate", fin_inside_record), ("tolerate", rst), ({"other": "tolerate"}, fin_at_boundary)],
)
def test_what_is_not_tolerated_raises(run: Runner, truncation: Any, end: End, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bowout")

    async def main(port: int, context: ssl.SSLContext) -> None:
        async with client(verify=context, truncation=truncation) as http:
            with pytest.raises(httpx.ReadError):
                await http.get(f"https://localhost:{port}/")

    with Peer(answer(BY_THE_END, end)) as peer:
        run(main, peer.port, peer.client_context())
    assert [record for record in caplog.records if record.name == "bowout"] == []


def test_a_fatal_alert_names_itself(run: Runner) -> None:
    def failing(act: Act) -> None:
        act.handshake()
        act.read_until(b"\r\n\r\n")
        act.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        act.alert("fatal", "internal_error")

    async def main(port: int, context: ssl.SSLContext) -> None:
        async with client(verify=context) as http:
            with pytest.raises(httpx.ReadError, match="internal_error") as caught:
                await http.get(f"https://localhost:{port}/")
        assert isinstance(caught.value.__cause__, AlertReceived)

    with Peer(failing) as peer:
        run(main, peer.port, peer.client_context())


# httpcore leaves the body that it has not sent to the collector, and trio minds.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
def test_an_answer_to_half_a_request_is_read(run: Runner) -> None:
    """A server may refuse an upload, and end the connection, before it has read all of it."""

    async def refuse(stream: Stream, head: bytes) -> None:
        await stream.send(b"HTTP/1.1 413 Too Much\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!")
        await stream.close()

    async def main() -> None:
        async with site(refuse, reads_bodies=False) as served, client() as http:
            answered = await http.post(served.url, content=bytes(100 << 20))
            assert (answered.status_code, answered.content) == (413, b"no!")

    run(main)


# -- the pool --------------------------------------------------------------------------------------------------------


@both_versions
@pytest.mark.parametrize("end", [Act.close_notify, Act.fin, Act.rst, lambda act: act.send(b"unasked")])
def test_a_connection_that_the_server_has_ended_is_not_used_again(
    run: Runner, version: Version, end: Callable[[Act], object]
) -> None:
    def script(act: Act) -> None:
        act.handshake()
        act.read_until(b"\r\n\r\n")
        act.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")
        if act.number == 0:
            act.wait_for_go()
            end(act)
            act.ready()

    async def main(peer: Peer) -> None:
        async with client(verify=peer.client_context(), close_timeout=0) as http:
            url = f"https://localhost:{peer.port}/"
            await http.get(url)
            peer.go()
            await in_thread(peer.wait_ready)
            assert (await http.get(url)).content == b"body"

    with Peer(script, tls=version, connections=2) as peer:
        run(main, peer)
    assert len(peer.reports) == 2


def test_session_tickets_do_not_make_a_connection_readable(run: Runner) -> None:
    def script(act: Act) -> None:
        act.handshake()
        for _ in range(2):
            act.read_until(b"\r\n\r\n")
            act.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")
            act.session_ticket()
            act.key_update()
            act.ready()

    async def main(peer: Peer) -> None:
        async with client(verify=peer.client_context()) as http:
            url = f"https://localhost:{peer.port}/"
            first = await http.get(url)
            await in_thread(peer.wait_ready)
            assert first.extensions["network_stream"].get_extra_info("is_readable") is False
            assert (await http.get(url)).content == b"body"

    with Peer(script) as peer:
        run(main, peer)
    assert len(peer.reports) == 1


@both_versions
def test_http2_shares_a_connection_that_ends_clean(run: Runner, version: Version) -> None:
    async def main() -> None:
        async with site(nothing_more, version=version, http2=True) as served:
            async with client(http2=True) as http:
                first = await http.get(served.url)
                async with jobs() as group:
                    others = [group.start(http.get, served.url) for _ in range(5)]
                answers = [first] + [await one.result() for one in others]
                assert {(one.http_version, one.content) for one in answers} == {("HTTP/2", BODY)}
            assert [one.how for one in await served.ended()] == [How.CLEAN]
            assert served.requests == [6]

    run(main)


def test_an_idle_connection_of_http2_that_the_server_has_ended_is_not_used_again(run: Runner) -> None:
    async def main() -> None:
        async with site(then_leave, http2=True) as served, client(http2=True) as http:
            for _ in range(3):
                assert (await http.get(served.url)).content == BODY
                await served.ended(len(served.requests))
            assert served.requests == [1, 1, 1]

    run(main)


# -- connections that cannot be made ---------------------------------------------------------------------------------


def refusing_first(act: Act) -> None:
    """Refuse the first connection when told to; answer two requests on every other."""
    if act.number == 0:
        act.ready()
        act.wait_for_go()
        act.rst()
        return
    act.handshake()
    for _ in range(2):
        act.read_until(b"\r\n\r\n")
        act.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")


def test_a_connection_is_tried_again(run: Runner) -> None:
    async def main(peer: Peer) -> None:
        async with client(verify=peer.client_context(), retries=1) as http:
            for _ in range(2):
                assert (await http.get(f"https://localhost:{peer.port}/")).content == b"body"

    with Peer(refusing_first, connections=2) as peer:
        peer.go()
        run(main, peer)
    assert len(peer.reports) == 2


def test_a_request_that_waits_for_a_connection_survives_the_failure_of_another(run: Runner) -> None:
    """With HTTP/2, requests wait for one connection. It is then used again, and closed in the end."""

    async def main(peer: Peer) -> None:
        url = f"https://localhost:{peer.port}/"
        async with client(verify=peer.client_context(), http2=True) as http, jobs() as group:
            first = group.start(http.get, url)
            await in_thread(peer.wait_ready)
            second = group.start(http.get, url)
            await settle()
            peer.go()
            assert isinstance(await first.ended(), httpx.ConnectError)
            assert (await second.result()).content == b"body"
            assert (await http.get(url)).content == b"body"
        assert ending_of(await second.result()).close_notify_sent_at is not None

    with Peer(refusing_first, connections=2) as peer:
        run(main, peer)
    assert len(peer.reports) == 2


def test_a_connection_that_was_closed_before_its_request_is_replaced(run: Runner) -> None:
    async def main() -> None:
        async with site() as served:
            network = bowout.httpcore.AsyncBackend()
            async with WatchedPool(network, ssl_context=client_context()) as pool:
                url = httpcore.URL(served.url)
                connection = pool.create_connection(url.origin)
                assert connection.info() == "CONNECTING"
                await connection.aclose()
                assert connection.is_closed()
                with pytest.raises(httpcore.ConnectionNotAvailable):
                    await connection.handle_async_request(httpcore.Request("GET", url))
                assert (await pool.request("GET", url)).content == BODY
                assert "IDLE, Request Count: 1" in repr(pool.connections[0])

    run(main)


def test_a_unix_socket_carries_requests(run: Runner, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")

    async def main() -> None:
        made = Site(by_length)
        async with serve(made.handle, path=path), client(uds=path) as http:
            for _ in range(2):
                assert (await http.get("https://localhost/")).content == BODY
            assert made.requests == [2]

    run(main)
