"""Lines of endpoints, and what a fleet must leave alone."""

from __future__ import annotations

import io

import pytest

from bowout.fleet import BadLine, Endpoint, Exclusions, parse_endpoint, read_endpoints, read_lines


@pytest.mark.parametrize(
    ("text", "host", "port", "starttls", "network"),
    [
        ("example.org", "example.org", 443, None, ""),
        ("EXAMPLE.org:8443", "example.org", 8443, None, ""),
        ("mail.example.org smtp", "mail.example.org", 25, "smtp", ""),
        ("mail.example.org:587 SMTP", "mail.example.org", 587, "smtp", ""),
        ("192.0.2.77", "192.0.2.77", 443, None, "192.0.2.0/24"),
        ("[2001:db8:1:2::3]:444", "2001:db8:1:2::3", 444, None, "2001:db8:1::/48"),
        ("2001:db8:1:2::3", "2001:db8:1:2::3", 443, None, "2001:db8:1::/48"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1", 443, None, "192.0.2.0/24"),
    ],
)
def test_an_endpoint_of_a_line(text: str, host: str, port: int, starttls: str | None, network: str) -> None:
    parsed = parse_endpoint(text)
    assert (parsed.host, parsed.port, parsed.starttls, parsed.network) == (host, port, starttls, network)


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/", "a:b", "a:0", "a:65536", "a:\u0661",
        ":443", "a b c", "a nope", "a protocol=", "a protocol=raw", "a protocol=http smtp", "protocol=http",
        "[::1", "[::1]443", "[a]:1",
        "a..b", "1:2:3", "a/b", "a\x1b[2J", "x" * 300, "a:" + "9" * 5000, "user@host",
    ],
)  # fmt: skip
def test_a_line_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not|more than"):
        parse_endpoint(text)


@pytest.mark.parametrize("name", ["http", "smtp", "imap", "pop3", "postgres", "redis"])
def test_a_line_may_have_a_protocol(name: str) -> None:
    parsed = parse_endpoint(f"a.example:1 protocol={name.upper()}")
    assert (parsed.port, parsed.starttls, parsed.protocol) == (1, None, name)
    assert parse_endpoint(str(parsed)) == parsed
    assert parse_endpoint(f"a.example lmtp protocol={name}").key == ("a.example", 24, "lmtp", name)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("b\u00fccher.example", "xn--bcher-kva.example"),
        ("BU\u0308CHER.example", "xn--bcher-kva.example"),
        ("fa\u00df.example", "xn--fa-hia.example"),
        ("[2001:DB8:0:0::1]", "2001:db8::1"),
    ],
)
def test_two_spellings_of_an_endpoint_are_one(text: str, same: str) -> None:
    assert parse_endpoint(text) == parse_endpoint(same)


def test_a_mark_of_byte_order_and_ends_of_lines_of_windows_are_no_part_of_a_name() -> None:
    found = [*read_endpoints(io.StringIO("\ufeffa.example\r\nb.example\r\n", newline=""))]
    assert found == [parse_endpoint("a.example"), parse_endpoint("b.example")]


def test_a_bad_line_is_told_with_its_number_and_the_reading_goes_on() -> None:
    text = "# a list\n\na.example\n\x1b[2J:1\nb.example:444 # the second\n" + "x" * 5000 + "\nc.example"
    found = [*read_endpoints(io.StringIO(text))]
    assert [each.number if isinstance(each, BadLine) else each.host for each in found] == [
        "a.example", 4, "b.example", 6, "c.example",
    ]  # fmt: skip
    assert isinstance(found[1], BadLine)
    assert "\x1b" not in found[1].why


def test_a_line_without_an_end_is_never_held_whole() -> None:
    (number, text), *rest = read_lines(io.StringIO("x" * 1_000_000 + "\nend"))
    assert (number, rest) == (1, [(2, "end")])
    assert len(text) < 5000


def exclusions(*lines: str) -> Exclusions:
    return Exclusions(enumerate(lines, 1))


@pytest.mark.parametrize(
    ("line", "host", "address", "excluded"),
    [
        ("192.0.2.0/24", "a.example", "192.0.2.200", True),
        ("192.0.2.0/24", "a.example", "192.0.3.1", False),
        ("192.0.2.0/24", "a.example", None, False),
        ("192.0.2.7", "192.0.2.7", None, True),
        ("192.0.2.7", "::ffff:192.0.2.7", None, True),
        ("2001:db8::/32", "a.example", "2001:db8:ffff::1", True),
        ("0.0.0.0/0", "a.example", "2001:db8::1", False),
        ("example.org", "www.EXAMPLE.org.", None, True),
        ("example.org", "badexample.org", None, False),
        ("*.example.org", "example.org", None, True),
        ("example.org.", "www.example.org", None, True),
        ("b\u00fccher.example", "www.xn--bcher-kva.example", None, True),
        ("xn--bcher-kva.example", "B\u00fccher.example", None, True),
        ("::ffff:192.0.2.0/120", "a.example", "192.0.2.9", True),
        ("::ffff:192.0.2.0/120", "a.example", "192.0.3.9", False),
    ],
)
def test_what_is_excluded(line: str, host: str, address: str | None, excluded: bool) -> None:
    assert exclusions(line).cover(host, address) is excluded


@pytest.mark.parametrize("line", ["10.0.0.0/33", "a b", "a/b", "..", "http://x"])
def test_an_exclusion_that_cannot_be_understood_stops_everything(line: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        exclusions("example.org", line)


def test_an_endpoint_is_shown_as_it_is_typed() -> None:
    assert str(Endpoint("::1", 25, "smtp")) == "[::1]:25 smtp"
