"""Every snippet of the README, CONTRIBUTING.md and docs/ is run by a test, understood by what it is for, or excused.

A snippet in Python is played with its page (test_docs.py), or asked for by name: `shows(page, words)` of the fragments,
`snippet(words)` of the README. Commands that no test runs are read as bowout, make, pip and python would read them.
"""

from __future__ import annotations

import ast
import configparser
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from bowout.cli.app import app
from bowout.cli.shared.optional_values import with_values
from helpers.documents import DOCS, Snippet, blocks
from helpers.peers import ROOT
from test_docs import PLAYS

FILES: Final = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
PLAYED: Final = frozenset(page for pages in PLAYS.values() for page in pages)
#: Snippets that are neither run nor read: the page, words of the snippet ("": each), and the reason.
EXCUSED: Final[dict[tuple[str, str], str]] = {
    ("evidence/fuzzing.md", "flip 40"): "a seed of the fuzzer; test_fuzz_corpus.py has the real ones",
    ("explanation/demo.md", "SSL3 alert"): "output of s_server, which test_cli_demo.py sees",
    ("how-to/fleet.md", "result(run"): "the tables of a store, as in its SQL",
    ("how-to/pytest-plugin.md", "TLS peer fin_inside_record"): "output of a failing test, as in testing/test_plugin.py",
    ("how-to/serving.md", "drained 1,201"): "output for a thousand connections; test_drain.py has the same for a few",
    ("reference/exit-statuses.md", ""): "generated, and compared by test_reference.py",
    ("reference/inspecting.md", "certificate: refused"): "output for a real server, as in test_cli_inspection.py",
    ("reference/states.md", ""): "generated, and compared by test_states.py",
}
#: What a test here reads, or another runs.
CHECKED: Final = frozenset({"run", "commands", "tree", "json", "toml", "ini", "dockerfile"})
SHELLS: Final = frozenset({"console", "sh", "bash", "shell"})
#: Programs of other projects in commands that are read, and not run.
OTHERS: Final = frozenset({".", "cat", "cd", "g++", "git", "grep", "jq", "mutmut", "printf", "sqlite3"})
#: Where two commands meet.
_ENDS: Final = re.compile(r"^[|&;()]+$")


@dataclass(frozen=True)
class Found:
    """A snippet, and where it stands."""

    page: str
    number: int
    snippet: Snippet

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"


@cache
def every_snippet() -> list[Found]:
    names = {path: path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT).as_posix() for path in FILES}
    return [Found(name, *each) for path, name in names.items() for each in enumerate(blocks(path), 1)]


def cases(*kinds: str) -> list[Found]:
    return [found for found in every_snippet() if not kinds or kind_of(found) in kinds]


def kind_of(found: Found) -> str:
    """Tell what a test does with it."""
    if is_run(found):
        return "run"
    snippet = found.snippet
    if snippet.language in SHELLS or (not snippet.language and is_shell(snippet.text)):
        return "commands"
    if re.match(r"src/\w+/", snippet.text):
        return "tree"
    return snippet.language or "output"


def is_run(found: Found) -> bool:
    if found.page in PLAYED and (found.snippet.language == "console" or found.snippet.title):
        return True
    return any(page == found.page and words in found.snippet.text for page, words in asked_for())


@cache
def asked_for() -> frozenset[tuple[str, str]]:
    """Find the snippets that tests ask for: the pages and the words in them."""
    found = set()
    for path in (ROOT / "tests").glob("test_*.py"):
        module = ast.parse(path.read_text(encoding="utf-8"))
        read = dict(texts_of_pages(module))
        for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
            name = call.func.id if isinstance(call.func, ast.Name) else ""
            if name == "shows":
                page, words = (ast.literal_eval(argument) for argument in call.args)
                found.add((page, words))
            elif name == "snippet" and isinstance(call.args[0], ast.Constant):
                other = call.args[-1]
                page = read[other.id] if isinstance(other, ast.Name) else "README.md"
                found.add((page, str(call.args[0].value)))
    return frozenset(found)


def texts_of_pages(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Find names such as `STREAM = (DOCS / "reference" / "stream.md").read_text()`, and the pages."""
    for node in module.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            target, value = node.target.id, node.value
            if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr == "read_text":
                yield target, "/".join(re.findall(r"'([^']*)'", ast.unparse(value.func.value)))


def is_shell(text: str) -> bool:
    first = re.sub(r"^(\$ )?(\w+=\S+ )*", "", text.strip()).split()[0]
    return first in OTHERS | {"bowout", "make", "pip", "python", "python3"}


@pytest.mark.parametrize("found", cases(), ids=str)
def test_a_test_knows_it(found: Found) -> None:
    excused = any(page == found.page and words in found.snippet.text for page, words in EXCUSED)
    excused |= found.page == "README.md" and kind_of(found) in {"output", "text"}
    assert (kind_of(found) in CHECKED) != excused, f"{kind_of(found)!r} is neither run nor excused, or both"


def test_every_excuse_is_needed() -> None:
    texts = [(found.page, found.snippet.text) for found in cases()]
    assert all(any(page == seen and words in text for seen, text in texts) for page, words in EXCUSED)


# -- data --------------------------------------------------------------------------------------------------------------


def test_data_can_be_read() -> None:
    for found in cases("json", "toml"):
        {"json": json.loads, "toml": tomllib.loads}[found.snippet.language](found.snippet.text)


@pytest.mark.parametrize("found", cases("ini"), ids=str)
def test_a_unit_of_systemd(found: Found, tmp_path: Path) -> None:
    check_unit(found.snippet, tmp_path)


def test_the_unit_of_a_page_that_is_played(tmp_path: Path) -> None:
    """It is saved, and nothing uses it."""
    (unit,) = (snippet for snippet in blocks(DOCS / "how-to" / "sigterm.md") if snippet.language == "ini")
    check_unit(unit, tmp_path)


def check_unit(snippet: Snippet, folder: Path) -> None:
    parser = configparser.ConfigParser(strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names have capitals
    parser.read_string(snippet.text)
    first = snippet.text.splitlines()[0]
    name = snippet.title or first.removeprefix("# ")
    kind = {"service": "Service", "socket": "Socket"}[name.rpartition(".")[2]]
    assert set(parser) - {"DEFAULT"} <= {"Unit", "Install", kind}
    assert set(parser[kind]) & {"ExecStart", "ListenStream"}
    if kind == "Service":
        assert parser[kind]["ExecStart"].startswith("/")
        assert int(parser[kind]["TimeoutStopSec"]) > 10  # drain_timeout, plus one second
    verify(snippet, folder / name)


def verify(snippet: Snippet, path: Path) -> None:
    """Let systemd read it, where there is one; the program that it starts is not there."""
    if shutil.which("systemd-analyze") is None:
        return
    path.write_text(re.sub("ExecStart=.*", "ExecStart=/bin/true", snippet.text), encoding="utf-8")
    if path.suffix == ".socket":
        path.with_suffix(".service").write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert path.name not in done.stderr, done.stderr


@pytest.mark.parametrize("found", cases("dockerfile"), ids=str)
def test_a_dockerfile(found: Found) -> None:
    """One instruction a line; the list of CMD is JSON; what it copies is what it starts."""
    instructions = [line.split(maxsplit=1) for line in found.snippet.text.splitlines()]
    words = dict(instructions)
    assert instructions[0][0] == "FROM"
    assert words.keys() <= {"FROM", "RUN", "COPY", "WORKDIR", "EXPOSE", "CMD"}
    command = json.loads(words["CMD"])
    assert command[-1] in words["COPY"].split()
    (simple,) = read(words["RUN"])
    understand(simple)


def test_a_tree_of_the_source_is_as_it_stands() -> None:
    if not (ROOT / "src").is_dir():  # tests of a wheel
        return
    for found in cases("tree"):
        assert [path for path in paths_of(found.snippet.text) if not (ROOT / path).exists()] == []


def paths_of(tree: str) -> Iterator[str]:
    """Each path that a drawn tree has, by its indentation."""
    above: list[tuple[int, str]] = []
    for line in tree.splitlines():
        names = re.match(r"( *)([\w./]+)((?:, [\w./]+)*)", line)
        assert names, line
        depth = len(names[1])
        above = [each for each in above if each[0] < depth]
        folder = "".join(name for _, name in above)
        yield from (folder + name for name in [names[2], *names[3].split(", ")[1:]])
        above.append((depth, names[2]))


# -- commands ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("found", cases("commands"), ids=str)
def test_commands_are_understood(found: Found) -> None:
    commands = [simple for line in typed(found.snippet.text) for simple in read(line)]
    assert commands
    for simple in commands:
        understand(simple)


def typed(text: str) -> Iterator[str]:
    """Each line that is typed: all of them, or, if some are marked by "$ ", these."""
    lines = text.replace("\\\n", " ").splitlines()
    marked = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return (line for line in marked or lines if line.strip())


def read(line: str) -> Iterator[list[str]]:
    """Split a line into its simple commands, without what is redirected, variables and comments."""
    lexer = shlex.shlex(re.sub(r"(?<=\s)[0-9]?[<>]+(&?\d| ?\S+)", "", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if not _ENDS.match(word):
            words.append(word)
        elif words:
            while re.match(r"^\w+=", words[0]):
                words.pop(0)
            yield words
            words = []


def understand(words: list[str]) -> None:
    name, *arguments = words
    name = name.removeprefix(".venv/bin/")
    if name == "bowout":
        parse(arguments)
    elif name == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
        assert {word for word in arguments if "=" not in word} <= targets, words
    elif name == "pip":
        assert arguments[0] == "install", words
        for requirement in arguments[1:]:
            install(requirement)
    elif name in {"python", "python3"}:
        start(arguments)
    else:
        assert name in OTHERS, f"nobody knows how to read {words}"


def parse(arguments: list[str]) -> None:
    """Let the command line read it."""
    command = get_command(app)
    words = with_values(arguments)
    while isinstance(command, TyperGroup) and words and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    command.make_context("bowout", words)


def install(requirement: str) -> None:
    found = re.fullmatch(r"bowout(?:\[([\w,]+)\])?", requirement)
    assert found or requirement.startswith("-"), requirement
    if found and found[1]:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert project["optional-dependencies"].keys() >= set(found[1].split(",")), requirement


def start(arguments: list[str]) -> None:
    if arguments[0] == "-c":
        ast.parse(arguments[1])
    elif arguments[0] == "-m":
        assert arguments[1] in {"venv", "bowout", "pytest", "http.server"}, arguments
    else:
        assert (ROOT / arguments[0]).is_file() or arguments[0] == "your_program.py", arguments
