"""Which tests run when: a test gets the markers `quick` and `nightly` by rule, from its file and its parameters.

``make quick`` runs the first, ``make test`` and CI all but the second, ``make test-all`` everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).resolve().parents[1]

#: The files of the quick tier, by their names under ``tests``: the core, the streams and the servers.
QUICK: Final = (
    "engine/*",
    "test_drain*",
    "test_ending*",
    "test_exploration*",
    "test_records*",
    "test_sansio*",
    "test_serve*",
    "test_states*",
    "test_stream_*",
    "test_timeline*",
    "test_winddown*",
)
#: Of these files, the ones that run the tests of other files again, start other programs, or make many keys.
_NOT_QUICK: Final = (
    "engine/test_splitting*",
    "test_sansio_catalogue*",
    "test_serve_certificates*",
    "test_serve_hellos*",
    "test_serve_reload*",
    "test_stream_interop*",
    "test_stream_without_readers*",
)
#: Of these files, the tests that take seconds each: of the explorations, the ones of more than 10,000 worlds.
_SLOW: Final = re.compile(
    r"\[(everything|a bad record|an RST destroys|gentle, wider|gentle, 1.2|data after)"
    r"|test_every_verdict|test_the_command_line"
)
#: Tests that take half a minute of a core each, and repeat what others show, or what `make bench` does; every cell of
#: the table of libraries; real servers in TLS 1.2, too, and idle; and `bowout.asyncio.install` in TLS 1.2, which a loop
#: of ours meets with the same libraries.
_AT_NIGHT: Final = re.compile(
    r"^test_every_contender_runs|^test_the_suite_of_httpcore"
    r"|^test_no_reachable_world_hangs_or_lies\[a bad record, 1\.2\]"
    r"|^test_good_clients_are_served_among_a_thousand_bad_ones\[uvloop"
    r"|^test_a_library_does_what_is_recorded"
    r"|^test_thirty_endings_at_any_moment"
    r"|^test_a_hundred_thousand_connections"
    r"|^test_a_server_has_its_verdicts\[.*-night-"
    r"|-installed-asyncio-1\.2\]$"
)

#: Names of parameters that have a TLS version, and of those that have an event loop.
_VERSIONS: Final = ("version", "tls")
_LOOPS: Final = ("backend", "loop")
#: Runs the tests of the other files on a loop of its own.
_OTHER_LOOP: Final = "test_stream_without_readers*"


def markers_of(path: Path, name: str, parameters: Mapping[str, object]) -> Iterator[str]:
    """Give the markers of one test.

    Args:
        path: of its file.
        name: its own, with its parameters in brackets.
        parameters: by their names, as pytest has them in ``callspec.params``.
    """
    backend = _first(parameters, _LOOPS)
    version = _first(parameters, _VERSIONS)
    if _matches(path, (_OTHER_LOOP,)):
        backend = "without readers"
    if repeats(backend, version) or _AT_NIGHT.search(name):
        yield "nightly"
    elif is_quick_file(path) and not _SLOW.search(name) and _is_usual(backend, version):
        yield "quick"


def is_quick_file(path: Path) -> bool:
    """Tell whether a file has tests of the quick tier."""
    return _matches(path, QUICK) and not _matches(path, _NOT_QUICK)


def repeats(backend: str | None, version: str | None, *, byte_by_byte: bool = False) -> bool:
    """Tell whether this combination only repeats what others show.

    TLS 1.2 and bytes that arrive one by one concern the engine, and it is the same on each loop. So asyncio meets them
    alone and together, trio one at a time, and the loops that share asyncio's backend neither.

    Args:
        backend: the event loop, None for a test that has no choice of loops.
        version: of TLS, None for a test that has no choice of versions.
        byte_by_byte: everything from the peer arrives one byte at a time.
    """
    most = {None: 2, "asyncio": 2, "trio": 1}.get(backend, 0)
    return (version == "1.2") + byte_by_byte > most


def _is_usual(backend: str | None, version: str | None) -> bool:
    return backend in {None, "asyncio"} and version in {None, "1.3"}


def _first(parameters: Mapping[str, object], names: tuple[str, ...]) -> str | None:
    return next((str(parameters[name]) for name in names if name in parameters), None)


def _matches(path: Path, patterns: tuple[str, ...]) -> bool:
    name = path.relative_to(TESTS).as_posix() if path.is_relative_to(TESTS) else path.name
    return any(fnmatch(name, pattern) for pattern in patterns)
