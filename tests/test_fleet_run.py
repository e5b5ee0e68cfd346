"""A fleet that runs: every endpoint once, whatever kills it; retries, exclusions, names."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bowout.fleet import (
    Endpoint,
    Exclusions,
    FleetProgress,
    HereRunner,
    Limits,
    Probe,
    Store,
    StoreError,
    parse_endpoint,
    run,
)
from bowout.fleet._limits import TokenBucket
from helpers.fleets import UNLIMITED, a_report, fill, made_up, nothing
from helpers.peers import ROOT
from helpers.wire import PATIENCE


def complete(path: Path, probe: Probe, limits: Limits = UNLIMITED, **options: Any) -> dict[str, Any]:
    """Go on with a store until it is finished."""
    with Store(path, write=True) as store:
        asyncio.run(run(store, HereRunner(lambda: probe, limits), limits, **options))
        return store.counts()


def test_every_endpoint_is_probed_once(tmp_path: Path) -> None:
    fill(tmp_path / "run.db", 3000)
    probed: Counter[int] = Counter()

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        probed[endpoint.id] += 1
        await asyncio.sleep(0)
        return a_report(endpoint)

    counts = complete(tmp_path / "run.db", probe)
    assert counts["verdicts"] == {"OK": 3000}
    assert set(probed.values()) == {1}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
def test_kill_9_at_any_moment_loses_nothing_finished_and_repeats_nothing_finished(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    fill(path, 5000)
    finished: set[str] = set()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for kill in range(4):
        process = subprocess.Popen(
            [sys.executable, "-m", "helpers.fleets", str(path)], stdout=subprocess.PIPE, env=environment
        )
        assert process.stdout is not None
        with process, process.stdout:
            assert process.stdout.readline() == b"begun\n"
            with Store(path) as reader:  # until it has made some progress, a different amount each time
                while reader.counts()["finished"] < min(len(finished) + 300 * (kill + 1), 5000):
                    assert process.poll() is None or reader.counts()["finished"] == 5000
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE)
        with Store(path) as reader:
            now = {each["endpoint"] for each in reader.reports()}
            assert finished <= now
            finished = now
    counts = complete(path, nothing())
    assert sum(counts["verdicts"].values()) == 5000
    with Store(path) as reader:
        reported = [each["endpoint"] for each in reader.reports()]
    assert len(reported) == len(set(reported)) == 5000


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_small_simulation_of_the_benchmark_is_right() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench/fleet.py"), "simulate", "--endpoints", "3000", "--kills", "2"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == ["right"], done.stdout + done.stderr


def test_what_is_unknown_is_tried_again_once(tmp_path: Path) -> None:
    fill(tmp_path / "run.db", 3)
    attempts: Counter[str] = Counter()
    hosts = [each.host for each in made_up(3)]

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        attempts[endpoint.host] += 1
        if endpoint.host == hosts[0] or (endpoint.host == hosts[1] and attempts[endpoint.host] == 1):
            raise ConnectionRefusedError("no \x1b[2J")
        return a_report(endpoint)

    counts = complete(tmp_path / "run.db", probe)
    assert attempts == {hosts[0]: 2, hosts[1]: 2, hosts[2]: 1}
    assert counts["verdicts"] == {"OK": 2, "UNKNOWN": 1}
    with Store(tmp_path / "run.db") as store:
        (report,) = store.reports(["UNKNOWN"])
    (finding,) = report["findings"]
    assert finding["says"] == "ConnectionRefusedError: no \\x1b[2J"
    assert finding["facts"] == {"error": "ConnectionRefusedError"}


def test_a_clock_that_is_set_back_does_not_put_off_what_waits(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    fill(path, 3)
    with Store(path, write=True) as store:
        targets = store.waiting(-1, 3, now=1e12)
        store.record([], retry_at={each.id: 4e9 for each in targets})  # in the year 2096
    assert complete(path, nothing())["verdicts"] == {"OK": 3}


def test_a_probe_that_hangs_is_unknown(tmp_path: Path) -> None:
    fill(tmp_path / "run.db", 1)

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    limits = Limits(patience=0.01, retry_after=0.0)
    assert complete(tmp_path / "run.db", probe, limits)["verdicts"] == {"UNKNOWN": 1}


def test_what_is_excluded_is_skipped_and_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.db"
    with Store(path, write=True, create=True) as store:
        store.begin({})
        store.add([*made_up(2), Endpoint("secret.example", 443), Endpoint("open.example", 443)])
    touched = []
    asked = []

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        touched.append(endpoint.host)
        return a_report(endpoint)

    def lookup(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.7", 443))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    excluded = Exclusions([(1, "192.0.2.0/24"), (2, "secret.example"), (3, "10.0.0.0/32")])
    counts = complete(path, probe, exclusions=excluded)
    assert counts["verdicts"] == {"OK": 1, "SKIPPED": 3}
    assert touched == ["10.0.0.1"]
    assert asked == ["open.example"]


def test_a_name_that_has_no_address_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.db"
    with Store(path, write=True, create=True) as store:
        store.add([Endpoint("nowhere.example", 443)])
    asked = []

    def lookup(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "not known")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    assert complete(path, nothing())["verdicts"] == {"UNKNOWN": 1}
    assert asked == ["nowhere.example"] * 2


def test_any_error_of_a_lookup_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named(tmp_path / "run.db", "odd.example", "empty.example")

    def lookup(host: str, *_: Any, **__: Any) -> list[Any]:
        if host == "empty.example":
            return []
        raise SystemError("a module of the resolver is broken")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    assert complete(tmp_path / "run.db", nothing())["verdicts"] == {"UNKNOWN": 2}


@pytest.mark.parametrize(("there", "verdicts"), [(0, {"UNKNOWN": 3}), (1, {"OK": 3})])
def test_threads_that_cannot_be_had_keep_no_name_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: int, verdicts: dict[str, int]
) -> None:
    named(tmp_path / "run.db", "a.example", "b.example", "c.example")
    resolving(monkeypatch, {name: ["192.0.2.1"] for name in ("a.example", "b.example", "c.example")})
    started = 0

    class ScarceThread(threading.Thread):
        def start(self) -> None:
            nonlocal started
            if self.name == "lookup":
                started += 1
                if started > there:
                    raise RuntimeError("can't start new thread")
            super().start()

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        return a_report(endpoint)

    monkeypatch.setattr(threading, "Thread", ScarceThread)
    assert complete(tmp_path / "run.db", probe)["verdicts"] == verdicts


def named(path: Path, *names: str) -> None:
    with Store(path, write=True, create=True) as store:
        store.add(map(parse_endpoint, names))


def resolving(monkeypatch: pytest.MonkeyPatch, addresses: Mapping[str, list[str]]) -> None:
    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        return [(0, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses[host]]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)


def refused(endpoint: Endpoint) -> Mapping[str, Any]:
    report = a_report(endpoint, "UNKNOWN")
    report["findings"][0]["facts"] = {"error": "ConnectRefused"}
    return report


def test_probes_begin_before_the_last_name_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"n{number}.example" for number in range(5000)]
    named(tmp_path / "run.db", *names)
    asked: set[str] = set()
    asked_before: list[int] = []

    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        asked.add(host)
        number = int(host[1:].partition(".")[0])
        return [(0, socket.SOCK_STREAM, 6, "", (f"10.0.{number >> 8}.{number & 255}", port))]

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        asked_before.append(len(asked))
        return a_report(endpoint)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    counts = complete(tmp_path / "run.db", probe)
    assert counts["verdicts"] == {"OK": 5000}
    assert len(asked_before) == 5000
    assert asked_before[0] <= 2000


def test_an_address_that_refuses_gives_way_to_the_next_within_its_own_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(tmp_path / "run.db", "two.example", "many.example")
    resolving(
        monkeypatch,
        {
            "two.example": ["2001:db8::1", "2001:db8::1", "192.0.2.1"],
            "many.example": ["2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::5", "192.0.2.2"],
        },
    )
    tried: dict[str, list[tuple[str | None, str]]] = {"two.example": [], "many.example": []}

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        tried[endpoint.host].append((endpoint.address, endpoint.network))
        return a_report(endpoint) if endpoint.address == "192.0.2.1" else refused(endpoint)

    counts = complete(tmp_path / "run.db", probe)
    assert counts["verdicts"] == {"OK": 1, "UNKNOWN": 1}
    assert tried["two.example"] == [("2001:db8::1", "2001:db8::/48"), ("192.0.2.1", "192.0.2.0/24")]
    once = ["2001:db8::2", "192.0.2.2", "2001:db8::3"]
    assert [address for address, _ in tried["many.example"]] == [*once, *once]


def test_an_excluded_address_is_not_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named(tmp_path / "run.db", "two.example")
    resolving(monkeypatch, {"two.example": ["2001:db8::1", "192.0.2.1"]})
    tried: list[str | None] = []

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        tried.append(endpoint.address)
        return refused(endpoint)

    counts = complete(tmp_path / "run.db", probe, exclusions=Exclusions([(1, "192.0.2.0/24")]))
    assert counts["verdicts"] == {"UNKNOWN": 1}
    assert tried == ["2001:db8::1", "2001:db8::1"]


def test_only_what_refuses_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named(tmp_path / "run.db", "two.example")
    resolving(monkeypatch, {"two.example": ["2001:db8::1", "192.0.2.1"]})
    tried: list[str | None] = []

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        tried.append(endpoint.address)
        return a_report(endpoint, "FAIL")

    assert complete(tmp_path / "run.db", probe)["verdicts"] == {"FAIL": 1}
    assert tried == ["2001:db8::1"]


def test_the_limits_hold_while_it_runs(tmp_path: Path) -> None:
    fill(tmp_path / "run.db", 300)
    running: Counter[str] = Counter()
    most: Counter[str] = Counter()

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        for key in (endpoint.network, "all"):
            running[key] += 1
            most[key] = max(most[key], running[key])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for key in (endpoint.network, "all"):
            running[key] -= 1
        return a_report(endpoint)

    complete(tmp_path / "run.db", probe, Limits(rate=1e9, at_once=5, per_network=2))
    assert most.pop("all") <= 5
    assert max(most.values()) == 2


def test_a_check_waits_for_its_connections_and_gives_back_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "run.db", 2)
    happened: list[str] = []

    class RecordingBucket:
        def __init__(self, rate: float) -> None:
            happened.append(f"rate {rate:g}")
            self._waits = iter([0.001, 0.001, 0.0, 0.001, 0.0])

        def wait(self, now: float) -> float:
            happened.append("wait")
            return next(self._waits)

        def spend(self, tokens: float) -> None:
            happened.append(f"spend {tokens:g}")

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        happened.append("probe")
        return a_report(endpoint, connections=3)

    monkeypatch.setattr("bowout.fleet._prober.TokenBucket", RecordingBucket)
    complete(tmp_path / "run.db", probe, Limits(rate=7))
    first = ["rate 7", "wait", "wait", "wait", "spend 8"]
    assert happened[:5] == first
    assert sorted(happened[5:]) == sorted(["wait", "wait", "spend 8", "probe", "probe", "spend -5", "spend -5"])
    assert happened.index("probe") > happened.index("spend 8")


async def hangs(endpoint: Endpoint) -> Mapping[str, Any]:
    return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]


async def fails(endpoint: Endpoint) -> Mapping[str, Any]:
    raise ConnectionResetError("after some connections")


async def does_not_count(endpoint: Endpoint) -> Mapping[str, Any]:
    report = a_report(endpoint)
    del report["connections"]
    return report


@pytest.mark.parametrize("probe", [hangs, fails, does_not_count], ids=lambda probe: probe.__name__)
def test_nothing_is_given_back_where_the_number_of_connections_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probe: Probe
) -> None:
    fill(tmp_path / "run.db", 2)
    spent: list[float] = []

    class CountingBucket(TokenBucket):
        def spend(self, tokens: float) -> None:
            spent.append(tokens)
            super().spend(tokens)

    monkeypatch.setattr("bowout.fleet._prober.TokenBucket", CountingBucket)
    complete(tmp_path / "run.db", probe, Limits(rate=1e9, patience=0.01, retry_after=0.0))
    assert spent
    assert set(spent) == {8}


def test_what_ends_the_starter_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "run.db", 3)

    class BrokenBucket(TokenBucket):
        def spend(self, tokens: float) -> None:
            raise ZeroDivisionError

    monkeypatch.setattr("bowout.fleet._prober.TokenBucket", BrokenBucket)
    with pytest.raises(ZeroDivisionError):
        complete(tmp_path / "run.db", nothing())


def test_a_probe_that_waits_for_something_cancelled_is_a_row(tmp_path: Path) -> None:
    fill(tmp_path / "run.db", 1)

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        raise asyncio.CancelledError

    assert complete(tmp_path / "run.db", probe)["verdicts"] == {"UNKNOWN": 1}


def test_a_store_that_is_lost_ends_the_run(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    fill(path, 500)

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        path.unlink(missing_ok=True)
        return a_report(endpoint)

    with pytest.raises(StoreError, match="removed or replaced"):
        complete(path, probe)


def test_a_cancelled_run_keeps_what_was_finished(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    fill(path, 20)
    many = asyncio.Event()
    seen = 0

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        nonlocal seen
        seen += 1
        if seen <= 5:
            return a_report(endpoint)
        many.set()
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def interrupted(store: Store) -> None:
        task = asyncio.ensure_future(run(store, HereRunner(lambda: probe, UNLIMITED), UNLIMITED))
        await many.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Store(path, write=True) as store:
        asyncio.run(interrupted(store))
        assert store.counts()["verdicts"] == {"OK": 5}
    assert complete(path, nothing())["finished"] == 20


def test_progress_has_the_rate_and_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bowout.fleet._feed._TELL_EVERY", 0.0)
    fill(tmp_path / "run.db", 1000)
    told: list[FleetProgress] = []
    complete(tmp_path / "run.db", nothing(), on_progress=told.append)
    assert told[-1].finished == told[-1].targets == 1000
    assert told[-1].rate > 0
    assert told[-1].remaining == 0
