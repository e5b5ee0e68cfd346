"""``bowout serve --www DIR``: files, and none beside the directory."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.served import dialled, read_to_end
from helpers.serving import ServeProcess, serving
from helpers.wire import Wire

PAGE = b"<p>hello</p>\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory to serve, with secrets beside it."""
    root = tmp_path / "root"
    (root / "below").mkdir(parents=True)
    (root / "index.html").write_bytes(PAGE)
    (root / "below" / "a b.bin").write_bytes(b"\x00\xff")
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "rootless").mkdir()
    (tmp_path / "rootless" / "secret").write_text("secret")
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "out-dir").symlink_to(tmp_path)
    (root / "inside").symlink_to("below/a b.bin")
    (root / "circle").symlink_to("circle")
    os.mkfifo(root / "pipe")
    return root


@pytest.fixture
def server(tree: Path) -> Iterator[ServeProcess]:
    """A server of it."""
    with serving("--www", str(tree)) as running:
        yield running
        done = running.stop()
        assert done.status == 0
        assert "the handler failed" not in done.err


def answer(wire: Wire, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Ask, and read one answer."""
    wire.received.clear()
    wire.send(request)
    while b"\r\n\r\n" not in wire.received:
        assert wire.read()
    head, _, _ = bytes(wire.received).partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    length = 0 if request.startswith(b"HEAD") else int(fields["content-length"])
    wire.read_exactly(len(head) + 4 + length)
    assert len(wire.received) == len(head) + 4 + length
    return int(status.split()[1]), fields, bytes(wire.received[len(head) + 4 :])


def get(wire: Wire, target: str, *fields: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """Ask for a target."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", *fields, "", ""]
    return answer(wire, "\r\n".join(lines).encode())


def test_requests_follow_each_other_on_one_connection(server: ServeProcess) -> None:
    with dialled(server.port) as wire:
        status, fields, body = get(wire, "/")
        assert (status, body, fields["content-type"], fields["connection"]) == (200, PAGE, "text/html", "keep-alive")
        assert get(wire, "/below/a%20b.bin?x=1")[2] == b"\x00\xff"
        assert get(wire, "https://localhost/inside")[2] == b"\x00\xff"
        status, fields, body = get(wire, "/index.html", method="HEAD")
        assert (status, fields["content-length"], body) == (200, str(len(PAGE)), b"")
        status, fields, _ = get(wire, "/", "Connection: close")
        assert (status, fields["connection"]) == (200, "close")
        assert read_to_end(wire) == "close_notify"


def test_two_requests_in_one_record(server: ServeProcess) -> None:
    with dialled(server.port) as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\nGET / HTTP/1.0\n\n")
        assert read_to_end(wire) == "close_notify"
        assert wire.received.count(PAGE) == 2


@pytest.mark.parametrize(
    "target",
    [
        "/missing",
        "/below",
        "/below/",
        "/index.html/",
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/below/../../secret",
        "/..%5csecret",
        "//../rootless/secret",
        "/out",
        "/out-dir/secret",
        "/circle",
        "/pipe",
        "/%00",
        "/index.html%00",
        "/" + "a" * 300,
        "/index.html/x",
    ],
)
def test_not_found(server: ServeProcess, target: str) -> None:
    with dialled(server.port) as wire:
        assert get(wire, target)[0] == 404
        assert get(wire, "/")[2] == PAGE


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET https://[ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: " + b"a" * (16 << 10) + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 405),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200),
    ],
)
def test_after_what_cannot_be_followed_it_closes(server: ServeProcess, request_: bytes, status: int) -> None:
    with dialled(server.port) as wire:
        found, fields, _ = answer(wire, request_)
        assert (found, fields["connection"]) == (status, "close")
        assert read_to_end(wire) == "close_notify"


def test_another_method_leaves_the_connection_alone(server: ServeProcess) -> None:
    with dialled(server.port) as wire:
        status, fields, _ = get(wire, "/", method="DELETE")
        assert (status, fields["allow"]) == (405, "GET, HEAD")
        assert get(wire, "/")[2] == PAGE


def test_a_file_that_shrinks_does_not_pass_for_whole(tree: Path) -> None:
    (tree / "big").write_bytes(bytes(32 << 20))
    with serving("--www", str(tree), "--naccept", "1") as server:
        with dialled(server.port) as wire:
            wire.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
            wire.read_exactly(1)
            os.truncate(tree / "big", 1 << 20)
            assert wire.read_to_end() == "FIN"
        done = server.finish()
    assert len(wire.received) < 32 << 20
    assert "the file shrank" in done.err


def test_a_drain_ends_idle_connections_and_lets_downloads_finish(tree: Path) -> None:
    (tree / "big").write_bytes(bytes(32 << 20))
    with serving("--www", str(tree)) as server, dialled(server.port) as idle, dialled(server.port) as busy:
        assert get(idle, "/")[0] == 200
        busy.send(b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
        busy.read_exactly(1)
        server.running.interrupt(signal.SIGTERM)
        assert read_to_end(idle) == "close_notify"
        assert read_to_end(busy) == "close_notify"
        assert server.finish().status == 0
    assert len(busy.received) > 32 << 20
