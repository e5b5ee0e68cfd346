"""The helpers themselves: a guard that cannot fail guards nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers import leaks, peers, tiers
from helpers.runners import RunFailed, Runner

if TYPE_CHECKING:
    from collections.abc import Callable

    from helpers.runners import Backend

TESTS = Path(__file__).parent


@pytest.fixture
def outcomes(pytester: pytest.Pytester) -> Callable[[str], dict[str, int]]:
    """Run the text of a test file under this project's own conftest.py and configuration; give the outcomes."""

    def run_suite(text: str) -> dict[str, int]:
        pytester.makepyprojecttoml((TESTS.parent / "pyproject.toml").read_text())
        pytester.makeconftest((TESTS / "conftest.py").read_text())
        pytester.syspathinsert(TESTS)
        return pytester.runpytest_inprocess("-p", "no:cov", pytester.makepyfile(text)).parseoutcomes()

    return run_suite


#: Lets a suite leak into `kept`, and clears up after it for our own guard's sake.
LEAKY = """
import os, socket, threading
import pytest
from helpers import leaks

leaks.PATIENCE = 0.05
kept = []
released = threading.Event()

@pytest.fixture(scope="session", autouse=True)
def tidy():
    yield
    released.set()
    for thing in kept:
        if isinstance(thing, int):
            os.close(thing)
        elif isinstance(thing, socket.socket):
            thing.close()
        else:
            thing.join()

"""


@pytest.mark.parametrize(
    "leak",
    [
        "kept.append(os.dup(1))",
        "kept.append(socket.socket())",
        "kept.extend(os.pipe())",
        "kept.append(threading.Thread(target=released.wait)); kept[-1].start()",
        "kept.append(socket.socket()); del kept[:]",
    ],
    ids=["descriptor", "socket", "pipe", "thread", "socket in the garbage"],
)
def test_a_leak_fails_the_test_that_made_it(
    outcomes: Callable[[str], dict[str, int]], monkeypatch: pytest.MonkeyPatch, leak: str
) -> None:
    monkeypatch.setattr(leaks, "PATIENCE", leaks.PATIENCE)  # the suite shortens it
    result = outcomes(f"{LEAKY}def test_leaks(): {leak}\ndef test_after_it(): pass\n")
    assert result in ({"passed": 2, "errors": 1}, {"passed": 1, "failed": 1})


def test_a_tidy_test_passes(outcomes: Callable[[str], dict[str, int]]) -> None:
    result = outcomes("import socket\ndef test_tidy():\n    with socket.socket(): pass\n")
    assert result == {"passed": 1}


def test_a_failure_is_not_told_twice(outcomes: Callable[[str], dict[str, int]]) -> None:
    result = outcomes(f"{LEAKY}def test_fails():\n    kept.append(os.dup(1))\n    assert not kept\n")
    assert result == {"failed": 1}


def test_run_is_there_on_each_backend(outcomes: Callable[[str], dict[str, int]]) -> None:
    text = """
        import asyncio
        import trio

        def test_run(run):
            async def module():
                if trio.lowlevel.in_trio_run():
                    return "trio"
                return type(asyncio.get_running_loop()).__module__.partition(".")[0]
            assert run(module) == run.backend
    """
    assert outcomes(text) == {"passed": 3}


def test_a_mark_restricts_the_backends(outcomes: Callable[[str], dict[str, int]]) -> None:
    text = """
        import pytest
        @pytest.mark.backends("trio")
        def test_run(run):
            assert run.backend == "trio"
    """
    assert outcomes(text) == {"passed": 1}


def test_an_unknown_backend_is_an_error(outcomes: Callable[[str], dict[str, int]]) -> None:
    text = """
        import pytest
        @pytest.mark.backends("twisted")
        def test_run(run):
            pass
    """
    assert outcomes(text) == {"errors": 1}


class TestTiers:
    def test_what_repeats_is_left_for_the_night(self, outcomes: Callable[[str], dict[str, int]]) -> None:
        text = """
            import pytest
            @pytest.mark.parametrize("version", ["1.2", "1.3"])
            def test_run(run, version, request):
                night = run.backend == "uvloop" and version == "1.2"
                assert (request.node.get_closest_marker("nightly") is not None) == night
        """
        assert outcomes(text) == {"passed": 6}

    @pytest.mark.parametrize(
        ("file", "parameters", "markers"),
        [
            ("engine/test_data.py", {"version": "1.3"}, ["quick"]),
            ("engine/test_data.py", {"version": "1.2"}, []),
            ("test_serve.py", {"backend": "asyncio", "version": "1.3"}, ["quick"]),
            ("test_serve.py", {"backend": "trio", "version": "1.3"}, []),
            ("test_serve.py", {"backend": "trio", "version": "1.2"}, []),
            ("test_serve.py", {"backend": "uvloop", "version": "1.2"}, ["nightly"]),
            ("test_stream_without_readers.py", {"version": "1.3"}, []),
            ("test_stream_without_readers.py", {"version": "1.2"}, ["nightly"]),
            ("test_cli_demo.py", {"loop": "uvloop", "tls": "1.2"}, ["nightly"]),
            ("test_cli_json.py", {}, []),
        ],
    )
    def test_a_test_has_its_tier_by_its_file_and_its_parameters(
        self, file: str, parameters: dict[str, object], markers: list[str]
    ) -> None:
        assert list(tiers.markers_of(TESTS / file, "test_name", parameters)) == markers

    def test_an_exploration_that_takes_seconds_is_not_quick(self) -> None:
        file = TESTS / "test_exploration.py"
        assert list(tiers.markers_of(file, "test_name[gentle, 1.3]", {"walk": "gentle, 1.3"})) == ["quick"]
        assert list(tiers.markers_of(file, "test_name[everything, 1.3]", {"walk": "everything, 1.3"})) == []

    @pytest.mark.parametrize(("case", "markers"), [("nginx", []), ("nginx-night-1.2", ["nightly"])])
    def test_a_real_server_is_probed_in_other_ways_at_night(self, case: str, markers: list[str]) -> None:
        file, name = TESTS / "interop/test_verdicts.py", f"test_a_server_has_its_verdicts[{case}]"
        assert list(tiers.markers_of(file, name, {})) == markers

    def test_each_pattern_is_about_files_that_are_there(self) -> None:
        files = {path for path in TESTS.rglob("test_*.py") if tiers.is_quick_file(path)}
        assert {path.name for path in files} >= {
            "test_states.py",
            "test_stream_close.py",
            "test_drain.py",
            "test_serve.py",
        }
        assert not any(path.name.startswith("test_cli_") or "conformance" in path.name for path in files)


class TestRunner:
    def test_gives_the_result(self, run: Runner) -> None:
        async def double(number: int) -> int:
            return 2 * number

        assert run(double, 21) == 42

    def test_passes_exceptions_through(self, run: Runner) -> None:
        async def fail() -> None:
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            run(fail)

    def test_ends_a_hang_and_shows_where(self, backend: Backend) -> None:
        async def wait_for_nothing() -> None:
            if backend == "trio":
                import trio  # noqa: PLC0415

                await trio.sleep_forever()
            await asyncio.get_running_loop().create_future()

        with pytest.raises(RunFailed, match="still running"):
            Runner(backend, deadline=0.05)(wait_for_nothing)

    @pytest.mark.backends("asyncio", "uvloop")
    def test_complains_about_a_task_left_pending(self, run: Runner) -> None:
        async def leave() -> None:
            kept.append(asyncio.create_task(asyncio.sleep(60)))

        kept: list[asyncio.Task[None]] = []
        with pytest.raises(RunFailed, match="tasks are left pending"):
            run(leave)

    @pytest.mark.backends("asyncio", "uvloop")
    def test_lets_a_cancelled_task_end(self, run: Runner) -> None:
        async def cancel() -> None:
            task = asyncio.create_task(asyncio.sleep(60))
            await asyncio.sleep(0)
            task.cancel()

        run(cancel)

    @pytest.mark.backends("asyncio", "uvloop")
    def test_complains_about_an_exception_that_nobody_saw(self, run: Runner) -> None:
        async def fail() -> None:
            raise KeyError("unseen")

        async def leave() -> None:
            task = asyncio.create_task(fail())
            await asyncio.wait([task])

        with pytest.raises(RunFailed, match="unseen"):
            run(leave)


class TestPeers:
    def test_a_missing_program_skips(self, listed: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CI", raising=False)
        with pytest.raises(pytest.skip.Exception, match="no-such-package"):
            peers.require_program("no-such-program")

    def test_a_missing_program_fails_in_ci(self, listed: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CI", "true")
        with pytest.raises(pytest.fail.Exception, match="no-such-package"):
            peers.require_program("no-such-program")

    def test_an_unlisted_program_fails_everywhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CI", raising=False)
        with pytest.raises(pytest.fail.Exception, match="not listed"):
            peers.require_program("python3")

    def test_the_list_names_programs_by_their_last_part(self) -> None:
        assert peers.listed_programs()["openssl"] == ("openssl", "openssl")
        assert peers.listed_programs()["initdb"] == ("/usr/lib/postgresql/*/bin/initdb", "postgresql")

    def test_of_several_versions_the_newest_is_found(self, tmp_path: Path) -> None:
        for version in ("9.6", "15", "17"):
            (tmp_path / version).mkdir()
            (tmp_path / version / "peer").write_text("#!/bin/sh\n")
        assert peers.find_program(f"{tmp_path}/*/peer") == f"{tmp_path}/17/peer"

    def test_an_empty_file_is_no_program(self, tmp_path: Path) -> None:
        (tmp_path / "peer").touch()
        assert peers.find_program(f"{tmp_path}/*") is None

    def test_a_program_is_not_looked_for_where_the_tests_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "no-such-program").write_text("#!/bin/sh\n")
        monkeypatch.chdir(tmp_path)
        assert peers.find_program("no-such-program") is None

    def test_a_program_does_not_stand_for_several_packages(self) -> None:
        with pytest.raises(ValueError, match="peer stands for peer-a and for peer-b"):
            peers.parse_packages("peer-a  peer  # one\npeer-b  /usr/lib*/peer,other\n")

    @pytest.fixture
    def listed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(
            peers, "listed_programs", lambda: {"no-such-program": ("no-such-program", "no-such-package")}
        )
