"""What ``bowout --version --verbose`` tells: what a report of a fault needs to say about this installation."""

from __future__ import annotations

import platform
import re
import ssl
from importlib import metadata
from typing import Final

import bowout
from bowout import lane
from bowout._core import hook

_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_EXTRA: Final = re.compile(r"extra == ['\"]([^'\"]+)['\"]")


def short() -> str:
    """Return the name and the version."""
    return f"bowout {bowout.__version__}"


def long() -> str:
    """Return the version, and a line each for what an ending may depend on."""
    facts = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "openssl": ssl.OPENSSL_VERSION,
        "platform": platform.platform(),
        "lane": f"{lane.name}: {lane.why_python}" if lane.why_python else lane.name,
        "alerts": "every one is reported" if hasattr(hook.BASE, hook.HOOK) else "only fatal ones are known",
    }
    lines = [short(), *(f"{name:<10}{fact}" for name, fact in facts.items())]
    for extra, packages in sorted(_extras().items()):
        lines.append(f"{extra:<10}{', '.join(sorted(map(_with_version, packages)))}")
    return "\n".join(lines)


def _extras() -> dict[str, list[str]]:
    """Return the packages that each extra needs, by the name of the extra."""
    found: dict[str, list[str]] = {}
    try:
        requirements = metadata.requires("bowout") or ()
    except metadata.PackageNotFoundError:  # run from a source tree
        return {}
    for requirement in requirements:
        name, extra = _NAME.match(requirement), _EXTRA.search(requirement)
        if name and extra:
            found.setdefault(extra[1], []).append(name[0])
    return found


def _with_version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} is not installed"
