"""A fleet whose store is a real PostgreSQL: several runners, each network in one of them, every row once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bowout.fleet import Endpoint, HereRunner, PostgresStore, StoreError, parse_endpoint, run
from bowout.fleet import _postgres as postgres_store
from helpers.fleets import UNLIMITED, a_report, made_up, nothing
from helpers.peers import require_module
from helpers.starttls_servers import Home, postgres
from helpers.wire import PATIENCE, authority

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the tests start no PostgreSQL on Windows")


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    require_module("psycopg", "bowout[postgres]")
    with Home.create(authority()) as home, postgres(home) as ports:
        yield ports["postgres"]


@pytest.fixture
def name(server: int) -> str:
    """The address of a new database."""
    import psycopg  # noqa: PLC0415  (it may be missing)

    database = f"fleet_{uuid.uuid4().hex}"
    with psycopg.connect(f"postgresql://bowout@127.0.0.1:{server}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{database}"')
    return f"postgresql://bowout@127.0.0.1:{server}/{database}"


def fill(name: str, count: int) -> None:
    with PostgresStore(name, write=True, create=True) as store:
        store.begin({"rate": 1.0})
        assert store.add(made_up(count)) == count
        store.loaded()


def endpoints_in(name: str) -> list[str]:
    with PostgresStore(name) as store:
        return [each["endpoint"] for each in store.reports()]


def test_a_run_from_the_beginning_to_its_reports(name: str) -> None:
    fill(name, 3000)

    async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
        report = a_report(endpoint, "FAIL" if endpoint.host.endswith(".7") else "OK")
        report["findings"][0]["says"] = "\0\ud800"
        return report

    with PostgresStore(name, write=True) as store:
        asyncio.run(run(store, HereRunner(lambda: probe, UNLIMITED), UNLIMITED))
        counts, row = store.counts(), store.run()
    assert counts["verdicts"] == {"OK": 3000 - 47, "FAIL": 47}
    assert row is not None
    assert (row["options"], row["loaded"]) == ({"rate": 1.0}, 1)
    assert len(set(endpoints_in(name))) == 3000
    with PostgresStore(name) as store:
        worst = [*store.reports(["FAIL"], 5)]
    assert [each["verdict"] for each in worst] == ["FAIL"] * 5
    assert worst[0]["findings"][0]["says"] == "\\x00\\ud800"
    assert worst[0]["findings"][1]["ending"] == {"how": "clean"}


def test_two_runners_share_the_networks_and_no_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(name, 2000)
    owners: dict[str, set[str]] = defaultdict(set)
    probed: list[int] = []

    def probing(owner: str) -> Any:
        async def probe(endpoint: Endpoint) -> Mapping[str, Any]:
            owners[endpoint.network].add(owner)
            probed.append(endpoint.id)
            await asyncio.sleep(0)
            return a_report(endpoint)

        return lambda: probe

    async def both(*stores: PostgresStore) -> None:
        runs = (
            run(store, HereRunner(probing(str(number)), UNLIMITED), UNLIMITED) for number, store in enumerate(stores)
        )
        await asyncio.gather(*runs)

    monkeypatch.setattr(postgres_store, "_CLAIMED", 2)
    with PostgresStore(name, write=True) as one, PostgresStore(name, write=True) as other:
        asyncio.run(both(one, other))
    assert len(probed) == len(set(probed)) == 2000
    assert {len(each) for each in owners.values()} == {1}
    assert len(endpoints_in(name)) == 2000


def test_the_networks_of_a_killed_runner_are_taken_over(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(name, 1000)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-m", "helpers.fleets", name, "endless"], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        assert process.stdout.readline() == b"probing\n"
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE)
    with PostgresStore(name, write=True) as store:
        assert store.waiting(-1, 1000, now=1e12) == []  # The dead runner still holds them.
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + postgres_store.LEASE)
    with PostgresStore(name, write=True) as store:
        asyncio.run(run(store, HereRunner(nothing, UNLIMITED), UNLIMITED))
    assert len(set(endpoints_in(name))) == 1000


def test_a_runner_whose_lease_has_ended_writes_nothing_that_another_one_holds(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(name, 1)
    now = [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    with PostgresStore(name, write=True) as slow, PostgresStore(name, write=True) as other:
        (target,) = slow.waiting(-1, 10, now=1e12)
        now[0] += postgres_store.LEASE + 1
        (same,) = other.waiting(-1, 10, now=1e12)
        assert same == target
        slow.record([(target, a_report(target, "FAIL"))])
        assert other.counts()["finished"] == 0
        other.record([(target, a_report(target, "OK"))])
        slow.record([(target, a_report(target, "FAIL"))])
        assert other.counts()["verdicts"] == {"OK": 1}


def test_names_are_resolved_before_their_networks_are_claimed(name: str) -> None:
    with PostgresStore(name, write=True, create=True) as store:
        store.add([parse_endpoint("localhost:1"), parse_endpoint("LOCALHOST:1")])
        store.loaded()
        asyncio.run(run(store, HereRunner(nothing, UNLIMITED), UNLIMITED))
        (report,) = store.reports()
    assert report["address"] in {"127.0.0.1", "::1"}


def test_what_cannot_be_used_is_told(name: str, server: int) -> None:
    with pytest.raises(StoreError, match="there is no store in this database"), PostgresStore(name):
        pass
    with pytest.raises(StoreError, match="cannot use the store on PostgreSQL") as caught:
        PostgresStore(f"postgresql://bowout@127.0.0.1:{server}/nowhere")
    assert "what was finished is kept" in caught.value.hint
    fill(name, 1)
    import psycopg  # noqa: PLC0415  (it may be missing)

    with psycopg.connect(name, autocommit=True) as connection:
        connection.execute("UPDATE bowout_fleet SET version = 99")
    with pytest.raises(StoreError, match="version 99, and this bowout version"), PostgresStore(name, write=True):
        pass


def test_the_commands_take_its_address(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from bowout.cli.app import run as command  # noqa: PLC0415

    fill(name, 3)
    with PostgresStore(name, write=True) as store:
        store.set_options({"exclude": str(tmp_path / "all")})
    (tmp_path / "all").write_text("0.0.0.0/0\n", encoding="ascii")
    assert command(["fleet", "resume", "--store", name]) == 0
    assert command(["fleet", "status", "--store", name]) == 0
    assert "3 of 3 endpoints are finished" in capsys.readouterr().out
    assert command(["fleet", "export", str(tmp_path / "out.jsonl"), "--store", name]) == 0
    assert len((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()) == 3
