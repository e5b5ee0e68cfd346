"""httpx over bowout: timeouts, cancellation, and closes that are bounded."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any, Final

import httpx
import pytest

import bowout.httpcore
from bowout import Ending, HandshakeTimeout, How, Stream
from helpers.runners import Runner
from helpers.served import LOOPBACK, gate, serve
from helpers.sites import in_silence, site
from helpers.tasks import Awaits, jobs, on_trio, settle
from helpers.wire import PATIENCE, client_context

#: Seconds after which a timeout of httpx strikes: what it waits for never happens.
SOON: Final = 0.05

#: httpcore leaves the body of a request that it could not send to the collector, and trio minds.
bodies_may_be_left = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")


@asynccontextmanager
async def patient(*, timeout: httpx.Timeout | float = PATIENCE, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose closes have time, unless told otherwise."""
    options = {"verify": client_context(), "close_timeout": PATIENCE, **options}
    async with httpx.AsyncClient(transport=bowout.httpcore.transport(**options), timeout=timeout) as made:
        yield made


def only(**given: float) -> httpx.Timeout:
    return httpx.Timeout(PATIENCE, **given)


def ending_of(response: httpx.Response) -> Ending:
    ending = response.extensions["network_stream"].get_extra_info("ending")
    assert isinstance(ending, Ending)
    return ending


# -- timeouts --------------------------------------------------------------------------------------------------------


def test_a_connection_that_takes_too_long_is_a_connect_timeout(run: Runner) -> None:
    async def main() -> None:
        with ExitStack() as stack:
            listener = stack.enter_context(socket.socket())
            listener.bind((LOOPBACK, 0))
            listener.listen(0)
            for _ in range(3):  # They fill the backlog: the next one gets no answer.
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            async with patient(timeout=only(connect=SOON)) as http:
                with pytest.raises(httpx.ConnectTimeout):
                    await http.get(f"https://{LOOPBACK}:{listener.getsockname()[1]}/")

    run(main)


def test_a_handshake_that_takes_too_long_is_a_connect_timeout(run: Runner) -> None:
    async def main() -> None:
        with socket.create_server((LOOPBACK, 0)) as listener:
            async with patient(timeout=only(connect=SOON)) as http:
                with pytest.raises(httpx.ConnectTimeout) as caught:
                    await http.get(f"https://{LOOPBACK}:{listener.getsockname()[1]}/")
        assert isinstance(caught.value.__cause__, HandshakeTimeout)

    run(main)


def test_a_silent_server_is_a_read_timeout_and_no_close_waits_for_it(run: Runner) -> None:
    over: list[Any] = []

    async def silent(stream: Stream, head: bytes) -> None:
        assert await stream.receive() == b""
        await over[0].wait()

    async def main() -> None:
        over.append(gate())
        async with site(silent) as served, patient(timeout=only(read=SOON)) as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.get(served.url)
            over[0].set()
            (ending,) = await served.ended()
            assert ending.close_notify_received_at is not None

    run(main)


@bodies_may_be_left
def test_a_server_that_does_not_read_is_a_write_timeout(run: Runner) -> None:
    async def ignore(stream: Stream, head: bytes) -> None:
        await stream.draining.wait()

    async def main() -> None:
        server = site(ignore, reads_bodies=False, close_timeout=0)
        async with server as served, patient(timeout=only(write=SOON)) as http:
            with pytest.raises(httpx.WriteTimeout):
                await http.post(served.url, content=bytes(100 << 20))

    run(main)


def test_a_full_pool_is_a_pool_timeout(run: Runner) -> None:
    async def main() -> None:
        async with site(in_silence) as served:
            limits = httpx.Limits(max_connections=1)
            async with patient(timeout=only(pool=SOON), limits=limits) as http, jobs() as group:
                first = group.start(http.get, served.url)
                await settle()
                with pytest.raises(httpx.PoolTimeout):
                    await http.get(served.url)
                first.cancel()

    run(main)


# -- closes ----------------------------------------------------------------------------------------------------------


class Choir:
    """Servers that do the same thing together: answer a first request, and answer close_notify."""

    def __init__(self, size: int) -> None:
        self._asked, self._left = size, size
        self._all_asked, self._all_left = gate(), gate()

    async def handle(self, stream: Stream) -> None:
        """Serve one connection, and one request on it."""
        await stream.receive_until(b"\r\n\r\n")
        self._asked -= 1
        if self._asked == 0:
            self._all_asked.set()
        await self._all_asked.wait()
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        assert await stream.receive() == b""
        self._left -= 1
        if self._left == 0:
            self._all_left.set()
        await self._all_left.wait()


async def let_expire(http: httpx.AsyncClient, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Expire the connections of the pool, and send another request."""
    now = time.monotonic
    with monkeypatch.context() as patched:
        patched.setattr(time, "monotonic", lambda: now() + KEPT + 1)
        await http.get(url)


async def leave(http: httpx.AsyncClient, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Close the client."""
    await http.aclose()


#: Seconds for which a pool keeps an idle connection; a test does not take so long, and a deadline is later.
KEPT: Final = PATIENCE / 2


@pytest.mark.parametrize("end", [let_expire, leave])
def test_connections_are_closed_together(
    run: Runner, end: Callable[..., Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other would not work: each server waits until all have been told."""

    async def main() -> None:
        choir = Choir(4)
        limits = httpx.Limits(keepalive_expiry=KEPT)
        async with serve(choir.handle) as server, patient(limits=limits) as http:
            url = f"https://localhost:{server.port}/"
            async with jobs() as group:
                asking = [group.start(http.get, url) for _ in range(4)]
            await end(http, url, monkeypatch)
            assert [ending_of(await one.result()).how for one in asking] == [How.CLEAN] * 4

    run(main)


async def answer_and_stay(stream: Stream) -> None:
    """Answer one request, and then nothing, whatever the client does."""
    await stream.receive_until(b"\r\n\r\n")
    await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    await stream.draining.wait()


def test_a_close_waits_for_a_silent_server_until_its_timeout(run: Runner) -> None:
    async def main() -> None:
        async with serve(answer_and_stay) as server:
            async with patient(close_timeout=SOON) as http:
                answered = await http.get(f"https://localhost:{server.port}/")
            ending = ending_of(answered)
            assert (ending.how, ending.deadline_hit) == (How.UNANSWERED, True)

    run(main)


def test_a_client_that_is_cancelled_closes_at_once(run: Runner) -> None:
    async def main() -> None:
        async with serve(answer_and_stay) as server:
            answers: list[httpx.Response] = []

            async def visit() -> None:
                async with patient() as http:
                    answers.append(await http.get(f"https://localhost:{server.port}/"))
                    await gate().wait()

            async with jobs() as group:
                visiting = group.start(visit)
                while not answers:
                    await settle()
                visiting.cancel()
            ending = ending_of(answers[0])
            assert (ending.how, ending.deadline_hit) == (How.UNANSWERED, False)
            assert ending.close_notify_sent_at is not None
            assert ending.reason == "left by a cancellation"

    run(main)


def test_an_answer_that_is_cancelled_is_closed_at_once(run: Runner) -> None:
    async def half(stream: Stream) -> None:
        await stream.receive_until(b"\r\n\r\n")
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
        await stream.draining.wait()

    async def main() -> None:
        async with serve(half) as server, patient() as http:
            answers: list[httpx.Response] = []

            async def visit() -> None:
                async with http.stream("GET", f"https://localhost:{server.port}/") as answered:
                    answers.append(answered)
                    await answered.aread()

            async with jobs() as group:
                visiting = group.start(visit)
                while not answers:
                    await settle()
                await settle()
                visiting.cancel()
            assert ending_of(answers[0]).reason == "left by a cancellation"

    run(main)


def test_an_answer_that_is_left_ends_clean(run: Runner) -> None:
    async def at_length(stream: Stream) -> None:
        await stream.receive_until(b"\r\n\r\n")
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(1_000_000))

    async def main() -> None:
        async with serve(at_length) as server, patient() as http:
            async with http.stream("GET", f"https://localhost:{server.port}/") as answered:
                assert answered.status_code == 200
            assert ending_of(answered).how is How.CLEAN

    run(main)


@bodies_may_be_left
@pytest.mark.parametrize("http2", [False, True])
def test_cancelling_at_any_await_leaves_nothing_open(run: Runner, http2: bool) -> None:
    """The guard of all tests looks for descriptors, the runner for tasks."""

    async def main() -> None:
        async def nothing_more(stream: Stream, head: bytes) -> None:
            if not http2:
                await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        async with site(nothing_more, http2=http2) as served:

            async def visit() -> int:
                async with patient(http2=http2) as http:
                    return (await http.post(served.url, content=b"body")).status_code

            whole = Awaits()
            assert await whole.drive(visit) == 200
            for number in range(1, whole.count + 1):
                cut = Awaits(cancel_at=number, shielded=on_trio())
                await cut.drive(visit)

    run(main)
