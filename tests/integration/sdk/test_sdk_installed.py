"""The built wheel with its base dependencies and nothing else: the SDK works, and the command says what it lacks."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.publication import publish_version

ROOT = Path(__file__).resolve().parents[3]
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_EXTRAS = re.compile(r"\[([^\]]*)\]")


def required(found: Distribution, extras: set[str]) -> Iterator[tuple[str, set[str]]]:
    """What a distribution asks for: the names, each with the extras that it is asked for with."""
    for line in found.requires or []:
        wanted, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"]([^'\"]+)", marker)
        if extra is not None and extra[1] not in extras:
            continue
        name = _NAME.match(wanted)
        assert name is not None
        listed = _EXTRAS.search(wanted)
        yield name[0], set(listed[1].split(",")) if listed else set()


def put_beside(directory: Path, name: str, extras: set[str], seen: set[tuple[str, str]]) -> None:
    """Link a distribution's packages, and those of what it asks for, into a directory."""
    for extra in {"", *extras}:
        if (name, extra) in seen:
            return
        seen.add((name, extra))
    try:
        found = distribution(name)
    except ModuleNotFoundError:
        return  # its marker is of another platform or an older Python
    for file in {file.parts[0] for file in found.files or [] if file.parts[0] != ".."}:
        link = directory / file
        if not link.exists():
            link.symlink_to(Path(str(found.locate_file(file))))
    for one, wanted in required(found, extras):
        put_beside(directory, one, wanted, seen)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with what `pip install heliosdb-federated-learning` puts into an environment, and no more."""
    directory = tmp_path_factory.mktemp("installed")
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", directory, ROOT],
        check=True,
    )  # fmt: skip
    [wheel] = directory.glob("*.whl")
    packages = directory / "packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    [metadata] = packages.glob("*.dist-info")
    seen: set[tuple[str, str]] = set()
    for name, extras in required(Distribution.at(metadata), set()):
        put_beside(packages, name, extras, seen)
    assert {name for name, _ in seen} >= {"psycopg", "rich"}
    return packages


def run(installed: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these packages alone: without site-packages, the checkout and the environment's settings."""
    begin = f"import sys; sys.path.append({str(installed)!r})\n"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", begin + script, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_sdk_connects_and_predicts(installed: Path, cluster: Cluster, federated_database: str) -> None:
    with cluster.connect(federated_database) as session:
        for statement in (
            "CREATE FEDERATED WORKSPACE clinics",
            "CREATE FEDERATED MODEL risk IN WORKSPACE clinics WITH (algorithm = 'linear_regression',"
            " features = ['age'], target = 'y')",
        ):
            session.execute("CALL federated.execute(%s)", [statement])
    publish_version(cluster, federated_database, "risk", intercept=1.0, slopes=(0.5,))
    script = """
from heliosdb import FederatedLearning
fl = FederatedLearning(sys.argv[1], workspace="clinics", progress=True)
model = fl.model("risk")
print(model.predict({"age": 2}), model.predict([{"age": 4}]), fl.models()[0].model_name, fl.nodes().rows)
model.train(rounds=2, wait=False)
print(model.status().status)
heavy = {"grpc", "numpy", "pglast", "uvloop", "typer", "pydantic", "cryptography", "dp_accounting", "federated_sql"}
print(sorted(heavy & set(sys.modules)))
"""
    ended = run(installed, script, cluster.dsn(federated_database))
    assert ended.stdout.splitlines() == ["2.0 [3.0] risk ()", "queued", "[]"], ended.stderr


def test_the_command_says_which_extra_it_lacks(installed: Path) -> None:
    [points] = installed.glob("heliosdb*.dist-info/entry_points.txt")
    assert "heliosdb = heliosdb.cli.entry:main" in points.read_text()
    ended = run(installed, "from heliosdb.cli.entry import main; main()", "--help")
    assert ended.returncode == 78
    assert ended.stdout == ""
    assert "pip install 'heliosdb-federated-learning[daemons]'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_command_with_its_extra_is_the_command_line() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "from heliosdb.cli.entry import main; main()", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.startswith("heliosdb ")
