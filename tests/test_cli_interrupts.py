"""Ctrl-C and its relatives at every moment of ``bowout connect``: what is said, what is waited for, and what is not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

import pytest

from bowout.cli.console.signals import LeaveSignals
from helpers.commands import (
    COMMAND,
    MUCH,
    SCRIPT,
    SMALL_SEND_BUFFER,
    answering,
    bowout,
    ca_file,
    deaf,
    environment,
    listening,
    started,
)
from helpers.fleets import fill
from helpers.wire import PATIENCE, Wire, patiently
from test_cli_terminal import EVERY_TERMINAL, SEQUENCE, spawn, status, terminal, told

MIB: Final = 1 << 20


def stubborn(wire: Wire) -> None:
    """Send ``!``, take the close_notify, and never answer it."""
    wire.handshake()
    wire.send(b"!")
    wire.read_to_end()
    wire.link.ready.set()
    wire.hold()


def stalling(wire: Wire) -> None:
    """Take the ClientHello, and never answer it."""
    wire.sock.recv(1)
    wire.link.ready.set()
    wire.hold()


# -- the first says what is waited for, the second does not wait


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_first_says_what_is_waited_for(number: signal.Signals, status: int) -> None:
    options = ("--cafile", ca_file(), "--timeout", "1000")
    with listening(stubborn) as server, started("connect", server.address, *options) as client:
        assert client.read(1) == b"!"
        client.interrupt(number)
        assert client.process.stderr is not None
        said = client.process.stderr.readline().decode()
        assert said == "note: closing: the peer has 1000 s to end it, too; a second Ctrl-C does not wait\n"
        server.link.await_ready()
        client.interrupt(number)
        done = client.finish()
    assert (done.status, done.err) == (status, "aborted: we cut it off with RST\n")


def test_a_peer_that_does_not_read_is_told_apart() -> None:
    options = ("--cafile", ca_file(), "--timeout", "1000")
    with (
        listening(deaf, small=True) as server,
        started("connect", server.address, *options, command=SMALL_SEND_BUFFER) as client,
    ):
        client.type(MUCH)
        server.link.await_ready()
        client.interrupt()
        assert client.process.stderr is not None
        assert b"the peer has 1000 s to read what was sent" in client.process.stderr.readline()
        client.interrupt()
        assert client.finish().status == 130


def test_without_time_to_close_there_is_nothing_to_say() -> None:
    options = ("--cafile", ca_file(), "--timeout", "0")
    with listening(answering(b"!")) as server, started("connect", server.address, *options) as client:
        assert client.read(1) == b"!"
        client.interrupt()
        done = client.finish()
    assert (done.status, len(done.err.splitlines())) == (130, 1)


@pytest.mark.parametrize("times", [1, 2])
def test_stdout_that_takes_nothing_keeps_nobody(times: int) -> None:
    def sending(wire: Wire) -> None:
        wire.handshake()
        wire.send(b"!")
        wire.sock.settimeout(None)
        wire.link.ready.set()
        with contextlib.suppress(OSError):
            while True:  # More than the command keeps for its stdout: it does not receive any more.
                wire.send(bytes(MIB))

    options = ("--cafile", ca_file(), "--timeout", "0.5" if times == 1 else "1000")
    with listening(sending) as server, started("connect", server.address, *options) as client:
        server.link.await_ready()
        for _ in range(times):
            client.interrupt()
            if times == 2:
                assert client.process.stderr is not None
                client.process.stderr.readline()
        client.process.wait(PATIENCE)
        done = client.finish()
    assert done.status == 130
    assert "the last 0 bytes" not in done.err


# -- before there is a connection


@pytest.mark.parametrize("option", ["--json", "--json={}/ending.json", "--ladder={}/ending.svg"])
def test_in_the_handshake_it_takes_one_line_and_leaves_no_file(option: str, tmp_path: Path) -> None:
    with listening(stalling) as server, started("connect", server.address, option.format(tmp_path)) as client:
        server.link.await_ready()
        client.interrupt()
        done = client.finish()
    assert (done.status, done.err) == (130, "error: interrupted before the connection was established\n")
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_somebody_has_removed_is_none_to_remove(tmp_path: Path) -> None:
    path = tmp_path / "ending.json"
    with listening(stalling) as server, started("connect", server.address, f"--json={path}") as client:
        server.link.await_ready()
        path.unlink()
        client.interrupt()
        done = client.finish()
    assert (done.status, done.err) == (130, "error: interrupted before the connection was established\n")


def test_a_report_that_somebody_has_replaced_stays(tmp_path: Path) -> None:
    path = tmp_path / "ending.json"
    with listening(stalling) as server, started("connect", server.address, f"--json={path}") as client:
        server.link.await_ready()
        path.unlink()
        path.write_text("another's")
        client.interrupt()
        client.finish()
    assert path.read_text() == "another's"


def test_in_the_dialogue_before_tls() -> None:
    def greeting(wire: Wire) -> None:
        wire.sock.sendall(b"220 hello\r\n")
        wire.sock.recv(1 << 16)
        wire.link.ready.set()
        wire.hold()

    with listening(greeting) as server, started("connect", server.address, "--starttls", "smtp") as client:
        server.link.await_ready()
        client.interrupt()
        done = client.finish()
    assert (done.status, done.err) == (130, "error: interrupted before the connection was established\n")


#: Runs the command with a SIGINT at a moment of which nobody else can tell: where the text in front of it is called.
AT_THAT_MOMENT: Final = """
import asyncio, os, signal, sys
def interrupting(function):
    def call(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return function(*arguments, **options)
    return call
{}
from bowout.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    "moment",
    [
        "import bowout.cli.shared.tls_options as tls; tls.Trust.context = interrupting(tls.Trust.context)",
        "import asyncio.runners as r; r.events.new_event_loop = interrupting(r.events.new_event_loop)",
        "asyncio.BaseEventLoop.close = interrupting(asyncio.BaseEventLoop.close)",
        "import bowout.cli.app as app; app.with_values = interrupting(app.with_values)",
        "import typer.core; typer.core.TyperGroup.make_context = interrupting(typer.core.TyperGroup.make_context)",
    ],
)
def test_between_two_steps_there_is_no_traceback(moment: str) -> None:
    def whatever_comes(wire: Wire) -> None:
        with contextlib.suppress(AssertionError, OSError):  # It may leave in the handshake.
            answering(b"!")(wire)

    command = (sys.executable, "-W", "error", "-c", AT_THAT_MOMENT.format(moment))
    with listening(whatever_comes) as server:
        options = ("--cafile", ca_file(), "--on-eof", "close")
        with started("connect", server.address, *options, command=command) as client:
            client.end_input()
            done = client.finish()
    told = done.err.splitlines()
    assert len(told) == 1, told
    assert (done.status, told[0].split(":")[0]) in {(130, "error"), (0, "clean")}


@pytest.mark.parametrize(
    ("words", "module", "function"),
    [
        ("check localhost:1", "check.session", "run"),
        ("demo", "demo.command", "require"),
        ("serve", "serve.serving", "run"),
        ("fleet run - --store STORE", "fleet.loading", "load"),
        ("fleet resume --store STORE", "fleet.loading", "settings_of"),
        ("fleet status --store STORE", "fleet.reading", "show_status"),
        ("fleet report --store STORE", "fleet.reading", "write_report"),
        ("fleet export STORE.csv --store STORE", "fleet.reading", "export_to"),
        ("fleet diff STORE STORE", "fleet.reading", "show_differences"),
    ],
)
def test_in_every_command_it_has_one_status(words: str, module: str, function: str, tmp_path: Path) -> None:
    fill(tmp_path / "run.db", 1)
    moment = f"import bowout.cli.{module} as module; module.{function} = interrupting(module.{function})"
    command = (sys.executable, "-W", "error", "-c", AT_THAT_MOMENT.format(moment))
    arguments = words.replace("STORE", str(tmp_path / "run.db")).split()
    done = bowout(*arguments, command=command, stdin=b"")
    assert (done.status, done.out, done.err) == (130, b"", "error: interrupted\n")


#: Sends a SIGINT when a module is looked for, in the import of the command.
IN_THAT_IMPORT: Final = """
import os, signal, sys
class InterruptingFinder:
    def find_spec(self, name, path, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, InterruptingFinder())
"""


@pytest.mark.parametrize("begun", [COMMAND, SCRIPT], ids=["module", "script"])
@pytest.mark.parametrize("name", ["bowout._lane", "bowout._stream", "bowout.cli", "typer", "bowout.fleet"])
def test_while_the_library_is_imported(begun: tuple[str, ...], name: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(IN_THAT_IMPORT, encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    with started("--version", command=begun, env=environment(PYTHONPATH=path, INTERRUPT_AT=name)) as command:
        done = command.finish()
    assert (done.status, done.out, done.err) == (-signal.SIGINT, b"", "")


def test_what_our_parent_ignores_stays_ignored_in_the_import() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        told = "sys.exit(signal.getsignal(signal.SIGINT) != signal.SIG_IGN)"
        script = f"import signal, sys; from bowout_command import main; main(); {told}"
        with started("--version", command=(sys.executable, "-c", script)) as command:
            done = command.finish()
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.status == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals wake loops by themselves there")
def test_signals_wake_the_loop_also_after_the_editor_has_removed_its_handler() -> None:
    """The loop stops being woken with its last handler; a signal just before it waits would not be heard then."""

    async def edit() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        with LeaveSignals() as signals, signals.heard():
            loop.add_signal_handler(signal.SIGWINCH, lambda: None)
            loop.remove_signal_handler(signal.SIGWINCH)
            within = signal.set_wakeup_fd(-1)
            signal.set_wakeup_fd(within)
        return within, signal.set_wakeup_fd(-1)

    within, after = asyncio.run(edit())
    assert within != -1
    assert after == -1


# -- on a terminal


@EVERY_TERMINAL
def test_a_second_ctrl_c_ends_at_once_on_a_terminal_that_answers_nothing(term: str) -> None:
    with listening(stubborn) as server, terminal(server, "--timeout", "1000", term=term) as child:
        child.expect_exact("!")
        child.sendintr()
        child.expect_exact("closing: the peer has 1000 s")
        server.link.await_ready()
        child.sendintr()
        child.expect_exact("aborted: we cut it off with RST")
        left = told(child)
        assert status(child) == 130
    assert "stdout" not in left


@EVERY_TERMINAL
def test_no_terminal_is_asked_where_its_cursor_is(term: str) -> None:
    with listening(answering(b"name? ")) as server, terminal(server, term=term) as child:
        child.expect_exact("name?")
        child.sendline("~.")
        child.expect_exact("clean: ")
        assert "\x1b[6n" not in f"{child.before}{told(child)}"


@EVERY_TERMINAL
def test_ctrl_c_is_heard_while_the_peer_does_not_read(term: str) -> None:
    python, option, program = SMALL_SEND_BUFFER
    # What is typed is a line; the socket is given more of it.
    much = f"bowout.Stream.send = lambda stream, line: send(stream, line * {len(MUCH) // 5})"
    program = f"import bowout; send = bowout.Stream.send; {much}\n{program}"
    with listening(deaf, small=True) as server:
        target = ("connect", server.address, "--cafile", ca_file(), "--timeout", "0.2")
        child = spawn(python, option, program, *target, TERM=term)
        with child:
            child.expect_exact("!")
            child.sendline("much")
            server.link.await_ready()
            child.sendintr()
            child.expect_exact("closing: the peer has 0.2 s to read what")
            child.expect_exact("unflushed: ")
            assert status(child) == 7


@EVERY_TERMINAL
@pytest.mark.parametrize("piped", [False, True])
def test_no_output_sticks_to_an_echoed_ctrl_c(term: str, piped: bool) -> None:
    with listening(stubborn) as server:
        line = (
            f"{'sleep 1000 | ' if piped else ''}exec {' '.join(COMMAND)} connect {server.address} --cafile {ca_file()}"
        )
        child = spawn("/bin/bash", "-c", f"{line} --timeout 1000", TERM=term)
        with child:
            child.expect_exact("!")
            child.sendintr()
            child.expect_exact("a second")
            server.link.await_ready()
            child.sendintr()
            child.expect_exact("aborted: ")
            shown = SEQUENCE.sub("", f"{child.before}")
            told(child)
    assert not [line for line in shown.splitlines() if line.startswith("^C") and line.strip() != "^C"], shown
    assert "\r\n\r\n" not in shown, "a line was begun twice"


@pytest.mark.skipif(sys.platform != "linux", reason="setsid is util-linux's")
@EVERY_TERMINAL
def test_a_terminal_that_goes_away_ends_it_gracefully(term: str) -> None:
    with listening(answering(b"name? ")) as server:
        ours, its = os.openpty()
        try:
            command = ["setsid", "--ctty", *COMMAND, "connect", server.address, "--cafile", ca_file()]
            process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment(TERM=term))
            os.close(its)
            shown = b""
            while b"name?" not in shown:
                shown += os.read(ours, 1 << 16)
        finally:
            os.close(ours)
        process.wait(PATIENCE)  # There is nobody to hear its status.
    assert server.results == ["close_notify"]


def test_a_third_gives_the_terminal_back() -> None:
    stuck = (
        "import os, sys, time\n"
        "from bowout.cli.connect.conversation import Conversation\n"
        "async def close(*_, **__):\n"
        "    os.write(1, b'stuck %d ' % os.getpid())\n"
        "    while True: time.sleep(1000)\n"
        "Conversation._close = close\n"
        "from bowout.cli import main\n"
        "sys.exit(main())\n"
    )
    with listening(answering(b"QUIT\n")) as server:
        command = f"{shlex.quote(sys.executable)} -c {shlex.quote(stuck)} connect {server.address} --cafile {ca_file()}"
        child = spawn("/bin/bash", "-c", f"stty -g; {command} --quit-on QUIT; stty -g")
        with child:
            child.expect(r"\S+:\S+")
            before = str(child.after)
            child.expect(r"stuck (\d+) ")
            assert isinstance(child.match, re.Match)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # Two of one kind may come as one.
                os.kill(int(child.match[1]), number)
            assert told(child).split()[-1] == before


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals go to the process")
def test_a_signal_that_interrupts_no_wait_is_heard() -> None:
    """As one that comes between the handlers' last turn and the wait: another thread takes this one."""
    heard = threading.Event()

    async def main(signals: LeaveSignals) -> bool:
        loop = asyncio.get_running_loop()

        def take_it() -> bool:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            time.sleep(0.05)  # The loop waits by now, most of the time; otherwise there is nothing to see.
            os.kill(os.getpid(), signal.SIGTERM)
            try:
                return patiently(heard)
            finally:
                loop.call_soon_threadsafe(signals.first.set)

        with signals.heard():
            taking = loop.run_in_executor(None, take_it)
            await signals.first.wait()
            heard.set()
            return await taking

    with LeaveSignals() as signals:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            assert asyncio.run(main(signals)), "nothing woke the loop"
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert signals.status == 143
