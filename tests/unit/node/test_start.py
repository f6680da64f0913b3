"""What a node's processes import before anything is asked of them: what they hold while they are idle."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Of a server with all extras: each of these takes megabytes, and is imported by what needs it when that is asked.
NEVER = frozenset(
    {
        "dask",
        "fastapi",
        "lz4",
        "matplotlib",
        "pandas",
        "pglast",
        "scipy",
        "sklearn",
        "torch",
        "uvloop",
        "zstandard",
    }
)


def imported(module: str) -> frozenset[str]:
    """The packages that are there once a module is imported, by a process of its own."""
    script = f"import sys, {module}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return frozenset(subprocess.check_output([sys.executable, "-c", script], text=True).split())


@pytest.mark.parametrize("module", ["heliosdb.node.service", "heliosdb.node.worker"])
def test_an_idle_node_has_none_of_the_libraries_of_single_tasks(module: str) -> None:
    found = imported(module)

    assert "numpy" in found
    assert not found & NEVER


def test_the_training_process_has_nothing_that_takes_calls() -> None:
    assert not imported("heliosdb.node.worker") & {"grpc", "pydantic", "typer"}


def test_an_idle_coordinator_has_none_of_the_libraries_of_single_runs() -> None:
    assert not imported("heliosdb.coordinator.service") & (NEVER - {"pglast", "uvloop"})
