"""A wheel whose proxy is compiled: what is in it, and that the proxy's tests pass on it as on the Python that it is made of.

Without a C compiler there is nothing to try; `make compiled` runs the tests that need a server.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[3]
COMPILES = shutil.which("cc") is not None and Path(sysconfig.get_path("include"), "Python.h").exists()
MODULES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
    "hooks"
]["custom"]["modules"]
ASKED = {**os.environ, "HATCH_BUILD_HOOK_ENABLE_CUSTOM": "1"}
OFFLINE = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index")


def run(*command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        check=False,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )


if COMPILES:

    def test_the_proxys_tests_pass_on_a_compiled_wheel(tmp_path):
        made = run("pip", "wheel", *OFFLINE, "--wheel-dir", str(tmp_path), ".", environment=ASKED)
        assert made.returncode == 0, made.stderr
        (wheel,) = tmp_path.glob("*.whl")
        assert "none-any" not in wheel.name
        with ZipFile(wheel) as archive:
            names = set(archive.namelist())
            archive.extractall(tmp_path / "site")
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        for module in MODULES:
            assert {module, module.removesuffix(".py") + suffix} <= names

        compiled = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "HELIOSDB_TESTS_COMPILED": "1"}
        passed = run("pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/unit/proxy", environment=compiled)
        assert passed.returncode == 0, passed.stdout[-5000:]


def test_an_editable_install_is_not_compiled(tmp_path):
    refused = run("pip", "install", *OFFLINE, "--target", str(tmp_path), "-e", ".", environment=ASKED)
    assert refused.returncode != 0
    assert "an editable install is not compiled" in refused.stderr
    assert not list(tmp_path.iterdir())
