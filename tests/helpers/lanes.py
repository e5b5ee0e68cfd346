"""A lane in C that a test uses by hand: over a socket, without a stream, an engine or an event loop."""

from __future__ import annotations

import _ssl
import contextlib
import contextvars
import ctypes
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

from helpers.wire import NAME, Version, client_context, server_context


class HandLane:
    """A client's lane, which is entered, and the TLS of its peer, the standard library's, over the other socket.

    Attributes:
        tls: the client's SSLObject, of which `lane` is the lane.
        messages: what the lane's message filter has kept.
    """

    def __init__(self, native: Any, ours: socket.socket, theirs: socket.socket, version: Version) -> None:
        self.ours, self.theirs = ours, theirs
        for each in (ours, theirs):
            each.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = client_context(version)
        self.tls, self.lane = native.open(
            lambda: context.wrap_bio(self.incoming, self.outgoing, server_hostname=NAME), self.incoming
        )
        self.messages: list[Any] = []
        self.lane.report(self.messages)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.far = server_context(version).wrap_bio(self._in, self._out, server_side=True)
        for side, output, peer in (
            (self.tls, self.outgoing, self._in),
            (self.far, self._out, self.incoming),
            (self.tls, self.outgoing, self._in),
        ):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
            peer.write(output.read())
        self.far.do_handshake()
        self.incoming.write(self._out.read())
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.read()  # the tickets; in TLS 1.2, the end of the handshake
        self.messages.clear()
        self.enter()

    def enter(self) -> None:
        self.ciphertext, plaintext = memoryview(bytearray(1 << 18)), memoryview(bytearray(1 << 18))
        self.lane.enter(self.ours.fileno(), self.ciphertext, plaintext, False)

    def encrypt(self, *messages: bytes) -> bytes:
        """Let the peer encrypt each message."""
        for message in messages:
            self.far.write(message)
        return self._out.read()

    def say(self, *messages: bytes) -> None:
        """Let the peer send each message."""
        self.theirs.sendall(self.encrypt(*messages))

    def say_key_update(self) -> None:
        """Let the peer change its key: a message that the lane notes, and stops at."""
        library, pointer = ssl_of(self.far)
        library.SSL_key_update(pointer, 0)
        self.far.do_handshake()
        self.theirs.sendall(self._out.read())

    def hear(self) -> bytes:
        """Return what the peer has received since the last call."""
        with contextlib.suppress(BlockingIOError):
            while came := self.theirs.recv(1 << 20):
                self._in.write(came)
        data = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while came := self.far.read(1 << 20):
                data += came
        return data


def ssl_of(tls: ssl.SSLObject) -> tuple[Any, Any]:
    """Return OpenSSL, and the SSL of `tls`, of TLS 1.3: what follows the first reference of CPython's object."""
    inner = tls._sslobj  # type: ignore[attr-defined]
    library = ctypes.CDLL(_ssl.__file__)
    library.SSL_get_version.restype = ctypes.c_char_p
    pointer = ctypes.c_void_p.from_address(id(inner) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p))
    assert library.SSL_get_version(pointer) == b"TLSv1.3"
    return library, pointer


@contextlib.contextmanager
def hand_lane(native: Any, version: Version = "1.3") -> Iterator[HandLane]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield HandLane(native, ours, theirs, version)


class LoopOfOne:
    """As much of an event loop as a lane needs: a test runs what it was asked to call.

    Attributes:
        readers: the functions that are called when a descriptor is readable.
        soon: what is to be called soon.
        failure: raised by `call_soon`, if it is not None.
    """

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], object]] = {}
        self.soon: list[Callable[[], object]] = []
        self.failure: BaseException | None = None

    def add_reader(self, descriptor: int, call: Callable[[], object]) -> None:
        self.readers[descriptor] = call

    def remove_reader(self, descriptor: int) -> bool:
        return self.readers.pop(descriptor, None) is not None

    def call_soon(self, call: Callable[..., object], *arguments: Any, context: contextvars.Context) -> None:
        if self.failure is not None:
            raise self.failure
        self.soon.append(lambda: context.run(call, *arguments))


class LaneTask:
    """What a task of asyncio does with a lane: it waits for it, once.

    Attributes:
        result: what the wait gave; None before that.
        failure: what it raised.
    """

    def __init__(self, lane: Any, wait: Callable[[], Any]) -> None:
        self._lane = lane
        self._steps = iter(wait())
        self.result: Any = None
        self.failure: BaseException | None = None
        self.woken = False
        try:
            assert next(self._steps) is lane
        except StopIteration as stop:
            self.result = stop.value
        else:
            lane._asyncio_future_blocking = False
            lane.add_done_callback(self.wake, context=contextvars.copy_context())

    def wake(self, lane: Any) -> None:
        assert lane is self._lane
        self.woken = True
        try:
            lane.result()
            next(self._steps)
        except StopIteration as stop:
            self.result = stop.value
        except BaseException as error:  # noqa: BLE001  (the test looks at it)
            self.failure = error
