"""Other people's clients against our server: what they do in the end, and what we make of it.

What another does wrong is recorded here, not passed over: when a new version does it otherwise, the table says so.
"""

from __future__ import annotations

import functools
import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from bowout import How, Inbound, Side
from helpers.commands import Running, ca_file, started
from helpers.compiled import go_program, shared_directory
from helpers.peers import require_program
from helpers.serving import Serving, endings, serving
from helpers.wire import PATIENCE, VERSIONS, Version

HOST: Final = "127.0.0.1"
BODY: Final = b"x" * 300_000 + b"\n"

NODE: Final = """
const [port, version, verb] = process.argv.slice(1);
const socket = require("tls").connect({port, host: "127.0.0.1", rejectUnauthorized: false,
    minVersion: "TLSv" + version, maxVersion: "TLSv" + version});
socket.on("data", data => process.stdout.write(data));
socket.on("error", error => console.error(error.code));
socket.on("close", () => process.stdin.destroy());
process.stdin.on("data", data => socket.write(data));
process.stdin.on("end", () => socket[verb]());
"""

JAVA: Final = """
import java.security.cert.X509Certificate;
import javax.net.ssl.*;

public class Client {
    public static void main(String[] arguments) throws Exception {
        TrustManager everybody = new X509TrustManager() {
            public void checkClientTrusted(X509Certificate[] chain, String kind) {}
            public void checkServerTrusted(X509Certificate[] chain, String kind) {}
            public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }
        };
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, new TrustManager[] {everybody}, null);
        var socket = (SSLSocket) context.getSocketFactory().createSocket("127.0.0.1", Integer.parseInt(arguments[0]));
        socket.setEnabledProtocols(new String[] {"TLSv" + arguments[1]});
        socket.startHandshake();
        Thread sender = new Thread(() -> {
            try {
                byte[] line = new byte[100];
                for (int count; (count = System.in.read(line)) > 0; ) {
                    socket.getOutputStream().write(line, 0, count);
                }
                if (arguments[2].equals("close")) socket.close(); else socket.shutdownOutput();
            } catch (java.io.IOException error) {
                System.err.println(error);
            }
        });
        sender.setDaemon(true);
        sender.start();
        try {
            socket.getInputStream().transferTo(System.out);
        } catch (java.net.SocketException error) {
            System.err.println(error);  // it was closed by the other thread
        }
        System.out.flush();
        socket.close();
    }
}
"""

GO: Final = """
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"os"
)

func main() {
	port, version, verb := os.Args[1], os.Args[2], os.Args[3]
	number := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}[version]
	config := tls.Config{InsecureSkipVerify: true, MinVersion: number, MaxVersion: number}
	conn, err := tls.Dial("tcp", "127.0.0.1:"+port, &config)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() {
		io.Copy(conn, os.Stdin)
		if verb == "Close" {
			conn.Close()
		} else {
			conn.CloseWrite()
		}
	}()
	if _, err := io.Copy(os.Stdout, conn); err != nil {
		fmt.Fprintln(os.Stderr, err) // it was closed by the other goroutine
	}
	conn.Close()
}
"""


@dataclass(frozen=True)
class Client:
    """A program that sends its stdin, and shows what comes on its stdout.

    Attributes:
        version: the arguments with which it tells its version.
        arguments: those for talking to a port in a version of TLS; a file of the directory may be made for it.
        source: what the program compiles; the arguments are those of what comes out.
    """

    program: str
    version: tuple[str, ...]
    arguments: Callable[[int, Version, Path], list[str]]
    source: str = ""


def java(verb: str) -> Callable[[int, Version, Path], list[str]]:
    """Run the class from its source."""

    def arguments(port: int, version: Version, directory: Path) -> list[str]:
        source = directory / "Client.java"
        source.write_text(JAVA)
        return ["-Xshare:auto", "-XX:TieredStopAtLevel=1", str(source), str(port), version, verb]

    return arguments


def openssl(port: int, version: Version, _directory: Path) -> list[str]:
    return ["s_client", "-brief", f"-tls{version.replace('.', '_')}", "-connect", f"{HOST}:{port}"]


def gnutls(port: int, version: Version, _directory: Path) -> list[str]:
    priority = f"NORMAL:-VERS-ALL:+VERS-TLS{version}"
    return ["--insecure", "--logfile=/dev/null", "--priority", priority, "-p", str(port), HOST]


#: ncat and socat have no option for the version in all their releases: the server insists on it.
CLIENTS: Final = {
    "s_client": Client("openssl", ("version",), openssl),
    "gnutls-cli": Client("gnutls-cli", ("--version",), gnutls),
    "ncat": Client("ncat", ("--version",), lambda port, *_: ["--ssl", HOST, str(port)]),
    "socat": Client("socat", ("-V",), lambda port, *_: ["STDIO", f"OPENSSL:{HOST}:{port},verify=0"]),
    "node end()": Client("node", ("--version",), lambda port, version, _: ["-e", NODE, str(port), version, "end"]),
    "node destroy()": Client(
        "node", ("--version",), lambda port, version, _: ["-e", NODE, str(port), version, "destroy"]
    ),
    "java close()": Client("java", ("--version",), java("close")),
    "java shutdownOutput()": Client("java", ("--version",), java("shutdownOutput")),
    "go Close()": Client("go", ("version",), lambda port, version, _: [str(port), version, "Close"], GO),
    "go CloseWrite()": Client("go", ("version",), lambda port, version, _: [str(port), version, "CloseWrite"], GO),
}


@dataclass(frozen=True)
class Verdict:
    """Our ending, as far as it depends on them."""

    how: How
    inbound: Inbound
    started_by: Side


POLITE: Final = Verdict(How.CLEAN, Inbound.CLOSE_NOTIFY, Side.PEER)
BARE_FIN: Final = Verdict(How.TRUNCATED, Inbound.TRUNCATED_AT_BOUNDARY, Side.PEER)
ANSWERED: Final = Verdict(How.CLEAN, Inbound.CLOSE_NOTIFY, Side.WE)
FIN_FOR_ANSWER: Final = Verdict(How.UNANSWERED, Inbound.TRUNCATED_AT_BOUNDARY, Side.WE)
SILENT: Final = Verdict(How.UNANSWERED, Inbound.OPEN, Side.WE)

#: What makes a client leave: a line that is a command, a signal, or the end of its stdin.
LEAVE: Final[dict[str, bytes | signal.Signals | None]] = {
    "Q": b"Q\n",
    "Ctrl-C": signal.SIGINT,
    "kill": signal.SIGKILL,
    "end of stdin": None,
}

THEY_END: Final = {
    ("s_client", "Q"): POLITE,
    ("s_client", "end of stdin"): POLITE,
    ("s_client", "Ctrl-C"): BARE_FIN,
    ("gnutls-cli", "end of stdin"): POLITE,
    ("gnutls-cli", "Ctrl-C"): BARE_FIN,
    ("ncat", "end of stdin"): BARE_FIN,  # it ends TCP's direction instead of TLS's
    ("ncat", "Ctrl-C"): BARE_FIN,
    ("socat", "end of stdin"): POLITE,
    ("socat", "Ctrl-C"): POLITE,
    ("node end()", "end of stdin"): POLITE,
    ("node destroy()", "end of stdin"): BARE_FIN,
    ("java close()", "end of stdin"): POLITE,
    ("java shutdownOutput()", "end of stdin"): POLITE,
    ("go Close()", "end of stdin"): POLITE,
    ("go CloseWrite()", "end of stdin"): POLITE,
    ("go Close()", "kill"): BARE_FIN,  # nobody is left to say more
}

#: What changed, and with which version.
SINCE: Final[dict[str | tuple[str, str], tuple[str, Verdict]]] = {
    ("ncat", "end of stdin"): ("7.95", POLITE),
    "ncat": ("7.99", ANSWERED),
}

WE_END: Final = {
    "s_client": ANSWERED,
    "gnutls-cli": FIN_FOR_ANSWER,
    "ncat": SILENT,  # it waits for the end of its stdin, and keeps the connection
    "socat": ANSWERED,
    "node end()": ANSWERED,
    "java close()": ANSWERED,
    "go Close()": ANSWERED,
}


@functools.cache
def version_of(name: str) -> str:
    """The program's name and version, for messages."""
    client = CLIENTS[name]
    told = subprocess.run([require_program(client.program), *client.version], capture_output=True, check=False)
    found = re.search(rb"\d+(\.\d+)+", told.stdout + told.stderr)
    return f"{name} {found[0].decode() if found else '?'}"


def expected(name: str, key: str | tuple[str, str], before: Verdict) -> Verdict:
    """What `name` does, in the version that is here."""
    since, now = SINCE.get(key, ("", before))
    here = version_of(name).split()[-1]
    return now if since and _numbers(here) >= _numbers(since) else before


def _numbers(version: str) -> list[int]:
    """Nmap's 7.991 comes after 7.99 and 7.95, as its own numbering has it."""
    return [int(part) for part in version.split(".")]


def running(name: str, server: Serving, version: Version, directory: Path, shared: Path) -> tuple[str, ...]:
    """The command."""
    client = CLIENTS[name]
    if client.source:
        program = go_program(client.source, shared)
        return (program, *client.arguments(server.port, version, directory))
    return (require_program(client.program), *client.arguments(server.port, version, directory))


def verdict(server: Serving) -> Verdict:
    """The ending of its one connection."""
    (ending,) = endings(server.finish().out)
    return Verdict(How(ending["how"]), Inbound(ending["inbound"]), Side(ending["started_by"]))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_directory(tmp_path_factory)


def read_until(client: Running, text: bytes) -> None:
    """Read the client's stdout up to `text`; some tell other things there first."""
    shown = b""
    while not shown.endswith(text):
        more = client.read(1)
        assert more, shown
        shown += more


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("name", "way"), THEY_END)
def test_they_end(name: str, way: str, version: Version, tmp_path: Path, shared: Path) -> None:
    require_program(CLIENTS[name].program)
    with (
        serving("--tls", version, "--naccept", "1", "--json=-") as server,
        started(command=running(name, server, version, tmp_path, shared)) as client,
    ):
        client.type(b"hello\n")
        read_until(client, b"hello\n")
        match LEAVE[way]:
            case None:
                client.end_input()
            case bytes() as command:
                client.type(command)
            case number:
                client.interrupt(number)
        found = verdict(server)
        client.process.wait(PATIENCE)
    assert found == expected(name, (name, way), THEY_END[name, way]), version_of(name)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", WE_END)
def test_we_end(name: str, version: Version, tmp_path: Path, shared: Path) -> None:
    require_program(CLIENTS[name].program)
    (tmp_path / "body").write_bytes(BODY)
    wanted = expected(name, name, WE_END[name])
    options = ("--file", str(tmp_path / "body"), "--timeout", "0.5" if wanted is SILENT else "5")
    with (
        serving("--tls", version, "--naccept", "1", "--json=-", *options) as server,
        started(command=running(name, server, version, tmp_path, shared)) as client,
    ):
        shown = b""
        while not shown.endswith(BODY[-2:]):
            assert client.process.stdout is not None
            more = client.process.stdout.read(1 << 16)
            assert more, shown[-100:]
            shown += more
        found = verdict(server)
    assert shown.count(b"xx") >= BODY.count(b"xx"), version_of(name)  # all of it arrived
    assert found == wanted, version_of(name)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("options", "downloads", "expected"),
    [([], 2, POLITE), (["--header", "Connection: close"], 1, ANSWERED)],
    ids=["they end", "we end"],
)
def test_curl_downloads(
    version: Version, options: list[str], downloads: int, expected: Verdict, tmp_path: Path
) -> None:
    program = require_program("curl")
    (tmp_path / "body").write_bytes(BODY)
    with serving("--www", str(tmp_path), "--tls", version, "--naccept", "1", "--json=-") as server:
        urls = [f"https://{HOST}:{server.port}/body"] * downloads
        done = subprocess.run(
            [program, "--silent", "--show-error", "--fail", "--cacert", ca_file(), *options, *urls],
            capture_output=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        found = verdict(server)
    told = subprocess.run([program, "--version"], capture_output=True, check=False).stdout[:20]
    assert (done.returncode, done.stdout) == (0, BODY * downloads), done.stderr
    assert found == expected, told
