"""bowout and a peer of the catalogue: how they meet, and what the application saw."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import bowout
from bowout import EventKind, Side
from bowout.testing import Act, Entry, Outcome, Peer, PeerRole, TLSVersion
from helpers.served import gate
from helpers.tasks import in_thread

#: Deadline, in seconds, of a close that cannot end before it. All that the case shows has happened when it begins.
SHORT: Final = 0.05
#: Seconds for every other close: the end of a hang.
LONG: Final = 30.0
#: What is sent where the entry wants something to be.
REPLY: Final = b"thank you\n"
#: More than the buffers of any two kernels hold.
MUCH: Final = bytes(32 << 20)
UPLOAD: Final = bytes(range(256)) * 4096
#: More than a kernel takes of a socket with the smallest buffer, for a peer that does not read yet.
BLOCKING: Final = bytes(512 << 10)
_SMALL: Final = 1


@dataclass
class Met:
    """What the application saw on one connection."""

    ending: bowout.Ending
    outcome: Outcome
    data: bytes = b""
    plaintext: bytes = b""


class Watch:
    """Tells when our close_notify has left, and when data came after that."""

    def __init__(self) -> None:
        self.left, self.late = gate(), gate()

    def __call__(self, event: bowout.Event) -> None:
        if event.kind is EventKind.CLOSE_NOTIFY and event.by is Side.WE:
            self.left.set()
        elif event.kind is EventKind.DATA and event.received and self.left.is_set():
            self.late.set()


@dataclass
class Scene:
    """One connection of ours to a peer.

    Attributes:
        carrier: what carries TLS, over `sock`; None for `sock` itself.
    """

    peer: Peer
    sock: socket.socket
    entry: Entry
    role: PeerRole
    options: dict[str, Any] = field(default_factory=dict)
    carrier: Any = None

    def __post_init__(self) -> None:
        self.watch = Watch()
        options: dict[str, Any] = {"on_event": self.watch, **self.options}
        carrier = self.sock if self.carrier is None else self.carrier
        if self.role == "server":
            context = self.peer.client_context()
            self.stream = bowout.wrap(carrier, context, server_hostname="localhost", **options)
        else:
            self.stream = bowout.wrap(carrier, self.peer.server_context(), server_side=True, **options)
        if self.carrier is None:
            assert self.stream.socket is not None, "it was just wrapped"
            self.sock = self.stream.socket

    async def peer_is_done(self) -> None:
        """Wait until the peer has done all that it does by itself, and what it sent has arrived."""
        await in_thread(self.peer.wait_ready)

    def small_buffer(self) -> None:
        """Let sends block soon, while the peer does not read."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SMALL)


@contextlib.contextmanager
def meeting(
    entry: Entry, tls: TLSVersion, role: PeerRole, **options: Any
) -> Iterator[tuple[Peer, list[socket.socket]]]:
    """The peer, and our connected sockets to it, one for each of the entry's connections."""
    with contextlib.ExitStack() as stack:
        count = entry.connections
        if role == "server":
            peer = stack.enter_context(Peer(entry, tls=tls, connections=count, **options))
            socks = [stack.enter_context(socket.create_connection(peer.address)) for _ in range(count)]
        else:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            address = listener.getsockname()
            peer = stack.enter_context(
                Peer(entry, role="client", tls=tls, connect_to=address, connections=count, **options)
            )
            socks = [stack.enter_context(listener.accept()[0]) for _ in range(count)]
        yield peer, socks


def told(entry: Entry, *, hold: bool) -> Entry:
    """The same ending by a peer that says when it has done its part.

    Args:
        entry: of the catalogue.
        hold: after its handshake the peer waits for `Peer.go`, and reads nothing meanwhile.
    """

    def script(act: Act) -> None:
        for verb in ("wait_for", "silence", "flood", "drip"):
            setattr(act, verb, _after(act.ready, getattr(act, verb)))
        if hold:
            act.handshake = _before(act.wait_for_go, act.handshake)  # type: ignore[method-assign]
        entry.script(act)
        act.ready()

    return dataclasses.replace(entry, script=script)


def _after(first: Callable[[], object], verb: Callable[..., Any]) -> Callable[..., Any]:
    def both(*args: Any, **kwargs: Any) -> Any:
        first()
        return verb(*args, **kwargs)

    return both


def _before(last: Callable[[], object], verb: Callable[..., Any]) -> Callable[..., Any]:
    def both(*args: Any, **kwargs: Any) -> None:
        verb(*args, **kwargs)
        last()

    return both
