"""Send stdin over TLS, and print the answer: python blocking_client.py HOST PORT [CAFILE] < request

There is no event loop. `bowout.sansio` decides everything about TLS and its ending; this program only moves bytes.
"""

import contextlib
import select
import socket
import ssl
import sys

from bowout import Ending
from bowout.sansio import SansIOConnection, Step


class BlockingStream:
    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_hostname: str) -> None:
        self.sock = sock
        self.sock.settimeout(0)
        self.tls = SansIOConnection(context, server_hostname=server_hostname, peer=str(sock.getpeername()))

    def move(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds until bytes can be moved, and move them; return whether any were moved."""
        readers = [self.sock] if self.tls.room else []
        writers = [self.sock] if self.tls.data_to_send() else []
        readable, writable, _ = select.select(readers, writers, [], timeout)
        try:
            if writable and (data := self.tls.data_to_send()):
                self.tls.data_sent(self.sock.send(data))
            if readable and (room := self.tls.room):
                data = self.sock.recv(room)
                self.tls.receive_data(data) if data else self.tls.receive_eof()
        except BlockingIOError:
            pass
        except OSError as error:
            self.tls.receive_reset(str(error))
        return bool(readable or writable)

    def handshake(self) -> None:
        while not self.tls.handshake():
            self.move()

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        while self.tls.data_to_send():
            self.move()

    def receive(self) -> bytes:
        while (data := self.tls.read()) is None:
            self.move()
        return data

    def close(self, timeout: float = 5.0) -> Ending:
        self.tls.begin_close(timeout=timeout)
        while (step := self.tls.next_step()) is not Step.RELEASE:
            if step is Step.FIN:
                with contextlib.suppress(OSError):  # The peer has reset the connection.
                    self.sock.shutdown(socket.SHUT_WR)
                self.tls.fin_sent()
            else:
                self.move(self.tls.timeout)
                while self.move(0):
                    pass
        self.sock.close()
        return self.tls.released()


def main(host: str, port: str, cafile: str | None = None) -> None:
    context = ssl.create_default_context(cafile=cafile)
    stream = BlockingStream(socket.create_connection((host, int(port))), context, host)
    try:
        stream.handshake()
        stream.send(sys.stdin.buffer.read())
        stream.tls.write_eof()
        while data := stream.receive():
            sys.stdout.buffer.write(data)
    finally:
        sys.stdout.flush()
        print(stream.close(), file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
