"""Many cheap TLS clients in one process: non-blocking sockets, `ssl.SSLObject`, epoll. JSON lines are the orders."""

from __future__ import annotations

import contextlib
import json
import resource
import select
import socket
import ssl
import sys
import time
from collections import Counter
from typing import Any, Final

#: ip(7): the port is chosen at connect(), per destination, and not at bind(). Python 3.11 has no name for it.
_IP_BIND_ADDRESS_NO_PORT: Final = 24
#: What one turn of the loop waits at most, in seconds.
_TICK: Final = 0.2
_PING: Final = b"p" * 64


class LoadClient:
    """One connection."""

    __slots__ = ("echoed", "incoming", "outgoing", "shaking", "sock", "tls")

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        self.sock = sock
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.shaking = True
        self.echoed = 0

    def flush(self) -> None:
        """Send what TLS has queued: a few hundred bytes, which a fresh socket takes whole."""
        if self.outgoing.pending:
            self.sock.sendall(self.outgoing.read())


class Clients:
    """All the connections of this process."""

    def __init__(self, port: int, ca: str, source: str) -> None:
        self._target = ("127.0.0.1", port)
        self._source = source
        self._context = ssl.create_default_context(cafile=ca)
        self._epoll = select.epoll()
        self._open: dict[int, LoadClient] = {}
        self._shaking = 0
        self._ends: Counter[str] = Counter()
        self._last_end = 0.0
        self._silent: list[LoadClient] = []

    # -- commands ------------------------------------------------------------------------------------------------

    def open(self, *, count: int, window: int, seconds: float) -> dict[str, Any]:
        """Make `count` connections with their handshakes, `window` of them at once."""
        began = time.monotonic()
        started = 0
        while (started < count or self._shaking) and time.monotonic() - began < seconds:
            while started < count and self._shaking < window:
                self._connect()
                started += 1
            self._turn(_TICK)
        done = time.monotonic()
        self._settle()
        return {"seconds": done - began, "open": len(self._open), "ends": dict(self._ends)}

    def echo(self, *, count: int, rounds: int, seconds: float) -> dict[str, Any]:
        """Send 64 bytes on the oldest `count` connections and await their echo, `rounds` times."""
        until = time.monotonic() + seconds
        chosen = list(self._open.values())[:count]
        for number in range(1, rounds + 1):
            for client in chosen:
                client.tls.write(_PING)
                client.flush()
            while any(client.echoed < number * len(_PING) for client in chosen) and time.monotonic() < until:
                self._turn(_TICK)
        complete = sum(client.echoed // len(_PING) for client in chosen)
        for client in chosen:
            client.echoed = 0
        return {"round_trips": complete}

    def watch(self, *, silent_every: int, seconds: float) -> dict[str, Any]:
        """Record how the server ends each connection, and answer it; one in `silent_every` (0: none) stays silent."""
        self._silent = list(self._open.values())[::silent_every] if silent_every else []
        for client in self._silent:
            self._epoll.unregister(client.sock)
            del self._open[client.sock.fileno()]
        until = time.monotonic() + seconds
        while self._open and time.monotonic() < until:
            self._turn(_TICK)
        return {
            "ends": dict(self._ends),
            "unended": len(self._open),
            "last_end": self._last_end,
            "silent": len(self._silent),
        }

    def look(self) -> dict[str, Any]:
        """Return what the silent clients have received so far."""
        seen: Counter[str] = Counter()
        for client in self._silent:
            seen[self._look_at(client)] += 1
            client.sock.close()
        return {"seen": dict(seen)}

    def close(self) -> dict[str, Any]:
        """Close every connection, with close_notify."""
        for client in list(self._open.values()):
            with contextlib.suppress(ssl.SSLError):  # It raises for the missing answer, which is not needed here.
                client.tls.unwrap()
            self._end(client, "closed by us")
        return {"ends": dict(self._ends)}

    # -- the loop ------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        sock = socket.socket()
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((self._source, 0))
        sock.settimeout(10)
        sock.connect(self._target)
        sock.setblocking(False)  # noqa: FBT003  (the socket's interface)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = LoadClient(self._context, sock)
        self._open[sock.fileno()] = client
        self._epoll.register(sock, select.EPOLLIN)
        self._shaking += 1
        self._advance(client)

    def _turn(self, timeout: float) -> int:
        events = self._epoll.poll(timeout)
        for descriptor, _ in events:
            self._receive(self._open[descriptor])
        return len(events)

    def _settle(self) -> None:
        """Read the session tickets that are still on their way."""
        until = time.monotonic() + 10
        while self._turn(_TICK) and time.monotonic() < until:
            pass

    def _receive(self, client: LoadClient) -> None:
        try:
            data = client.sock.recv(1 << 16)
            if not data:
                self._end(client, "bare FIN")
                return
            client.incoming.write(data)
            if not client.shaking or self._advance(client):
                self._read(client)
        except BlockingIOError:
            return
        except ConnectionError:
            self._end(client, "RST")
        except ssl.SSLError as error:
            self._end(client, f"fatal: {error.reason}")

    def _advance(self, client: LoadClient) -> bool:
        try:
            client.tls.do_handshake()
        except ssl.SSLWantReadError:
            client.flush()
            return False
        client.flush()
        client.shaking = False
        self._shaking -= 1
        return True

    def _read(self, client: LoadClient) -> None:
        """Read the data that has arrived; answer close_notify."""
        try:
            while chunk := client.tls.read(1 << 16):
                client.echoed += len(chunk)
        except ssl.SSLWantReadError:
            client.flush()
            return
        except ssl.SSLZeroReturnError:
            pass
        client.tls.unwrap()
        self._end(client, "close_notify")

    def _end(self, client: LoadClient, how: str) -> None:
        self._shaking -= client.shaking
        self._ends[f"{how} in the handshake" if client.shaking else how] += 1
        self._last_end = time.monotonic()
        self._epoll.unregister(client.sock)
        del self._open[client.sock.fileno()]
        with contextlib.suppress(OSError):  # The server may be gone already.
            client.flush()
        client.sock.close()

    @staticmethod
    def _look_at(client: LoadClient) -> str:
        try:
            while data := client.sock.recv(1 << 16):
                client.incoming.write(data)
            at_end = "bare FIN"
        except BlockingIOError:
            at_end = "nothing"
        except ConnectionError:
            at_end = "RST"
        try:
            while client.tls.read(1 << 16):
                pass
        except ssl.SSLWantReadError:
            return at_end
        except ssl.SSLZeroReturnError:
            pass
        return "close_notify"


def main() -> None:
    """Obey the lines on standard input, one reply each, until it ends."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    clients = Clients(**json.loads(sys.argv[1]))
    for line in sys.stdin:
        arguments = json.loads(line)
        reply = getattr(clients, arguments.pop("do"))(**arguments)
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
