"""Check all that a release needs, but the upload: ``make release-check``, or ``ARGS=--fast`` for one Python, no extras.

Every check is made and gives one line: ``ok:``, ``skipped:``, or ``error:`` with a hint. The exit status is 1 if one
failed. RELEASING.md has the procedure that this is a step of.
"""

from __future__ import annotations

import argparse
import email
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import release_rules as rules
from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT: Final = Path(__file__).resolve().parents[1]
#: Seconds for one command, such as the installation of an extra over a slow line.
LIMIT: Final = 900
#: In an environment without extras: the library, its parts that need none, and the command, which names its extra.
_BARE: Final = """
import bowout, bowout.asyncio, bowout.blocking, bowout.sansio, bowout.transport, bowout.ladder, bowout.lane
assert bowout.__version__ == {version!r}, bowout.__version__
assert bowout.lane.name == {lane!r}, bowout.lane.name
"""


class CheckFailed(Exception):
    """A check failed; the message is the line after ``error:``."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class CheckSkipped(Exception):
    """A check cannot be made here; the message says why."""


@dataclass(frozen=True, slots=True)
class ReleaseCheck:
    """One check: its name, and the function that returns what it found, or raises."""

    name: str
    run: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Release:
    """What is checked.

    Attributes:
        root: the checkout.
        dist: the folder of the distributions.
        version: ``__version__``.
        settings: ``[tool.bowout.release]`` of pyproject.toml.
        tag: the tag that started the workflow, if one did.
    """

    root: Path
    dist: Path
    version: str
    settings: dict[str, Any]
    tag: str | None

    def wheels(self) -> list[Path]:
        """Return the wheels, those with the lane in C first."""
        return sorted(self.dist.glob("*.whl"), key=lambda path: (not is_native(path), path.name))

    def installable(self) -> list[Path]:
        """Return the wheels for this machine; the workflow has some for others, too."""
        here = set(sys_tags())
        return [wheel for wheel in self.wheels() if parse_wheel_filename(wheel.name)[3] & here]

    def sdist(self) -> Path:
        """Return the source distribution."""
        found = sorted(self.dist.glob("*.tar.gz"))
        if len(found) != 1:
            raise CheckFailed(f"{self.dist} has {len(found)} source distributions", "the build has failed, see above")
        return found[0]


def is_native(wheel: Path) -> bool:
    """Tell whether the name is that of a wheel with compiled code."""
    return not wheel.name.endswith("-none-any.whl")


def refuse(faults: Sequence[rules.Fault]) -> None:
    """Raise for the first of `faults`, if there is one."""
    if faults:
        more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
        raise CheckFailed(faults[0].text + more, faults[0].hint)


def output_of(*command: str | Path, hint: str, **options: Any) -> str:
    """Return what a command writes to stdout; its last line of stderr is the error if it fails."""
    settings = {"stdin": subprocess.DEVNULL, "timeout": LIMIT} | options
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, **settings)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CheckFailed(str(error), hint) from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise CheckFailed(f"{Path(command[0]).name} failed: {last}", hint)
    return str(done.stdout)


def git(root: Path, *arguments: str) -> str:
    """Return what git says about the checkout."""
    if shutil.which("git") is None or not (root / ".git").exists():
        raise CheckSkipped("this is no checkout of git")
    return output_of("git", *arguments, hint="does git work here?", cwd=root)


# --- the checkout ---


def check_version(release: Release) -> str:
    """The version is one of PEP 440, and free."""
    tags: dict[str, bool] = {}
    try:
        here = set(git(release.root, "tag", "--points-at", "HEAD").split())
        tags = {name: name in here for name in git(release.root, "tag").split()}
    except CheckSkipped:
        pass
    refuse(rules.version_faults(release.version, release.tag, tags))
    return release.version


def check_changelog(release: Release) -> str:
    """CHANGELOG.md has the version; before that, its draft can be built."""
    folder = release.root / "changelog.d"
    fragments = [path.name for path in folder.glob("*.md") if path.name != "README.md"]
    changelog = (release.root / "CHANGELOG.md").read_text(encoding="utf-8")
    refuse(rules.changelog_faults(release.version, changelog, fragments, tagged=release.tag is not None))
    if not fragments:
        return f"the newest heading is {release.version}"
    command = (sys.executable, "-m", "towncrier", "build", "--draft", "--version", release.version)
    output_of(*command, hint="make changelog", cwd=release.root)
    return f"a draft of {release.version} from {len(fragments)} fragments; towncrier build is still to do"


def check_tree(release: Release) -> str:
    """Nothing differs from what is committed."""
    changed = git(release.root, "status", "--porcelain").splitlines()
    if changed:
        raise CheckFailed(f"not committed: {changed[0][3:]} ({len(changed)} in all)", "git status")
    return git(release.root, "rev-parse", "--short", "HEAD").strip()


# --- the distributions ---


def check_build(release: Release) -> str:
    """Build the source distribution, and from it a wheel with the lane in C and a pure one."""
    build = [sys.executable, "-m", "build", "--outdir", str(release.dist)]
    for lane, what in (("1", []), ("0", ["--wheel"])):
        hint = "a C compiler and Python's headers are needed" if lane == "1" else " ".join(build)
        output_of(*build, *what, release.root, hint=hint, env=os.environ | {"BOWOUT_BUILD_LANE": lane})
    return ", ".join(sorted(path.name for path in release.dist.iterdir()))


def tracked(release: Release) -> set[str]:
    """Return the files of the repository, with those that are not committed yet: `check_tree` speaks about these."""
    names = git(release.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    return {name for name in names if name and (release.root / name).is_file()}


def check_sdist(release: Release) -> str:
    """The source distribution is the repository."""
    with tarfile.open(release.sdist()) as archive:
        held = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    refuse(rules.sdist_faults(held, tracked(release)))
    return f"{len(held)} files, those of git"


def check_wheel(release: Release, wheel: Path) -> str:
    """A wheel has what it must have, and nothing else."""
    native = is_native(wheel)
    with zipfile.ZipFile(wheel) as archive:  # auditwheel adds entries for folders
        held = [each.filename for each in archive.infolist() if not each.is_dir()]
    refuse([*rules.wheel_faults(held, tracked(release), native=native), *rules.tag_faults(wheel.name, native=native)])
    note = "; the workflow makes a manylinux wheel of it, with auditwheel" if "-linux_" in wheel.name else ""
    return f"{len(held)} files{note}"


def check_metadata(release: Release) -> str:
    """An index can show the metadata, which have this version and these extras."""
    for wheel in release.wheels():
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            message = email.message_from_bytes(archive.read(name))
        metadata = {key: list(map(str, message.get_all(key, []))) for key in message}
        refuse(rules.metadata_faults(metadata, release.version, rules.EXTRAS))
    files = [release.sdist(), *release.wheels()]
    output_of(sys.executable, "-m", "twine", "check", "--strict", *files, hint="python -m twine check --strict dist/*")
    return f"twine renders {len(files)} files"


def check_contents(release: Release) -> str:
    """check-wheel-contents finds nothing."""
    command = (sys.executable, "-m", "check_wheel_contents")
    output_of(*command, *release.wheels(), hint="its rules: the page of check-wheel-contents on PyPI", cwd=release.root)
    return f"{len(release.wheels())} wheels"


def check_wheels(release: Release) -> str:
    """There is a wheel for this machine."""
    fitting = [wheel.name for wheel in release.installable()]
    if not fitting:
        raise CheckFailed(f"none of {len(release.wheels())} wheels can be installed here", "the pure wheel always can")
    return ", ".join(fitting)


def check_sizes(release: Release) -> str:
    """No distribution is larger than it may be."""
    limits = {".whl": release.settings["wheel-bytes"], ".gz": release.settings["sdist-bytes"]}
    files = [release.sdist(), *release.wheels()]
    refuse([f for path in files for f in rules.size_faults(path.name, path.stat().st_size, limits[path.suffix])])
    return ", ".join(f"{path.stat().st_size:,}" for path in files) + " bytes"


# --- installations ---


def find_python(version: str) -> Path:
    """Return an interpreter of `version`: this one, one on PATH, pyenv's or uv's."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Path(sys.executable)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", Path.home() / ".local" / "share" / "uv" / "python"))
    found = [shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}*/bin/python{version}")]
    found += [*uv.glob(f"cpython-{version}.*/bin/python{version}")]
    for each in found:
        if each is not None and _works(str(each), version):
            return Path(each)
    raise CheckSkipped(f"no python{version} here")


def _works(python: str, version: str) -> bool:
    """Tell whether it runs, is of this version (a shim may be neither), and can make an environment."""
    probe = "import sys, ssl, venv; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=False, timeout=LIMIT)
    return done.returncode == 0 and done.stdout.strip() == version


def pip(python: Path, *arguments: str) -> str:
    """Run this interpreter's pip for an environment that has none."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", str(python)]
    return output_of(*command, *arguments, hint="is the package index reachable?")


def install(python: str, wheel: str, folder: Path) -> Path:
    """Install into a new, empty environment; return its interpreter."""
    maker = find_python(python)
    output_of(maker, "-m", "venv", "--without-pip", folder, hint=f"can {maker} make an environment?")
    inside = folder / "bin" / "python"
    pip(inside, "install", wheel)
    pip(inside, "check")
    return inside


def run_python(python: Path, *arguments: str) -> str:
    """Run the interpreter of an environment, far from the checkout and without its settings."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "BOWOUT_"))}
    return output_of(python, *arguments, hint="a dependency is missing, or too old", env=env, cwd=python.parent)


def check_bare(release: Release, python: str, wheel: Path) -> str:
    """Without extras, the library works, and the command names the extra that it needs."""
    with tempfile.TemporaryDirectory() as folder:
        inside = install(python, str(wheel), Path(folder))
        lane = "c" if is_native(wheel) else "python"
        run_python(inside, "-W", "error", "-c", _BARE.format(version=release.version, lane=lane))
        try:
            run_python(inside, "-W", "error", "-m", "bowout", "--version")
        except CheckFailed as told:
            if "bowout[cli]" in str(told):
                return f"installed, and python -m bowout names its extra; the lane is {lane}"
            raise
    raise CheckFailed("python -m bowout works without its extra", "is it installed where all can see it?")


def check_extra(release: Release, python: str, wheel: Path, extra: str) -> str:
    """With one extra, what it is for can be imported, and ``pip check`` finds nothing."""
    with tempfile.TemporaryDirectory() as folder:
        inside = install(python, f"{wheel}[{extra}]", Path(folder))
        run_python(inside, "-c", rules.EXTRAS[extra])  # the warnings of others are not ours
        if extra == "cli":
            expect_command(release, inside)
    return "imports"


def expect_command(release: Release, python: Path) -> None:
    """The command tells its version, and its pages and completions are where shells look."""
    long = run_python(python, "-W", "error", "-m", "bowout", "--version", "--verbose")
    lost = [w for w in (release.version, "python ", "openssl ", "platform ", "alerts ", "trio ") if w not in long]
    shared = release.root / "packaging" / "share"
    names = [path.relative_to(shared) for path in shared.rglob("*") if path.is_file()]
    lost += [str(name) for name in names if not (python.parents[1] / "share" / name).is_file()]
    if lost:
        raise CheckFailed(
            f"the installed command lacks {', '.join(lost)}", "packaging/share, src/bowout/cli/version.py"
        )


# --- all of them ---


def checks_of_files(release: Release, *, dirty: bool = False) -> Iterator[ReleaseCheck]:
    """Yield the checks of the checkout and of the distributions; a `dirty` checkout may have changes."""
    yield ReleaseCheck("version", partial(check_version, release))
    yield ReleaseCheck("changelog", partial(check_changelog, release))
    if not dirty:
        yield ReleaseCheck("clean tree", partial(check_tree, release))
    yield ReleaseCheck("sdist", partial(check_sdist, release))
    yield ReleaseCheck("wheels for this machine", partial(check_wheels, release))
    for wheel in release.wheels():
        yield ReleaseCheck(f"wheel {wheel.name}", partial(check_wheel, release, wheel))
    yield ReleaseCheck("wheel contents", partial(check_contents, release))
    yield ReleaseCheck("metadata", partial(check_metadata, release))
    yield ReleaseCheck("sizes", partial(check_sizes, release))


def checks_of_installations(release: Release, pythons: Sequence[str], extras: Sequence[str]) -> Iterator[ReleaseCheck]:
    """Yield the checks in empty environments: each wheel without extras, and one wheel with each extra."""
    wheels = release.installable()
    for python in pythons:
        for wheel in wheels:
            name = f"python{python}, {'lane in C' if is_native(wheel) else 'pure wheel'}"
            yield ReleaseCheck(name, partial(check_bare, release, python, wheel))
        for extra in extras if wheels else []:
            run = partial(check_extra, release, python, wheels[0], extra)
            yield ReleaseCheck(f"python{python}, extra {extra}", run)


def perform(checks: Iterator[ReleaseCheck], *, strict: bool) -> int:
    """Make every check, and print its line; return the number of those that failed."""
    failed = 0
    for check in checks:
        try:
            print(f"ok: {check.name}: {check.run()}", flush=True)
        except CheckSkipped as reason:
            failed += strict
            line = f"error: {check.name}: {reason} hint: without --strict, it is left out"
            print(line if strict else f"skipped: {check.name}: {reason}", flush=True)
        except CheckFailed as error:
            failed += 1
            print(f"error: {check.name}: {error} hint: {error.hint}", flush=True)
    return failed


def read_release(root: Path, dist: Path, tag: str | None) -> Release:
    """Read the version and the settings of a checkout."""
    text = (root / "src" / "bowout" / "__init__.py").read_text(encoding="utf-8")
    version = next(line.split('"')[1] for line in text.splitlines() if line.startswith("__version__ = "))
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["bowout"]["release"]
    return Release(root, dist, version, settings, tag)


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="release_check.py", description="All that a release needs, but the upload.")
    parser.add_argument("--fast", action="store_true", help="one Python, this one, and no extras")
    parser.add_argument("--strict", action="store_true", help="what cannot be checked here is an error")
    parser.add_argument("--dirty", action="store_true", help="the checkout may have changes that are not committed")
    parser.add_argument("--dist", type=Path, help="take these distributions, instead of building them")
    parser.add_argument("--tag", help="the tag of the release: the changelog must be built")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the checks; return the exit status."""
    options = parsed(arguments)
    with tempfile.TemporaryDirectory(prefix="bowout-release-") as folder:
        release = read_release(ROOT, options.dist.resolve() if options.dist else Path(folder), options.tag)
        failed = 0
        if options.dist is None:
            failed += perform(iter([ReleaseCheck("build", partial(check_build, release))]), strict=options.strict)
        failed += perform(checks_of_files(release, dirty=options.dirty), strict=options.strict)
        this = f"{sys.version_info.major}.{sys.version_info.minor}"
        pythons, extras = ([this], []) if options.fast else (release.settings["pythons"], sorted(rules.EXTRAS))
        failed += perform(checks_of_installations(release, pythons, extras), strict=options.strict)
    print("all checks passed" if not failed else f"{failed} failed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
