"""What every test gets: the guard against leaks, `run` on each backend, and its tier."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from bowout import _lane
from helpers import surroundings, tiers
from helpers.leaks import no_leaks
from helpers.peers import require_module
from helpers.runners import BACKENDS, Backend, Runner, warm_up

# How long one example takes, or to think of one, is no fact about the code.
# The same examples every time: a run that fails tells of the change in it. "quick" is for `make quick`; "thorough" goes
# looking for more.
_untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("house", _untimed, derandomize=True)
settings.register_profile("quick", _untimed, max_examples=20, derandomize=True)
settings.register_profile("thorough", _untimed, max_examples=5000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "house"))

_failed = pytest.StashKey[bool]()


def pytest_configure() -> None:
    """Forget what this machine is set to.

    Heed what a script in the background or ``nohup`` ignores: the programs that tests start inherit it.
    """
    surroundings.forget()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even read the other files in the quick tier: to collect everything takes longer than to run it."""
    if config.option.markexpr == "quick" and collection_path.is_file() and not tiers.is_quick_file(collection_path):
        return True
    return None


@pytest.hookimpl(tryfirst=True)  # pytest selects by markers in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test its tier."""
    for item in items:
        parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        for marker in tiers.markers_of(item.path, item.name, parameters):
            item.add_marker(marker)


def pytest_collection_finish() -> None:
    """Make what stays, and take all that exists by now out of the collector's sight: the guard collects often."""
    warm_up()
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `backend` or `run` once on each backend, or on those of its mark `backends`."""
    if "backend" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("backends")
        names = mark.args if mark else BACKENDS
        unknown = set(names) - set(BACKENDS)
        if unknown or not names:
            raise pytest.UsageError(f"{metafunc.definition.nodeid}: backends{names}: known are {BACKENDS}")
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture(autouse=True)
def _lane_in_python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a test with the mark `python_lane` no lane in C: it replaces what only Python calls, or counts it."""
    if request.node.get_closest_marker("python_lane"):
        monkeypatch.setattr(_lane, "native", None)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Backend:
    """The name of the backend that this run of the test is on."""
    name: Backend = request.param
    require_module(name)
    return name


@pytest.fixture
def run(backend: Backend) -> Runner:
    """Run a coroutine function: ``result = run(async_fn, *args)``; see `helpers.runners.Runner`."""
    return Runner(backend)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember failures for the guard."""
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


@pytest.fixture(autouse=True)
def guard(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves descriptors or threads; a test that failed anyway keeps its objects in its traceback."""
    with no_leaks(unless=lambda: request.node.stash.get(_failed, False)):
        yield
    # What outlives a test, such as its reports, would make each collection slower than the one before it.
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def thaw() -> Iterator[None]:
    """Collect at the end what became garbage after a test had frozen it: a socket in it, left open, is an error."""
    yield
    gc.unfreeze()
    gc.collect()
