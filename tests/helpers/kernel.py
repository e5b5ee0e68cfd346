"""What the kernel says of a connection: whether it takes any more of us."""

from __future__ import annotations

import fcntl
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Final

#: ioctls of Linux: bytes that the peer's kernel has not acknowledged, and those of them that were not sent at all.
_SIOCOUTQ: Final = 0x5411
_SIOCOUTQNSD: Final = 0x894B
#: Seconds between two looks: the kernel tells by no event that it waits for the peer.
_LOOK: Final = 0.01
#: So many looks alike also tell: a kernel whose buffer is smaller than a segment drops what it was sent.
_ALIKE: Final = 100


def wait_full(sock: socket.socket, send_more: Callable[[], object] = lambda: None) -> None:
    """Wait until the kernels take no more: there is no room here, and nothing is on its way that could make some.

    Args:
        sock: on which somebody sends, or which `send_more` fills before each look.
        send_more: takes what room there is.

    A pause alone tells nothing: an acknowledgement may be delayed by 40 ms, and a probe of a small window by 200.
    """
    before, alike = None, 0
    while alike < _ALIKE:
        send_more()
        now = _queued(sock)
        full = not _has_room(sock)  # Asked last: an acknowledgement may have made room since the other question.
        if full and now[0] == now[1]:
            return
        before, alike = now, alike + 1 if full and now == before else 0
        time.sleep(_LOOK)


def _has_room(sock: socket.socket) -> bool:
    return bool(select.select([], [sock], [], 0)[1])


def _queued(sock: socket.socket) -> tuple[int, int]:
    """Bytes that the peer has not acknowledged, and those of them that were not sent yet; where nobody knows, none."""
    if sys.platform != "linux" or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return 0, 0
    first, second = (fcntl.ioctl(sock.fileno(), request, bytes(4)) for request in (_SIOCOUTQ, _SIOCOUTQNSD))
    return int.from_bytes(first, sys.byteorder), int.from_bytes(second, sys.byteorder)
