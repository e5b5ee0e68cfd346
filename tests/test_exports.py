"""What users may import, and that it stands on nothing they may not."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

import pytest

import bowout
import bowout.anyio
import bowout.asyncio
import bowout.blocking
import bowout.check
import bowout.ending
import bowout.errors
import bowout.fleet
import bowout.httpcore
import bowout.ladder
import bowout.lane
import bowout.metrics
import bowout.sansio
import bowout.testing
import bowout.transport
import bowout.trio

PUBLIC: Final = (
    bowout,
    bowout.anyio,
    bowout.asyncio,
    bowout.blocking,
    bowout.check,
    bowout.fleet,
    bowout.httpcore,
    bowout.sansio,
    bowout.testing,
    bowout.ladder,
    bowout.lane,
    bowout.metrics,
    bowout.transport,
    bowout.trio,
)
#: Modules of the package without an underscore: users may import them.
MODULES: Final = {
    "aiohttp",
    "anyio",
    "asyncio",
    "blocking",
    "check",
    "cli",
    "ending",
    "errors",
    "fleet",
    "httpcore",
    "ladder",
    "lane",
    "metrics",
    "sansio",
    "testing",
    "transport",
    "trio",
}
#: Names of other libraries in an annotation: a class of theirs may be called like one of ours.
_THEIRS: Final = re.compile(r"\b(?:anyio|trio)(?:\.\w+)+")
#: Classes that the library makes and users do not: how is their own matter.
MADE_BY_US: Final = {
    bowout.Connecting,
    bowout.Server,
    bowout.Serving,
    bowout.Stream,
    bowout.asyncio.TLSTransport,
    bowout.blocking.SyncStream,
    bowout.blocking.TLSSocket,
    bowout.httpcore.NetworkStream,
    bowout.testing.Act,
    bowout.testing.Opening,
}


def exported(module: ModuleType) -> dict[str, Any]:
    return {name: getattr(module, name) for name in module.__all__}


def test_only_these_modules_are_public() -> None:
    names = {info.name for info in pkgutil.iter_modules(bowout.__path__)}
    assert {name for name in names if not name.startswith("_")} == MODULES


def test_every_public_module_says_what_it_exports() -> None:
    folder = Path(bowout.__file__).parent
    files = [folder / f"{name}.py" if (folder / f"{name}.py").exists() else folder / name / "__init__.py"
             for name in MODULES - {"cli", "ending", "errors"}]  # fmt: skip
    assert [str(path) for path in files if "\n__all__ = [" not in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_what_is_exported_is_sorted_and_described(module: ModuleType) -> None:
    assert list(module.__all__) == sorted(
        module.__all__, key=lambda name: (not name.isupper(), name.lower() == name, name)
    )
    for name, value in exported(module).items():
        if isinstance(value, type | FunctionType):
            assert inspect.getdoc(value), name


def test_what_is_exported_is_said_to_be_there() -> None:
    for name, value in exported(bowout).items():
        if isinstance(value, type | FunctionType):
            assert (value.__module__, value.__qualname__) == ("bowout", name)


def private_classes() -> set[str]:
    """Every class of the package that no public module exports, by name: each has a name of its own."""
    public = {name for module in (*PUBLIC, bowout.ending, bowout.errors) for name in vars(module)}
    found = {
        node.name
        for path in Path(bowout.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    return found - public


def annotated(value: object) -> Iterator[str]:
    """Every annotation of a function, and of the public functions and properties of a class."""
    if isinstance(value, FunctionType):
        yield from map(str, value.__annotations__.values())
    elif isinstance(value, type) and not issubclass(value, BaseException):
        for name, member in inspect.getmembers(value):
            if not name.startswith("_") or (name == "__init__" and value not in MADE_BY_US):
                function = (
                    member.fget
                    if isinstance(member, property)
                    else inspect.unwrap(member)
                    if callable(member)
                    else None
                )
                if isinstance(function, FunctionType):
                    yield from map(str, function.__annotations__.values())


@pytest.mark.parametrize("module", PUBLIC, ids=lambda module: module.__name__)
def test_no_public_signature_has_a_private_type(module: ModuleType) -> None:
    private = private_classes()
    shown = {
        f"{name}: {word}"
        for name, value in exported(module).items()
        for annotation in annotated(value)
        for word in re.findall(r"\w+", _THEIRS.sub("", annotation))
        if word in private
    }
    assert shown == set()


def test_the_names_of_protocols_are_those_that_can_be_asked_for() -> None:
    assert set(typing.get_args(bowout.StartTLSName)) == bowout.STARTTLS.keys()
    assert {type(value) for value in bowout.STARTTLS.values()} == {bowout.StartTLSProtocol}
