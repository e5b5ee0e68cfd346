"""``bowout fleet``: as its users type it, against real servers on the loopback."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from bowout.check import Finding, Report, Verdict
from bowout.cli.app import run
from bowout.cli.fleet.running import ProgressLine
from bowout.fleet import FleetError, FleetProgress, Store, export, parse_endpoint
from helpers.commands import bowout, ca_file, environment, started
from helpers.fleets import a_report, fill
from helpers.peers import require_module
from helpers.serving import serving


def finished(path: Path, *verdicts: str) -> None:
    """Make a store in which every endpoint is finished."""
    fill(path, len(verdicts))
    with Store(path, write=True) as store:
        targets = sorted(store.waiting(-1, 100, now=1e12), key=lambda each: each.host)
        store.record([(each, a_report(each, verdict)) for each, verdict in zip(targets, verdicts, strict=True)])


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["here", "workers"])
def test_a_run_from_stdin_to_its_reports(tmp_path: Path, options: tuple[str, ...]) -> None:
    store = str(tmp_path / "run.db")
    with serving("--www", str(tmp_path)) as server:
        lines = f"# mine\n{server.address}\n{server.address} # again\n\nnot an endpoint at all\n"
        done = bowout(
            "fleet", "run", "-", "--store", store, "--cafile", ca_file(), *options, stdin=lines.encode(),
            env=environment(PYTHONPATH=":".join(sys.path)),
        )  # fmt: skip
        server.stop()
    assert done.status == 0, done.err
    assert (
        "note: line 5: 'not an endpoint at all' has more than HOST[:PORT] [STARTTLS] [protocol=NAME]: left out"
        in done.err
    )
    assert done.last == "1 endpoint: 1 OK"
    assert done.out == b""
    (first,) = json.loads(bowout("fleet", "report", "--format", "json", "--store", store).out)["reports"]
    assert [each["probe"] for each in first["findings"]][:2] == ["reply-end", "answers"]
    assert first["connections"] <= 8


def test_each_line_is_probed_in_its_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoken: dict[str, str | None] = {}

    async def check(host: str, port: int, **options: Any) -> Report:
        spoken[host] = options["protocol"]
        return Report(endpoint=f"{host}:{port}", findings=(Finding(probe="reply-end", verdict=Verdict.OK, says=""),))

    monkeypatch.setattr("bowout.cli.fleet.checking.check", check)
    (tmp_path / "targets").write_text("10.0.0.1\n10.0.1.1 protocol=redis\n10.0.2.1 lmtp\n", encoding="ascii")
    words = ("run", str(tmp_path / "targets"), "--store", str(tmp_path / "run.db"), "--protocol", "postgres")
    assert run(["fleet", *words]) == 0
    assert spoken == {"10.0.0.1": "postgres", "10.0.1.1": "redis", "10.0.2.1": None}


def test_what_a_run_cannot_begin_with(tmp_path: Path) -> None:
    (tmp_path / "none").write_text("# nothing\n")
    (tmp_path / "one").write_text("127.0.0.1:1\n")
    (tmp_path / "bad").write_text("10.0.0.0/8\nwhat is this\n")
    store = ["--store", str(tmp_path / "run.db")]
    for words, said in [
        ([str(tmp_path / "absent"), *store], "cannot read"),
        ([str(tmp_path / "none"), *store], "has no target"),
        ([str(tmp_path / "one"), *store, "--rate", "0"], "--rate needs a number above 0, not 0"),
        ([str(tmp_path / "one"), *store, "--rate", "inf"], "--rate needs a number above 0, not inf"),
        ([str(tmp_path / "one"), *store, "--per-network", "0"], "--per-network needs 1 or more"),
        ([str(tmp_path / "one"), *store, "--cafile", "/nowhere"], "--cafile: cannot read"),
        ([str(tmp_path / "one"), *store, "--exclude", str(tmp_path / "bad")], "line 2"),
        ([str(tmp_path / "one"), *store, "--workers", "2", "--dask", "tcp://a:1"], "contradict each other"),
    ]:
        done = bowout("fleet", "run", *words)
        assert done.status == 2, words
        assert said in done.err
        if "has no target" not in said:
            assert not (tmp_path / "run.db").exists(), words
        (tmp_path / "run.db").unlink(missing_ok=True)


def test_more_than_a_thousand_targets_need_a_yes(tmp_path: Path) -> None:
    store = tmp_path / "run.db"
    lines = "".join(f"10.0.{number // 250}.{number % 250}\n" for number in range(1001))
    done = bowout("fleet", "run", "-", "--store", str(store), "--rate", "1", stdin=lines.encode())
    assert done.status == 2
    assert "1,001 targets: nothing was sent" in done.err
    assert f"resume --store {store} --yes" in done.err
    assert "0 of 1,001 endpoints are finished" in bowout("fleet", "status", "--store", str(store)).out.decode()


def test_a_store_that_has_a_run_is_not_begun_again(tmp_path: Path) -> None:
    fill(tmp_path / "run.db", 1)
    done = bowout("fleet", "run", "-", "--store", str(tmp_path / "run.db"), stdin=b"127.0.0.1:1\n")
    assert done.status == 2
    assert "has a run already" in done.err
    assert "bowout fleet resume --store" in done.err


def test_a_store_whose_targets_were_not_all_read_says_so(tmp_path: Path) -> None:
    with Store(tmp_path / "run.db", write=True, create=True) as store:
        store.begin({})
    done = bowout("fleet", "resume", "--store", str(tmp_path / "run.db"))
    assert done.status == 2
    assert "reading them was interrupted, and nothing was probed" in done.err


def test_targets_that_were_not_all_read_are_given_again(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with Store(path, write=True, create=True) as store:
        store.begin({})
        store.add([parse_endpoint("10.0.0.1"), parse_endpoint("10.0.0.2")])
    (tmp_path / "all").write_text("10.0.0.0/8\n", encoding="ascii")
    lines = b"10.0.0.1\n10.0.0.2\n10.0.0.3\n"
    done = bowout("fleet", "run", "-", "--store", str(path), "--exclude", str(tmp_path / "all"), stdin=lines)
    assert (done.status, done.last) == (0, "3 endpoints: 3 SKIPPED")


def test_the_progress_is_one_line_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class ColumnlessTerminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", terminal := ColumnlessTerminal())
    line = ProgressLine()
    line(FleetProgress(targets=5000, finished=1204, rate=12.44, remaining=305.2))
    line(FleetProgress(targets=5000, finished=1204, rate=0.0, remaining=None))
    line.end()
    assert terminal.getvalue().split("\r") == [
        "",
        "1,204 of 5,000 endpoints, 12.4 a second, 5m 05s left\x1b[K",
        "1,204 of 5,000 endpoints, 0.0 a second\x1b[K",
        "\x1b[K",
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="its Ctrl-C cannot be sent")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_ctrl_c_keeps_what_is_finished_and_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    path = tmp_path / "run.db"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}\n"
        with started("fleet", "run", "-", "--store", str(path)) as running:
            running.type(target.encode())
            running.end_input()
            silent.accept()[0].close()  # The probes have begun.
            running.interrupt(number)
            done = running.finish()
    assert done.status == status
    assert "0 of 1 endpoints are finished and kept" in done.err
    assert f"hint: bowout fleet resume --store {path}" in done.err


def test_resume_goes_on_with_the_options_of_the_run(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    (tmp_path / "exclude").write_text("10.0.0.0/8\n")
    fill(path, 3)
    with Store(path, write=True) as store:
        store.set_options({"exclude": str(tmp_path / "exclude"), "of_a_later_version": 1})
    done = bowout("fleet", "resume", "--store", str(path))
    assert (done.status, done.last) == (0, "3 endpoints: 3 SKIPPED")


def test_resume_without_its_exclusions_probes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    fill(path, 3)
    with Store(path, write=True) as store:
        store.set_options({"exclude": str(tmp_path / "gone")})
    done = bowout("fleet", "resume", "--store", str(path))
    assert done.status == 2
    assert "--exclude: cannot read" in done.err
    with Store(path) as store:
        assert store.counts()["finished"] == 0


# -- what a store says -------------------------------------------------------------------------------------------------


def test_a_report_as_text_has_the_worst_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(tmp_path / "run.db", "OK", "WARN", "DATA-LOSS", "FAIL")
    assert run(["fleet", "report", "--store", str(tmp_path / "run.db")]) == 0
    out = capsys.readouterr().out
    assert "4 of 4 endpoints are finished, 0 wait" in out
    listed = out.partition("\n\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == ["DATA-LOSS", "FAIL", "WARN"]
    assert listed[0] == "DATA-LOSS  10.0.0.2:443  answers: answers says"


def test_a_report_as_a_page(tmp_path: Path) -> None:
    require_module("jinja2", "bowout[html]")
    finished(tmp_path / "run.db", "OK", "WARN")
    out = tmp_path / "report.html"
    assert run(["fleet", "report", "--format", "html", "--out", str(out), "--store", str(tmp_path / "run.db")]) == 0
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert run(["fleet", "report", "--out", str(tmp_path), "--store", str(tmp_path / "run.db")]) == 2


def test_csv_has_no_formula_and_no_bytes_of_a_server(tmp_path: Path) -> None:
    path, out = tmp_path / "run.db", tmp_path / "out.csv"
    fill(path, 1)
    texts = ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", '"=1"', "\uff1d1", "\x1b[2J", "a\nb,c"]
    with Store(path, write=True) as store:
        (target,) = store.waiting(-1, 1, now=1e12)
        report = a_report(target)
        report["findings"] = [{**report["findings"][0], "probe": f"p{n}", "says": text} for n, text in enumerate(texts)]
        store.record([(target, report)])
    assert run(["fleet", "export", str(out), "--store", str(path)]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    says = [row["says"] for row in rows]
    assert not any(cell.lstrip().startswith(("=", "+", "-", "@", "\uff1d")) for cell in says)
    assert all(cell.isprintable() for cell in says)
    assert says[7] == '"=1"'
    assert rows[0]["runs"] == "1"


def test_parquet_and_json_lines_have_every_finding(tmp_path: Path) -> None:
    require_module("pyarrow", "bowout[parquet]")
    from pyarrow import parquet  # noqa: PLC0415  (it may be missing)

    finished(tmp_path / "run.db", "OK", "WARN", "FAIL")
    for name in ("out.parquet", "out.jsonl"):
        assert run(["fleet", "export", str(tmp_path / name), "--store", str(tmp_path / "run.db")]) == 0
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.num_rows == 6
    assert sorted(table.column("endpoint_verdict").to_pylist()) == ["FAIL"] * 2 + ["OK"] * 2 + ["WARN"] * 2
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert sorted(json.loads(line)["verdict"] for line in lines) == ["FAIL", "OK", "WARN"]


def test_an_export_of_another_ending_and_one_that_fails_leave_the_old_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path / "run.db", "OK")
    for name in ("out.xls", "out", "csv"):
        assert run(["fleet", "export", str(tmp_path / name), "--store", str(tmp_path / "run.db")]) == 2
        assert "does not end in .jsonl, .csv, .parquet" in capsys.readouterr().err
    with Store(tmp_path / "run.db") as store, pytest.raises(FleetError, match="does not end in"):
        export(store.reports(), tmp_path / "out.xls")
    (tmp_path / "out.csv").mkdir()
    assert run(["fleet", "export", str(tmp_path / "out.csv"), "--store", str(tmp_path / "run.db")]) == 1
    assert "cannot write" in capsys.readouterr().err
    assert sorted(each.name for each in tmp_path.iterdir() if each.name.startswith(".")) == []


def test_diff_tells_what_changed_and_its_status_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(tmp_path / "a.db", "OK", "WARN")
    finished(tmp_path / "b.db", "OK", "FAIL", "OK")
    a, b = str(tmp_path / "a.db"), str(tmp_path / "b.db")
    assert run(["fleet", "diff", a, a]) == 0
    assert capsys.readouterr().out == ""
    assert run(["fleet", "diff", a, b]) == 10
    lines = capsys.readouterr().out.splitlines()
    assert "10.0.0.1:443  answers: WARN -> FAIL" in lines
    assert "10.0.0.2:443  endpoint: not there -> OK" in lines
    assert run(["fleet", "diff", a, str(tmp_path / "c.db")]) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_exclusions_from_a_pipe_are_refused_since_the_second_reading_would_find_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    words = ("--store", str(tmp_path / "run.db"), "--exclude", str(tmp_path / "pipe"))
    done = bowout("fleet", "run", "-", *words, stdin=b"127.0.0.1:1\n")
    assert done.status == 2
    assert "is a pipe, and is read more than once" in done.err
    assert not (tmp_path / "run.db").exists()


@pytest.mark.parametrize("place", [0, 1])
def test_diff_of_a_store_on_postgresql_says_what_to_do(
    tmp_path: Path, place: int, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path / "a.db", "OK")
    names = [str(tmp_path / "a.db")] * 2
    names[place] = "postgresql://nobody@127.0.0.1:1/nowhere"
    assert run(["fleet", "diff", *names]) == 2
    err = capsys.readouterr().err
    assert "diff compares files of SQLite" in err
    assert "hint: bowout fleet export FILE.csv --store NAME" in err


def test_lines_that_are_no_utf_8_are_told_by_their_number(tmp_path: Path) -> None:
    (tmp_path / "all").write_bytes(b"\xef\xbb\xbf0.0.0.0/0\r\n")
    lines = b"\xef\xbb\xbf10.0.0.1\r\n\xff\xfe\x1b[2J\r\n10.0.0.2 protocol=redis\r\n10.0.0.1\r\n"
    (tmp_path / "targets").write_bytes(lines)
    for number, name in enumerate(("-", str(tmp_path / "targets"))):
        words = ("run", name, "--store", str(tmp_path / f"{number}.db"), "--exclude", str(tmp_path / "all"))
        done = bowout("fleet", *words, stdin=lines)
        assert (done.status, done.last) == (0, "2 endpoints: 2 SKIPPED"), done.err
        assert "note: line 2: " in done.err
        assert "\x1b" not in done.err


def test_a_store_of_another_version_is_an_error_and_not_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    fill(path, 1)
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 99")
    other.close()
    for words in (["status"], ["report"], ["resume"], ["export", "x.csv"]):
        done = bowout("fleet", *words, "--store", str(path))
        assert done.status == 1
        assert "is a store of version 99" in done.err
        assert "hint: nothing in it was changed" in done.err


def test_the_help_of_each_command_is_there() -> None:
    done = bowout("fleet", "--help")
    assert all(name in done.out.decode() for name in ("run", "resume", "status", "report", "export", "diff"))
    assert "hint: bowout fleet run --help" in bowout("fleet", "run", "--nope").err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_under_stdout_is_told(tmp_path: Path) -> None:
    finished(tmp_path / "run.db", "OK")
    with Path("/dev/full").open("wb") as full:
        done = bowout("fleet", "report", "--format", "json", "--store", str(tmp_path / "run.db"), stdout=full)
    assert done.status == 1
    assert "cannot write to stdout" in done.err
