"""`make release-check`: each of its judgements can fail, on files, wheels and checkouts made for it."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from helpers.peers import ROOT, require_module, require_program
from helpers.scripts import load_script

check: Final[Any] = load_script(ROOT / "scripts" / "release_check.py")
rules: Final[Any] = load_script(ROOT / "scripts" / "release_rules.py")
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())

TRACKED: Final = {
    "pyproject.toml",
    "src/bowout/__init__.py",
    "src/bowout/py.typed",
    "src/bowout/_lane/native.c",
    "src/pytest_bowout/py.typed",
    "packaging/share/man/man1/bowout.1",
}
INFO: Final = "bowout-1.2.3.dist-info"
PURE: Final = {
    "bowout/__init__.py",
    "bowout/py.typed",
    "bowout/_lane/native.c",
    "pytest_bowout/py.typed",
    "bowout-1.2.3.data/data/share/man/man1/bowout.1",
    f"{INFO}/METADATA",
    f"{INFO}/entry_points.txt",
    f"{INFO}/licenses/LICENSE",
}
MODULE: Final = "bowout/_lane/_native.abi3.so"
METADATA: Final = {
    "Version": ["1.2.3"],
    "Requires-Python": [">=3.11"],
    "License-Expression": ["MIT"],
    "Provides-Extra": ["cli"],
}
WHEEL: Final = "bowout-1.2.3-py3-none-any.whl"
LANE: Final = "bowout-1.2.3-cp311-abi3-linux_x86_64.whl"
CHANGELOG: Final = "# Changelog\n\n## 1.2.3 (2026-01-02)\n\n## 1.2.2 (2025-01-02)\n"


def texts(faults: list[Any]) -> list[str]:
    assert all(fault.hint for fault in faults)
    return [fault.text for fault in faults]


# --- the rules ---


@pytest.mark.parametrize(
    ("version", "tag", "tags", "words"),
    [
        ("1.2.3", None, {}, []),
        ("1.2.3rc1", "v1.2.3rc1", {"v1.2.3rc1": True}, []),
        ("1.2.3", None, {"v1.2.2": False}, []),
        ("one", None, {}, ["'one' is not a version"]),
        ("1.2.3-rc1", None, {}, ["1.2.3-rc1 is not the normal form of 1.2.3rc1"]),
        ("1.2.3", "v1.2.4", {}, ["the tag is v1.2.4, and the version is 1.2.3"]),
        ("1.2.3", None, {"v1.2.3": False}, ["v1.2.3 is a tag of another commit"]),
    ],
)
def test_the_version(version: str, tag: str | None, tags: dict[str, bool], words: list[str]) -> None:
    assert texts(rules.version_faults(version, tag, tags)) == words


@pytest.mark.parametrize(
    ("changelog", "fragments", "tagged", "words"),
    [
        (CHANGELOG, [], True, []),
        (CHANGELOG, [], False, []),
        ("# Changelog\n", ["1.fixed.md"], False, []),
        (CHANGELOG, ["1.fixed.md"], False, ["fragments are left over: 1.fixed.md"]),
        ("## 1.2.2 (2025-01-02)\n", ["1.fixed.md"], True, ["the newest heading of CHANGELOG.md is 1.2.2"]),
        ("# Changelog\n", [], False, ["there is nothing in the changelog for this release"]),
    ],
)
def test_the_changelog(changelog: str, fragments: list[str], tagged: bool, words: list[str]) -> None:
    assert texts(rules.changelog_faults("1.2.3", changelog, fragments, tagged=tagged)) == words


def test_the_source_distribution() -> None:
    assert rules.sdist_faults({*TRACKED, "PKG-INFO"}, TRACKED) == []
    assert texts(rules.sdist_faults(TRACKED - {"pyproject.toml"}, TRACKED)) == [
        "the source distribution lacks pyproject.toml"
    ]
    assert texts(rules.sdist_faults({*TRACKED, "key.pem"}, TRACKED)) == [
        "the source distribution has what git does not have key.pem"
    ]


@pytest.mark.parametrize(
    ("held", "native", "words"),
    [
        (PURE, False, []),
        ({*PURE, MODULE}, True, []),
        (PURE, True, ["the wheel needs one compiled lane, and has 0"]),
        ({*PURE, MODULE}, False, ["the wheel needs no compiled file, and has 1"]),
        (PURE - {"bowout/__init__.py"}, False, ["the wheel lacks bowout/__init__.py"]),
        ({*PURE, "tests/test_x.py"}, False, ["the wheel has what it must not have tests/test_x.py"]),
        ({*PURE, "bowout/tests/x.py"}, False, ["the wheel has what it must not have bowout/tests/x.py"]),
        ({*PURE, "bowout/x.so"}, False, ["the wheel has what it must not have bowout/x.so"]),
        (
            {*PURE, "bowout-1.2.3.data/data/share/x"},
            False,
            ["the wheel has what it must not have share/x"],
        ),
        (
            PURE - {"bowout-1.2.3.data/data/share/man/man1/bowout.1"},
            False,
            ["the wheel lacks share/man/man1/bowout.1"],
        ),
        (PURE - {f"{INFO}/licenses/LICENSE"}, False, ["the wheel lacks licenses/LICENSE"]),
    ],
)
def test_the_names_in_a_wheel(held: set[str], native: bool, words: list[str]) -> None:
    assert texts(rules.wheel_faults(held, TRACKED, native=native)) == words


def test_a_package_without_py_typed() -> None:
    """Even if the repository has none, either: then the names agree, and users have no types."""
    tracked, held = TRACKED - {"src/bowout/py.typed"}, PURE - {"bowout/py.typed"}
    assert texts(rules.wheel_faults(held, tracked, native=False)) == ["the wheel lacks bowout/py.typed"]


@pytest.mark.parametrize(
    ("name", "native", "good"),
    [
        (WHEEL, False, True),
        (LANE, True, True),
        ("bowout-1.2.3-cp311-abi3-manylinux_2_28_x86_64.whl", True, True),
        (WHEEL, True, False),
        (LANE, False, False),
        ("bowout-1.2.3-cp311-cp311-linux_x86_64.whl", True, False),
    ],
)
def test_the_tags_of_a_wheel(name: str, native: bool, good: bool) -> None:
    assert (rules.tag_faults(name, native=native) == []) is good


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, []),
        ({"Version": ["1.2.4"]}, ["the metadata has the version ['1.2.4']"]),
        ({"Requires-Python": []}, ["the metadata has no Requires-Python"]),
        ({"License-Expression": []}, ["the metadata has no License-Expression"]),
        ({"Provides-Extra": ["cli", "new"]}, ["no statement is known for the extra new"]),
        ({"Provides-Extra": []}, ["no extra is cli"]),
    ],
)
def test_the_metadata(changed: dict[str, list[str]], words: list[str]) -> None:
    assert texts(rules.metadata_faults(METADATA | changed, "1.2.3", {"cli"})) == words


def test_the_size() -> None:
    assert rules.size_faults("x.whl", 1000, 1000) == []
    assert texts(rules.size_faults("x.whl", 1001, 1000)) == ["x.whl has 1,001 bytes, more than 1,000"]


def test_many_names_are_counted() -> None:
    assert texts(rules.sdist_faults(set(), {f"{number}" for number in range(9)})) == [
        "the source distribution lacks 0, 1, 2, 3, 4 and 4 more"
    ]


# --- the checks, on a small repository with distributions of its own ---


def archive(path: Path, names: set[str], metadata: str = "") -> None:
    with zipfile.ZipFile(path, "w") as wheel:
        for name in names:
            wheel.writestr(name, metadata if name.endswith("METADATA") else "")


@pytest.fixture
def release(tmp_path: Path) -> Any:
    """A checkout that holds `TRACKED`, and distributions that agree with it."""
    require_program("git")
    root, dist = tmp_path / "root", tmp_path / "dist"
    dist.mkdir()
    for name in TRACKED:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('__version__ = "1.2.3"\n' if name.endswith("__init__.py") else "")
    (root / "pyproject.toml").write_text("[tool.bowout.release]\nwheel-bytes = 9999\nsdist-bytes = 9999\n")
    git(root, "init", "--quiet")
    commit(root)
    archive(dist / WHEEL, PURE)
    with tarfile.open(dist / "bowout-1.2.3.tar.gz", "w:gz") as sdist:
        for name in TRACKED:
            sdist.add(root / name, f"bowout-1.2.3/{name}")
    return check.read_release(root, dist, None)


def git(root: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=tests", "-c", "user.email=tests@localhost", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


def commit(root: Path) -> None:
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "x")


def error_of(function: Callable[..., str], *arguments: Any) -> str:
    with pytest.raises(check.CheckFailed) as caught:
        function(*arguments)
    assert caught.value.hint
    return str(caught.value)


def test_good_distributions_pass(release: Any) -> None:
    assert check.check_tree(release)
    assert check.check_version(release) == "1.2.3"
    assert check.check_sdist(release) == f"{len(TRACKED)} files, those of git"
    assert check.check_wheel(release, release.wheels()[0]) == f"{len(PURE)} files"
    assert check.check_sizes(release).endswith(" bytes")


def test_a_changed_file_is_not_clean(release: Any) -> None:
    (release.root / "new.py").write_text("")
    assert error_of(check.check_tree, release) == "not committed: new.py (1 in all)"


def test_a_checkout_may_be_dirty_if_asked(release: Any) -> None:
    names = {dirty: {each.name for each in check.checks_of_files(release, dirty=dirty)} for dirty in (False, True)}
    assert names[False] - names[True] == {"clean tree"}


def test_a_tag_of_an_older_commit_is_taken(release: Any) -> None:
    git(release.root, "tag", "v1.2.3")
    assert check.check_version(release) == "1.2.3"  # the release itself, checked again
    (release.root / "new.py").write_text("")
    commit(release.root)
    assert error_of(check.check_version, release) == "v1.2.3 is a tag of another commit"


def test_a_file_that_the_distributions_lack(release: Any) -> None:
    (release.root / "src" / "bowout" / "new.py").write_text("")
    git(release.root, "add", ".")
    assert "lacks src/bowout/new.py" in error_of(check.check_sdist, release)
    assert "lacks bowout/new.py" in error_of(check.check_wheel, release, release.wheels()[0])


def test_a_repaired_wheel_has_entries_for_folders(release: Any) -> None:
    archive(release.dist / WHEEL, {*PURE, "bowout/", "bowout/_lane/"})
    assert check.check_wheel(release, release.wheels()[0]) == f"{len(PURE)} files"


def test_a_large_wheel(release: Any) -> None:
    (release.dist / WHEEL).write_bytes(bytes(10_000))
    assert "10,000 bytes" in error_of(check.check_sizes, release)


def test_a_wheel_for_another_machine_is_not_installed(release: Any) -> None:
    foreign = "bowout-1.2.3-cp311-abi3-manylinux_2_28_s390x.whl"
    archive(release.dist / foreign, {*PURE, MODULE})
    assert [wheel.name for wheel in release.wheels()] == [foreign, WHEEL]
    assert check.check_wheels(release) == WHEEL
    names = {each.name for each in check.checks_of_installations(release, ["3.11"], ["cli"])}
    assert names == {"python3.11, pure wheel", "python3.11, extra cli"}
    (release.dist / WHEEL).unlink()
    assert "none of 1 wheels" in error_of(check.check_wheels, release)


def test_without_distributions(release: Any) -> None:
    release.sdist().unlink()
    assert "has 0 source distributions" in error_of(check.check_sdist, release)


def test_a_failed_build_is_told(release: Any) -> None:
    require_module("build", "the group release")
    (release.root / "pyproject.toml").write_text("not TOML")
    assert error_of(check.check_build, release)


def test_the_index_cannot_show_it(release: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    require_module("twine", "the group release")
    monkeypatch.setattr(rules, "EXTRAS", {"cli": ""})
    head = "Metadata-Version: 2.4\nName: bowout\nVersion: 1.2.3\nRequires-Python: >=3.11\nLicense-Expression: MIT\n"
    head += "Provides-Extra: cli\n"
    archive(release.dist / WHEEL, PURE, head + "Description-Content-Type: text/x-rst\n\n*not ended\n`_\n")
    assert "failed" in error_of(check.check_metadata, release)
    archive(release.dist / WHEEL, PURE, head.replace("1.2.3", "9.9"))
    assert error_of(check.check_metadata, release) == "the metadata has the version ['9.9']"


def test_what_a_wheel_must_not_contain(release: Any) -> None:
    require_module("check_wheel_contents", "the group release")
    assert "failed" in error_of(check.check_contents, release)  # its RECORD is missing


def test_the_changelog_of_the_checkout(release: Any) -> None:
    (release.root / "CHANGELOG.md").write_text(CHANGELOG)
    assert check.check_changelog(release) == "the newest heading is 1.2.3"
    (release.root / "changelog.d").mkdir()
    (release.root / "changelog.d" / "README.md").write_text("")
    assert check.check_changelog(release) == "the newest heading is 1.2.3"
    (release.root / "changelog.d" / "1.fixed.md").write_text("x")
    assert "left over" in error_of(check.check_changelog, release)


def test_a_draft_of_the_changelog(release: Any) -> None:
    require_module("towncrier", "the group release")
    (release.root / "CHANGELOG.md").write_text("# Changelog\n")
    settings = '[tool.towncrier]\nname = "x"\ndirectory = "changelog.d"\nignore = ["README.md"]\n'
    (release.root / "pyproject.toml").write_text(settings)
    (release.root / "changelog.d").mkdir()
    (release.root / "changelog.d" / "1.bugfix.md").write_text("x")
    assert check.check_changelog(release).startswith("a draft of 1.2.3 from 1 fragments")
    (release.root / "changelog.d" / "2.no-such-type.md").write_text("x")
    assert "failed" in error_of(check.check_changelog, release)


# --- interpreters and installations ---


def test_this_python_is_found() -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert check.find_python(version) == Path(sys.executable)


def test_a_python_that_does_not_exist_is_skipped() -> None:
    with pytest.raises(check.CheckSkipped, match=r"no python2\.6 here"):
        check.find_python("2.6")


def test_a_python_of_another_version_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with pyenv's shims: the name is there, and what it runs is another version, or nothing."""
    shim = tmp_path / "python2.6"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(check.CheckSkipped):
        check.find_python("2.6")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, ...]]:
    """Installations that are this environment; what is run in them is recorded, and answered by `answers`."""
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(check, "install", lambda *_: tmp_path / "bin" / "python")

    def record(_: Path, *arguments: str) -> str:
        calls.append(arguments)
        return ""

    monkeypatch.setattr(check, "run_python", record)
    return calls


def test_a_command_that_works_without_its_extra_is_wrong(release: Any, installed: list[tuple[str, ...]]) -> None:
    assert "works without its extra" in error_of(check.check_bare, release, "3.11", Path(WHEEL))
    assert "'python'" in installed[0][3]


def test_a_command_that_fails_otherwise_is_wrong(
    release: Any, installed: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path, *arguments: str) -> str:
        if "-m" in arguments:
            raise check.CheckFailed("python failed: ImportError", "x")
        return ""

    monkeypatch.setattr(check, "run_python", fail)
    assert error_of(check.check_bare, release, "3.11", Path(WHEEL)) == "python failed: ImportError"


def test_an_installed_command_lacks_its_pages(release: Any, installed: list[tuple[str, ...]], tmp_path: Path) -> None:
    python = tmp_path / "env" / "bin" / "python"
    told = error_of(check.expect_command, release, python)
    assert "1.2.3" in told
    assert "man/man1/bowout.1" in told
    assert installed == [("-W", "error", "-m", "bowout", "--version", "--verbose")]


def test_an_extra_that_cannot_be_imported(release: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "install", lambda *_: Path(sys.executable))
    monkeypatch.setattr(rules, "EXTRAS", {"cli": "import bowout_has_no_such_module"})
    assert "ModuleNotFoundError" in error_of(check.check_extra, release, "3.11", Path(WHEEL), "cli")


def test_an_environment_is_empty_and_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    wheel = tmp_path / "small-1-py3-none-any.whl"
    info = "small-1.dist-info"

    def write(*more: str) -> None:
        with zipfile.ZipFile(wheel, "w") as made:
            made.writestr("small.py", "")
            made.writestr(
                f"{info}/METADATA", "\n".join(["Metadata-Version: 2.1", "Name: small", "Version: 1", *more, ""])
            )
            made.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            made.writestr(f"{info}/RECORD", "")

    write()
    this = f"{sys.version_info.major}.{sys.version_info.minor}"
    python = check.install(this, str(wheel), tmp_path / "good")
    assert check.run_python(python, "-c", "import small; print(small.__name__)") == "small\n"
    assert "No module named 'pytest'" in error_of(check.run_python, python, "-c", "import pytest")
    write("Requires-Dist: bowout-has-no-such-dependency")
    assert "bowout-has-no-such-dependency" in error_of(check.install, this, str(wheel), tmp_path / "bad")


def test_a_command_that_is_not_there() -> None:
    assert "no-such-program" in error_of(lambda: check.output_of("/no-such-program", hint="x"))


# --- the run ---


def failing() -> str:
    raise check.CheckFailed("broken", "mend it")


def skipping() -> str:
    raise check.CheckSkipped("no python3.14 here")


def test_every_check_is_made_and_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    def checks() -> Iterator[Any]:
        for name, run in (("a", failing), ("b", skipping), ("c", lambda: "fine")):
            yield check.ReleaseCheck(name, run)

    assert check.perform(checks(), strict=False) == 1
    assert capsys.readouterr().out.splitlines() == [
        "error: a: broken hint: mend it",
        "skipped: b: no python3.14 here",
        "ok: c: fine",
    ]
    assert check.perform(checks(), strict=True) == 2
    assert "error: b: no python3.14 here" in capsys.readouterr().out


def test_the_exit_status(release: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--dist", str(release.dist), "--fast"]
    found = {"checks_of_files": 0, "checks_of_installations": 1}
    monkeypatch.setattr(check, "ROOT", release.root)
    for name, count in found.items():
        monkeypatch.setattr(check, name, lambda *_, count=count, **__: iter([check.ReleaseCheck("x", failing)] * count))
    assert check.main(arguments) == 1
    monkeypatch.setattr(check, "checks_of_installations", lambda *_: iter([]))
    assert check.main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "all checks passed"


# --- what the check and the workflow take for granted ---


def test_each_extra_is_tried() -> None:
    assert set(PROJECT["project"]["optional-dependencies"]) == set(rules.EXTRAS)


def test_the_workflow_has_each_python_that_the_check_wants() -> None:
    """With --strict, a missing one is an error; so this would be found by a tag only."""
    workflow = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    installed = re.search(r"python-version: \|\n((?: +3\.\d+\n)+)", workflow)
    assert installed is not None
    assert set(installed[1].split()) == set(PROJECT["tool"]["bowout"]["release"]["pythons"])


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").iterdir()), ids=lambda path: path.name)
def test_every_action_is_pinned_by_its_commit(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    assert [each for each in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)] == []
