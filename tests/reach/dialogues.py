"""What a server says to a client's library: scripts for `bowout.testing.Peer`, each of which can end in every way."""

from __future__ import annotations

import queue
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from bowout.testing import Act, Opening, Script
from reach.ends import End

#: The message of a server; half of it is sent before a bad end.
MESSAGE: Final = b"all that there is to say"


class Between:
    """What the connections of one client tell each other, at the server."""

    def __init__(self) -> None:
        self.begun: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.done: queue.SimpleQueue[bytes] = queue.SimpleQueue()


@dataclass(frozen=True)
class Reply:
    """The server's one message.

    Attributes:
        message: the whole of it.
        end: how the server ends after its first half; None if it sends all, and ends well.
        upload: the number of bytes that the client sends before.
        pause: whether the client tells when it has the head of the answer.
        between: for a server with several connections.
    """

    message: bytes
    end: End | None
    upload: int
    pause: bool
    between: Between = field(default_factory=Between)

    def send(self, act: Act, before: bytes, data: bytes) -> bool:
        """Send `before`, and `data` or the first half of it with the end after it; tell whether all was sent."""
        if self.end is None:
            act.send(before + data)
            return True
        half = len(data) // 2
        act.send(before + data[:half])
        if self.pause:
            act.wait_for_go()
        self.end.do(act, data[half:])
        return False


@dataclass(frozen=True)
class Dialogue:
    """A server's part of one conversation.

    Attributes:
        name: for the tables: the protocol, and what tells a client where the message ends.
        converse: the script after the handshake.
        opening: what is said in plain before TLS.
        message: what the application gets, where all is well.
        open_ended: only the end of the connection ends the message, so a client cannot tell by itself that it is whole.
        pause: the client tells when it has the head of the answer.
        greets: the server speaks first.
        connections: how many the client makes.
        uploads: what the client has to send before it gets the message; None: it sends nothing.
    """

    name: str
    converse: Callable[[Act, Reply], None]
    opening: Callable[[Opening], object] | None = None
    message: bytes = MESSAGE
    open_ended: bool = False
    pause: bool = False
    greets: bool = False
    connections: int = 1
    uploads: Literal["bytes", "mail"] | None = "bytes"

    def script(self, end: End | None, *, message: bytes | None = None, upload: int = 0) -> Script:
        """The script with this end, None for a good one."""
        reply = Reply(self.message if message is None else message, end, upload, self.pause)

        def play(act: Act) -> None:
            act.handshake()
            if end is None or end.answers:
                self.converse(act, reply)
                return
            if not self.greets:
                act.receive()
            end.do(act, b"")

        return play


def answer_close(act: Act) -> None:
    """Wait for the client's close_notify, and answer it."""
    if act.wait_for("close_notify"):
        act.close_notify()
        act.fin()


# -- HTTP/1.1 ---------------------------------------------------------------------------------------------------------


def _http(framing: Callable[[bytes], bytes], encode: Callable[[bytes], bytes]) -> Callable[[Act, Reply], None]:
    def converse(act: Act, reply: Reply) -> None:
        act.read_until(b"\r\n\r\n")
        act.read_exactly(reply.upload)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n" + framing(reply.message) + b"\r\n"
        if reply.send(act, head, encode(reply.message)):
            if b"close" in head:
                act.close_notify()
                act.fin()
            else:
                answer_close(act)

    return converse


def _by_length(body: bytes) -> bytes:
    return b"Content-Length: %d\r\n" % len(body)


def _chunks(body: bytes) -> bytes:
    half = len(body) // 2
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in (body[:half], body[half:])) + b"0\r\n\r\n"


HTTP_TO_THE_END: Final = Dialogue(
    "HTTP, body to the end of the connection",
    _http(lambda _: b"Connection: close\r\n", lambda body: body),
    open_ended=True,
    pause=True,
)
HTTP_BY_LENGTH: Final = Dialogue("HTTP, body with Content-Length", _http(_by_length, lambda body: body), pause=True)
HTTP_IN_CHUNKS: Final = Dialogue(
    "HTTP, body in chunks", _http(lambda _: b"Transfer-Encoding: chunked\r\n", _chunks), pause=True
)


# -- WebSocket --------------------------------------------------------------------------------------------------------


def _websocket(act: Act, reply: Reply) -> None:
    from websockets.frames import Opcode  # noqa: PLC0415 a third party's, of these dialogues only
    from websockets.http11 import Request  # noqa: PLC0415
    from websockets.server import ServerProtocol  # noqa: PLC0415

    protocol = ServerProtocol(max_size=None)

    def queued() -> bytes:
        return b"".join(protocol.data_to_send())

    def next_event() -> Any:
        events = protocol.events_received()
        while not events:
            protocol.receive_data(act.receive())
            events = protocol.events_received()
        (event,) = events
        return event

    request = next_event()
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    act.send(queued())
    received = 0
    while received < reply.upload:
        received += len(next_event().data)
    half = len(reply.message) // 2
    protocol.send_text(reply.message[:half], fin=False)
    first = queued()
    protocol.send_continuation(reply.message[half:], fin=True)
    rest = queued()
    if reply.end is not None:
        act.send(first)
        act.wait_for_go()
        reply.end.do(act, rest)
        return
    act.send(first + rest)
    assert next_event().opcode is Opcode.CLOSE
    act.send(queued())
    act.close_notify()  # RFC 6455 section 7.1.1: the server ends the connection
    act.wait_for("close_notify")
    act.fin()


WEBSOCKET: Final = Dialogue("WebSocket, message in two frames", _websocket, pause=True)


# -- SMTP -------------------------------------------------------------------------------------------------------------

HELP: Final = b"all that\nthere is to say"


def _smtp(greeting: bytes) -> Callable[[Act, Reply], None]:
    def converse(act: Act, reply: Reply) -> None:
        if greeting:
            act.send(greeting)
        while (command := act.read_until(b"\r\n")[:4].upper()) != b"QUIT":
            if command == b"HELP":
                first, _, last = reply.message.partition(b"\n")
                if not _send_lines(act, reply, b"214-%b\r\n" % first, b"214 %b\r\n" % last):
                    return
            elif command == b"DATA":
                act.send(b"354 go on\r\n")
                act.read_until(b"\r\n.\r\n")
                act.send(b"250 taken\r\n")
            else:
                act.send(b"250 fine\r\n")
        act.send(b"221 bye\r\n")
        answer_close(act)

    return converse


def _send_lines(act: Act, reply: Reply, first: bytes, last: bytes) -> bool:
    """Send an answer of two lines, or the first alone and the end: half of a line shows by itself what is missing."""
    if reply.end is None:
        act.send(first + last)
        return True
    act.send(first)
    reply.end.do(act, last)
    return False


def smtp_opening(opening: Opening) -> None:
    """The server's part of STARTTLS (RFC 3207)."""
    opening.send(b"220 peer.test\r\n")
    opening.read_until(b"\r\n")
    opening.send(b"250-peer.test\r\n250 STARTTLS\r\n")
    opening.read_until(b"\r\n")
    opening.send(b"220 go ahead\r\n")


SMTPS: Final = Dialogue(
    "SMTP over TLS, answer of two lines", _smtp(b"220 peer.test\r\n"), message=HELP, greets=True, uploads="mail"
)
STARTTLS: Final = Dialogue(
    "SMTP with STARTTLS, answer of two lines", _smtp(b""), smtp_opening, message=HELP, uploads="mail"
)


# -- Redis ------------------------------------------------------------------------------------------------------------


def _redis(act: Act, reply: Reply) -> None:
    while (command := _redis_command(act)[0].upper()) != b"GET":
        match command:
            case b"HELLO":
                act.send(b"%1\r\n$5\r\nproto\r\n:3\r\n")
            case b"SET" | b"CLIENT":
                act.send(b"+OK\r\n")
            case other:
                act.send(b"-ERR unknown command %b\r\n" % other)
    if reply.send(act, b"", b"$%d\r\n%b\r\n" % (len(reply.message), reply.message)):
        answer_close(act)


def _redis_command(act: Act) -> list[bytes]:
    """The next command, an array of strings."""
    count = int(act.read_until(b"\r\n")[1:])
    return [act.read_exactly(int(act.read_until(b"\r\n")[1:]) + 2)[:-2] for _ in range(count)]


REDIS: Final = Dialogue("Redis, value with its length", _redis)


# -- PostgreSQL -------------------------------------------------------------------------------------------------------

STATUS: Final = b"SELECT 24"


def _message(kind: bytes, payload: bytes) -> bytes:
    """One message of PostgreSQL's protocol: its kind, and its length with that of the length."""
    return kind + struct.pack(">i", len(payload) + 4) + payload


def postgres_opening(opening: Opening) -> None:
    """The server's consent to an SSLRequest."""
    opening.read_exactly(8)
    opening.send(b"S")


def _postgres(act: Act, reply: Reply) -> None:
    (length,) = struct.unpack(">i", act.read_exactly(4))
    act.read_exactly(length - 4)
    act.send(
        _message(b"R", struct.pack(">i", 0))
        + _message(b"S", b"server_version\x0015.0\x00")
        + _message(b"S", b"client_encoding\x00UTF8\x00")
        + _message(b"K", struct.pack(">ii", 1, 1))
        + _message(b"Z", b"I")
    )
    while (kind := act.read_exactly(1)) != b"X":
        (length,) = struct.unpack(">i", act.read_exactly(4))
        act.read_exactly(length - 4)
        if kind == b"Q" and not reply.send(act, b"", _message(b"C", reply.message + b"\0") + _message(b"Z", b"I")):
            return
    act.close_notify()  # the server ends the connection
    act.wait_for("close_notify")
    act.fin()


POSTGRES: Final = Dialogue(
    "PostgreSQL, answer with its length", _postgres, postgres_opening, message=STATUS, uploads=None
)
