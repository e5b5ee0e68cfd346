"""A fleet in several processes: whole networks in each, and every row once, whoever is killed."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import defaultdict
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

from bowout.fleet import Exclusions, FleetError, Limits, Store, WorkersRunner, run
from bowout.fleet._workers import worker_of
from helpers.fleets import UNLIMITED, broken, fill, made_up, nothing, of_its_process, suicidal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a loop of Windows has no readers of pipes")


@pytest.fixture(scope="module", autouse=True)
def _tracker() -> None:
    """Start the process of multiprocessing that stays until the end of this one."""
    resource_tracker.ensure_running()


def complete(path: Path, runner: WorkersRunner) -> None:
    with Store(path, write=True) as store:
        asyncio.run(run(store, runner, UNLIMITED))


def test_a_network_belongs_to_one_process(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    fill(path, 1000)
    complete(path, WorkersRunner(of_its_process, UNLIMITED, 2))
    processes: dict[str, set[str]] = defaultdict(set)
    with Store(path) as store:
        reports = [*store.reports()]
    networks = {f"{each.host}:{each.port}": each.network for each in made_up(1000)}
    for report in reports:
        processes[networks[report["endpoint"]]].add(report["protocol"])
    assert len(reports) == 1000
    assert {len(each) for each in processes.values()} == {1}
    assert len(set.union(*processes.values())) == 2


def test_a_network_belongs_to_the_same_process_in_every_run() -> None:
    assert [worker_of(f"10.0.{number}.0/24", 4) for number in range(6)] == [1, 0, 2, 3, 3, 2]


def test_workers_that_are_killed_are_replaced_and_every_row_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    fill(path, 2000)
    complete(path, WorkersRunner(suicidal, UNLIMITED, 2))
    with Store(path) as store:
        reported = [each["endpoint"] for each in store.reports()]
    assert len(reported) == len(set(reported)) == 2000


def test_workers_that_only_die_end_the_run(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    fill(path, 10)
    with pytest.raises(FleetError, match="died 5 times"):
        complete(path, WorkersRunner(os.abort, UNLIMITED, 1))
    assert multiprocessing.active_children() == []


def test_a_worker_that_cannot_begin_says_why(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    fill(path, 10)
    with pytest.raises(FleetError, match="a worker cannot probe: ValueError: no file"):
        complete(path, WorkersRunner(broken, UNLIMITED, 2))


def test_the_limits_are_those_of_all_workers_together() -> None:
    shared = Limits(rate=100, at_once=9).shared_by(4)
    assert (shared.rate, shared.at_once, shared.per_network) == (25, 2, 2)


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    fill(path, 10)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-m", "helpers.fleets", str(path), "workers"], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        assert process.stdout.readline().startswith(b"probing")  # by a worker, on the same pipe
        process.send_signal(signal.SIGKILL)
        assert process.stdout.read() is not None  # It ends when the last worker has ended.


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    fill(path, 10)
    complete(path, WorkersRunner(nothing, UNLIMITED, 2))
    assert multiprocessing.active_children() == []


def test_targets_that_are_all_excluded_do_not_stop_the_others(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    fill(path, 500)
    everything = Exclusions([(1, "10.0.0.0/8")])
    few = Limits(rate=1e9, at_once=2, retry_after=0.0)
    with Store(path, write=True) as store:
        asyncio.run(run(store, WorkersRunner(nothing, few, 1), few, exclusions=everything))
        assert store.counts()["verdicts"] == {"SKIPPED": 500}
