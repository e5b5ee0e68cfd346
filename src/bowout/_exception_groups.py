"""Tests of exception groups as if they were one exception."""

from __future__ import annotations


def consists_of(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    """Tell whether `error` is one of these `kinds`, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(consists_of(inner, kinds) for inner in error.exceptions)
    return isinstance(error, kinds)
