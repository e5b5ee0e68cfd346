"""A byte pipe over Twisted's TLS."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from twisted.internet import protocol, reactor, ssl
from twisted.python import failure

from interop.programs.pipe import Arguments, show, tell, typed

loop: Any = reactor  # a module that takes its methods when the reactor is installed


class Pipe(protocol.Protocol):
    transport: Any

    def __init__(self, way: str) -> None:
        self.way = way

    def connectionMade(self) -> None:  # noqa: N802 Twisted's name
        threading.Thread(target=self.feed, daemon=True).start()

    def feed(self) -> None:
        """In a thread: what comes on stdin."""
        while data := typed():
            loop.callFromThread(self.transport.write, data)
        loop.callFromThread(self.leave)

    def leave(self) -> None:
        if self.way == "abortConnection()":
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 likewise
        show(data)

    def connectionLost(self, reason: failure.Failure = protocol.connectionDone) -> None:  # noqa: N802 likewise
        tell("lost", reason.type.__name__ if reason.type else "?")
        os.close(1)
        loop.stop()


def main(arguments: Arguments) -> None:
    if arguments.is_server:
        load: Any = ssl.PrivateCertificate.loadPEM  # it has no types
        identity = load(Path(arguments.identity).read_bytes())
        factory = protocol.Factory.forProtocol(lambda: Pipe(arguments.way))
        port = loop.listenSSL(0, factory, identity.options(), interface="127.0.0.1")
        tell("listening", port.getHost().port)
    else:
        client = protocol.ClientFactory.forProtocol(lambda: Pipe(arguments.way))
        loop.connectSSL("127.0.0.1", arguments.port, client, ssl.CertificateOptions())
    loop.run()


main(Arguments())
