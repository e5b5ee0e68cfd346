"""Scripts of the repository, as modules."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType


def load_script(path: Path) -> ModuleType:
    """Import a script with its neighbours, as Python does that runs it."""
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(path.stem)
