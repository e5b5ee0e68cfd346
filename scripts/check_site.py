"""Check build/site after mkdocs: no page loads anything from elsewhere, and every public name has an entry."""

from __future__ import annotations

import re
import sys
import zlib
from importlib import import_module
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
SITE: Final = ROOT / "build" / "site"
#: What a browser loads by itself; a link that a reader follows is not among it.
_LOADED: Final = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=\"?((?:https?:)?//[^\">\s]*)")


def loaded_from_elsewhere() -> list[str]:
    """Return each address outside the site that a page loads, with the page."""
    return [
        f"{path.relative_to(SITE)} loads {address}"
        for path in sorted(SITE.rglob("*.html"))
        for address in _LOADED.findall(path.read_text(encoding="utf-8"))
    ]


def undocumented() -> list[str]:
    """Return each name in the ``__all__`` of a public module that the reference does not have."""
    inventory = (SITE / "objects.inv").read_bytes().split(b"\n", 4)[4]
    entries = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}
    modules = sorted(path.stem for path in (ROOT / "docs" / "reference" / "api").glob("*.md"))
    names = {f"{module}.{name}" for module in modules for name in getattr(import_module(module), "__all__", ())}
    return [f"{name} is not in the reference" for name in sorted(names - entries)]


def main() -> int:
    """Print what is wrong; return the exit status."""
    faults = loaded_from_elsewhere() + undocumented()
    print("\n".join(f"error: {fault}" for fault in faults), end="\n" if faults else "", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
