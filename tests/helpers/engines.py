"""Two engines in memory, and one whose peer writes its own records."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from bowout._core import hook
from bowout._core.engine import Engine
from bowout._core.timeline import Timeline
from bowout._scripted.keylog import KeyLog
from bowout._scripted.records import Direction, Suite, tls12, tls13
from bowout._tls_numbers import ALERT
from bowout.ending import Role
from bowout.errors import BowoutError

if TYPE_CHECKING:
    from pathlib import Path

    import trustme

    from bowout.ending import Event, EventKind, TruncationPolicy

NAME: Final = "peer.example"
VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

BUFFER: Final = memoryview(bytearray(1 << 16))


def contexts(ca: trustme.CA, version: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A client's and a server's context for one TLS version, prepared for endings."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.configure_trust(client)
    ca.configure_trust(server)
    ca.issue_cert(NAME).configure_cert(server)
    for context in (client, server):
        context.minimum_version = context.maximum_version = VERSIONS[version]
        hook.prepare(context)
    return client, server


class Clock:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class EnginePair:
    """A client and a server, and the bytes between them, which only the test moves."""

    client: Engine
    server: Engine
    seen: list[Event] = field(default_factory=list)

    def other(self, engine: Engine) -> Engine:
        return self.server if engine is self.client else self.client

    def shake_hands(self) -> None:
        while not (self.client.handshake() & self.server.handshake()):
            self.move(self.client)
            self.move(self.server)
        self.move(self.client)
        self.move(self.server)

    def move(self, source: Engine) -> int:
        """Carry everything that `source` has to the other side."""
        data = take(source)
        if data:
            self.other(source).receive_data(data)
        return len(data)

    def settle(self) -> None:
        """Carry everything both ways, and read, until nothing moves; errors are met later."""
        while self.move(self.client) + self.move(self.server):
            for engine in (self.client, self.server):
                while engine.discard(memoryview(bytearray(1 << 16))):
                    pass


def engine(context: ssl.SSLContext, role: Role, *, truncation: TruncationPolicy = "raise", name: str = NAME) -> Engine:
    """One engine, on a clock that stands still."""
    return Engine(
        context,
        role=role,
        server_hostname=name if role is Role.CLIENT else None,
        timeline=Timeline(Clock()),
        truncation=truncation,
    )


def pair(client: ssl.SSLContext, server: ssl.SSLContext, **options: Any) -> EnginePair:
    """Two engines that have not shaken hands."""
    return EnginePair(engine(client, Role.CLIENT, **options), engine(server, Role.SERVER))


def take(source: Engine, limit: int | None = None) -> bytes:
    """Be the kernel: take all output of `source`, or `limit` bytes."""
    taken = bytearray()
    while (head := source.outgoing.head()) is not None and (limit is None or len(taken) < limit):
        count = len(head) if limit is None else min(len(head), limit - len(taken))
        taken += head[:count]
        source.outgoing.taken(count)
    return bytes(taken)


def send(source: Engine, data: bytes) -> None:
    """Encrypt all of `data`."""
    view = memoryview(data)
    while view:
        view = view[source.outgoing.write(view) :]


def read(target: Engine, size: int = 1 << 16) -> bytes | None:
    """Read once: bytes, ``b""`` at the end, None where more input is needed."""
    buffer = bytearray(size)
    count = target.incoming.read_into(memoryview(buffer))
    return None if count is None else bytes(buffer[:count])


def read_all(target: Engine) -> bytes:
    """Read what there is, up to the end or to where more input is needed."""
    out = b""
    while data := read(target):
        out += data
    return out


def read_out(target: Engine) -> tuple[bytes, BowoutError | None]:
    """Like `read_all`, and the error that stopped it."""
    out = b""
    try:
        while data := read(target):
            out += data
    except BowoutError as error:
        return out, error
    return out, None


def kinds(source: Engine, *wanted: EventKind) -> list[EventKind]:
    """The kinds of the events so far; only the wanted ones, if any are named."""
    return [event.kind for event in source.timeline.events() if not wanted or event.kind in wanted]


def established(ca: trustme.CA, version: str, **options: Any) -> EnginePair:
    """Two engines that have shaken hands; the client has read its session tickets."""
    made = pair(*contexts(ca, version), **options)
    made.shake_hands()
    read(made.client)
    return made


def refused(
    client: ssl.SSLContext, server: ssl.SSLContext, **options: Any
) -> tuple[BowoutError, BowoutError, EnginePair]:
    """The errors of both sides of a handshake that cannot be; the client's may come with its first read."""
    two = pair(client, server, **options)
    errors: dict[Role, BowoutError] = {}
    for _ in range(6):
        for side in (two.client, two.server):
            try:
                if side.handshake():
                    read(side)
            except BowoutError as error:
                errors.setdefault(side.role, error)
            two.move(side)
    return errors[Role.CLIENT], errors[Role.SERVER], two


def close_notify(source: Engine) -> bytes:
    """What `source` says when it says close_notify."""
    source.queue_close_notify()
    return take(source)


def flipped(record: bytes) -> bytes:
    """The record with its last bit turned over."""
    return record[:-1] + bytes([record[-1] ^ 1])


def cut(us: Engine, them: Engine, missing: int) -> Engine:
    """Cut the peer's stream `missing` bytes before the end of its second record."""
    send(them, b"first")
    send(them, b"second")
    data = take(them)
    us.receive_data(data[: len(data) - missing])
    us.receive_eof()
    return us


def alerted(us: Engine, them: Engine) -> Engine:
    """Make the peer send us a fatal alert, by feeding it garbage."""
    them.receive_data(b"\x17\x03\x03\x00\x20" + bytes(32))
    read_out(them)
    us.receive_data(take(them))
    return us


class Scribe:
    """Writes the records of a server whose keys a key log gave away, legal or not.

    The server must not have written anything of its own.
    """

    def __init__(self, keys: Direction) -> None:
        self._keys = keys

    def record(self, content_type: int, data: bytes) -> bytes:
        """One encrypted record."""
        return self._keys.seal(content_type, data)

    def alert(self, level: int, code: int) -> bytes:
        """One record with one alert."""
        return self.record(ALERT, bytes([level, code]))


def scribe(client: ssl.SSLContext, server: ssl.SSLContext, version: str, keylog: Path) -> tuple[Engine, Scribe]:
    """A client that has shaken hands, and the pen of its server."""
    server.num_tickets = 0
    server.options |= ssl.OP_NO_TICKET
    if version == "1.2":
        server.set_ciphers("ECDHE+AESGCM")
    log = KeyLog(server, keylog)
    two = pair(client, server)
    flights = {Role.CLIENT: b"", Role.SERVER: b""}
    while not (two.client.handshake() & two.server.handshake()):
        for side in (two.client, two.server):
            data = take(side)
            flights[side.role] += data
            two.other(side).receive_data(data)
    two.move(two.client)
    client_random, server_random = (flights[role][11:43] for role in (Role.CLIENT, Role.SERVER))
    secrets = log.secrets(client_random)
    log.close()
    suite = Suite.of((two.client.tls.cipher() or ("",))[0])
    if version == "1.3":
        return two.client, Scribe(tls13(suite, secrets["SERVER_TRAFFIC_SECRET_0"]))
    return two.client, Scribe(tls12(suite, secrets["CLIENT_RANDOM"], client_random, server_random)[1])
