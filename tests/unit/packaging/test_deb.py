"""The Debian packages, made of small stand-ins for the wheels: their fields, what is in them and where, and that they are reproducible."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.deb import (
    DISTRIBUTIONS,
    KINDS,
    ROOT,
    Build,
    install_extension,
    needed_packages,
    package_daemons,
    package_extension,
)

WHO = "Packager <packager@localhost>"
EXTENSION = "usr/share/postgresql/15/extension/heliosdb_federated_learning"


def build(work: Path, name: str = "bookworm") -> Build:
    return Build(DISTRIBUTIONS[name], "amd64", "1.2.0", 1_760_000_000, WHO, work, "none")


def site(place: Path) -> Path:
    """What pip would have installed: the project's own files and a package with its licence."""
    about = place / "something-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: something\nVersion: 1.0\nLicense-Expression: MIT\n"
    )
    (place / "heliosdb").mkdir()
    (place / "heliosdb/__init__.py").write_text("")
    return place


def fields(package: Path) -> dict[str, str]:
    shown = subprocess.run(["dpkg-deb", "-f", package], check=True, capture_output=True, text=True).stdout
    return dict(line.split(": ", 1) for line in shown.splitlines() if not line.startswith(" "))


def contents(package: Path) -> dict[str, tuple[str, str]]:
    """Path → (mode, owner) of all that is in a package; a link's path is `name -> target`."""
    shown = subprocess.run(["dpkg-deb", "-c", package], check=True, capture_output=True, text=True).stdout
    lines = [line.split(None, 5) for line in shown.splitlines()]
    return {path: (line[0], line[1]) for line in lines if (path := line[5].removeprefix("./"))}


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name in DISTRIBUTIONS:
        place = tmp_path_factory.mktemp(name)
        made[name] = package_daemons(build(place / "work", name), site(place / "site"), place / "dist")
    return made


@pytest.fixture(scope="module")
def extension(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By the extension's own Makefile; instead of what the server's Python bundles there is one package."""
    place = tmp_path_factory.mktemp("extension")
    plan = build(place / "work")
    bundled = site(plan.work / "extension/site")
    shutil.copy(ROOT / "requirements-extension.lock", bundled / ".requirements")
    install_extension(plan, place / "tree")
    return package_extension(plan, place / "tree", place / "dist")


@pytest.mark.parametrize(("name", "python", "number"), [("bookworm", "3.11", 12), ("trixie", "3.13", 13)])
def test_a_package_of_the_daemons_is_for_one_release_of_debian(
    daemons: dict[str, Path], name: str, python: str, number: int
) -> None:
    about = fields(daemons[name])
    assert daemons[name].name == f"heliosdb_1.2.0-1+deb{number}_amd64.deb"
    assert (about["Package"], about["Version"], about["Architecture"]) == (
        "heliosdb",
        f"1.2.0-1+deb{number}",
        "amd64",
    )
    assert about["Maintainer"] == WHO
    assert f"python{python}" in about["Depends"].split(", ")
    assert f"usr/lib/heliosdb/bin/python3 -> ../../../bin/python{python}" in contents(daemons[name])


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_daemons_lie_where_a_package_may_put_something(daemons: dict[str, Path], name: str) -> None:
    held = contents(daemons[name])
    units = DISTRIBUTIONS[name].units
    places = (
        "usr/lib/heliosdb/",
        "usr/share/doc/heliosdb/",
        "usr/share/lintian/overrides/",
        "etc/heliosdb/examples/",
        units + "/",
    )
    files = [path for path in held if not path.endswith("/")]
    assert [path for path in files if not path.startswith(places)] == [
        "usr/bin/heliosdb -> ../lib/heliosdb/bin/heliosdb"
    ]
    assert {owner for _, owner in held.values()} == {"root/root"}
    assert not [
        path for path, (mode, _) in held.items() if mode[0] != "l" and (mode[5] == "w" or mode[8] == "w")
    ]
    assert {f"{units}/heliosdb-{kind}.service" for kind in KINDS} <= held.keys()
    assert not [path for path in held if path.startswith("etc/systemd")]


def test_what_is_in_etc_is_a_conffile(daemons: dict[str, Path]) -> None:
    package = daemons["bookworm"]
    shown = subprocess.run(
        ["dpkg-deb", "-I", package, "conffiles"], check=True, capture_output=True, text=True
    ).stdout
    held = [path for path in contents(package) if path.startswith("etc/") and not path.endswith("/")]
    assert sorted(shown.split()) == sorted(f"/{path}" for path in held)
    assert len(held) == len(KINDS)


def test_the_extension_has_its_control_file_its_upgrades_and_its_library(extension: Path) -> None:
    about, held = fields(extension), contents(extension)
    assert about["Package"] == "postgresql-15-heliosdb-federated-learning"
    assert {"postgresql-15", "postgresql-plpython3-15", "python3.11"} <= set(about["Depends"].split(", "))
    sql = {
        path.name
        for folder in ("released", "upgrade")
        for path in (ROOT / "sql" / folder).glob("heliosdb*.sql")
    }
    assert {f"usr/share/postgresql/15/extension/{name}" for name in sql} <= held.keys()
    assert {EXTENSION + ".control", EXTENSION + "--1.2.sql"} <= held.keys()
    library = "usr/lib/postgresql/15/lib/heliosdb_federated_learning/"
    assert {
        library + "heliosdb/extension/door.py",
        library + "federated_sql/__init__.py",
        library + "CONTENT_HASH",
    } <= held.keys()
    places = (library, "usr/share/postgresql/15/extension/", "usr/share/doc/", "usr/share/lintian/overrides/")
    assert not [path for path in held if not path.endswith("/") and not path.startswith(places)]
    assert not [path for path in held if "__pycache__" in path]


def test_the_script_names_where_the_package_puts_its_library(extension: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-x", extension, tmp_path], check=True)
    script = (tmp_path / (EXTENSION + "--1.2.sql")).read_text()
    assert "/usr/lib/postgresql/15/lib/heliosdb_federated_learning" in script
    assert str(ROOT) not in script


@pytest.mark.parametrize(
    "script",
    sorted((ROOT / "packaging/debian").glob("*/p*")),
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_maintainer_scripts_stop_at_an_error_and_are_shell(script: Path) -> None:
    text = script.read_text()
    assert text.startswith("#!/bin/sh\n")
    assert "\nset -e\n" in text
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
    assert "systemctl enable" not in text
    assert "/var/lib" not in "\n".join(line for line in text.splitlines() if "rm -r" in line)


def test_the_same_sources_give_the_same_bytes(daemons: dict[str, Path], tmp_path: Path) -> None:
    other = package_daemons(build(tmp_path / "elsewhere"), site(tmp_path / "site"), tmp_path / "dist")
    assert other.read_bytes() == daemons["bookworm"].read_bytes()


def test_a_library_of_an_unknown_package_stops_the_build(tmp_path: Path) -> None:
    shutil.copy(Path(shutil.which("openssl") or "/usr/bin/openssl").resolve(), tmp_path / "thing.so")
    with pytest.raises(SystemExit, match=r"libssl\.so"):
        needed_packages(tmp_path)
