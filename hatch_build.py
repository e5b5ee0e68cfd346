"""The build of the lane in C (src/bowout/_lane/native.c), for which a C compiler and Python's headers are enough.

Where it cannot be compiled, the wheel is a pure one: bowout works as well, and slower. The module uses the limited API,
so that one wheel of a platform serves every CPython from 3.11 on. BOWOUT_BUILD_LANE=0 does not try; =1 fails the build
if it fails, and takes warnings for errors, as the CI of bowout does.
"""

from __future__ import annotations

import os
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "BOWOUT_BUILD_LANE"
SOURCE = Path("src/bowout/_lane/native.c")
MODULE = "bowout._lane._native"
FLAGS = ["-std=c11", "-fvisibility=hidden", "-D_GNU_SOURCE"]


class LaneHook(BuildHookInterface[Any]):
    """Compiles the module before a wheel is packed; an editable one finds it beside its source."""

    _directory: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the module to the wheel, if it can be compiled."""
        wanted = os.environ.get(VARIABLE, "")
        if self.target_name != "wheel" or wanted == "0" or os.name == "nt":
            return
        self._directory = tempfile.TemporaryDirectory(prefix="bowout-lane-")
        try:
            built = compiled(Path(self.root), Path(self._directory.name), strict=wanted == "1")
        except Exception as error:  # setuptools raises many kinds, and SystemExit is none of them
            if wanted == "1":
                raise
            self.app.display_warning(f"bowout: without the lane in C, which cannot be compiled here: {error}")
            return
        name = built.name
        if version == "editable":
            place = Path(self.root) / SOURCE.parent / name
            place.write_bytes(built.read_bytes())
        else:
            build_data["force_include"][str(built)] = str(Path(*MODULE.split(".")[:-1]) / name)
        build_data["pure_python"] = False
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"cp311-abi3-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove what was made for the wheel, which is packed."""
        if self._directory is not None:
            self._directory.cleanup()


def compiled(root: Path, directory: Path, *, strict: bool) -> Path:
    """Compile the module into `directory`; return its file."""
    from setuptools import Distribution, Extension  # noqa: PLC0415  (only where it is compiled)
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415

    more = ["-Wall", "-Wextra", "-Werror"] if strict else []
    extension = Extension(
        MODULE, [str(SOURCE)], extra_compile_args=[*FLAGS, *more], libraries=["dl"], py_limited_api=True
    )
    command = build_ext(Distribution({"name": "bowout", "ext_modules": [extension]}))
    command.build_lib = str(directory)
    command.build_temp = str(directory / "temp")
    command.ensure_finalized()
    before = Path.cwd()
    os.chdir(root)
    try:
        command.run()
    finally:
        os.chdir(before)
    return directory / command.get_ext_filename(MODULE)
