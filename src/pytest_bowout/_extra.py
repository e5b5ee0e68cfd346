"""The plugin's import of the test kit, which may not be installed."""

from __future__ import annotations

from typing import Any

import pytest


def testing() -> Any:
    """Import and return `bowout.testing`. Without the extra, the calling test fails, in one line."""
    try:
        import bowout.testing as module  # noqa: PLC0415  (see this package's docstring)
    except ModuleNotFoundError as error:
        pytest.fail(str(error), pytrace=False)
    return module
