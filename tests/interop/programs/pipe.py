"""What the Python programs of this directory share: their command line, and stdin in a thread."""

from __future__ import annotations

import os
import ssl
import sys
from typing import Final

SIZE: Final = 1 << 16


class Arguments:
    """``ROLE PORT WAY IDENTITY``."""

    def __init__(self) -> None:
        self.role, port, self.way, self.identity = sys.argv[1:]
        self.port = int(port)

    @property
    def is_server(self) -> bool:
        return self.role == "server"

    def context(self) -> ssl.SSLContext:
        if self.is_server:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self.identity)
            return context
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


def tell(what: str, how: object) -> None:
    """One line for the test that started us."""
    if isinstance(how, BaseException):
        how = f"{type(how).__name__}: {how}" if str(how) else type(how).__name__
    os.write(2, f"{what}: {how}\n".encode())


def typed() -> bytes:
    """What comes on stdin; b"" at its end. It blocks."""
    return os.read(0, SIZE)


def show(data: bytes | bytearray) -> None:
    """Write to stdout. It blocks."""
    while data:
        data = data[os.write(1, data) :]
