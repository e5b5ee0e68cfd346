"""``--www DIR``: files by HTTP/1.1 (RFC 9112), on connections that are kept and that end with close_notify."""

from __future__ import annotations

import mimetypes
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from bowout.cli._files import send_all
from bowout.cli._http import BadRequest, Request, next_request
from bowout.cli._serving import Mode
from bowout.cli._tree import Tree

if TYPE_CHECKING:
    from pathlib import Path

    from bowout.stream import Stream

_INDEX: Final = "index.html"


class Www(Mode):
    """Serves the files in a directory.

    Raises:
        UsageError: there is no such directory.
    """

    def __init__(self, directory: Path) -> None:
        self._tree = Tree(directory)

    async def handle(self, stream: Stream) -> None:
        """See `Mode`."""
        try:
            while (request := await next_request(stream)) is not None:
                keep = request.keep and not stream.draining.is_set()
                await self._answer(stream, request, keep=keep)
                if not keep:
                    return
        except BadRequest as error:
            await _say(stream, error.status, keep=False)

    async def _answer(self, stream: Stream, request: Request, *, keep: bool) -> None:
        with_body = request.method != "HEAD"
        if request.method not in {"GET", "HEAD"}:
            await _say(stream, HTTPStatus.METHOD_NOT_ALLOWED, keep=keep, more={"Allow": "GET, HEAD"})
            return
        path = request.path + (_INDEX if request.path.endswith("/") else "")
        try:
            file, status = self._tree.open(path)
        except OSError:
            await _say(stream, HTTPStatus.NOT_FOUND, keep=keep, with_body=with_body)
            return
        with file:
            kind, encoding = mimetypes.guess_type(path)
            headers = {
                "Content-Type": kind if kind and not encoding else "application/octet-stream",
                "Content-Length": str(status.st_size),
                "Last-Modified": formatdate(status.st_mtime, usegmt=True),
            }
            await stream.send(_head(HTTPStatus.OK, headers, keep=keep))
            if with_body:
                await send_all(stream, file, status.st_size)


async def _say(
    stream: Stream, status: HTTPStatus, *, keep: bool, with_body: bool = True, more: dict[str, str] | None = None
) -> None:
    body = f"{status.value} {status.phrase}\n".encode()
    headers = {"Content-Type": "text/plain", "Content-Length": str(len(body)), **(more or {})}
    await stream.send(_head(status, headers, keep=keep) + (body if with_body else b""))


def _head(status: HTTPStatus, headers: dict[str, str], *, keep: bool) -> bytes:
    whole = {
        "Date": formatdate(usegmt=True),
        "Connection": "keep-alive" if keep else "close",
        "X-Content-Type-Options": "nosniff",
        **headers,
    }
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in whole.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii")
