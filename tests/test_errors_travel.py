"""Errors that leave their process: every class of ours is copied and pickled whole."""

from __future__ import annotations

import copy
import errno
import inspect
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bowout
from bowout import Alert, BowoutError, Ending, Side, Truncated, errors
from helpers.runners import Runner
from helpers.wire import peer, polite

#: A value for each keyword argument that an error has.
SAMPLES: dict[str, Any] = {
    "alert": Alert(code=40, level=2, by=Side.PEER),
    "expected": 3,
    "inside_record": True,
    "partial": b"par",
    "sample": b"SSH-",
    "verify_code": 62,
    "verify_message": "hostname mismatch",
    "writing": True,
}


def kinds(kind: type[BowoutError] = BowoutError) -> Iterator[type[BowoutError]]:
    """Every class of errors.py."""
    if kind.__module__ in {bowout.__name__, errors.__name__} and not kind.__name__.startswith("_"):
        yield kind
    for below in kind.__subclasses__():
        yield from kinds(below)


def sample(kind: type[BowoutError]) -> BowoutError:
    """Make an error of `kind`, with all that it can carry."""
    keywords = [
        name
        for name, parameter in inspect.signature(kind.__init__).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    args = (errno.ECONNREFUSED, "refused") if issubclass(kind, errors.ConnectError) else ("what is wrong",)
    return kind(*args, **{name: SAMPLES[name] for name in keywords})


WAYS: dict[str, Callable[[BowoutError], BowoutError]] = {
    "pickle": lambda error: pickle.loads(pickle.dumps(error)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def facts(error: BowoutError) -> dict[str, Any]:
    """All that can be seen of an error."""
    system = {name: getattr(error, name, None) for name in ("errno", "strerror", "filename")}
    return {"args": error.args, "text": str(error), **system, **vars(error)}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", dict.fromkeys(kinds()), ids=lambda kind: kind.__name__)
def test_an_error_travels_whole(kind: type[BowoutError], way: str) -> None:
    error = sample(kind)
    error.add_note("seen in worker 3")
    came = WAYS[way](error)
    assert type(came) is kind
    assert facts(came) == facts(error)
    assert came is not error


def test_no_error_is_left_out() -> None:
    exported = [getattr(bowout, name) for name in bowout.__all__]
    errors_exported = {kind for kind in exported if isinstance(kind, type) and issubclass(kind, BaseException)}
    assert errors_exported == set(kinds())


def test_a_system_error_keeps_its_file() -> None:
    error = errors.ConnectError(errno.ENOENT, "no such socket", "/run/x.sock")
    assert facts(WAYS["pickle"](error)) == facts(error)


def test_an_error_takes_its_ending_along(run: Runner) -> None:
    async def main() -> Ending:
        stream = link.stream()
        await stream.handshake()
        return await stream.close()

    with peer(polite) as link:
        ending = run(main)
    error = sample(Truncated)
    error.ending = ending
    came = WAYS["pickle"](error)
    assert came.ending == ending
    assert str(came.ending) == str(ending)
    assert came.__cause__ is None


class Ours(Truncated):
    """An error of a program's own, with an argument more."""

    def __init__(self, message: str, *, inside_record: bool, host: str) -> None:
        super().__init__(message, inside_record=inside_record)
        self.host = host


def test_a_kind_of_a_programs_own_travels_too() -> None:
    error = Ours("cut", inside_record=True, host="a.test")
    assert facts(copy.copy(error)) == facts(error)
    assert facts(copy.copy(error))["host"] == "a.test"
