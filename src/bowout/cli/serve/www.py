"""``--www DIR``: files by HTTP/1.1 (RFC 9112), on persistent connections that end with close_notify."""

from __future__ import annotations

import contextlib
import mimetypes
from datetime import datetime
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from bowout._text import escape
from bowout.cli.console import output
from bowout.cli.serve.files import send_all
from bowout.cli.serve.http import BadRequest, Request, next_request
from bowout.cli.serve.ranges import FileVersion
from bowout.cli.serve.serving import Mode
from bowout.cli.serve.tree import Tree

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import IO

    from bowout._stream import Stream
    from bowout.cli.serve.ranges import FilePart

_INDEX: Final = "index.html"
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Www(Mode):
    """Serves the files in a directory, and logs one line for each request.

    Raises:
        UsageError: the directory cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        self._tree = Tree(directory)

    async def handle(self, stream: Stream) -> None:
        """See `Mode`."""
        try:
            while (request := await next_request(stream)) is not None:
                keep = request.keep and not stream.draining.is_set()
                await self._answer(_Answer(stream, request, keep=keep), request)
                if not keep:
                    return
        except BadRequest as error:
            await _Answer(stream, error, keep=False).say(error.status)

    async def _answer(self, answer: _Answer, request: Request) -> None:
        if request.method not in {"GET", "HEAD"}:
            await answer.say(HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET, HEAD"})
            return
        path = request.path + (_INDEX if request.path.endswith("/") else "")
        try:
            file, status = self._tree.open(path)
        except OSError:
            await answer.say(HTTPStatus.NOT_FOUND)
            return
        with file:
            await _send_file(answer, request, file, status, path)


async def _send_file(answer: _Answer, request: Request, file: IO[bytes], status: os.stat_result, path: str) -> None:
    version = FileVersion(status)
    part = version.part(request.method, request.fields)
    headers = {"Accept-Ranges": "bytes", "ETag": version.tag, "Last-Modified": version.date}
    match part.status:
        case HTTPStatus.NOT_MODIFIED | HTTPStatus.PRECONDITION_FAILED:
            await answer.say(part.status, headers)
        case HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            await answer.say(part.status, {**headers, "Content-Range": f"bytes */{version.size}"})
        case _:
            if part.status is HTTPStatus.PARTIAL_CONTENT:
                last = part.start + part.length - 1
                headers["Content-Range"] = f"bytes {part.start}-{last}/{version.size}"
            await answer.send(part, {**headers, "Content-Type": _kind(path)}, file)


def _kind(path: str) -> str:
    kind, encoding = mimetypes.guess_type(path)
    return kind if kind and not encoding else "application/octet-stream"


class _Answer:
    """The answer to one request, and its line in the log when the answer has ended.

    Args:
        request: the request, or the error that made it invalid.
        keep: whether the connection is kept.
    """

    def __init__(self, stream: Stream, request: Request | BadRequest, *, keep: bool) -> None:
        self._stream = stream
        self._line = request.line
        self._keep = keep
        self._with_body = not (isinstance(request, Request) and request.method == "HEAD")
        self._sent = 0

    async def say(self, status: HTTPStatus, headers: Mapping[str, str] | None = None) -> None:
        """Answer with `status`, and with its phrase as the body, if it may have one."""
        body = b"" if status is HTTPStatus.NOT_MODIFIED else f"{status.value} {status.phrase}\n".encode()
        more = {"Content-Type": "text/plain", "Content-Length": str(len(body))} if body else {}
        with self._logged(status), self._stream.message():
            await self._stream.send(_head(status, {**(headers or {}), **more}, keep=self._keep))
            if self._with_body:
                await self._send(body)

    async def send(self, part: FilePart, headers: Mapping[str, str], file: IO[bytes]) -> None:
        """Answer with `part` of `file`."""
        with self._logged(part.status), self._stream.message():
            more = {"Content-Length": str(part.length)}
            await self._stream.send(_head(part.status, {**headers, **more}, keep=self._keep))
            if self._with_body:
                file.seek(part.start)
                await send_all(self._send, file, part.length)

    async def _send(self, data: bytes) -> None:
        await self._stream.send(data)
        self._sent += len(data)

    @contextlib.contextmanager
    def _logged(self, status: HTTPStatus) -> Iterator[None]:
        """Log the request in the common log format, with the number of bytes of the body that were sent."""
        try:
            yield
        finally:
            peer = escape(self._stream.peer) or "-"
            line = escape(self._line).replace('"', "\\x22")  # Otherwise a client could forge the rest of the line.
            output.line(f'{peer} - - [{_now()}] "{line}" {status.value} {self._sent}')


def _now() -> str:
    now = datetime.now().astimezone()
    return now.strftime(f"%d/{_MONTHS[now.month - 1]}/%Y:%H:%M:%S %z")


def _head(status: HTTPStatus, headers: Mapping[str, str], *, keep: bool) -> bytes:
    whole = {
        "Date": formatdate(usegmt=True),
        "Connection": "keep-alive" if keep else "close",
        "X-Content-Type-Options": "nosniff",
        **headers,
    }
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in whole.items())]
    return "\r\n".join([*lines, "", ""]).encode("ascii")
