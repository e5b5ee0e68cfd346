"""``bowout check`` as its users run it."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from bowout.check import PROBES
from bowout.testing import Act, Peer
from helpers.commands import Done, bowout, started
from helpers.serving import serving
from test_check_model import SCHEMA


def bad(act: Act) -> None:
    """Speak, and leave with a bare FIN."""
    act.handshake()
    act.send(b"\x1b[2Jhello")
    act.fin()


def silent(act: Act) -> None:
    act.handshake()
    act.silence()


def checked(peer: Peer, *options: str, **more: Any) -> Done:
    address = f"localhost:{peer.port}"
    return bowout("check", address, "--cafile", str(peer.ca_file), "--protocol", "raw", *options, **more)


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"localhost:{listener.getsockname()[1]}"


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_bowout_serve_is_good_in_every_probe(tls: str, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>hello</p>")
    (tmp_path / "big").write_bytes(bytes(8 << 20))
    with serving("--www", str(tmp_path), "--tls", tls) as server:
        done = bowout(
            "check", f"localhost:{server.port}", "--insecure", "--large", "/big", "--idle", "0.2", "--intrusive",
            "--timeout", "300", "--format", "json",
        )  # fmt: skip
    report = json.loads(done.out)
    Draft202012Validator(SCHEMA).validate(report)
    verdicts = {each["probe"]: each["verdict"] for each in report["findings"]}
    # TLS 1.2 requires the server to discard what it had to send (RFC 5246 section 7.2.1).
    dropped = {"half-close": "NOTE"} if tls == "1.2" else {}
    assert verdicts == dict.fromkeys(PROBES, "OK") | dropped, report
    assert (done.status, done.err, report["verdict"], report["tls"]) == (0, "", "OK", f"TLSv{tls}")


def test_a_bad_ending_is_told_drawn_and_a_failure() -> None:
    with Peer(bad, connections=None) as peer:
        done = checked(peer)
    text = done.out.decode()
    assert done.status == 10
    assert f"localhost:{peer.port}: FAIL" in text
    assert "bare FIN instead of close_notify" in text
    assert "no close_notify" in text  # in the ladder
    assert "\x1b" not in text
    assert done.err == "hint: bowout check --explain reply-end tells what it means, and how to mend it\n"


@pytest.mark.parametrize(("verdict", "status"), [("note", 10), ("warn", 10), ("data-loss", 0), ("never", 0)])
def test_fail_on_sets_what_fails(verdict: str, status: int) -> None:
    with Peer(bad, connections=None) as peer:
        assert checked(peer, "--fail-on", verdict).status == status


def test_a_closed_port_is_told_with_a_remedy() -> None:
    done = bowout("check", closed_port(), "--format", "json")
    assert done.status == 3
    assert json.loads(done.out)["verdict"] == "UNKNOWN"
    assert done.err.startswith("hint: is the port right?")


def test_json_is_alone_on_stdout_and_several_endpoints_are_an_array() -> None:
    with Peer(bad, connections=None) as peer:
        done = checked(peer, closed_port(), "--format", "json")
    first, second = json.loads(done.out)
    assert (first["verdict"], second["verdict"], done.status) == ("FAIL", "UNKNOWN", 10)


def test_nagios_has_its_own_statuses() -> None:
    with Peer(bad, connections=None) as peer:
        done = checked(peer, "--format", "nagios")
    assert done.status == 2
    assert done.out.startswith(b"TLS ENDING FAIL - localhost:")


@pytest.mark.parametrize(
    "words",
    [
        ["--format", "nagios"],
        ["", "--format=nagios"],
        ["localhost:99999", "--format", "nagios"],
        ["localhost|443", "--format", "nagios", "--nonsense"],
        ["localhost", "--format", "json", "--idle", "nan", "--format", "nagios"],
        ["localhost", "--format", "nagios", "--protocol", "n\x1b[2J|"],
        ["localhost", "--format", "nagios", "--out", "/"],
    ],
)
def test_a_usage_error_of_a_plugin_is_unknown_on_stdout(words: list[str]) -> None:
    done = bowout("check", *words)
    assert (done.status, done.err) == (3, "")
    assert done.out.startswith(b"TLS ENDING UNKNOWN - ")
    assert b"|" not in done.out
    assert all(line.isprintable() for line in done.out.decode().splitlines())


@pytest.mark.parametrize("words", [["--format", "json"], ["--format", "nagios", "--format", "json"]])
def test_a_usage_error_is_one_in_any_other_format(words: list[str]) -> None:
    done = bowout("check", "localhost:0", *words)
    assert (done.status, done.out) == (2, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_plugin_that_cannot_write_its_report_knows_nothing() -> None:
    assert bowout("check", closed_port(), "--format", "nagios", "--out", "/dev/full").status == 3


def test_out_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    with Peer(bad, connections=None) as peer:
        done = checked(peer, "--format", "csv", "--out", str(path))
    assert (done.status, done.out) == (10, b"")
    assert path.read_bytes().startswith(b"endpoint,address,")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_report_that_cannot_be_written_is_an_error() -> None:
    with Peer(bad, connections=None) as peer:
        with Path("/dev/full").open("wb") as full:
            dones = [checked(peer, stdout=full)]
        dones.append(checked(peer, "--out", "/dev/full"))
    for done in dones:
        assert done.status == 1
        assert "cannot write" in done.err


def test_ctrl_c_ends_it_and_leaves_no_part_of_a_report(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    begun: list[int] = []

    def waits(act: Act) -> None:
        act.handshake()
        act.ready()
        act.silence()

    with Peer(waits, connections=None) as peer:
        words = [f"localhost:{peer.port}", "--cafile", str(peer.ca_file), "--format", "json", "--out", str(path)]
        with started("check", *words) as running:
            peer.wait_ready()
            begun.append(path.exists())
            running.interrupt(signal.SIGINT)
            done = running.finish()
    assert begun == [True]
    assert (done.status, done.out, path.exists()) == (130, b"", False)
    assert "interrupted at localhost" in done.err
    assert "0 of 1 endpoints were checked" in done.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "there is no host to check"),
        (["https://example.org"], "is a URL"),
        (["localhost:99999"], "is not a valid port"),
        (["localhost", "--format", "sarif"], "sarif"),
        (["localhost", "--fail-on", "bad"], "bad"),
        (["localhost", "--protocol", "gopher"], "gopher"),
        (["localhost", "--protocol", "http", "--send", "x"], "are for raw"),
        (["localhost", "--send", r"\q"], "is not a known escape"),
        (["localhost", "--large", "big"], "is not a path"),
        (["localhost", "--idle", "0"], "more than 0 seconds"),
        (["localhost", "--timeout", "-1"], "0 or more"),
        (["localhost", "--cafile", "/nowhere"], "cannot read '/nowhere'"),
        (["localhost", "--out", "/nowhere/report"], "cannot write '/nowhere/report'"),
        (["localhost", "--explain", "OK"], "probes nothing"),
        (["--explain", "half-clsoe"], "is half-close meant?"),
        (["--explain", "\x1b[2J"], "is neither a probe nor a verdict"),
        (["--idle", "3"], "there is no host to check"),
    ],
)
def test_a_wrong_word_is_a_usage_error(words: list[str], says: str) -> None:
    done = bowout("check", *words)
    assert done.status == 2
    assert says in done.err + done.out.decode()
    assert "\x1b[2J" not in done.err


@pytest.mark.parametrize("name", ["half-close", "DATA-LOSS", "data_loss", "Reply-End"])
def test_a_name_is_explained(name: str) -> None:
    done = bowout("check", "--explain", name)
    assert (done.status, done.err) == (0, "")
    assert b"RFC" in done.out


def test_send_takes_escapes_and_raw_expects(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def talks(act: Act) -> None:
        act.handshake()
        seen.append(act.read_until(b"\n"))
        act.send(b"\x00BYE")
        act.close_notify()
        act.fin()

    with Peer(talks, connections=None) as peer:
        done = bowout(
            "check", f"localhost:{peer.port}", "--cafile", str(peer.ca_file), "--send", r"a\\\x00\xff\t\r\n",
            "--expect", r"\0BYE", "--format", "json",
        )  # fmt: skip
    assert seen[0] == b"a\\\x00\xff\t\r\n"
    report = json.loads(done.out)
    assert (report["protocol"], report["findings"][0]["verdict"]) == ("raw", "OK")
