"""A TCP relay that makes two ends cross: it holds both directions until something of each is on its way."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from collections.abc import Iterator

from helpers.wire import PATIENCE
from interop.far import LOOPBACK, dial

_HOLD, _STOP = b"h", b"s"


class Relay:
    """It passes on bytes, FIN and RST, for one connection.

    Attributes:
        port: where it listens.
        target: where it connects to.
        crossed: both directions had something to pass while it held them.
    """

    def __init__(self, listener: socket.socket, target: int) -> None:
        self.port: int = listener.getsockname()[1]
        self.target = target
        self.crossed = False
        self._listener = listener
        self._wake, self._waker = os.pipe()
        self._other: dict[socket.socket, socket.socket] = {}

    def hold(self) -> None:
        """From now on nothing passes, until both directions have something to pass."""
        os.write(self._waker, _HOLD)

    def work(self) -> None:
        """Until both directions have ended, or somebody calls `stop`."""
        with contextlib.suppress(OSError), self._listener:
            if self._wake in select.select([self._wake, self._listener.fileno()], [], [])[0]:
                return
            near = self._listener.accept()[0]
            with near, dial(self.target) as far:
                self._other = {near: far, far: near}
                self._pass_on()

    def stop(self) -> None:
        """Let go of a connection that does not end."""
        os.write(self._waker, _STOP)

    def close(self) -> None:
        os.close(self._wake)
        os.close(self._waker)

    def _pass_on(self) -> None:
        reading = set(self._other)
        held: dict[socket.socket, bytes | None] | None = None
        while reading:
            waiting = {sock.fileno(): sock for sock in reading - (held or {}).keys()}
            ready = select.select([self._wake, *waiting], [], [], 2 * PATIENCE)[0]
            if not ready:
                return
            if self._wake in ready:  # first: nothing that came after it may pass
                if os.read(self._wake, 1) == _STOP:
                    return
                held = {}
                continue
            taken = {waiting[number]: self._take(waiting[number]) for number in ready}
            if held is not None:
                held |= taken
                self.crossed = len(held) == len(self._other)
                taken, held = (held, None) if self.crossed else ({}, held)
            for sock, chunk in taken.items():
                self._give(sock, chunk, reading)

    @staticmethod
    def _take(sock: socket.socket) -> bytes | None:
        try:
            return sock.recv(1 << 16)
        except ConnectionResetError:
            return None

    def _give(self, sock: socket.socket, chunk: bytes | None, reading: set[socket.socket]) -> None:
        other = self._other[sock]
        with contextlib.suppress(OSError):
            if chunk:
                other.sendall(chunk)
                return
        reading.discard(sock)
        with contextlib.suppress(OSError):
            if chunk is None:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                other.close()
                reading.clear()
            else:
                other.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def relaying(target: int) -> Iterator[Relay]:
    """Run one; it is gone when the block is left."""
    relay = Relay(socket.create_server((LOOPBACK, 0)), target)
    thread = threading.Thread(target=relay.work, name="relay")
    thread.start()
    try:
        yield relay
    finally:
        relay.stop()
        thread.join(PATIENCE)
        relay.close()
