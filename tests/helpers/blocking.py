"""Streams and sockets of `bowout.blocking` against a peer of `helpers.wire`, and threads that use them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import bowout.blocking
from bowout.blocking import SyncStream, TLSSocket
from helpers.wire import NAME, PATIENCE, Link, client_context, our_context, server_context

T = TypeVar("T")


def stream_of(link: Link, **options: Any) -> SyncStream:
    """Our end as a stream; the handshake is still to come. A close that a test does not hurry has time."""
    options = {"close_timeout": PATIENCE, "handshake_timeout": PATIENCE, **options}
    if link.we == "client":
        stream = bowout.blocking.wrap(link.sock, our_context(link.version, "client"), server_hostname=NAME, **options)
    else:
        stream = bowout.blocking.wrap(link.sock, our_context(link.version, "server"), server_side=True, **options)
    assert stream.socket is not None, "it was just wrapped"
    link.sock = stream.socket
    return stream


def prepared(link: Link, **policy: Any) -> ssl.SSLContext:
    """A context of our end's own, whose sockets are ours."""
    context = client_context(link.version) if link.we == "client" else server_context(link.version)
    policy = {"close_timeout": PATIENCE, "handshake_timeout": PATIENCE, **policy}
    return bowout.blocking.prepare_context(context, **policy)


def socket_of(link: Link, *, handshake: bool = True, suppress_ragged_eofs: bool = True, **policy: Any) -> TLSSocket:
    """Our end as a socket, as ``wrap_socket`` makes it."""
    context = prepared(link, **policy)
    client = link.we == "client"
    sock = context.wrap_socket(
        link.sock,
        server_side=not client,
        server_hostname=NAME if client else None,
        do_handshake_on_connect=handshake,
        suppress_ragged_eofs=suppress_ragged_eofs,
    )
    assert isinstance(sock, TLSSocket)
    link.sock = sock
    return sock


class InThread(Generic[T]):
    """A function that runs in a thread of its own, and what came of it."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._value: T
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="helper")
        self._thread.start()

    @property
    def ident(self) -> int:
        """The thread's identifier."""
        assert self._thread.ident is not None, "it was started"
        return self._thread.ident

    def _work(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:  # noqa: BLE001 it is raised again in `result`
            self._error = error

    def error(self) -> BaseException | None:
        """What it raised, when it has ended."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the thread does not end"
        return self._error

    def result(self) -> T:
        """What it returned; what it raised is raised again."""
        if (error := self.error()) is not None:
            raise error
        return self._value


def wait_until_waiting(held: SyncStream | TLSSocket, threads: int = 1) -> None:
    """Return when so many threads wait for something of the connection."""
    monitor = held._connection._monitor  # type: ignore[union-attr]
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.005)):
        if len(monitor._waiting) >= threads:
            return
        pause.wait(0.005)
    raise AssertionError("no thread waits")


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    """A socket that listens on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener
