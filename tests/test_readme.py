"""The snippets of README.md, and of pages beside it, run as they are printed, and say nothing on stderr."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from typing import Final

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from bowout.cli.app import app
from bowout.cli.shared.optional_values import with_values
from helpers.commands import COMMAND, ca_file, environment, listening
from helpers.documents import DOCS
from helpers.peers import ROOT
from helpers.serving import cert_file
from helpers.wire import PATIENCE, Wire

README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
COMMAND_LINE: Final = (DOCS / "how-to" / "command-line.md").read_text(encoding="utf-8")
SERVING: Final = (DOCS / "how-to" / "serving.md").read_text(encoding="utf-8")
STREAM: Final = (DOCS / "reference" / "stream.md").read_text(encoding="utf-8")
#: A link or a picture in Markdown or HTML: what it leads to.
LINK: Final = re.compile(r'\]\(([^)]*)\)|(?:src|srcset|href)="([^"]*)"')


def snippet(words: str, page: str = README) -> str:
    """The one snippet of Python that holds these words."""
    snippets: list[str] = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    (found,) = (text for text in snippets if words in text)
    return found


def run(program: str, directory: Path) -> str:
    """Run a program in an interpreter of its own, in which every warning is an error; give what it prints."""
    path = directory / "snippet.py"
    path.write_text(program)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment(), cwd=directory,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), program
    return done.stdout


#: Sends who asks for example.org to the peer of the test.
DETOUR: Final = """
import ssl
import bowout
connect = bowout.connect
def detour(host, port, **options):
    context = ssl.create_default_context(cafile={ca!r})
    return connect("127.0.0.1", {port}, context=context, server_hostname="localhost", **options)
bowout.connect = detour
"""

#: Runs what stands in its middle in a coroutine, with a stream; {wait} is what passes until the user says quit.
WITH_A_STREAM: Final = """
import asyncio

async def main():
    stream = await bowout.connect("example.org", 443)
{code}
    print(ending)

asyncio.run(main())
"""


def with_a_stream(code: str, port: int) -> str:
    return DETOUR.format(ca=ca_file(), port=port) + WITH_A_STREAM.format(code=textwrap.indent(code, "    "))


def answering(wire: Wire) -> str:
    wire.handshake()
    wire.read_exactly(1)
    wire.send(b"HTTP/1.0 200 OK\r\n\r\n")
    wire.close_notify()
    return wire.read_to_end()


@pytest.mark.parametrize("loop", ["asyncio", "trio", "uvloop"])
def test_the_first_one(loop: str, tmp_path: Path) -> None:
    pytest.importorskip(loop)
    code = snippet("print(stream.ending)")
    assert "asyncio.run(main())" in code
    code = code.replace("asyncio.run(", f"import {loop}; {loop}.run(").replace("trio.run(main())", "trio.run(main)")
    with listening(answering) as server:
        out = run(DETOUR.format(ca=ca_file(), port=server.port) + code, tmp_path)
    assert out.splitlines()[-1] == "clean: the peer sent close_notify, we answered"


@pytest.mark.parametrize("passes", ["...", "await asyncio.sleep(0)", "await has_come.wait()"])
def test_both_situations(passes: str, tmp_path: Path) -> None:
    """In the first the server says quit. In the second the user does: at once, soon, or when something has come."""

    def quitting(wire: Wire) -> str:
        wire.handshake()
        wire.send(b"quit\n")
        return reading(wire)

    def talking(wire: Wire) -> str:
        wire.handshake()
        wire.send(b"hello")
        return reading(wire)

    def reading(wire: Wire) -> str:
        end = wire.read_to_end()
        wire.close_notify()
        return end

    first, second = snippet("# 2. While a read is pending").split("# 2.")
    ours = "clean: we sent close_notify, the peer answered\n"
    with listening(quitting) as server:
        assert run(with_a_stream(f"{first}\nending = stream.ending", server.port), tmp_path) == ours
    assert second.count("\n...\n") == 1
    second = f"# 2.{second}".replace("\n...\n", f"\n{passes}\n").replace("print(chunk)", "has_come.set()")
    with listening(talking) as other:
        out = run(with_a_stream(f"has_come = asyncio.Event()\n{second}\nassert reader.done()", other.port), tmp_path)
    assert out.startswith(ours.rstrip())  # and perhaps "hello" came too late
    assert (server.results, other.results) == (["close_notify"], ["close_notify"])


def test_serving(tmp_path: Path) -> None:
    handler = snippet("async def echo", SERVING).partition("async def main")[0]
    block = snippet("async with bowout.serve(echo,", SERVING).replace('"localhost"', "'127.0.0.1'")
    block, waiting, _ = block.partition("    await server.wait_drained()")
    assert waiting
    program = f"""
import asyncio, bowout, ssl
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain({cert_file()!r})
trusting = ssl.create_default_context(cafile={ca_file()!r})
{handler}
async def main():
{textwrap.indent(block, "    ")}
        async with bowout.connect("127.0.0.1", server.port, context=trusting) as stream:
            await stream.send(b"ping")
            assert await stream.receive() == b"ping"
        print(stream.ending)
        await server.drain(timeout=10)

asyncio.run(main())
"""
    assert run(program, tmp_path).splitlines()[-1] == "clean: we sent close_notify, the peer answered"


def test_how_it_ended(tmp_path: Path) -> None:
    code = snippet("ending.ladder_svg()", STREAM)

    def polite(wire: Wire) -> None:
        wire.handshake()
        wire.read_to_end()
        wire.close_notify()

    with listening(polite) as server:
        out = run(with_a_stream(code, server.port), tmp_path)
    assert out.startswith("clean: we sent close_notify, the peer answered\n")
    assert "close_notify ─" in out


def test_every_snippet_of_python_is_tried() -> None:
    assert README.count("```python\n") == 2
    assert STREAM.count("```python\n") == 1


def test_it_names_every_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    table = README.partition("| extra | for |")[2].partition("\n\n")[0]
    named = {name for row in table.splitlines() for name in re.findall("`([a-z]+)`", row.split("|")[1] if row else "")}
    assert named == set(project["optional-dependencies"])


def test_the_page_of_extras_names_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    table = (DOCS / "reference" / "extras.md").read_text(encoding="utf-8").partition("| extra | for | more |")[2]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(project["optional-dependencies"])


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 120


def links(text: str) -> list[str]:
    """Where the links and pictures of a text lead."""
    return [markdown or html for markdown, html in LINK.findall(text)]


def test_its_links_lead_to_files_of_the_repository() -> None:
    relative = [link for link in links(README) if not re.match("[a-z]+:", link)]
    assert relative
    assert [link for link in relative if not (ROOT / link.partition("#")[0]).is_file()] == []


def test_on_a_package_index_its_links_lead_to_the_repository() -> None:
    """The build replaces relative links, by the patterns of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    repository = project["project"]["urls"]["Homepage"]
    raw = repository.replace("//github.com/", "//raw.githubusercontent.com/")
    text = README
    for substitution in project["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(substitution["pattern"], substitution["replacement"], text)
    for before, after in zip(links(README), links(text), strict=True):
        if re.match("[a-z]+:", before):
            assert after == before
        else:
            assert after in {f"{repository}/blob/main/{before}", f"{raw}/main/{before}"}
            assert ("raw." in after) == after.endswith((".svg", ".png"))


COMMANDS: Final = re.findall(r"^    (.*bowout (?:connect|serve|check|fleet|demo)\b.*)$", COMMAND_LINE, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_are_understood(line: str) -> None:
    words = with_values(shlex.split(re.split(" +[#>] ", line)[0].rpartition("bowout ")[2]))
    name, command = "bowout", get_command(app)
    while isinstance(command, TyperGroup):
        name, *words = words
        command = command.commands[name]
    assert isinstance(command, TyperCommand)
    assert command.make_context(name, words).params


def test_a_reply_is_the_request(tmp_path: Path) -> None:
    """A server, and its client."""
    client = next(line for line in COMMANDS if line.startswith("printf"))
    server = next(line for line in COMMANDS if "bowout serve" in line)
    serving = server.partition("#")[0].strip().removeprefix("bowout ").replace("8443", "0")
    script = f"""
        bowout() {{ {" ".join(COMMAND)} "$@"; }}
        coproc {{ exec {" ".join(COMMAND)} {serving} 2>&1; }}
        read -r listening <&"${{COPROC[0]}}"
        port=${{listening##*:}}
        {client.replace("8443", "$port")}
        status=$?
        kill "$COPROC_PID"
        wait
        exit $status
    """
    done = subprocess.run(
        ["/bin/bash", "-c", script],
        capture_output=True, text=True, timeout=PATIENCE, check=False, env=environment(), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reply").read_bytes() == b"GET / HTTP/1.0\r\n\r\n"
    assert done.stderr.splitlines()[-1] == "clean: we sent close_notify, the peer answered"
