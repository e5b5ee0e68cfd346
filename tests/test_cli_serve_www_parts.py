"""``bowout serve --www DIR``: parts of files, conditions on them (RFC 9110 sections 13 and 14), and the log."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Final

import pytest

from bowout.cli.serve.ranges import FilePart, FileVersion
from helpers.commands import ca_file
from helpers.peers import require_program
from helpers.served import dialled, read_to_end
from helpers.serving import ServeProcess, serving
from helpers.wire import Wire

TEXT: Final = b"0123456789"
#: A day of 2001, so that no clock is near.
MODIFIED: Final = 1_000_000_000
DATE: Final = formatdate(MODIFIED, usegmt=True)
BEFORE, AFTER = (formatdate(MODIFIED + step, usegmt=True) for step in (-1, 1))

WHOLE: Final = FilePart(HTTPStatus.OK, 0, 10)
UNSATISFIABLE: Final = FilePart(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)


@pytest.fixture
def version(tmp_path: Path) -> FileVersion:
    """The state of a file of ten bytes."""
    path = tmp_path / "ten"
    path.write_bytes(TEXT)
    os.utime(path, (MODIFIED, MODIFIED))
    return FileVersion(path.stat())


def partial(start: int, length: int) -> FilePart:
    """A part."""
    return FilePart(HTTPStatus.PARTIAL_CONTENT, start, length)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("bytes=0-0", partial(0, 1)),
        ("bytes=2-4", partial(2, 3)),
        ("bytes=2-", partial(2, 8)),
        ("bytes=9-9", partial(9, 1)),
        ("bytes=2-99", partial(2, 8)),
        ("bytes=2-" + "9" * 9000, partial(2, 8)),
        ("bytes=0000000000000000000000002-3", partial(2, 2)),
        ("bytes=-3", partial(7, 3)),
        ("bytes=-99", partial(0, 10)),
        ("Bytes= 1-2 ", partial(1, 2)),
        ("bytes=10-", UNSATISFIABLE),
        ("bytes=10-20", UNSATISFIABLE),
        ("bytes=" + "9" * 9000 + "-", UNSATISFIABLE),
        ("bytes=-0", UNSATISFIABLE),
        ("bytes=4-2", WHOLE),
        ("bytes=0-1,3-4", WHOLE),
        ("bytes=", WHOLE),
        ("bytes=-", WHOLE),
        ("bytes=a-b", WHOLE),
        ("bytes=0x1-2", WHOLE),
        ("lines=0-1", WHOLE),
        ("0-1", WHOLE),
        ("bytes=\xb2-3", WHOLE),
    ],
)
def test_a_range(version: FileVersion, value: str, part: FilePart) -> None:
    assert version.part("GET", {b"range": value.encode("latin-1")}) == part


@pytest.mark.parametrize(
    ("value", "part"),
    [(b"bytes=0-", UNSATISFIABLE), (b"bytes=-5", FilePart(HTTPStatus.OK)), (b"bytes=-0", UNSATISFIABLE)],
)
def test_a_range_of_an_empty_file(tmp_path: Path, value: bytes, part: FilePart) -> None:
    (tmp_path / "empty").touch()
    assert FileVersion((tmp_path / "empty").stat()).part("GET", {b"range": value}) == part


def test_a_range_means_nothing_for_head(version: FileVersion) -> None:
    assert version.part("HEAD", {b"range": b"bytes=0-0"}) == WHOLE


@pytest.mark.parametrize(
    ("validator", "whole"),
    [("TAG", False), ("W/TAG", True), ('"other"', True), (DATE, False), (BEFORE, True), (AFTER, True), ("x", True)],
)
def test_if_range(version: FileVersion, validator: str, whole: bool) -> None:
    fields = {b"range": b"bytes=0-0", b"if-range": validator.replace("TAG", version.tag).encode()}
    assert version.part("GET", fields) == (WHOLE if whole else partial(0, 1))


def test_a_date_of_just_now_does_not_tell_two_states_apart(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(TEXT)
    future = 4_000_000_000
    os.utime(tmp_path / "new", (future, future))
    version = FileVersion((tmp_path / "new").stat())
    fields = {b"range": b"bytes=0-0", b"if-range": version.date.encode()}
    assert version.part("GET", fields) == WHOLE


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("if-none-match", "TAG", 304),
        ("if-none-match", '"x", W/TAG', 304),
        ("if-none-match", "*", 304),
        ("if-none-match", '"x"', 200),
        ("if-none-match", "", 200),
        ("if-modified-since", DATE, 304),
        ("if-modified-since", AFTER, 304),
        ("if-modified-since", BEFORE, 200),
        ("if-modified-since", "yesterday", 200),
        ("if-modified-since", "Sun, 09 Sep 99999 01:46:40 GMT", 200),
        ("if-modified-since", "\xff", 200),
        ("if-match", "TAG", 200),
        ("if-match", "*", 200),
        ("if-match", "W/TAG", 412),
        ("if-match", '"x"', 412),
        ("if-unmodified-since", DATE, 200),
        ("if-unmodified-since", BEFORE, 412),
        ("if-unmodified-since", "yesterday", 200),
    ],
)
def test_a_condition(version: FileVersion, field: str, value: str, status: int) -> None:
    fields = {field.encode(): value.replace("TAG", version.tag).encode("latin-1")}
    assert version.part("GET", fields).status == status


def test_a_tag_counts_more_than_a_date(version: FileVersion) -> None:
    other = {b"if-none-match": b'"x"', b"if-modified-since": DATE.encode()}
    assert version.part("GET", other).status == 200
    same = {b"if-match": version.tag.encode(), b"if-unmodified-since": BEFORE.encode()}
    assert version.part("GET", same).status == 200


# -- a server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServeProcess]:
    """A server of one file."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "ten.txt").write_bytes(TEXT)
    os.utime(root / "ten.txt", (MODIFIED, MODIFIED))
    with serving("--www", str(root)) as running:
        yield running
        running.stop()


def ask(wire: Wire, *fields: str, method: str = "GET", target: str = "/ten.txt") -> tuple[int, dict[str, str], bytes]:
    """Ask for the file, and read one answer, whose length is taken from the wire and not from its header."""
    wire.received.clear()
    wire.send("\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode())
    # The answer to a second request tells that the first has ended.
    wire.send(b"PING / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while b"HTTP/1.1 405" not in wire.received:
        assert wire.read()
    first = bytes(wire.received).partition(b"HTTP/1.1 405")[0]
    while not wire.received.endswith(b"405 Method Not Allowed\n"):
        assert wire.read()
    head, _, body = first.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


def test_answers_are_as_long_as_they_say(server: ServeProcess) -> None:
    with dialled(server.port) as wire:
        status, fields, body = ask(wire)
        assert (status, body, fields["content-length"], fields["accept-ranges"]) == (200, TEXT, "10", "bytes")
        tag = fields["etag"]
        status, fields, body = ask(wire, method="HEAD")
        assert (status, body, fields["content-length"]) == (200, b"", "10")
        status, fields, body = ask(wire, "Range: bytes=2-4")
        assert (status, body, fields["content-length"]) == (206, b"234", "3")
        assert (fields["content-range"], fields["etag"], fields["content-type"]) == ("bytes 2-4/10", tag, "text/plain")
        status, fields, body = ask(wire, "Range: bytes=-2", f"If-Range: {tag}")
        assert (status, body) == (206, b"89")
        status, fields, body = ask(wire, "Range: bytes=10-")
        assert (status, fields["content-range"], fields["content-length"]) == (416, "bytes */10", str(len(body)))
        status, fields, body = ask(wire, f"If-None-Match: {tag}")
        assert (status, body, fields["etag"]) == (304, b"", tag)
        assert fields.get("content-length", "10") == "10"
        status, fields, body = ask(wire, 'If-Match: "x"')
        assert (status, fields["content-length"]) == (412, str(len(body)))
        assert ask(wire, method="HEAD", target="/none")[::2] == (404, b"")


def test_curl_continues_a_download(server: ServeProcess, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.write_bytes(TEXT[:4])
    subprocess.run(
        [
            require_program("curl"), "-sS", "--cacert", ca_file(), "-C", "-", "-o", half,
            "--resolve", f"localhost:{server.port}:127.0.0.1", f"https://localhost:{server.port}/ten.txt",
        ],
        check=True,
    )  # fmt: skip
    assert half.read_bytes() == TEXT


_LOG: Final = re.compile(r"(\S+) - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] \"(.*)\" (\d{3}) (\d+)")


def logged(text: str) -> list[tuple[str, ...]]:
    """Request, status and bytes of every line of the log."""
    found = [match for line in text.splitlines() if (match := _LOG.fullmatch(line))]
    assert all(match[1].startswith("127.0.0.1:") for match in found)
    return [match.groups()[1:] for match in found]


def test_every_request_is_logged(tmp_path: Path) -> None:
    (tmp_path / "ten.txt").write_bytes(TEXT)
    with serving("--www", str(tmp_path), "--naccept", "2") as server:
        with dialled(server.port) as wire:
            for line in ("GET /ten.txt", "HEAD /ten.txt", "GET /no?a=b", "PUT /ten.txt"):
                wire.send(f"{line} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            wire.send(b"GET /ten.txt HTTP/1.1\r\nHost: a\r\nRange: bytes=1-2\r\nConnection: close\r\n\r\n")
            assert read_to_end(wire) == "close_notify"
        with dialled(server.port) as wire:
            wire.send(b'GET \x1b[2J" 200 1\xff\x07 ' + b"a" * 9000 + b"\r\n\r\n")
            assert read_to_end(wire) == "close_notify"
        done = server.finish()
    *usual, bad = logged(done.err)
    assert usual == [
        ("GET /ten.txt HTTP/1.1", "200", "10"),
        ("HEAD /ten.txt HTTP/1.1", "200", "0"),
        ("GET /no?a=b HTTP/1.1", "404", "14"),
        ("PUT /ten.txt HTTP/1.1", "405", "23"),
        ("GET /ten.txt HTTP/1.1", "206", "2"),
    ]
    assert bad[0].startswith("GET \\x1b[2J\\x22 200 1\\xff\\x07 aaa")
    assert (len(bad[0]) < 600, bad[1]) == (True, "400")
    assert done.err.isprintable() or all(char.isprintable() or char == "\n" for char in done.err)


def test_what_a_client_did_not_take_is_not_logged_as_sent(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(32 << 20))
    with serving("--www", str(tmp_path), "--naccept", "1", "--timeout", "0.2") as server:
        with dialled(server.port) as wire:
            wire.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
            wire.read_exactly(1)
        done = server.finish()
    ((request, status, size),) = logged(done.err)
    assert (request, status) == ("GET /big HTTP/1.1", "200")
    assert int(size) < 32 << 20
