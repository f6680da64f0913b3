"""META.json is what PGXN's specification 1.0.0 asks for, and its versions are the project's."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
META: dict[str, Any] = json.loads((ROOT / "META.json").read_text())
REQUIRED = {"name", "version", "abstract", "maintainer", "license", "provides", "meta-spec"}
OPTIONAL = {"description", "generated_by", "tags", "no_index", "prereqs", "release_status", "resources"}
SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


def project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


def test_every_required_key_is_there_and_none_that_is_unknown() -> None:
    assert REQUIRED <= META.keys() <= REQUIRED | OPTIONAL
    assert META["meta-spec"] == {"version": "1.0.0", "url": "https://pgxn.org/meta/spec.txt"}
    assert all(isinstance(META[key], str) and META[key] for key in ("name", "abstract", "maintainer"))
    assert re.fullmatch(r"[^\s/\\\x00-\x1f]{2,}", META["name"])
    assert (META["license"], META["release_status"]) == ("gpl_3", "testing")


def test_each_extension_says_where_it_is() -> None:
    for about in META["provides"].values():
        assert about.keys() >= {"file", "version"}
        assert (ROOT / about["file"]).exists()
        assert (ROOT / about["docfile"]).exists()


@pytest.mark.parametrize(
    "version", [META["version"], META["provides"]["heliosdb_federated_learning"]["version"]]
)
def test_versions_are_semantic_and_agree_with_the_control_file_and_the_project(version: str) -> None:
    assert SEMVER.fullmatch(version)
    assert version == project()["version"]
    [control] = (ROOT / "extension").glob("*.control")
    assert control.stem == META["name"]
    [default] = re.findall(r"^default_version = '(.*)'$", control.read_text(), re.MULTILINE)
    assert version == f"{default}.0"


def test_it_asks_for_no_newer_server_than_the_scripts_do() -> None:
    requires = META["prereqs"]["runtime"]["requires"]
    script = (ROOT / "scripts/find-postgres.sh").read_text()
    assert f"-ge {requires['PostgreSQL'].partition('.')[0]} ]" in script
    assert "requires = 'plpython3u'" in (ROOT / "extension/heliosdb_federated_learning.control").read_text()
    assert requires["plpython3u"] == 0
