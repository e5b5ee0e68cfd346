"""The lane: the fast way of application data through an open connection; here is the choice between C and Python.

`native` is the module in C, or None: then every byte goes through the engine, in Python, as bytes that are not usual
always do. ``BOWOUT_LANE`` in the environment asks for one of them.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Final

VARIABLE: Final = "BOWOUT_LANE"
#: Bytes of the memory for ciphertext, before what a transport puts there, that the lane uses: for the begun record.
HEADROOM: Final = 17 << 10
_CHOICES: Final = ("", "c", "python")


def _choose() -> tuple[Any, str]:
    """Return the module in C and "", or None and the reason for Python.

    Raises:
        ImportError: C was asked for, and is not to be had.
    """
    wanted = os.environ.get(VARIABLE, "").strip().lower()
    if wanted not in _CHOICES:
        raise ImportError(f"{VARIABLE} is {wanted!r}: it must be c or python, or unset", name=__name__)
    if wanted == "python":
        return None, f"{VARIABLE} is python"
    module, reason = _load()
    if module is None and wanted == "c":
        raise ImportError(f"{VARIABLE}=c, but there is no lane in C: {reason}", name=__name__)
    return module, reason


def _load() -> tuple[Any, str]:
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return None, "this interpreter has no GIL, on which the lane in C depends"
    try:
        return importlib.import_module("bowout._lane._native"), ""
    except ModuleNotFoundError:
        return None, "it is built where bowout is installed with a C compiler and Python's headers"
    except ImportError as error:
        return None, str(error)


native: Any
why_python: str
native, why_python = _choose()
