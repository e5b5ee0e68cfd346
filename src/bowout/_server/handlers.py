"""The handler of a server: a coroutine function, or any callable that returns an awaitable."""

from __future__ import annotations

import dis
import functools
import inspect
import types
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bowout._stream import Stream

_RETURN: Final = "RETURN_VALUE"
_RETURN_CONSTANT: Final = "RETURN_CONST"  # CPython 3.12 and 3.13
_LOAD_CONSTANT: Final = frozenset({"LOAD_CONST", "LOAD_SMALL_INT", "LOAD_COMMON_CONSTANT"})


def check_handler(handler: object) -> None:
    """Refuse a handler that certainly returns no awaitable.

    Raises:
        TypeError: it cannot be called, is a generator, or is a function that returns nothing.
    """
    if not callable(handler):
        raise TypeError(f"the handler must be a coroutine function that takes a stream, not {type(handler).__name__}")
    function = _function_of(handler)
    if function is None or inspect.iscoroutinefunction(function):
        return
    if function.__code__.co_flags & inspect.CO_ITERABLE_COROUTINE:
        return  # made by types.coroutine()
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise TypeError(f"the handler {_name(function)} is a generator: a handler must not yield")
    if _returns_constants(function.__code__):
        raise TypeError(f"the handler {_name(function)} is not a coroutine function: define it with 'async def'")


async def call_handler(handler: Callable[[Stream], Awaitable[None]], stream: Stream) -> None:
    """Call and await `handler`.

    Raises:
        TypeError: its result cannot be awaited.
    """
    given: Any = handler(stream)
    if not inspect.isawaitable(given):
        raise TypeError(
            f"the handler {_name(handler)} returned {type(given).__name__}, which cannot be awaited: "
            "define it with 'async def', or return an awaitable"
        )
    await given


def _function_of(handler: Any) -> types.FunctionType | None:
    """Return the Python function that is called in the end, or None if that is unknown."""
    while True:
        if isinstance(handler, functools.partial):
            handler = handler.func
        elif isinstance(handler, types.MethodType):
            handler = handler.__func__
        elif isinstance(handler, types.FunctionType):
            return handler
        elif isinstance(handler, type) or inspect.iscoroutinefunction(handler):
            return None
        else:
            call = getattr(type(handler), "__call__", None)  # noqa: B004  (the function itself is needed)
            if not isinstance(call, types.FunctionType):
                return None
            handler = call


def _returns_constants(code: types.CodeType) -> bool:
    """Tell whether a function returns only constants, such as None; a constant cannot be awaited."""
    before = ""
    for instruction in dis.get_instructions(code):
        if instruction.opname == _RETURN and before not in _LOAD_CONSTANT:
            return False
        if instruction.opname.startswith("RETURN") and instruction.opname not in {_RETURN, _RETURN_CONSTANT}:
            # RETURN_GENERATOR begins a coroutine or a generator, and later versions may have other instructions.
            return False
        before = instruction.opname
    return True


def _name(handler: object) -> str:
    return repr(getattr(handler, "__qualname__", None) or type(handler).__qualname__)
