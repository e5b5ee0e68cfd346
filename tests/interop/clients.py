"""Real clients that a misbehaving server meets: does their user learn that an answer was cut, and how do they end?"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bowout.check import Verdict
from bowout.testing import Peer, PeerReport
from helpers.commands import environment
from helpers.compiled import go_program, java_classes
from helpers.peers import require_program
from interop.stacks.base import Stack
from reach.dialogues import HTTP_BY_LENGTH, HTTP_IN_CHUNKS, HTTP_TO_THE_END, MESSAGE, Dialogue
from reach.ends import ALERTED, CUT_RECORD, FIN, RST, End
from reach.observing import HANGS, HIDDEN, WHOLE, observe_client
from reach.registry import ClientScenario, clients
from reach.ways import LibraryWay

#: Seconds after which a program hangs.
_TIMEOUT: Final = 20.0
_PROGRAMS: Final = Path(__file__).with_name("programs")
_RULE: Final = "RFC 8446 §6.1"
_RULE_HTTP: Final = "RFC 9112 §9.8"
_NOTHING: Final = "nothing, and no error"


@dataclass(frozen=True)
class ClientColumn:
    """One thing that a server does to a client.

    Attributes:
        name: for the table.
        says: the same for people, in a sentence.
        dialogue: the answer that the server begins.
        end: how it ends in the middle of the body; None if it sends all, and leaves the end to the client.
    """

    name: str
    says: str
    dialogue: Dialogue
    end: End | None


_FRAMINGS: Final = {
    "to the end": (HTTP_TO_THE_END, "HTTP/1.1 with Connection: close and no length"),
    "by length": (HTTP_BY_LENGTH, "HTTP/1.1 with Content-Length"),
    "in chunks": (HTTP_IN_CHUNKS, "HTTP/1.1 with chunks"),
}
_ENDS: Final = {"FIN": FIN, "cut record": CUT_RECORD, "RST": RST, "alert": ALERTED}
OWN_END: Final = ClientColumn(
    "its own end",
    "HTTP/1.1 with Content-Length, complete; the server waits for the client's close_notify, and answers it.",
    HTTP_BY_LENGTH,
    None,
)
COLUMNS: Final[dict[str, ClientColumn]] = {
    OWN_END.name: OWN_END,
    **{
        f"{framing}, {short}": ClientColumn(
            f"{framing}, {short}", f"{how}; after half of the body, {end.name}.", dialogue, end
        )
        for framing, (dialogue, how) in _FRAMINGS.items()
        for short, end in _ENDS.items()
    },
}


@dataclass(frozen=True)
class ClientResult:
    """What came of one run.

    Attributes:
        verdict: on the client.
        says: what was seen, for people.
        rule: the section that decides.
        report: what the server saw.
    """

    verdict: Verdict
    says: str
    rule: str = ""
    report: PeerReport | None = None


@dataclass(frozen=True, kw_only=True)
class RealClient:
    """One client as people run it.

    Attributes:
        name: its key in the data.
        version: tells its version.
        configuration: how it runs, for people.
        http: whether it speaks HTTP itself; the others are given a request.
        observe: runs it in a column; gives what its user saw, and what the server saw.
        require: skips the test, or fails it in CI, if it is not here.
    """

    name: str
    version: Callable[[], str]
    configuration: str
    http: bool = True
    observe: Callable[[ClientColumn, Path], tuple[str, PeerReport]]
    require: Callable[[], None]

    def takes(self, column: ClientColumn) -> bool:
        """Tell whether the column can be asked of this client: a pipe knows no length, and does not end by itself."""
        return self.http or column.dialogue is HTTP_TO_THE_END

    def run(self, column: ClientColumn, shared: Path) -> ClientResult:
        """Let it meet the server once."""
        if not self.takes(column):
            return ClientResult(Verdict.SKIPPED, "it does not speak HTTP")
        saw, report = self.observe(column, shared)
        return judge(column, saw, report)


def judge(column: ClientColumn, saw: str, report: PeerReport) -> ClientResult:
    """Return the verdict on what a client's user saw of an answer."""
    if saw == HANGS:
        return ClientResult(Verdict.WARN, "it waits for ever", _RULE, report)
    if column.end is None:
        return _judge_own_end(saw, report)
    if saw in {HIDDEN, _NOTHING}:
        says = f"its user has {'half' if saw == HIDDEN else 'nothing'} of the answer, and no error"
        return ClientResult(Verdict.FAIL, says, _RULE if column.dialogue.open_ended else _RULE_HTTP, report)
    if saw == WHOLE:
        return ClientResult(Verdict.UNKNOWN, "it has more than the server sent", "", report)
    return ClientResult(Verdict.OK, f"its user sees {saw}", _RULE, report)


def _judge_own_end(saw: str, report: PeerReport) -> ClientResult:
    if saw != WHOLE:
        return ClientResult(Verdict.FAIL, f"of a complete answer, its user sees {saw}", "", report)
    if report.close_notify == 1 and not report.after_close_notify:
        return ClientResult(Verdict.OK, "it sends close_notify", _RULE, report)
    if report.close_notify:
        return ClientResult(Verdict.WARN, "it sends something after its close_notify", _RULE, report)
    end = "RST" if report.rst else "FIN" if report.fin else "nothing"
    return ClientResult(Verdict.WARN, f"it sends no close_notify, but {end}", _RULE, report)


# -- programs ---------------------------------------------------------------------------------------------------------

#: Makes the command from the port, the file of the authority, and a place for what is compiled.
Command = Callable[[int, str, Path], list[str]]


def _observed(command: Command, *, pipe: bool) -> Callable[[ClientColumn, Path], tuple[str, PeerReport]]:
    def observe(column: ClientColumn, shared: Path) -> tuple[str, PeerReport]:
        script = column.dialogue.script(column.end)
        with Peer(script, tls="1.3", timeout=3 * _TIMEOUT) as peer:
            peer.go()  # its user does not tell when it has the head of the answer
            saw = _saw(command(peer.port, str(peer.ca_file), shared), pipe=pipe)
            return saw, peer.wait()

    return observe


def _saw(command: list[str], *, pipe: bool) -> str:
    """Run a client to its end, and say what its user saw."""
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdin is not None
        if pipe:
            process.stdin.write(request)
            process.stdin.flush()  # its end would be the end of the connection for some
        try:
            # communicate() would close stdin, which many clients take for the end.
            status = process.wait(_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            return HANGS
        assert process.stdout is not None
        got = process.stdout.read()
    if status:
        return f"exit status {status}"
    if MESSAGE in got:
        return WHOLE
    return HIDDEN if MESSAGE[: len(MESSAGE) // 2] in got else _NOTHING


def _program(
    name: str, program: str, version: tuple[str, ...], command: Command, configuration: str, *, pipe: bool = False
) -> RealClient:
    stack = Stack(name=name, needs=(program,), version=version, shows="")
    return RealClient(
        name=name,
        version=lambda: stack.here,
        configuration=configuration,
        http=not pipe,
        observe=_observed(command, pipe=pipe),
        require=stack.require,
    )


def _tool(name: str, *arguments: str, version: tuple[str, ...] = ("--version",), pipe: bool = False) -> RealClient:
    def command(port: int, ca: str, _shared: Path) -> list[str]:
        words = {"@PORT@": str(port), "@CA@": ca}
        filled = [_filled(word, words) for word in arguments]
        return [require_program(filled[0]), *filled[1:]]

    configuration = " ".join(arguments) + (" (it is given a request, and its stdin stays open)" if pipe else "")
    return _program(name, arguments[0], version, command, configuration, pipe=pipe)


def _filled(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def _source(program: str) -> str:
    return (_PROGRAMS / program).read_text(encoding="utf-8")


def _url(port: int) -> str:
    return f"https://localhost:{port}/"


def _go(port: int, ca: str, shared: Path) -> list[str]:
    return [go_program(_PROGRAMS / "get.go", shared), _url(port), ca]


def _node(port: int, ca: str, _shared: Path) -> list[str]:
    return [require_program("node"), str(_PROGRAMS / "get.js"), _url(port), ca]


def _java(port: int, ca: str, shared: Path) -> list[str]:
    classes = java_classes(_PROGRAMS / "Get.java", shared)
    beside = Path(require_program("javac")).resolve().with_name("java")  # An older one could not run the classes.
    java = str(beside) if beside.exists() else require_program("java")
    return [java, "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", classes, "Get", _url(port), ca]


PROGRAMS: Final = (
    _tool("curl", "curl", "--silent", "--show-error", "--cacert", "@CA@", "https://localhost:@PORT@/"),
    _tool(
        "wget",
        "wget",
        "--quiet",
        "--tries=1",
        "--ca-certificate=@CA@",
        "--output-document=-",
        "https://localhost:@PORT@/",
    ),
    _program("Go net/http", "go", ("version",), _go, _source("get.go")),
    _program("Node https", "node", ("--version",), _node, _source("get.js")),
    _program("Java HttpClient", "javac", ("--version",), _java, _source("Get.java")),
    _tool(
        "OpenSSL s_client",
        "openssl",
        "s_client",
        "-quiet",
        "-CAfile",
        "@CA@",
        "-connect",
        "localhost:@PORT@",
        version=("version",),
        pipe=True,
    ),
    _tool(
        "GnuTLS cli", "gnutls-cli", "--logfile=/dev/null", "--x509cafile=@CA@", "-p", "@PORT@", "localhost", pipe=True
    ),
    _tool("ncat", "ncat", "--ssl-verify", "--ssl-trustfile", "@CA@", "localhost", "@PORT@", pipe=True),
    _tool("socat", "socat", "-", "OPENSSL:localhost:@PORT@,cafile=@CA@", version=("-V",), pipe=True),
)

# -- libraries of Python: the scenarios of tests/reach ----------------------------------------------------------------

_DIALOGUES: Final = {dialogue.name for dialogue, _ in _FRAMINGS.values()}


def _library(scenarios: dict[str, ClientScenario], way: LibraryWay, name: str) -> RealClient:
    first = next(iter(scenarios.values()))

    def observe(column: ClientColumn, _shared: Path) -> tuple[str, PeerReport]:
        sight = observe_client(scenarios[column.dialogue.name], way, column.end)
        return sight.saw, sight.report

    def version() -> str:
        from importlib.metadata import version as installed  # noqa: PLC0415  (a name of the function beside it)

        return installed(first.distributions[0]) if first.distributions else ".".join(map(str, sys.version_info[:3]))

    def require() -> None:
        from reach.observing import require as required  # noqa: PLC0415  (likewise)

        required(first, way)

    return RealClient(
        name=name,
        version=version,
        configuration=f"{first.function.__module__}.{first.function.__name__}, {way.loop}",
        observe=observe,
        require=require,
    )


def _libraries() -> list[RealClient]:
    """Every library that speaks HTTP in each framing: as it is, and with bowout."""
    grouped: dict[str, dict[str, Any]] = {}
    for scenario in clients():
        if scenario.dialogue.name in _DIALOGUES:
            grouped.setdefault(scenario.library, {})[scenario.dialogue.name] = scenario
    found = []
    for library, scenarios in grouped.items():
        if scenarios.keys() == _DIALOGUES:
            ways = next(iter(scenarios.values())).ways
            for means, name in (("stock", library), ("bowout", f"{library} with bowout")):
                way = next((way for way in ways if way.means == means and way.loop in {"asyncio", "blocking"}), None)
                if way is not None:
                    found.append(_library(scenarios, way, name))
    return found


CLIENTS: Final[dict[str, RealClient]] = {client.name: client for client in (*PROGRAMS, *_libraries())}
