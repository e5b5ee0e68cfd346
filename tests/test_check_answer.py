"""What an answer says about its own completeness, whatever bytes it has."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bowout.check._answer import Completeness, Received, containing, http, last_line, messages
from bowout.check._protocols import conversation

HEAD: Final = b"HTTP/1.1 200 OK\r\n"
EARLY: Final = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
CHUNKED: Final = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def received(data: bytes, piece: int = 7) -> Received:
    answer = Received()
    for at in range(0, len(data), piece):
        answer.add(data[at : at + piece])
    return answer


@pytest.mark.parametrize(
    ("data", "complete", "missing"),
    [
        (HEAD + b"Content-Length: 5\r\n\r\nhello", True, 0),
        (HEAD + b"content-length:5\r\n\r\nhel", False, 2),
        (HEAD + b"Content-Length: 5\r\n\r\n", False, 5),
        (HEAD + b"Content-Length: 5\r\n\r\nhello, and more", True, 0),
        (HEAD + b"Content-Length: 0\r\n\r\n", True, 0),
        (HEAD + b"Content-Len", False, None),
        (HEAD + b"\r\nuntil the end", None, None),
        (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", None, None),
        (HEAD + b"Content-Length: -5\r\n\r\nhello", None, None),
        (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nhello", None, None),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True, None),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", True, None),
        (CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", True, None),
        (CHUNKED + b"5\r\nhello\r\n000;last\r\nTrailer: x\r\n\r\n", True, None),
        (CHUNKED + b"0\r\n\r\n", True, None),
        (CHUNKED + b"5\r\nhello\r\n0\r\n", False, None),
        (CHUNKED + b"5\r\nhello\r\n", False, None),
        (CHUNKED + b"50\r\n\r\n", False, None),
        (CHUNKED, False, None),
        (HEAD + b"X: chunked\r\nContent-Length: 2\r\n\r\nab", True, 0),
        (CHUNKED + b"3\r\nabc\r\n0\r\nX: " + b"y" * 9000 + b"\r\n\r\n", True, None),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n\r\n", True, None),
        # The data looks like the end, and is not.
        (CHUNKED + b"50\r\nabc\r\n0\r\n\r\n", False, None),
        (CHUNKED + b'5;a="' + b"y" * 9000 + b'"\r\nhello\r\n0\r\n\r\n', True, None),
        (CHUNKED + b"5 \r\nhello\r\n0 \r\n\r\n", True, None),
        (CHUNKED + b"3\r\nabcdef\r\n0\r\n\r\n", False, None),
        (CHUNKED + b"g\r\n\r\n0\r\n\r\n", False, None),
        (CHUNKED + b"-0\r\n\r\n", False, None),
        (CHUNKED + b"f" * 5000 + b"\r\n0\r\n\r\n", False, None),
        (b"HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked\n\n3\nabc\n0\n\n", True, None),
        (b"HTTP/1.1 103 Hm\r\nTransfer-Encoding: chunked\r\n\r\n" + HEAD + b"Content-Length: 1\r\n\r\na", True, 0),
        # Lone LFs, as of small devices, and answers before the final one.
        (b"HTTP/1.0 200 OK\nContent-Length: 5\n\nhello", True, 0),
        (EARLY + HEAD + b"Content-Length: 5\r\n\r\nhello", True, 0),
        (EARLY + EARLY + HEAD + b"Content-Length: 5\r\n\r\nhel", False, 2),
        (EARLY + HEAD + b"\r\nuntil the end", None, None),
        (EARLY + CHUNKED + b"0\r\n\r\n", True, None),
        (EARLY, False, None),
        (EARLY + b"HTT", False, None),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81", None, None),
        (b"", None, None),
        (b"220 mail.example.org\r\n", None, None),
    ],
)
def test_http(data: bytes, complete: bool | None, missing: int | None) -> None:
    found = http(received(data))
    assert (found.complete, found.missing) == (complete, missing)


def test_a_large_body_is_counted_and_not_kept() -> None:
    answer = Received()
    answer.add(HEAD + b"Content-Length: 10485760\r\n\r\n")
    for _ in range(160):
        answer.add(bytes(1 << 16))
    assert http(answer) == Completeness(complete=True, missing=0, declared=10 << 20, status=200)
    assert len(answer.head) + len(answer.tail) < 1 << 18


@pytest.mark.parametrize(
    ("protocol", "data", "complete"),
    [
        ("smtp", b"221 2.0.0 Bye\r\n", True),
        ("smtp", b"500-no\r\n500 no\r\n", True),
        ("smtp", b"221-bye\r\n", None),
        ("smtp", b"221\r\n", True),
        ("smtp", b"221 2.0", False),
        ("imap", b"* BYE now\r\na OK", False),
        ("redis", b"", None),
        ("imap", b"* BYE now\r\na OK done\r\n", True),
        ("imap", b"* BYE now\r\n", None),
        ("pop3", b"+OK bye\r\n", True),
        ("redis", b"+PONG\r\n+OK\r\n", True),
        ("redis", b"+PONG\r\n", None),
        ("postgres", b"R\0\0\0\x08\0\0\0\0", True),
        ("postgres", b"R\0\0\0\x08\0\0", False),
        ("postgres", b"E\0\0\0\0", True),
        ("postgres", b"", False),
    ],
)
def test_other_protocols(protocol: str, data: bytes, complete: bool | None) -> None:
    talk = conversation(
        protocol,  # type: ignore[arg-type]  # one of the names
        host="h",
        port=1,
        starttls=None,
        agent="a",
        send=None,
        expect=None,
    )
    assert talk.measure(received(data)).complete is complete


def test_an_expected_text_makes_an_answer_complete() -> None:
    assert containing(b"BYE")(received(b"so BYE then")).complete is True
    assert containing(b"BYE")(received(b"so BY")).complete is False
    assert containing(None)(received(b"so BYE then")).complete is None


def test_what_was_not_kept_is_not_known() -> None:
    assert http(received(HEAD + b"x: y\r\n" * 20_000, 5000)).complete is None
    middle = received(bytes(1 << 17) + b"BYE" + bytes(1 << 17), 5000)
    assert containing(b"BYE")(middle).complete is None


@given(st.binary(max_size=200), st.integers(1, 20))
def test_no_bytes_break_a_measure(data: bytes, piece: int) -> None:
    for measure in (http, messages, last_line(rb"\d{3} "), containing(b"x")):
        for start in (b"", HEAD, CHUNKED, HEAD + b"Content-Length: 50\r\n\r\n"):
            found = measure(received(start + data, piece))
            assert found == measure(received(start + data, 1000))
            assert not (found.complete and found.missing)


def test_a_request_names_the_host_and_us() -> None:
    for host, port, expected in (
        ("example.org", 443, b"Host: example.org\r\n"),
        ("example.org", 8443, b"Host: example.org:8443\r\n"),
        ("::1", 8443, b"Host: [::1]:8443\r\n"),
        ("faß.de", 443, b"Host: xn--fa-hia.de\r\n"),
    ):
        talk = conversation("http", host=host, port=port, starttls=None, agent="bowout-check/1", send=None, expect=None)
        assert expected in talk.request
        assert b"User-Agent: bowout-check/1\r\n" in talk.request
        assert b"Connection: close\r\n" in talk.request
        assert b"Connection" not in talk.lasting
