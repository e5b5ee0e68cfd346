"""``bowout serve`` on a terminal of 60 columns."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pexpect
import pytest

from helpers.commands import COMMAND
from helpers.served import dialled, read_to_end
from helpers.serving import cert_file
from test_cli_terminal import COLUMNS, EVERY_TERMINAL, SEQUENCE, spawn, status, told


@contextlib.contextmanager
def terminal(*options: str, term: str = "xterm") -> Iterator[tuple[pexpect.spawn[str], int]]:
    """The command on a terminal, and its port."""
    child = spawn(*COMMAND, "serve", "0", "--host", "127.0.0.1", "--cert", cert_file(), *options, TERM=term)
    with child:
        child.expect(r"listening on 127\.0\.0\.1:(\d+)")
        assert isinstance(child.match, re.Match)
        yield child, int(child.match[1])


@EVERY_TERMINAL
def test_what_a_client_sends_is_escaped(term: str) -> None:
    with terminal("--interactive", term=term) as (child, port), dialled(port) as wire:
        child.expect_exact("talking to")
        wire.send(b"\x1b]0;title\x07 and\ttab \xe2\x80\xae\n")
        child.expect_exact(r"\x1b]0;title\x07 and")
        child.expect_exact(r"\u202e")
        child.sendline("~.")
        assert read_to_end(wire) == "close_notify"
        assert status(child) == 0


@EVERY_TERMINAL
def test_what_is_typed_goes_to_the_client(term: str) -> None:
    with terminal("--interactive", term=term) as (child, port), dialled(port) as wire:
        child.expect_exact("talking to")
        child.sendline("hello")
        wire.read_exactly(6)
        child.sendintr()
        assert read_to_end(wire) == "close_notify"
        child.expect_exact("drained 1 connection")
        assert status(child) == 0
    assert wire.received == b"hello\n"


def test_no_line_is_wider_than_the_terminal() -> None:
    with terminal("--trace", "--ladder", "--naccept", "1") as (child, port):
        with dialled(port) as wire:
            wire.send(b"!")
            wire.close_notify()
            wire.read_to_end()
        lines = SEQUENCE.sub("", told(child)).splitlines()
    assert any("write:warning:close_notify" in line for line in lines)
    assert any("✓ 127.0.0.1:" in line for line in lines)
    assert max(map(len, lines)) <= COLUMNS


@pytest.mark.parametrize("arguments", [["--help"], ["--www", "a-directory-that-is-missing/" * 3]])
def test_help_and_errors_fit(arguments: list[str]) -> None:
    child = spawn(*COMMAND, "serve", *arguments)
    with child:
        lines = SEQUENCE.sub("", told(child)).splitlines()
    assert any("--www" in line for line in lines)
    assert max(map(len, lines)) <= COLUMNS


@EVERY_TERMINAL
def test_the_first_ctrl_c_says_what_is_waited_for_in_a_line_of_its_own(term: str) -> None:
    options = ("--drain-timeout", "1000", "--timeout", "1000")
    # The client never answers a close_notify.
    with terminal(*options, term=term) as (child, port), dialled(port):
        child.sendintr()
        child.expect_exact("^C")
        child.expect_exact("note: draining: 1 connection has 1000 s to finish; a second")
        assert str(child.before).startswith("\r\n")
        child.sendintr()
        child.expect_exact("drained 1 connection")
        assert status(child) == 1
