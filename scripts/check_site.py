"""Check build/site after mkdocs: no page loads anything from elsewhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

SITE: Final = Path(__file__).resolve().parents[1] / "build" / "site"
#: What a browser loads by itself; a link that a reader follows is not among it.
_LOADED: Final = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=\"?((?:https?:)?//[^\">\s]*)")


def loaded_from_elsewhere() -> list[str]:
    """Return each address outside the site that a page loads, with the page."""
    return [
        f"{path.relative_to(SITE)} loads {address}"
        for path in sorted(SITE.rglob("*.html"))
        for address in _LOADED.findall(path.read_text(encoding="utf-8"))
    ]


def main() -> int:
    """Print what is wrong; return the exit status."""
    faults = loaded_from_elsewhere()
    print("\n".join(f"error: {fault}" for fault in faults), end="\n" if faults else "", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
