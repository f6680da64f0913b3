"""scripts/setup.sh does each step once, redoes it when its inputs change, and never touches what is there.

The scripts run for real in a small checkout; the programs that they would call over the network or with root's
rights (apt-get, pip, the server's pg_config) are stand-ins that write down how they were called.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

PG_CONFIG = """#!/bin/sh
for option; do
    case "$option" in
        --version) echo "PostgreSQL 16.2" ;;
        --pkglibdir) echo "{base}/pkglib" ;;
        --sharedir) echo "{base}/share" ;;
    esac
done
"""

# As find-python.sh would name it: makes environments and installs packages on paper.
PYTHON = """#!/bin/sh
case "$*" in
    "-c import ensurepip, venv") exit 0 ;;
    "-m venv --clear .venv") rm -rf .venv; mkdir -p .venv/bin; ln -s "{base}/python" .venv/bin/python ;;
esac
echo "python $*" >> "{base}/calls"
"""

EXTENSION_MAKEFILE = """
install:
\techo "make install" >> "{base}/calls"
\tmkdir -p "{base}/pkglib/heliosdb_federated_learning"
\tcd .. && scripts/extension-hash.sh > "{base}/pkglib/heliosdb_federated_learning/CONTENT_HASH"
"""

APT_GET = """#!/bin/sh
echo "apt-get $*" >> "{base}/calls"
case "$*" in *plpython3*) mkdir -p "{base}/pkglib"; touch "{base}/pkglib/plpython3.so" ;; esac
"""


@dataclass(frozen=True)
class Checkout:
    """A small checkout under `base`, with stand-ins for everything that setup.sh would call."""

    base: Path

    @property
    def tree(self) -> Path:
        return self.base / "checkout"

    def write(self, name: str, content: str, mode: int = 0o755) -> Path:
        path = self.base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.replace("{base}", str(self.base)))
        path.chmod(mode)
        return path

    def setup(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run(["scripts/setup.sh"], environment)

    def run(self, command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        path = f"{self.base}/bin:{os.environ['PATH']}"
        settings = {**os.environ, "PATH": path, "PG_CONFIG": f"{self.base}/pg_config", **environment}
        return subprocess.run(
            command, cwd=self.tree, env=settings, capture_output=True, text=True, timeout=60, check=False
        )

    def calls(self) -> list[str]:
        """What was called since the last time this was asked."""
        path = self.base / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path)
    shutil.copytree(ROOT / "scripts", made.tree / "scripts")
    made.write("pg_config", PG_CONFIG)
    made.write("python", PYTHON)
    made.write("checkout/scripts/find-python.sh", '#!/bin/sh\necho "{base}/python"\n')
    made.write("checkout/extension/Makefile", EXTENSION_MAKEFILE, 0o644)
    made.write("checkout/extension/heliosdb_federated_learning.control", "comment = 'x'\n", 0o644)
    made.write("bin/apt-get", APT_GET)
    made.write("pkglib/plpython3.so", "")
    for name in (
        "requirements.lock",
        "requirements-extension.lock",
        "pyproject.toml",
        "sql/schema.sql",
        "parser/federated_sql/errors.py",
        "src/heliosdb/__init__.py",
        "src/heliosdb/domain/ids.py",
        "src/heliosdb/parts/registry.py",
        "src/heliosdb/catalog/connection.py",
        "src/heliosdb/phi/kinds.py",
        "src/heliosdb/scoring/rows.py",
        "src/heliosdb/forecast/costs.py",
        "src/heliosdb/algorithms/sgd.py",
        "src/heliosdb/aggregation/sums.py",
        "src/heliosdb/privacy/special.py",
        "src/heliosdb/extension/session.py",
        "src/heliosdb/node/service.py",
    ):
        made.write(f"checkout/{name}", f"first {name}\n", 0o644)
    return made


def installed(calls: list[str]) -> list[str]:
    """Which of the four steps were done."""
    steps = {
        "venv": "environment",
        "requirements.lock": "packages",
        "--editable": "project",
        "make": "extension",
    }
    return [step for call in calls for word, step in steps.items() if word in call.split()]


def test_the_first_call_does_every_step_and_the_second_none(checkout: Checkout) -> None:
    first = checkout.setup()
    assert first.returncode == 0, first.stderr
    assert installed(checkout.calls()) == ["environment", "packages", "project", "extension"]
    second = checkout.setup()
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert checkout.calls() == []


@pytest.mark.parametrize(
    ("changed", "steps"),
    [
        ("requirements.lock", ["packages", "project"]),
        ("pyproject.toml", ["project"]),
        ("requirements-extension.lock", ["extension"]),
        ("sql/schema.sql", ["extension"]),
        ("sql/new.sql", ["extension"]),
        ("parser/federated_sql/errors.py", ["extension"]),
        ("src/heliosdb/domain/ids.py", ["extension"]),
        ("src/heliosdb/parts/registry.py", ["extension"]),
        ("src/heliosdb/catalog/connection.py", ["extension"]),
        ("src/heliosdb/phi/kinds.py", ["extension"]),
        ("src/heliosdb/scoring/rows.py", ["extension"]),
        ("src/heliosdb/forecast/costs.py", ["extension"]),
        ("src/heliosdb/algorithms/sgd.py", ["extension"]),
        ("src/heliosdb/aggregation/sums.py", ["extension"]),
        ("src/heliosdb/privacy/special.py", ["extension"]),
        ("src/heliosdb/faults.py", ["extension"]),
        ("src/heliosdb/node/service.py", []),
    ],
)
def test_a_change_redoes_the_steps_that_depend_on_it(
    checkout: Checkout, changed: str, steps: list[str]
) -> None:
    checkout.setup()
    checkout.calls()
    checkout.write(f"checkout/{changed}", "changed\n", 0o644)
    assert checkout.setup().returncode == 0
    assert installed(checkout.calls()) == steps


def test_a_step_that_failed_is_done_again(checkout: Checkout) -> None:
    failing = '#!/bin/sh\ncase "$*" in *requirements.lock*) exit 1 ;; esac\n'
    checkout.write("python", failing + PYTHON.partition("\n")[2])
    assert checkout.setup().returncode != 0
    assert "extension" not in installed(checkout.calls())
    checkout.write("python", PYTHON)
    assert checkout.setup().returncode == 0
    assert installed(checkout.calls()) == ["packages", "project", "extension"]


def test_an_extension_that_another_checkout_installed_over_is_installed_again(checkout: Checkout) -> None:
    checkout.setup()
    checkout.calls()
    checkout.write("pkglib/heliosdb_federated_learning/CONTENT_HASH", "another\n", 0o644)
    checkout.setup()
    assert installed(checkout.calls()) == ["extension"]


def test_an_environment_of_another_python_is_rebuilt(checkout: Checkout) -> None:
    checkout.setup()
    checkout.calls()
    (checkout.tree / ".venv/bin/python").unlink()
    checkout.write("checkout/.venv/bin/python", "#!/bin/sh\n")
    ended = checkout.setup()
    assert "rebuilding .venv" in ended.stderr
    assert installed(checkout.calls()) == ["environment", "packages", "project"]


def test_a_server_that_is_there_is_not_installed_again(checkout: Checkout) -> None:
    checkout.setup()
    assert not [call for call in checkout.calls() if call.startswith("apt-get")]


def test_a_missing_plpython_is_installed_for_the_servers_own_version(checkout: Checkout) -> None:
    (checkout.base / "pkglib/plpython3.so").unlink()
    checkout.write("bin/sudo", '#!/bin/sh\nexec "$@"\n')
    assert checkout.setup().returncode == 0
    asked = [call for call in checkout.calls() if call.startswith("apt-get install")]
    assert asked == ["apt-get install -y -q --no-install-recommends --no-upgrade postgresql-plpython3-16"]


NPM = """#!/bin/sh
echo "npm $*" >> "{base}/calls"
case "$*" in "ci --prefix web "*) mkdir -p web/node_modules; exit 0 ;; esac
test -e "{base}/checkout/build/clients/node/package-lock.json"
"""


def with_clients(checkout: Checkout, *programs: str) -> Mapping[str, str]:
    """Give the checkout the clients' files, and only these programs of Java's and Node's on PATH."""
    for name in ("package.json", "package-lock.json"):
        checkout.write(f"checkout/tests/clients/node/{name}", "first\n", 0o644)
        checkout.write(f"checkout/web/{name}", "first\n", 0o644)
    checkout.write("bin/sudo", '#!/bin/sh\nexec "$@"\n')
    checkout.write("bin/npm", NPM)
    checkout.write("bin/readelf", "#!/bin/sh\n")
    for program in ("javac", "node"):
        if program in programs:
            checkout.write(f"bin/{program}", "#!/bin/sh\n")
    tools = ("bash", "env", "sh", "sed", "grep", "find", "sort", "xargs", "sha256sum", "cut", "cat", "cp", "mkdir", "ls",
             "flock", "touch", "rm", "ln", "dirname", "id", "make", "setpriv")  # fmt: skip
    for tool in tools:
        found = shutil.which(tool)
        if found is not None and not (checkout.base / "bin" / tool).exists():
            (checkout.base / "bin" / tool).symlink_to(found)
    return {"PATH": f"{checkout.base}/bin"}


def setup_clients(checkout: Checkout, environment: Mapping[str, str]) -> list[str]:
    """Set up with clients; what was called beside the four steps."""
    settings = {**os.environ, "PG_CONFIG": f"{checkout.base}/pg_config", **environment}
    ended = subprocess.run(
        ["scripts/setup.sh", "--clients"], cwd=checkout.tree, env=settings, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return [call for call in checkout.calls() if call.startswith(("npm", "apt-get install"))]


def test_the_drivers_of_other_languages_are_installed_once_and_again_when_their_lock_changes(
    checkout: Checkout,
) -> None:
    environment = with_clients(checkout, "javac", "node")
    first = setup_clients(checkout, environment)
    assert [call for call in first if call.startswith("npm ci --prefix build/clients/node")] == first[-1:]
    assert [call for call in setup_clients(checkout, environment) if call.startswith("npm")] == []
    checkout.write("checkout/tests/clients/node/package-lock.json", "changed\n", 0o644)
    assert [call for call in setup_clients(checkout, environment) if call.startswith("npm")] == first[-1:]


def test_java_and_node_are_installed_where_there_are_none(checkout: Checkout) -> None:
    calls = setup_clients(checkout, with_clients(checkout))
    assert calls[0].startswith(
        "apt-get install -y -q --no-install-recommends --no-upgrade default-jdk-headless "
    )
    assert calls[0].endswith(" nodejs")


def test_cargo_is_installed_where_there_is_none(checkout: Checkout) -> None:
    environment = with_clients(checkout, "javac", "node")
    asked = "apt-get install -y -q --no-install-recommends --no-upgrade cargo"
    assert [call for call in setup_clients(checkout, environment) if call.startswith(asked)]
    checkout.write("bin/cargo", "#!/bin/sh\n")
    assert not [call for call in setup_clients(checkout, environment) if call.startswith(asked)]


def test_a_browser_and_the_pages_packages_are_installed_once(checkout: Checkout) -> None:
    environment = with_clients(checkout, "javac", "node")
    first = setup_clients(checkout, environment)
    browser = "apt-get install -y -q --no-install-recommends --no-upgrade chromium"
    packages = "npm ci --prefix web --ignore-scripts --no-audit --no-fund --loglevel=error"
    assert [call for call in first if call in {browser, packages}] == [browser, packages]
    checkout.write("bin/chromium", "#!/bin/sh\n")
    assert not [call for call in setup_clients(checkout, environment) if call in {browser, packages}]
    checkout.write("checkout/web/package-lock.json", "changed\n", 0o644)
    assert [call for call in setup_clients(checkout, environment) if call.startswith("npm")] == [packages]


def test_the_drivers_are_nothing_that_a_plain_setup_installs(checkout: Checkout) -> None:
    with_clients(checkout)
    assert checkout.setup().returncode == 0
    assert not [call for call in checkout.calls() if call.startswith(("npm", "apt-get"))]


@pytest.mark.parametrize("folder", ["tests/clients/node", "web"])
def test_nodes_locks_have_hashes_and_name_no_registry(folder: str) -> None:
    lock = json.loads((ROOT / folder / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert not any("resolved" in package for package in packages.values())


@pytest.mark.parametrize("broken", ["missing", "failing"])
def test_a_failure_to_look_for_a_server_installs_nothing(checkout: Checkout, broken: str) -> None:
    script = checkout.tree / "scripts/find-postgres.sh"
    script.unlink()
    if broken == "failing":
        checkout.write("checkout/scripts/find-postgres.sh", "#!/bin/sh\nexit 1\n")
    ended = checkout.setup()
    assert ended.returncode == 1
    assert "could not look for a PostgreSQL server" in ended.stderr
    assert checkout.calls() == []


def test_a_pg_config_that_cannot_run_is_an_error_and_not_an_absent_server(checkout: Checkout) -> None:
    ended = checkout.run(["scripts/find-postgres.sh"], {"PG_CONFIG": str(checkout.base / "nowhere")})
    assert ended.returncode == 1
    assert "is not executable" in ended.stderr


def test_a_server_without_plpython_is_an_error_of_find_python(checkout: Checkout) -> None:
    shutil.copy(ROOT / "scripts/find-python.sh", checkout.tree / "scripts/find-python.sh")
    (checkout.base / "pkglib/plpython3.so").unlink()
    ended = checkout.run(["scripts/find-python.sh"], {})
    assert ended.returncode == 1
    assert "install PL/Python" in ended.stderr


def test_the_environment_of_these_tests_is_made_from_the_python_of_plpython() -> None:
    found = subprocess.check_output([ROOT / "scripts/find-python.sh"], text=True, cwd=ROOT).strip()
    assert (ROOT / ".venv/bin/python").samefile(found)


def test_the_locks_pin_and_hash_everything_and_name_no_index() -> None:
    for name in (
        "requirements.lock",
        "requirements-runtime.lock",
        "requirements-servers.lock",
        "requirements-extension.lock",
        "requirements-pgspot.lock",
    ):
        text = (ROOT / name).read_text()
        lines = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
        assert lines
        assert all("==" in line and line.endswith("\\") for line in lines)
        assert "--index" not in text
        assert "://" not in text


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.removesuffix(" \\").split("==", 1) for line in lines if "==" in line)


def required(*extras: str) -> set[str]:
    """The names of the distributions that pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(line for extra in extras for line in project["optional-dependencies"][extra]),
    ]
    names = (re.split(r"[<>=~!;\[ ]", line, maxsplit=1)[0] for line in wanted)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


def test_everything_that_the_project_asks_for_is_locked() -> None:
    assert required("daemons", "dev") <= set(pins("requirements.lock"))
    assert required("daemons", "api") - {"heliosdb-federated-learning"} <= set(
        pins("requirements-runtime.lock")
    )
    servers = required("daemons", "api", "tracing", "reports", "exchange", "images") - {
        "heliosdb-federated-learning"
    }
    assert servers <= set(pins("requirements-servers.lock"))
    assert set(pins("requirements-extension.lock")) == {
        "numpy",
        "pglast",
        "cryptography",
        "cffi",
        "pycparser",
    }
    assert required("pgspot") - required() <= set(pins("requirements-pgspot.lock"))


def test_the_daemons_and_the_servers_python_get_what_the_tests_ran_with() -> None:
    everything = pins("requirements.lock").items()
    assert (
        pins("requirements-runtime.lock").items() <= pins("requirements-servers.lock").items() <= everything
    )
    assert pins("requirements-extension.lock").items() <= everything
