"""``bowout connect`` on a terminal: a pseudo-terminal of 60 columns, and somebody who types."""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pexpect
import pytest

from helpers.commands import COMMAND, ScriptedServer, ca_file, environment, listening
from helpers.wire import PATIENCE, Wire

COLUMNS: Final = 60
CLEAN: Final = "clean: we sent close_notify, the peer answered"
#: ECMA-48's control sequences: colours, and what the editor moves the cursor with.
SEQUENCE: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def prompting(wire: Wire) -> str:
    """Ask for a name, greet, and take leave."""
    wire.handshake()
    wire.send(b"name? ")
    with contextlib.suppress(EOFError):
        while data := wire.read():
            wire.send(b"hello \x1b[31m" + data)
    wire.send(b"bye")
    wire.close_notify()
    return bytes(wire.received).decode()


def told(child: pexpect.spawn[str]) -> str:
    """What it says up to its end."""
    child.expect(pexpect.EOF)
    return str(child.before)


def spawn(command: str, *arguments: str, **more: str) -> pexpect.spawn[str]:
    """Start a command on a terminal of its own, which shows no colours and answers no question."""
    with warnings.catch_warnings():
        # pexpect forks, which Python 3.12 warns of where there are threads; all it does then is to execute the command.
        warnings.simplefilter("ignore", DeprecationWarning)
        return pexpect.spawn(
            command,
            list(arguments),
            env=environment(**{"NO_COLOR": "1", **more}),
            dimensions=(30, COLUMNS),
            encoding="utf-8",
            timeout=PATIENCE,
        )


@contextlib.contextmanager
def terminal(server: ScriptedServer, *options: str, term: str = "xterm") -> Iterator[pexpect.spawn[str]]:
    """The command on a terminal; ``TERM=dumb`` is one without the editor."""
    child = spawn(*COMMAND, "connect", server.address, "--cafile", ca_file(), *options, TERM=term)
    with child:
        yield child


def status(child: pexpect.spawn[str]) -> int | None:
    child.expect(pexpect.EOF)
    child.close()
    code: int | None = child.exitstatus
    return code


EVERY_TERMINAL: Final = pytest.mark.parametrize("term", ["xterm", "dumb"])


@EVERY_TERMINAL
def test_a_tilde_and_a_dot_leave(term: str) -> None:
    with listening(prompting) as server, terminal(server, term=term) as child:
        child.expect_exact("name?")
        child.sendline("~.")
        child.expect_exact(CLEAN)
        assert status(child) == 0
    assert server.results == [""]


@EVERY_TERMINAL
def test_a_tilde_within_a_line_is_data(term: str) -> None:
    with listening(prompting) as server, terminal(server, term=term) as child:
        child.expect_exact("name?")
        child.sendline("a~.")
        child.expect_exact("hello ")
        child.sendline("~.")
        child.expect_exact(CLEAN)
        assert status(child) == 0
    assert server.results == ["a~.\n"]


@EVERY_TERMINAL
def test_ctrl_c_leaves(term: str) -> None:
    with listening(prompting) as server, terminal(server, term=term) as child:
        child.expect_exact("name?")
        child.sendintr()
        child.expect_exact(CLEAN)
        assert status(child) == 0


@EVERY_TERMINAL
def test_ctrl_d_half_closes(term: str) -> None:
    with listening(prompting) as server, terminal(server, term=term) as child:
        child.expect_exact("name?")
        child.sendline("me")
        child.expect_exact("hello ")
        child.sendeof()
        child.expect_exact("bye")
        child.expect_exact(CLEAN)
        assert status(child) == 0
    assert server.results == ["me\n"]


@EVERY_TERMINAL
def test_a_second_ctrl_c_aborts(term: str) -> None:
    def stubborn(wire: Wire) -> None:
        wire.handshake()
        wire.send(b"!")
        wire.read_to_end()
        wire.link.ready.set()
        wire.hold()

    with listening(stubborn) as server, terminal(server, "--timeout", "60", term=term) as child:
        child.expect_exact("!")
        child.sendintr()
        server.link.await_ready()
        child.sendintr()
        child.expect_exact("aborted: we cut it off with RST")
        assert status(child) == 130


@EVERY_TERMINAL
def test_what_the_peer_sends_is_escaped(term: str) -> None:
    with listening(prompting) as server, terminal(server, term=term) as child:
        child.expect_exact("name?")
        child.sendline("me")
        child.expect_exact(r"hello \x1b[31mme")
        child.sendline("~.")
        status(child)


@EVERY_TERMINAL
def test_the_peer_may_end_it_while_somebody_types(term: str) -> None:
    def leaving(wire: Wire) -> str:
        wire.handshake()
        wire.send(b"name? ")
        wire.link.await_go()
        wire.close_notify()
        return wire.read_to_end()

    with listening(leaving) as server, terminal(server, term=term) as child:
        child.expect_exact("name?")
        child.send("half a li")
        server.link.go.set()
        child.expect_exact("clean: the peer sent close_notify, we answered")
        assert status(child) == 0


def test_nothing_is_wider_than_the_terminal() -> None:
    with listening(prompting) as server, terminal(server, "--trace", "--ladder", term="dumb") as child:
        child.expect_exact("name?")
        child.sendline("~.")
        text = told(child)
    lines = SEQUENCE.sub("", text).splitlines()
    assert "close_notify" in text
    assert [line for line in lines if len(line) > COLUMNS] == []


@pytest.mark.parametrize(
    ("variable", "coloured"),
    [({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": "", "TERM": "dumb"}, False)],
)
def test_colours(variable: dict[str, str], coloured: bool) -> None:
    child = spawn(*COMMAND, "connect", "nobody.invalid:", **variable)
    with child:
        assert ("\x1b[1;31merror:\x1b[0m" in told(child)) is coloured


def test_piped_data_holds_no_commands_on_a_terminal_either() -> None:
    line = f"printf '~.\\nQUIT\\n' | {' '.join(COMMAND)} connect {{}} --cafile {ca_file()}"
    with listening(prompting) as server:
        child = spawn("/bin/sh", "-c", line.format(server.address))
        with child:
            child.expect_exact("clean: ")
            child.expect(pexpect.EOF)
    assert server.results == ["~.\nQUIT\n"]


def test_typed_commands_work_where_stdout_is_a_file(tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = f"exec {' '.join(COMMAND)} connect {{}} --cafile {ca_file()} > {out}"
    with listening(prompting) as server:
        child = spawn("/bin/sh", "-c", line.format(server.address))
        with child:
            child.expect_exact("note: connected to")
            child.sendline("me")
            child.sendline("~.")
            child.expect_exact("clean: ")
            assert status(child) == 0
    assert server.results == ["me\n"]


@pytest.mark.parametrize("keys", ["~.\n", "\x03", "\x04", "half a line\x03", "bye\n"])
def test_the_terminal_is_given_back_as_it_was(keys: str) -> None:
    def leaving(wire: Wire) -> str:
        wire.handshake()
        wire.send(b"name? ")
        with contextlib.suppress(EOFError):
            while (data := wire.read()) and b"bye" not in data:
                pass
        wire.close_notify()
        return wire.read_to_end()

    line = f"stty -g; {' '.join(COMMAND)} connect {{}} --cafile {ca_file()}; stty -g"
    with listening(leaving) as server:
        child = spawn("/bin/sh", "-c", line.format(server.address))
        with child:
            child.expect_exact("name?")
            before = str(child.before).split()[0]
            child.send(keys)
            child.expect_exact("clean: ")
            assert told(child).split()[-1] == before


def test_without_the_editor_the_plain_terminal_will_do() -> None:
    hiding = "import sys; sys.modules['prompt_toolkit'] = None; from bowout.cli import main; sys.exit(main())"
    with listening(prompting) as server:
        child = spawn(sys.executable, "-c", hiding, "connect", server.address, "--cafile", ca_file())
        with child:
            child.expect_exact("name?")
            child.sendline("~.")
            child.expect_exact("clean: ")
            assert status(child) == 0


def test_a_ladder_on_the_terminal_ends_with_the_ending_once() -> None:
    with listening(prompting) as server, terminal(server, "--ladder", term="dumb") as child:
        child.expect("name[?] ")
        child.sendeof()
        shown = " ".join(told(child).split())
    assert shown.count("clean: we sent") == 1
