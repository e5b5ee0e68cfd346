"""Engines that have shaken hands, on both versions of TLS, as each side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import trustme

from helpers.engines import (
    EnginePair,
    established,
)

if TYPE_CHECKING:
    from bowout._core.engine import Engine


BOTH: Final = ["1.2", "1.3"]


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    """One authority for all tests: making keys is slow."""
    return trustme.CA()


@pytest.fixture(params=BOTH)
def version(request: pytest.FixtureRequest) -> str:
    """The TLS version."""
    return str(request.param)


@pytest.fixture
def two(ca: trustme.CA, version: str) -> EnginePair:
    """A client and a server that have shaken hands."""
    return established(ca, version)


@pytest.fixture(params=["client", "server"])
def us(request: pytest.FixtureRequest, two: EnginePair) -> Engine:
    """Each of the two in turn."""
    return getattr(two, request.param)  # type: ignore[no-any-return]


@pytest.fixture
def them(two: EnginePair, us: Engine) -> Engine:
    """The other one."""
    return two.other(us)
