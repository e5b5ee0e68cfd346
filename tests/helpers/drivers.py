"""Two drivers of `bowout.sansio` beside the async Stream: one blocks, one is called back. Neither decides anything.

Both have the same few verbs, so that one test can meet a peer with either.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable
from typing import Final

from bowout import Ending
from bowout.sansio import SansIOConnection, Step

_CHUNK: Final = 1 << 16


class WaitingDriver:
    """Waits by itself, in each verb, until that is done or `timeout` seconds are over."""

    def __init__(self, sock: socket.socket, tls: SansIOConnection) -> None:
        self.sock, self.tls = sock, tls
        sock.setblocking(False)

    def _move(self, timeout: float | None) -> bool:
        readers = [self.sock] if self.tls.room else []
        writers = [self.sock] if self.tls.data_to_send() else []
        readable, writable, _ = select.select(readers, writers, [], timeout)
        try:
            if writable and (data := self.tls.data_to_send()):
                self.tls.data_sent(self.sock.send(data))
            if readable:
                received = self.sock.recv(self.tls.room)
                self.tls.receive_data(received) if received else self.tls.receive_eof()
        except OSError as error:
            self.tls.receive_reset(str(error))
        return bool(readable or writable)

    def _until(self, done: Callable[[], bool], timeout: float | None) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        while not done():
            if not self._move(None if end is None else max(0.0, end - time.monotonic())):
                raise TimeoutError

    def handshake(self, timeout: float | None = None) -> None:
        self._until(self.tls.handshake, timeout)

    def send(self, data: bytes, timeout: float | None = None) -> None:
        self.tls.write(data)
        self._until(lambda: self.tls.data_to_send() is None, timeout)

    def receive(self, timeout: float | None = None) -> bytes:
        came: list[bytes] = []

        def read() -> bool:
            came.extend([] if (data := self.tls.read()) is None else [data])
            return bool(came)

        self._until(read, timeout)
        return came[0]

    def end(self) -> None:
        """Do as the steps say, after one of the verbs that end the connection."""
        while (step := self.tls.next_step()) is not Step.RELEASE:
            if step is Step.FIN:
                with contextlib.suppress(OSError):
                    self.sock.shutdown(socket.SHUT_WR)
                self.tls.fin_sent()
            else:
                self._move(self.tls.timeout)
                while self._move(0):
                    pass

    def release(self) -> Ending:
        self.sock.close()
        return self.tls.released()


class CallbackDriver:
    """Is called when bytes can be moved, or when its time is over, and calls back: it waits for nothing.

    Attributes:
        deadline: when it wants to be called at the latest; None: only when bytes can be moved.
    """

    def __init__(
        self,
        sock: socket.socket,
        tls: SansIOConnection,
        *,
        on_secure: Callable[[], object],
        on_data: Callable[[bytes], object],
        on_error: Callable[[Exception], object],
        on_over: Callable[[], object],
    ) -> None:
        self.sock, self.tls = sock, tls
        self.deadline: float | None = None
        self._on_secure, self._on_data, self._on_error, self._on_over = on_secure, on_data, on_error, on_over
        self._secure = self._failed = self._ending = self._over = False
        sock.setblocking(False)

    @property
    def watches(self) -> tuple[bool, bool]:
        """Whether to call it when something can be read, and when something can be written."""
        return self.tls.room > 0, self.tls.data_to_send() is not None

    def ready(self) -> None:
        """Bytes can be moved, or the time is over."""
        while self._receive() | self._send():
            pass
        if self._ending:
            self._go_on_ending()
        elif not self._failed:
            try:
                self._go_on_reading()
            except Exception as error:  # noqa: BLE001  (it is for the application)
                self._failed = True
                self._on_error(error)

    def write(self, data: bytes) -> None:
        self.tls.write(data)
        self.ready()

    def end(self) -> None:
        """Do as the steps say, after one of the verbs that end the connection; `on_over` tells when that is done."""
        self._ending = True
        self.ready()

    def _receive(self) -> bool:
        if not (room := self.tls.room):
            return False
        try:
            data = self.sock.recv(room)
        except BlockingIOError:
            return False
        except OSError as error:
            self.tls.receive_reset(str(error))
            return False
        self.tls.receive_data(data) if data else self.tls.receive_eof()
        return True

    def _send(self) -> bool:
        if not (data := self.tls.data_to_send()):
            return False
        try:
            self.tls.data_sent(self.sock.send(data))
        except BlockingIOError:
            return False
        except OSError as error:
            self.tls.receive_reset(str(error))
        return True

    def _go_on_reading(self) -> None:
        if not self._secure and self.tls.handshake():
            self._secure = True
            self._on_secure()
        while self._secure and not self._ending and (data := self.tls.read(_CHUNK)) is not None:
            self._on_data(data)
            if not data:
                self._failed = True  # There is nothing more to read.
                return

    def _go_on_ending(self) -> None:
        while not self._over and (step := self.tls.next_step()) is not Step.RELEASE:
            if step is Step.FIN:
                with contextlib.suppress(OSError):
                    self.sock.shutdown(socket.SHUT_WR)
                self.tls.fin_sent()
            elif timeout := self.tls.timeout:
                self.deadline = time.monotonic() + timeout
                return
            else:
                while self._receive() | self._send():
                    pass
        if not self._over:
            self._over, self.deadline = True, None
            self._on_over()


class CalledBack:
    """The verbs of `WaitingDriver`, over a `CallbackDriver` and a loop of its own."""

    def __init__(self, sock: socket.socket, tls: SansIOConnection) -> None:
        self.sock, self.tls = sock, tls
        self._secure = self._over = False
        self._data: list[bytes] = []
        self._errors: list[Exception] = []
        self._driver = CallbackDriver(
            sock,
            tls,
            on_secure=lambda: setattr(self, "_secure", True),
            on_data=self._data.append,
            on_error=self._errors.append,
            on_over=lambda: setattr(self, "_over", True),
        )

    def _run_until(self, done: Callable[[], bool], timeout: float | None) -> None:
        end = None if timeout is None else time.monotonic() + timeout
        self._driver.ready()
        while not done():
            if self._errors:
                raise self._errors[0]
            reads, writes = self._driver.watches
            ends = [at for at in (end, self._driver.deadline) if at is not None]
            wait = max(0.0, min(ends) - time.monotonic()) if ends else None
            select.select([self.sock] if reads else [], [self.sock] if writes else [], [], wait)
            if end is not None and time.monotonic() >= end:
                raise TimeoutError
            self._driver.ready()

    def handshake(self, timeout: float | None = None) -> None:
        self._run_until(lambda: self._secure, timeout)

    def send(self, data: bytes, timeout: float | None = None) -> None:
        self._driver.write(data)
        self._run_until(lambda: self.tls.data_to_send() is None, timeout)

    def receive(self, timeout: float | None = None) -> bytes:
        self._run_until(lambda: bool(self._data), timeout)
        return self._data.pop(0)

    def end(self) -> None:
        self._errors.clear()  # Nobody receives any more.
        self._driver.end()
        self._run_until(lambda: self._over, None)

    def release(self) -> Ending:
        self.sock.close()
        return self.tls.released()


Driver = WaitingDriver | CalledBack
