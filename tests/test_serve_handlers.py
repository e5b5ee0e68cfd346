"""`serve`: what can be a handler, and what it is to be told that it cannot, at the start where that is known."""

from __future__ import annotations

import functools
import logging
import types
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

import bowout
from bowout import Ending, Stream
from helpers.runners import Runner
from helpers.served import Endings, Failure, asks, connect, echo, read_to_end, serve, sleep_for_ever, visit
from helpers.tasks import cancelled
from helpers.wire import server_context


async def with_more(stream: Stream, more: str) -> None:
    await echo(stream)


def gives_a_coroutine(stream: Stream) -> Awaitable[None]:
    return echo(stream)


@types.coroutine
def old_style(stream: Stream) -> Iterator[Any]:
    return (yield from echo(stream).__await__())


class Service:
    async def __call__(self, stream: Stream) -> None:
        await echo(stream)

    async def method(self, stream: Stream) -> None:
        await echo(stream)

    @staticmethod
    async def static(stream: Stream) -> None:
        await echo(stream)

    @classmethod
    async def of_the_class(cls, stream: Stream) -> None:
        await echo(stream)


def returns_nothing(stream: Stream) -> None:
    stream.abort()


def returns_now_and_then(stream: Stream) -> None:
    if stream.ending:
        return
    stream.abort()


async def generator(stream: Stream) -> AsyncIterator[bytes]:
    yield await stream.receive()


def plain_generator(stream: Stream) -> Iterator[None]:
    yield


class SyncService:
    def __call__(self, stream: Stream) -> None:
        stream.abort()

    def method(self, stream: Stream) -> None:
        stream.abort()


GOOD = {
    "a coroutine function": echo,
    "a partial": functools.partial(with_more, more="x"),
    "a partial of a partial": functools.partial(functools.partial(with_more), more="x"),
    "a lambda": lambda stream: with_more(stream, "x"),
    "a function that gives a coroutine": gives_a_coroutine,
    "an object": Service(),
    "a method": Service().method,
    "a static method": Service.static,
    "a class method": Service().of_the_class,
    "an old coroutine": old_style,
    "a wrapper": functools.wraps(echo)(lambda stream: with_more(stream, "x")),
}

BAD = {
    "a function": returns_nothing,
    "a function with two returns": returns_now_and_then,
    "a lambda of None": lambda stream: None,
    "a lambda of a constant": lambda stream: 5,
    "a partial": functools.partial(returns_nothing),
    "an object": SyncService(),
    "a method": SyncService().method,
    "a partial of an object": functools.partial(SyncService()),
    "an asynchronous generator": generator,
    "a generator": plain_generator,
    "text": "handler",
    "None": None,
    "a coroutine's stream": 5,
}


@pytest.mark.parametrize("handler", GOOD.values(), ids=GOOD)
def test_these_serve(run: Runner, handler: Any) -> None:
    async def main() -> bytes:
        async with serve(handler) as server:
            return await asks(server)

    assert run(main) == b"ping"


@pytest.mark.parametrize("handler", BAD.values(), ids=BAD)
def test_these_are_refused_at_the_start(handler: Any) -> None:
    with pytest.raises(TypeError, match=r"the handler .*(async def|must not yield|coroutine function)"):
        bowout.serve(handler, context=server_context())


def test_a_mock_may_be_one(run: Runner) -> None:
    async def main() -> int:
        handler, endings = AsyncMock(return_value=None), Endings()
        async with serve(handler, on_ending=endings) as server:
            await visit(server, read_to_end)
            await endings.one
        return int(handler.await_count)

    assert run(main) == 1


@pytest.mark.parametrize(
    "handler",
    [lambda stream: stream.abort(), Mock(return_value=None), lambda stream: [echo]],
    ids=["an ending", "a mock", "a list"],
)
def test_what_cannot_be_known_is_told_when_it_is_called(
    run: Runner, caplog: pytest.LogCaptureFixture, handler: Any
) -> None:
    async def main() -> Ending:
        endings = Endings()
        async with serve(handler, on_ending=endings) as server:
            assert await visit(server, read_to_end) in {"FIN", "RST"}
            return await endings.one

    assert run(main).close_notify_sent_at is None
    [record] = [record for record in caplog.records if record.levelno > logging.INFO]
    assert record.exc_info
    error = record.exc_info[1]
    assert isinstance(error, TypeError)
    assert "async def" in str(error)


@pytest.mark.parametrize("grouped", [False, True])
def test_what_a_handler_raises_while_a_drain_cuts_it_off_is_logged(
    run: Runner, caplog: pytest.LogCaptureFixture, grouped: bool
) -> None:
    async def main() -> None:
        async def handler(stream: Stream) -> None:
            await stream.send(b"ready")
            try:
                await sleep_for_ever()
            except cancelled():
                if grouped:
                    raise ExceptionGroup("several", [Failure("the clean-up failed")]) from None
                raise Failure("the clean-up failed") from None

        async with serve(handler) as server:
            stream = await connect(server)
            await stream.receive_exactly(5)
            await server.drain(0)
            await stream.close()

    run(main)
    logged = [record for record in caplog.records if record.levelno > logging.INFO]
    assert [record.levelname for record in logged] == ["ERROR"]
    assert "the clean-up failed" in caplog.text
