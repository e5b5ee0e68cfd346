"""Pages of docs/ played as their readers do: files are saved, commands are typed, and the outputs are compared.

A snippet with a title is a file: ```python title="first.py". A ```console snippet without a title has commands, each
after "$ ", with their output. With a title it is a terminal of its own, in which a command runs on: a later snippet of
the same title has more of its output, or ^C. In an output, a line "…" stands for any lines, and "…" for any text;
seconds and the ports of clients may differ.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from helpers.commands import environment
from helpers.peers import ROOT, SBIN
from helpers.wire import PATIENCE

DOCS: Final = ROOT / "docs"
#: Ports that the pages name; each play has others.
PORTS: Final = ("8443", "8444")
_FENCE: Final = re.compile(r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_COMMANDS: Final = {"python": "", "bowout": "-m bowout", "pytest": "-m pytest -p no:cacheprovider"}
_VARYING: Final = (
    (re.compile(r"\d+\\\.\d+(?=\\? ?m?s\b)"), r"\\d+\\.\\d+"),
    # An address of this machine, with a port that the kernel chose: localhost may be IPv6, IPv4 or both.
    (re.compile(r"127\\\.0\\\.0\\\.1:\d{5}\b"), r"(?:127\\.0\\.0\\.1|\\[::1\\])(?::\\d+)(?: and \\S+)?"),
)


@dataclass(frozen=True)
class Snippet:
    """One fenced block of a page."""

    language: str
    title: str
    text: str


def snippets(*pages: str) -> list[Snippet]:
    """Every fenced block of these pages, in order."""
    texts = [(DOCS / page).read_text(encoding="utf-8") for page in pages]
    return [Snippet(*found) for text in texts for found in _FENCE.findall(text)]


def blocks(path: Path) -> list[Snippet]:
    """Every block of code of a file of Markdown: the fenced ones, and, without a language, the indented ones."""
    found = []
    for token in MarkdownIt().parse(path.read_text(encoding="utf-8")):
        if token.type in {"fence", "code_block"}:
            language, _, rest = token.info.strip().partition(" ")
            title = re.search('title="([^"]*)"', rest)
            found.append(Snippet(language, title[1] if title else "", token.content))
    return found


def links(path: Path) -> list[str]:
    """Where the links and pictures of a file of Markdown lead, in order."""
    found = []
    for token in _tokens(path):
        if token.type in {"html_block", "html_inline"}:
            found += re.findall(r'\b(?:src|srcset|href)="([^"]*)"', token.content)
        elif target := token.attrGet("href") or token.attrGet("src"):
            found.append(str(target))
    return found


def prose(path: Path) -> str:
    """The words of a file of Markdown that are not code."""
    return "\n".join(token.content for token in _tokens(path) if token.type == "text")


def terms(path: Path) -> list[str]:
    """What the sentences and tables of a file of Markdown have in code."""
    return [token.content for token in _tokens(path) if token.type == "code_inline"]


def anchors(path: Path) -> set[str]:
    """The anchors of its headings, as GitHub makes them, and those that it names itself."""
    found: set[str] = set()
    tokens = MarkdownIt().parse(path.read_text(encoding="utf-8"))
    for before, token in pairwise(tokens):
        if before.type == "heading_open":
            words = "".join(child.content for child in token.children or [])
            slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            found.add(next(name for name in (slug, *(f"{slug}-{n}" for n in range(1, 100))) if name not in found))
    return found | set(re.findall(r'\b(?:id|name)="([^"]*)"', path.read_text(encoding="utf-8")))


def _tokens(path: Path) -> Iterator[Token]:
    for token in MarkdownIt().enable("table").parse(path.read_text(encoding="utf-8")):
        for inner in token.children or [token]:
            yield inner
            yield from inner.children or []  # the words of a picture


def pattern(expected: list[str]) -> re.Pattern[str]:
    """What an output must match as a whole."""
    parts = []
    for line in expected:
        if line == "…":
            parts.append("(?:.*\n)*?")
            continue
        escaped = re.escape(line)
        for varying, others in _VARYING:
            escaped = varying.sub(others, escaped)
        parts.append(escaped.replace("…", ".*") + "\n")
    return re.compile("".join(parts))


class Terminal:
    """A command that runs on in a terminal of its own.

    Attributes:
        process: its process, the leader of a session.
    """

    def __init__(self, command: str, directory: Path, environ: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            ["/bin/bash", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=environ, cwd=directory, start_new_session=True,
        )  # fmt: skip
        self._command = command
        self._alarm = threading.Timer(PATIENCE, self._signal, [signal.SIGKILL])
        self._alarm.start()

    def expect(self, lines: list[str]) -> None:
        """Read its output until it is what these lines say."""
        assert self.process.stdout is not None
        if lines and lines[-1] == "…":  # the whole rest
            rest = self.process.stdout.read()
            assert pattern(lines).fullmatch(rest), rest
            return
        seen, wanted = "", pattern(lines)
        while not wanted.fullmatch(seen):
            line = self.process.stdout.readline()
            assert line, f"{self._command} ended with this output:\n{seen}\ninstead of this:\n" + "\n".join(lines)
            seen += line

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self._signal(signal.SIGINT)

    def finish(self) -> None:
        """Wait for its end; nothing more may come."""
        assert self.process.stdout is not None
        rest = self.process.stdout.read()
        assert rest == "", f"{self._command} also wrote: {rest}"

    def kill(self) -> None:
        """End what is left of it."""
        self._alarm.cancel()
        self._alarm.join()
        with self.process:
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)


class Player:
    """Plays the snippets of pages in one folder, on one event loop."""

    def __init__(self, directory: Path, loop: str) -> None:
        self._directory = directory / "reader"
        self._directory.mkdir()
        self._loop = loop
        self._ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
        self._terminals: dict[str, Terminal] = {}
        programs = directory / "bin"
        programs.mkdir()
        for name, options in _COMMANDS.items():
            path = programs / name
            path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W error {options} "$@"\n')
            path.chmod(0o755)
        self._environ = environment(
            PATH=os.pathsep.join((str(programs), os.environ["PATH"], *SBIN)), PYTHONPATH=os.pathsep.join(sys.path)
        )

    def own(self, name: str, path: str) -> None:
        """Have a program in the folder that a snippet which is not run would have made."""
        (self._directory / name).symlink_to(path)

    def play(self, snippet: Snippet) -> None:
        """Do with a snippet what a reader does."""
        text = snippet.text
        for port, other in self._ports.items():
            text = text.replace(port, other)
        if snippet.language != "console":
            if snippet.title:
                (self._directory / snippet.title).write_text(self._for_the_loop(text), encoding="utf-8")
        elif snippet.title:
            self._use_terminal(snippet.title, text.splitlines())
        else:
            for command, expected in _typed(text):
                self._run(command, expected)

    def end(self) -> None:
        """Every terminal must have come to its end."""
        for terminal in self._terminals.values():
            terminal.finish()

    def leave(self) -> None:
        """End what still runs."""
        for terminal in self._terminals.values():
            terminal.kill()
        for path in self._directory.glob("*.pid"):  # of a daemon
            with suppress(ProcessLookupError):
                os.kill(int(path.read_text()), signal.SIGKILL)

    def _for_the_loop(self, program: str) -> str:
        """The same program on another loop, where it only names the loop to run."""
        if self._loop == "asyncio" or program.count("asyncio.") != 1 or "asyncio.run(main())" not in program:
            return program
        return program.replace("import asyncio\n", f"import {self._loop}\n").replace(
            "asyncio.run(main())", f"{self._loop}.run(main)"
        )

    def _run(self, command: str, expected: list[str]) -> None:
        done = subprocess.run(
            ["/bin/bash", "-c", command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=PATIENCE, check=False, env=self._environ, cwd=self._directory,
        )  # fmt: skip
        assert pattern(expected).fullmatch(done.stdout), f"$ {command}\n{done.stdout}\nand the page says:\n{expected}"

    def _use_terminal(self, name: str, lines: list[str]) -> None:
        if lines[0].startswith("$ "):
            if name in self._terminals:
                self._terminals[name].finish()
                self._terminals[name].kill()
            self._terminals[name] = Terminal(lines[0][2:], self._directory, self._environ)
            lines = lines[1:]
        elif lines[0] == "^C":
            self._terminals[name].interrupt()
            lines = lines[1:]
        self._terminals[name].expect(lines)


@contextmanager
def player(directory: Path, loop: str) -> Iterator[Player]:
    """Make a player, and see that nothing of it is left."""
    made = Player(directory, loop)
    try:
        yield made
    finally:
        made.leave()


def _typed(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console, with its output."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *output = part.splitlines()
        while command.endswith("\\"):
            command = f"{command[:-1]} {output.pop(0).strip()}"
        yield command, output


def _free_ports(count: int) -> list[str]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [str(listener.getsockname()[1]) for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()
