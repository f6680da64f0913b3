"""Compiles what the proxy does with each read, by mypyc, where a wheel is built and that is asked for.

    HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 pip install .

What always holds: it compiles the very modules that otherwise run as they are, which stay in the wheel beside
what was made of them; and it writes nothing into the source tree. It needs a C compiler and Python's headers.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = ("src/heliosdb", "parser/federated_sql")
GROUP = "heliosdb_proxy"  # names the library that holds the code of all the modules
SETUP = f"""
import sys
from mypyc.build import mypycify
from setuptools import setup

# `make check` has checked the types; a build has not the libraries that this takes.
checking = ["--explicit-package-bases", "--ignore-missing-imports", "--follow-imports=silent"]
files = sys.argv.pop().split(",")
modules = mypycify(
    ["--config-file=", *checking, *files], opt_level="3", debug_level="0", group_name="{GROUP}"
)
setup(name="{GROUP}", packages=[], ext_modules=modules)
"""


class CompiledWheel(BuildHookInterface[Any]):
    """Hatchling's hook; `modules` of its table in pyproject.toml are files as they lie in a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and put what came out into the wheel.

        Raises ValueError for an editable install, which runs what is edited.
        """
        if version == "editable":
            raise ValueError("an editable install is not compiled: install without -e, or without the hook")
        self._directory = tempfile.TemporaryDirectory(prefix="heliosdb-compiled-")
        built = Path(self._directory.name, "built")
        _compile(Path(self.root), Path(self._directory.name, "sources"), built, self.config["modules"])
        for library in sorted(built.rglob("*.so")):
            build_data["force_include"][str(library)] = str(library.relative_to(built))
        build_data["pure_python"], build_data["infer_tag"] = False, True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what is in the wheel now."""
        self._directory.cleanup()


def _compile(root: Path, sources: Path, built: Path, modules: list[str]) -> None:
    """Compile `modules` in a copy at `sources`, into libraries that lie in `built` as in a wheel."""
    for source in SOURCES:
        copy = sources / Path(source).name
        shutil.copytree(root / source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (sources / "setup.py").write_text(SETUP)
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(built), ",".join(modules)]
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"mypyc failed:\n{done.stdout}{done.stderr}")
