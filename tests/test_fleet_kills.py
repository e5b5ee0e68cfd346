"""A fleet on the command line that is ended thirty times, in every way, at any moment: every row is there once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bowout.fleet import Store
from helpers.fleets import fill
from helpers.wire import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has none of these signals")

ENDPOINTS = 2000
#: `bowout fleet resume`, with a stub in the place of the check.
_RESUME = """
import sys
from unittest import mock
from bowout.cli.app import run
from bowout.cli.fleet.running import FleetSettings
from helpers.fleets import UNLIMITED, slowly
def factory(settings):
    sys.stderr.write("begun\\n")
    return slowly
with mock.patch.object(FleetSettings, "factory", factory), \\
     mock.patch.object(FleetSettings, "limits", lambda _: UNLIMITED):
    sys.exit(run(["fleet", "resume", "--yes", "--store", *sys.argv[1:]]))
"""


def resumed(path: Path, *options: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", _RESUME, str(path), *options]
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE)


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["here", "workers"])
def test_thirty_endings_at_any_moment_leave_every_row_once(tmp_path: Path, options: tuple[str, ...]) -> None:
    path = tmp_path / "run.db"
    fill(path, ENDPOINTS)
    chance = random.Random(1)
    finished: set[str] = set()
    for number in range(30):
        way = chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGSTOP])
        with resumed(path, *options) as process, Store(path) as reader:
            assert process.stderr is not None
            assert process.stderr.readline() == b"begun\n"
            enough = ENDPOINTS * (number + chance.random()) / 31
            while reader.counts()["finished"] < enough and process.poll() is None:
                time.sleep(0.002)
            process.send_signal(way)
            if way is signal.SIGSTOP:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGKILL)
            said = process.stderr.read().decode()
            # A SIGTERM that comes before it is caught ends a process in the usual way.
            assert process.wait(PATIENCE) in {-signal.SIGKILL, -signal.SIGTERM, 143, 130, 0}, said
            assert "Traceback" not in said
            now = {each["endpoint"] for each in reader.reports()}
            assert finished <= now
            finished = now
    with resumed(path, *options) as process:
        assert process.wait(PATIENCE) == 0
    with Store(path) as reader:
        reported = [each["endpoint"] for each in reader.reports()]
    assert len(reported) == len(set(reported)) == ENDPOINTS
