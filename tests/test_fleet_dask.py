"""A fleet on a real cluster of Dask, on this machine: shards of whole networks, a worker killed in the middle."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import defaultdict
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest

from bowout.cli.app import run as command
from bowout.fleet import DaskRunner, Exclusions, Feed, FleetError, ResultWriter, Store, parse_endpoint, run
from bowout.fleet._dask import LARGEST_SHARD, SHARD, shards_of
from helpers.commands import bowout, ca_file, environment
from helpers.fleets import UNLIMITED, fill, killing_once, of_its_process
from helpers.peers import require_module
from helpers.serving import serving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="distributed is tested on Linux only")


@pytest.fixture(scope="module", autouse=True)
def _tracker() -> None:
    """Start the process of multiprocessing that stays until the end of this one."""
    resource_tracker.ensure_running()


@pytest.fixture
def feed(tmp_path: Path) -> Any:
    stores = []

    def made(lines: list[str]) -> Feed:
        store = Store(tmp_path / "run.db", write=True, create=True)
        stores.append(store)
        store.add(map(parse_endpoint, lines))
        return Feed(store, ResultWriter(store, retry_after=0.0), Exclusions())

    yield made
    for store in stores:
        store.close()


def test_a_shard_has_whole_networks(feed: Any) -> None:
    lines = [f"10.0.{number // 200}.{number % 200}" for number in range(12_000)]
    shards = [*shards_of(feed(lines))]
    owners: dict[str, set[int]] = defaultdict(set)
    for number, shard in enumerate(shards):
        for endpoint in shard:
            owners[endpoint.network].add(number)
    assert {len(each) for each in owners.values()} == {1}
    assert sum(map(len, shards)) == 12_000
    assert all(SHARD <= len(shard) <= LARGEST_SHARD for shard in shards)


def test_a_network_that_is_too_large_is_a_shard_of_its_own(feed: Any) -> None:
    large = [f"10.0.0.{number % 200}:{1 + number // 200}" for number in range(LARGEST_SHARD + 1)]
    small = [f"10.1.0.{number}" for number in range(10)]
    sizes = sorted(len(shard) for shard in shards_of(feed(large + small)))
    assert sizes == [10, LARGEST_SHARD + 1]


def test_every_row_is_there_once_although_a_worker_is_killed(tmp_path: Path) -> None:
    require_module("distributed", "bowout[dask]")
    path = tmp_path / "run.db"
    fill(path, 6000)
    counts = run_on_cluster(path, killing_once(tmp_path / "killed"))
    assert (tmp_path / "killed").exists()
    assert counts["finished"] == 6000
    with Store(path) as store:
        reported = [each["endpoint"] for each in store.reports()]
    assert len(reported) == len(set(reported)) == 6000


def run_on_cluster(path: Path, factory: Any) -> dict[str, Any]:
    """In a process of its own: a cluster leaves threads and descriptors to the end of its process."""
    import multiprocessing  # noqa: PLC0415

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=cluster_run, args=(theirs, path, factory))
    process.start()
    theirs.close()
    try:
        result = ours.recv()
        process.join()
    finally:
        ours.close()
        process.kill()
        process.join()
        process.close()
    assert isinstance(result, dict), result
    return result


def cluster_run(pipe: Any, path: Path, factory: Any) -> None:
    """Start a cluster of two processes, and go on with the store on it."""
    from distributed import LocalCluster  # noqa: PLC0415

    async def go_on() -> dict[str, Any]:
        async with LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None, asynchronous=True, silence_logs=50
        ) as cluster:
            with Store(path, write=True) as store:
                runner = DaskRunner(factory, UNLIMITED, cluster.scheduler_address)
                await run(store, runner, UNLIMITED)
                return store.counts()

    try:
        pipe.send(asyncio.run(go_on()))
    except BaseException as error:  # noqa: BLE001  (the test shows it)
        pipe.send(repr(error))


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_module("distributed", "bowout[dask]")
    path = tmp_path / "run.db"
    fill(path, 1)
    monkeypatch.setattr("bowout.fleet._dask._PATIENCE", 0.5)
    with Store(path, write=True) as store:
        runner = DaskRunner(of_its_process, UNLIMITED, "tcp://127.0.0.1:1")
        with pytest.raises(FleetError, match="no cluster of Dask") as caught:
            asyncio.run(run(store, runner, UNLIMITED))
    assert "kept" in caught.value.hint


_CLUSTER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""


def test_the_option_of_the_command_line_probes_real_servers_on_a_cluster(tmp_path: Path) -> None:
    require_module("distributed", "bowout[dask]")
    (tmp_path / "cluster.py").write_text(_CLUSTER, encoding="utf-8")
    store, paths = str(tmp_path / "run.db"), environment(PYTHONPATH=os.pathsep.join(sys.path))
    with (
        serving("--www", str(tmp_path)) as server,
        subprocess.Popen(
            [sys.executable, str(tmp_path / "cluster.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=paths
        ) as cluster,
    ):
        assert cluster.stdout is not None
        scheduler = cluster.stdout.readline().decode().strip()
        lines = f"{server.address}\nlocalhost:{server.address.rpartition(':')[2]}\n"
        words = ("fleet", "run", "-", "--store", store, "--cafile", ca_file(), "--dask", scheduler)
        done = bowout(*words, stdin=lines.encode(), env=paths)
        cluster.communicate()
        server.stop()
    assert done.status == 0, done.err
    assert done.last == "2 endpoints: 2 OK"
    with Store(store) as opened:
        assert {each["endpoint"].partition(":")[0] for each in opened.reports()} == {"127.0.0.1", "localhost"}


def test_the_option_with_a_cluster_that_is_not_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require_module("distributed", "bowout[dask]")
    fill(tmp_path / "run.db", 1)
    monkeypatch.setattr("bowout.fleet._dask._PATIENCE", 0.5)
    assert command(["fleet", "resume", "--store", str(tmp_path / "run.db"), "--dask", "tcp://127.0.0.1:1"]) == 1
    err = capsys.readouterr().err
    assert "error: no cluster of Dask at 'tcp://127.0.0.1:1'" in err
    assert "hint: what was finished is kept" in err
