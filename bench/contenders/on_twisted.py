"""Twisted, on its default reactor, with pyOpenSSL and the OpenSSL that comes with `cryptography`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor as reactor_module
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.interfaces import IHandshakeListener, IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS
from zope.interface import implementer

from contenders.base import CHUNK, HOST, Contender, chunks_of
from contenders.base import order as order_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from contenders.base import Result

connect: Any = connectProtocol  # It has no types.
reactor: Any = reactor_module  # The module's name stands for an object that is made when it is imported.


@implementer(IHandshakeListener)
class _TwistedClient(Protocol):
    """Counts the received bytes, and goes on when they are enough."""

    transport: Any

    def __init__(self) -> None:
        self._left = 0
        self._enough: Callable[[], None] = self._nothing
        self.shaken: Deferred[None] = Deferred()
        self.closed: Deferred[None] = Deferred()

    def connectionMade(self) -> None:  # noqa: N802  (Twisted's name, as below)
        self.transport.setTcpNoDelay(True)

    def handshakeCompleted(self) -> None:  # noqa: N802
        self.shaken.callback(None)

    def connectionLost(self, reason: object = None) -> None:  # noqa: N802, ARG002
        self.closed.callback(None)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self._left -= len(data)
        if not self._left:
            self._enough()

    def _nothing(self) -> None:
        raise AssertionError("unexpected bytes")

    def expect(self, count: int) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._left, self._enough = count, lambda: done.callback(None)
        return done

    def echo(self, size: int, rounds: int) -> Deferred[None]:
        """Send each message after the first from the callback that received the one before."""
        done: Deferred[None] = Deferred()
        message = CHUNK[:size]

        def next_round() -> None:
            nonlocal rounds
            rounds -= 1
            if rounds:
                self._left = size
                self.transport.write(message)
            else:
                done.callback(None)

        self._left, self._enough = size, next_round
        self.transport.write(order_of("E", size * rounds))
        self.transport.write(message)
        return done


@implementer(IPushProducer)
class _Producer:
    """Writes chunks while the transport accepts them."""

    def __init__(self, transport: Any, count: int) -> None:
        self._transport = transport
        self._whole, self._rest = chunks_of(count)
        self._paused = False

    def resumeProducing(self) -> None:  # noqa: N802
        self._paused = False
        while self._whole and not self._paused:
            self._whole -= 1
            self._transport.write(CHUNK)
        if not self._whole and not self._paused:
            self._transport.write(self._rest)
            self._transport.unregisterProducer()

    def pauseProducing(self) -> None:  # noqa: N802
        self._paused = True

    def stopProducing(self) -> None:  # noqa: N802
        self._paused = True


class Twisted(Contender[_TwistedClient]):
    """A `Protocol` behind `wrapClientTLS`."""

    def __init__(self, port: int, ca: str) -> None:
        super().__init__(port, ca)
        trust = Certificate.loadPEM(Path(ca).read_bytes())
        options: Any = optionsForClientTLS(HOST, trustRoot=trust)
        tcp: Any = HostnameEndpoint(reactor, HOST, port)  # mypy knows Twisted's interfaces with a plugin only.
        self._endpoint: Any = wrapClientTLS(options, tcp)

    def run(self, main: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        results: list[Result] = []
        failures: list[Any] = []

        def start() -> None:
            done = ensureDeferred(main())
            done.addCallbacks(results.append, failures.append)
            done.addBoth(lambda _: reactor.stop())

        reactor.callWhenRunning(start)
        reactor.run()
        if failures:
            failures[0].raiseException()
        return results[0]

    async def together(self, jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
        await gatherResults([ensureDeferred(job) for job in jobs])

    async def open(self) -> _TwistedClient:
        client: _TwistedClient = await connect(self._endpoint, _TwistedClient())
        await client.shaken
        return client

    async def receive(self, connection: _TwistedClient, count: int) -> None:
        done = connection.expect(count)
        connection.transport.write(order_of("S", count))
        await done

    async def send(self, connection: _TwistedClient, count: int) -> None:
        done = connection.expect(1)
        connection.transport.write(order_of("R", count))
        producer = _Producer(connection.transport, count)
        connection.transport.registerProducer(producer, streaming=True)
        producer.resumeProducing()
        await done

    async def echo(self, connection: _TwistedClient, size: int, rounds: int) -> None:
        await connection.echo(size, rounds)

    async def close(self, connection: _TwistedClient) -> None:
        connection.transport.loseConnection()
        await connection.closed
