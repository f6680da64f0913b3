"""What is released together has one version."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_the_crate_s_version_is_the_project_s() -> None:
    assert tomllib.loads((ROOT / "rust/Cargo.toml").read_text())["package"]["version"] == VERSION


def test_the_extension_s_version_is_the_project_s_but_for_the_patch() -> None:
    control = (ROOT / "extension/heliosdb_federated_learning.control").read_text()
    found = re.search(r"^default_version = '(.+)'$", control, re.MULTILINE)
    assert found is not None
    assert found[1] == VERSION.rpartition(".")[0]
