"""What a client says to a server's library: scripts that can end in every way, and a good client, which is ours."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import bowout
from bowout import Ending, Stream
from bowout.testing import Act, Opening, Script, TLSVersion
from helpers.wire import client_context
from reach.ends import End

#: The message of a bad client; half of it is sent before its end.
MESSAGE: Final = b"all that there is to say"
#: What a good client sends, and the least that it gets.
LARGE: Final = bytes(range(256)) * 5000
#: What a server sends to a client that leaves early: more than all buffers between them hold.
FLOOD: Final = 16 << 20


@dataclass(frozen=True)
class Visit:
    """A client's part of one conversation.

    Attributes:
        name: for the tables.
        talk: the bad client's script after the handshake, up to the second half of its message, which it returns.
        good: what a good client says over a stream, with its own upload as large as `LARGE`; it returns the answer.
        pause: the application tells when it has the head of the request.
        opening: what is said in plain before TLS.
        starttls: the same for a good client, as in `bowout.connect`.
        alpn: the protocol to ask for.
    """

    name: str
    talk: Callable[[Act], bytes]
    good: Callable[[Stream], Awaitable[bytes]]
    pause: bool = False
    opening: Callable[[Opening], object] | None = None
    starttls: Any = None
    alpn: str = "http/1.1"

    def context(self, tls: TLSVersion) -> ssl.SSLContext:
        """A client's context."""
        context = client_context(tls)
        if self.starttls is None:
            context.set_alpn_protocols([self.alpn])
        return context

    def script(self, end: End) -> Script:
        """The bad client's script with this end."""

        def play(act: Act) -> None:
            act.handshake()
            rest = self.talk(act)
            if self.pause:
                act.wait_for_go()
            end.do(act, rest)

        return play

    async def make(self, port: int, tls: TLSVersion) -> tuple[bytes, Ending]:
        """Make a good visit."""
        options: dict[str, Any] = {"server_hostname": "localhost", "starttls": self.starttls}
        async with bowout.connect("127.0.0.1", port, context=self.context(tls), **options) as stream:
            answer = await self.good(stream)
        assert stream.ending is not None
        return answer, stream.ending


# -- HTTP/1.1 ---------------------------------------------------------------------------------------------------------

_HALF: Final = len(MESSAGE) // 2
_POST: Final = b"POST /upload HTTP/1.1\r\nHost: localhost\r\n"


def _upload_by_length(act: Act) -> bytes:
    act.send(_POST + b"Content-Length: %d\r\n\r\n" % len(MESSAGE) + MESSAGE[:_HALF])
    return MESSAGE[_HALF:]


def _upload_in_chunks(act: Act) -> bytes:
    act.send(_POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%b\r\n" % (_HALF, MESSAGE[:_HALF]))
    rest = MESSAGE[_HALF:]
    return b"%x\r\n%b\r\n" % (len(rest), rest)


def _download(act: Act) -> bytes:
    act.send(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
    act.receive()
    return MESSAGE


async def _post(stream: Stream) -> bytes:
    """Upload, and read an answer by its length or in chunks."""
    await stream.send(_POST + b"Content-Length: %d\r\n\r\n" % len(LARGE) + LARGE)
    head = (await stream.receive_until(b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 200 "), head
    if b"transfer-encoding: chunked" in head:
        return b"".join([chunk async for chunk in _chunks(stream)])
    (length,) = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    return await stream.receive_exactly(int(length))


async def _chunks(stream: Stream) -> AsyncIterator[bytes]:
    while size := int(await stream.receive_until(b"\r\n"), 16):
        yield await stream.receive_exactly(size)
        await stream.receive_until(b"\r\n")
    await stream.receive_until(b"\r\n")


HTTP_UPLOAD: Final = Visit("HTTP, leaves in its upload with Content-Length", _upload_by_length, _post, pause=True)
HTTP_CHUNKED: Final = Visit("HTTP, leaves in its upload in chunks", _upload_in_chunks, _post, pause=True)
HTTP_DOWNLOAD: Final = Visit("HTTP, leaves in its download", _download, _post)


# -- HTTP/2 -----------------------------------------------------------------------------------------------------------

_H2_POST: Final = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "localhost"),
    (":path", "/upload"),
]


def _h2_connection() -> Any:
    from h2.config import H2Configuration  # noqa: PLC0415 a third party's, of these visits only
    from h2.connection import H2Connection  # noqa: PLC0415

    connection = H2Connection(H2Configuration(client_side=True))
    connection.initiate_connection()
    connection.increment_flow_control_window(1 << 24)
    return connection


def _h2_upload(act: Act) -> bytes:
    connection = _h2_connection()
    connection.send_headers(1, _H2_POST)
    connection.send_data(1, MESSAGE[:_HALF])
    act.send(connection.data_to_send())
    connection.send_data(1, MESSAGE[_HALF:], end_stream=True)
    rest: bytes = connection.data_to_send()
    return rest


async def _h2_post(stream: Stream) -> bytes:
    from h2 import events  # noqa: PLC0415 a third party's, of these visits only

    connection, answer, left = _h2_connection(), bytearray(), memoryview(LARGE)
    connection.send_headers(1, _H2_POST)
    connection.increment_flow_control_window(1 << 24, 1)
    while True:
        while left and (room := min(connection.local_flow_control_window(1), connection.max_outbound_frame_size)):
            connection.send_data(1, bytes(left[:room]), end_stream=len(left) <= room)
            left = left[room:]
        await stream.send(connection.data_to_send())
        for event in connection.receive_data(await stream.receive()):
            if isinstance(event, events.DataReceived):
                answer += event.data
            elif isinstance(event, events.StreamEnded):
                connection.close_connection()
                await stream.send(connection.data_to_send())
                return bytes(answer)


H2_UPLOAD: Final = Visit("HTTP/2, leaves in its upload", _h2_upload, _h2_post, pause=True, alpn="h2")


# -- WebSocket --------------------------------------------------------------------------------------------------------


def _websocket_client() -> Any:
    from websockets.client import ClientProtocol  # noqa: PLC0415 a third party's, of these visits only
    from websockets.uri import parse_uri  # noqa: PLC0415

    return ClientProtocol(parse_uri("wss://localhost/ws"), max_size=None)


def _websocket(act: Act) -> bytes:
    protocol = _websocket_client()
    protocol.send_request(protocol.connect())
    act.send(_queued(protocol))
    protocol.receive_data(act.read_until(b"\r\n\r\n"))
    protocol.send_text(MESSAGE[:_HALF], fin=False)
    act.send(_queued(protocol))
    protocol.send_continuation(MESSAGE[_HALF:], fin=True)
    return _queued(protocol)


def _queued(protocol: Any) -> bytes:
    return b"".join(protocol.data_to_send())


async def _websocket_echo(stream: Stream) -> bytes:
    """Send one message, get it back, and go through both handshakes of the protocol."""
    protocol = _websocket_client()

    async def next_event() -> Any:
        events = protocol.events_received()
        while not events:
            protocol.receive_data(await stream.receive())
            events = protocol.events_received()
        return events[0]

    protocol.send_request(protocol.connect())
    await stream.send(_queued(protocol))
    await next_event()
    protocol.send_binary(LARGE)
    await stream.send(_queued(protocol))
    answer = await next_event()
    parts = [answer]
    while not parts[-1].fin:
        parts.append(await next_event())
    protocol.send_close(1000)
    await stream.send(_queued(protocol))
    await next_event()
    assert await stream.receive() == b""  # RFC 6455 section 7.1.1: the server ends the connection
    return b"".join(part.data for part in parts)


WEBSOCKET: Final = Visit("WebSocket, leaves in a message of two frames", _websocket, _websocket_echo)


# -- SMTP -------------------------------------------------------------------------------------------------------------

_MAIL: Final = (b"EHLO localhost", b"MAIL FROM:<a@peer.test>", b"RCPT TO:<b@peer.test>", b"DATA")


def _smtp(*, greeted: bool) -> Callable[[Act], bytes]:
    def talk(act: Act) -> bytes:
        if greeted:
            act.read_until(b"\r\n")
        for command in _MAIL:
            act.send(command + b"\r\n")
            while act.read_until(b"\r\n")[3:4] == b"-":
                pass
        act.send(MESSAGE[:_HALF] + b"\r\n")
        return MESSAGE[_HALF:] + b"\r\n.\r\n"

    return talk


def _mail(*, greeted: bool) -> Callable[[Stream], Awaitable[bytes]]:
    async def talk(stream: Stream) -> bytes:
        async def answer() -> bytes:
            while (line := await stream.receive_until(b"\r\n"))[3:4] == b"-":
                pass
            return line

        if greeted:
            await answer()
        for command in _MAIL:
            await stream.send(command + b"\r\n")
            await answer()
        lines = len(LARGE) // 80
        await stream.send((b"x" * 78 + b"\r\n") * lines + b".\r\n")
        taken = await answer()
        await stream.send(b"QUIT\r\n")
        await answer()
        assert await stream.receive() == b""  # the server ends the connection
        return taken

    return talk


def smtp_opening(opening: Opening) -> None:
    """The client's part of STARTTLS (RFC 3207)."""
    opening.read_until(b"\r\n")
    for command in (b"EHLO localhost", b"STARTTLS"):
        opening.send(command + b"\r\n")
        while opening.read_until(b"\r\n")[3:4] == b"-":
            pass


SMTPS: Final = Visit("SMTP over TLS, leaves in its mail", _smtp(greeted=True), _mail(greeted=True))
STARTTLS: Final = Visit(
    "SMTP with STARTTLS, leaves in its mail",
    _smtp(greeted=False),
    _mail(greeted=False),
    opening=smtp_opening,
    starttls="smtp",
)
