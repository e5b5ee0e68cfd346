"""What a release must be: each rule takes facts and returns the faults, so that a test can show each of them.

`release_check.py` gathers the facts from a checkout and from built distributions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from packaging.version import InvalidVersion, Version

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

#: The lane in C, the only compiled file.
NATIVE: Final = re.compile(r"bowout/_lane/_native[\w.-]*\.so")
#: A statement for each extra that fails without it. bowout.fleet imports the packages of three when they are needed.
EXTRAS: Final[Mapping[str, str]] = {
    "aiohttp": "import bowout.aiohttp",
    "anyio": "import bowout.anyio",
    "cli": "import bowout.cli.app",
    "dask": "import bowout.fleet, distributed",
    "html": "import bowout.check.html",
    "httpx": "import bowout.httpcore, httpx",
    "metrics": "import bowout.metrics",
    "parquet": "import bowout.fleet, pyarrow.parquet",
    "postgres": "import bowout.fleet, psycopg",
    "requests": "from bowout.blocking import HTTPAdapter",
    "testing": "from bowout.testing import *",
    "trio": "import bowout.trio",
    "uvloop": "import bowout, uvloop",
}
_HEADING: Final = re.compile(r"^## (\S+) \(\d{4}-\d{2}-\d{2}\)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that forbids the release, and what to do about it."""

    text: str
    hint: str


def version_faults(version: str, tag: str | None, tags: Mapping[str, bool]) -> list[Fault]:
    """Judge the version; `tags` says of each tag of the repository whether it is the commit that is checked out."""
    try:
        normal = str(Version(version))
    except InvalidVersion:
        return [Fault(f"{version!r} is not a version", "PEP 440: 1.2.3, 1.2.3rc1")]
    if normal != version:
        return [Fault(f"{version} is not the normal form of {normal}", "write it so in src/bowout/__init__.py")]
    if tag is not None and tag != f"v{version}":
        return [Fault(f"the tag is {tag}, and the version is {version}", "delete the tag, correct one, tag again")]
    if tags.get(f"v{version}") is False:
        return [Fault(f"v{version} is a tag of another commit", "raise __version__ in src/bowout/__init__.py")]
    return []


def changelog_faults(version: str, changelog: str, fragments: Collection[str], *, tagged: bool) -> list[Fault]:
    """Judge CHANGELOG.md: it has this version and no fragments are left, or fragments are there to make it."""
    heading = _HEADING.search(changelog)
    if heading is not None and heading[1] == version:
        left = ", ".join(sorted(fragments))
        return [Fault(f"fragments are left over: {left}", "towncrier build moves them")] if fragments else []
    newest = heading[1] if heading else "none"
    if tagged:
        return [Fault(f"the newest heading of CHANGELOG.md is {newest}", f"towncrier build --version {version}")]
    if not fragments:
        return [Fault("there is nothing in the changelog for this release", "changelog.d/README.md has the names")]
    return []


def sdist_faults(held: Collection[str], tracked: Collection[str]) -> list[Fault]:
    """Judge the source distribution: it has every file of the repository, and no other but its metadata."""
    lost = set(tracked) - set(held)
    strange = set(held) - set(tracked) - {"PKG-INFO"}
    include = "[tool.hatch.build.targets.sdist] in pyproject.toml"
    return [
        *_named("the source distribution lacks", lost, f"name it in {include}"),
        *_named("the source distribution has what git does not have", strange, "commit it, or remove it"),
    ]


def wheel_faults(held: Collection[str], tracked: Collection[str], *, native: bool) -> list[Fault]:
    """Judge the names in a wheel by those of the repository; `native` says whether it must have the lane in C."""
    sources = {name.removeprefix("src/") for name in tracked if name.startswith("src/")}
    shared = {name.removeprefix("packaging/") for name in tracked if name.startswith("packaging/share/")}
    info = {name for name in held if re.match(r"bowout-[^/]+\.dist-info/", name)}
    data = {name for name in held if re.match(r"bowout-[^/]+\.data/data/share/", name)}
    there = {name.partition("/data/")[2] for name in data}
    compiled = {name for name in held if NATIVE.fullmatch(name)}
    strange = set(held) - sources - info - data - compiled
    return [
        *_named("the wheel lacks", sources - set(held), "see [tool.hatch.build.targets.wheel]"),
        *_named("the wheel lacks", shared - there, "see [tool.hatch.build.targets.wheel.shared-data]"),
        *_named("the wheel has what it must not have", strange | there - shared, "only src and packaging/share belong"),
        *_named("the wheel lacks", _needed() - _unversioned(held), "license-files and py.typed are for its users"),
        *_compiled_faults(compiled, native=native),
    ]


def _needed() -> set[str]:
    return {"licenses/LICENSE", "METADATA", "entry_points.txt", "bowout/py.typed", "pytest_bowout/py.typed"}


def _unversioned(held: Iterable[str]) -> set[str]:
    return {re.sub(r"^bowout-[^/]+\.dist-info/", "", name) for name in held}


def _compiled_faults(compiled: Collection[str], *, native: bool) -> list[Fault]:
    if len(compiled) == int(native):
        return []
    wanted = "one compiled lane" if native else "no compiled file"
    return [Fault(f"the wheel needs {wanted}, and has {len(compiled)}", "BOWOUT_BUILD_LANE, in hatch_build.py")]


def tag_faults(name: str, *, native: bool) -> list[Fault]:
    """Judge the name of a wheel: a pure one is for all, and one with the lane in C for each CPython from 3.11 on."""
    tags = "-".join(name.removesuffix(".whl").split("-")[2:])
    good = tags.startswith("cp311-abi3-") and "-any" not in tags if native else tags == "py3-none-any"
    wanted = "cp311-abi3-PLATFORM" if native else "py3-none-any"
    return [] if good else [Fault(f"{name} has the tags {tags}, not {wanted}", "hatch_build.py makes them")]


def metadata_faults(metadata: Mapping[str, list[str]], version: str, extras: Collection[str]) -> list[Fault]:
    """Judge the metadata: the version, and that each extra is one that the check can try."""
    faults = []
    if metadata.get("Version") != [version]:
        faults.append(Fault(f"the metadata has the version {metadata.get('Version')}", f"__version__ is {version}"))
    if not metadata.get("Requires-Python"):
        faults.append(Fault("the metadata has no Requires-Python", "requires-python in pyproject.toml"))
    if not metadata.get("License-Expression"):
        faults.append(Fault("the metadata has no License-Expression", "license in pyproject.toml"))
    given = set(metadata.get("Provides-Extra", []))
    unknown, gone = given - set(extras), set(extras) - given
    hint = "EXTRAS in scripts/release_rules.py"
    return [*faults, *_named("no statement is known for the extra", unknown, hint), *_named("no extra is", gone, hint)]


def size_faults(name: str, size: int, limit: int) -> list[Fault]:
    """Judge the size of a distribution, in bytes."""
    if size <= limit:
        return []
    return [Fault(f"{name} has {size:,} bytes, more than {limit:,}", "what grew? Or [tool.bowout.release]")]


def _named(text: str, names: Collection[str], hint: str) -> list[Fault]:
    shown = sorted(names)
    more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
    return [Fault(f"{text} {', '.join(shown[:5])}{more}", hint)] if shown else []
