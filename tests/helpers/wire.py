"""A peer that a script drives by hand, in a thread: blocking sockets, TLS over MemoryBIOs, and every way to end.

def script(wire: Wire) -> str:
    wire.handshake()
    wire.send(b"quit")
    return wire.read_to_end()

with peer(script) as link:
    run(client, link)
assert link.result == "close_notify"
"""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

import trustme

import bowout
from helpers.kernel import wait_full

Version = Literal["1.2", "1.3"]
Role = Literal["client", "server"]
VERSIONS: Final[tuple[Version, ...]] = ("1.2", "1.3")
ROLES: Final[tuple[Role, ...]] = ("client", "server")

NAME: Final = "peer.test"
#: Seconds after which a script is lost: no time that a test measures, only the end of a hang, on a busy machine too.
PATIENCE: Final = 120.0
#: In how many steps `patiently` waits for as long.
_STEPS: Final = 240
#: More than a buffer of the kernel should hold, so that much that nobody reads cannot lie in buffers that grow.
_BUFFER: Final = 1 << 20

_TLS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_RECORD_HEADER: Final = 5


@functools.cache
def authority() -> trustme.CA:
    """The one certificate authority of the tests."""
    return trustme.CA()


@functools.cache
def certificate(*names: str) -> trustme.LeafCert:
    """A certificate of the authority, for `NAME` and the loopback unless told otherwise."""
    return authority().issue_cert(*(names or (NAME, "localhost", "127.0.0.1", "::1")))


def client_context(version: Version | None = None) -> ssl.SSLContext:
    """A context that trusts the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # To load the system's authorities takes 50 ms.
    authority().configure_trust(context)
    return _pinned(context, version)


def server_context(version: Version | None = None, *names: str) -> ssl.SSLContext:
    """A context with a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate(*names).configure_cert(context)
    return _pinned(context, version)


def _pinned(context: ssl.SSLContext, version: Version | None) -> ssl.SSLContext:
    if version is not None:
        context.minimum_version = context.maximum_version = _TLS[version]
    return context


def patiently(event: threading.Event) -> bool:
    """Wait for `event` for `PATIENCE`, in steps: a machine that was stopped for minutes uses up one step, not all."""
    return any(event.wait(PATIENCE / _STEPS) for _ in range(_STEPS))


class Wire:
    """The peer's end of one connection.

    Attributes:
        received: the application data that was read.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool, link: Link) -> None:
        sock.settimeout(PATIENCE)
        self.sock = sock
        self.link = link
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if server_side else NAME
        self.tls = context.wrap_bio(self._in, self._out, server_side=server_side, server_hostname=name)
        self.received = bytearray()
        self._reset = False

    # -- moving bytes

    def flush(self) -> None:
        """Send what OpenSSL has for the wire."""
        if data := self._out.read():
            self.sock.sendall(data)

    def pull(self) -> bool:
        """Give OpenSSL what came; False at the FIN."""
        data = self.sock.recv(1 << 16)
        self._in.write(data)
        return bool(data)

    def handshake(self) -> None:
        """Shake hands."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
                assert self.pull(), "FIN in the handshake"
            else:
                try:
                    self.flush()
                except ConnectionResetError:  # told once, here: whoever reads meets a FIN
                    self._reset = True
                except ConnectionError:  # we are gone already: whoever reads will see that
                    pass
                return

    def encrypt(self, data: bytes) -> bytes:
        """The records that would carry `data`."""
        self.tls.write(data)
        return self._out.read()

    def encrypt_close_notify(self) -> bytes:
        """The record of a close_notify. What came before is taken out of OpenSSL first: it would be lost, and fail."""
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            while data := self.tls.read(1 << 16):
                self.received += data
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        return self._out.read()

    def send(self, data: bytes) -> None:
        """Send application data."""
        self.sock.sendall(self.encrypt(data))

    def close_notify(self) -> None:
        """Send close_notify; reading goes on."""
        self.sock.sendall(self.encrypt_close_notify())

    def garbage(self) -> None:
        """Send a record of application data that nobody can decrypt."""
        self.sock.sendall(b"\x17\x03\x03\x00\x40" + b"\x5a" * 64)

    def read(self) -> bytes:
        """Some application data; b"" at the peer's close_notify. Raises EOFError at a bare FIN."""
        while True:
            try:
                data = self.tls.read(1 << 16)
            except ssl.SSLWantReadError:
                self.flush()
                if not self.pull():
                    raise EOFError("bare FIN") from None
            except ssl.SSLZeroReturnError:
                return b""
            else:
                self.received += data
                return data

    def read_exactly(self, count: int) -> None:
        """Read until so many bytes have been received in all."""
        while len(self.received) < count:
            assert self.read(), "close_notify came early"

    def read_to_end(self) -> str:
        """Read all: ``close_notify``, ``FIN``, ``RST``, or the reason of OpenSSL's error."""
        try:
            while self.read():
                pass
        except EOFError:
            return "RST" if self._reset else "FIN"
        except ConnectionResetError:
            return "RST"
        except ssl.SSLError as error:
            with contextlib.suppress(OSError):
                self.flush()
            return str(error.reason)
        return "close_notify"

    def read_to_tcp_end(self) -> str:
        """Read what follows in plain, and forget it: ``FIN`` or ``RST``."""
        try:
            while self.sock.recv(1 << 16):
                pass
        except ConnectionError:
            return "RST"
        return "FIN"

    # -- ending

    def fin(self) -> None:
        """End our direction of TCP."""
        self.sock.shutdown(socket.SHUT_WR)

    def rst(self) -> None:
        """Reset the connection."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def hold(self) -> None:
        """Keep the connection as it is until the test is over."""
        assert patiently(self.link.over), "the test does not end"


Script = Callable[[Wire], object]
"""What a peer does."""


class Link:
    """One connection between the stream of a test and its peer.

    Attributes:
        sock: our end, also when `stream` has taken it.
        go: for the test to tell the script something.
        ready: for the script to tell the test.
        over: set when the test has ended.
        result: what the script returned, once the block is left.
    """

    def __init__(self, sock: socket.socket, version: Version, we: Role) -> None:
        self.sock = sock
        self.version: Version = version
        self.we: Role = we
        self.go = threading.Event()
        self.over = threading.Event()
        self.ready = threading.Event()
        self.result: Any = None

    def stream(self, **options: Any) -> bowout.Stream:
        """Our end as a stream; the handshake is still to come. A close that a test does not hurry has time."""
        options = {"close_timeout": PATIENCE, "handshake_timeout": PATIENCE, **options}
        if self.we == "client":
            stream = bowout.wrap(self.sock, our_context(self.version, "client"), server_hostname=NAME, **options)
        else:
            stream = bowout.wrap(self.sock, our_context(self.version, "server"), server_side=True, **options)
        assert stream.socket is not None, "it was just wrapped"
        self.sock = stream.socket
        return stream

    def await_ready(self) -> None:
        """In a thread of the test: wait for the script to say that it is ready, or to end."""
        assert patiently(self.ready), "the peer was never ready"

    def await_full(self) -> None:
        """In a thread of the test: wait until the kernels take no more from us."""
        wait_full(self.sock)

    def await_go(self) -> None:
        """In a script: wait for the test to say go."""
        assert patiently(self.go), "the test never said go"


@functools.cache
def our_context(version: Version, side: Role) -> ssl.SSLContext:
    """The context of a test's own end."""
    return client_context(version) if side == "client" else server_context(version)


@functools.cache
def peer_context(version: Version, side: Role) -> ssl.SSLContext:
    """The context of the peer."""
    return client_context(version) if side == "client" else server_context(version)


def tcp_pair(*, small: bool = False) -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets; `small` makes the kernel's buffers so, where a sender must block soon.

    The others do not grow either, however much this machine would let them: megabytes block a sender on every one.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10 if small else _BUFFER)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ours = socket.socket()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 << 10 if small else _BUFFER)
        ours.connect(listener.getsockname())
        theirs = listener.accept()[0]
        theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else an RST may overtake what was written
        return ours, theirs


@contextlib.contextmanager
def peer(
    script: Script,
    *,
    version: Version = "1.3",
    we: Role = "client",
    small: bool = False,
    unix: bool = False,
    context: ssl.SSLContext | None = None,
) -> Iterator[Link]:
    """Run `script` against our end, in a thread; what it raises is raised where the block is left."""
    ours, theirs = socket.socketpair() if unix else tcp_pair(small=small)
    link = Link(ours, version, we)
    context = context or peer_context(version, "server" if we == "client" else "client")
    wire = Wire(theirs, context, server_side=we == "client", link=link)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            link.result = script(wire)
        except BaseException as error:  # noqa: BLE001 it is raised again where the block is left
            failures.append(error)
        finally:
            theirs.close()
            link.ready.set()

    thread = threading.Thread(target=work, name="peer")
    thread.start()
    try:
        yield link
    finally:
        link.over.set()
        link.go.set()
        thread.join(PATIENCE)
        ours.close()
    if failures:
        raise failures[0]
    assert not thread.is_alive(), "the peer's script did not end"


def leaving(wire: Wire) -> str:
    """Shake hands, read to the end, and close without an answer."""
    wire.handshake()
    return wire.read_to_end()


def polite(wire: Wire) -> str:
    """Shake hands, read to the end, answer a close_notify with another, and close."""
    wire.handshake()
    end = wire.read_to_end()
    if end == "close_notify":
        with contextlib.suppress(ConnectionError):  # we need not have waited for it
            wire.close_notify()
    return end


def silent(wire: Wire) -> str:
    """Shake hands, read to the end, and never answer."""
    wire.handshake()
    end = wire.read_to_end()
    wire.hold()
    return end


def deaf(wire: Wire) -> None:
    """Shake hands, then read nothing at all."""
    wire.handshake()
    wire.hold()


def flooding(wire: Wire) -> None:
    """Shake hands, then send and send and read nothing."""
    wire.handshake()
    block = b"\0" * (1 << 18)
    with contextlib.suppress(OSError):
        while not wire.link.over.is_set():
            wire.send(block)
