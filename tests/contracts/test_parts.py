"""What every registered part keeps to: settings of the language's names, and names that cost no import."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from federated_sql.option_table import OPTIONS
from heliosdb.domain.settings import option_names, read_settings, settings_of
from heliosdb.parts.algorithms import ALGORITHMS
from heliosdb.parts.codecs import CODECS
from heliosdb.parts.protocols import PROTOCOLS
from heliosdb.parts.registry import RegisteredPart
from heliosdb.parts.strategies import STRATEGIES

REGISTRIES = (ALGORITHMS, STRATEGIES, PROTOCOLS, CODECS)
NAMED = [(f"{registry.kind} {entry.name}", entry) for registry in REGISTRIES for entry in registry.entries()]
BUILT_IN = [
    (name, entry)
    for name, entry in NAMED
    if isinstance(entry.part, str) and entry.part.startswith("heliosdb.")
]


@pytest.mark.parametrize("entry", [entry for _, entry in NAMED], ids=[name for name, _ in NAMED])
def test_settings_are_a_frozen_dataclass_that_reads_back(entry: RegisteredPart) -> None:
    assert dataclasses.is_dataclass(entry.settings)
    assert entry.settings.__dataclass_params__.frozen  # type: ignore[attr-defined]
    settings = read_settings(entry.settings, {})
    assert read_settings(entry.settings, settings_of(settings), exact=True) == settings


@pytest.mark.parametrize("entry", [entry for _, entry in BUILT_IN], ids=[name for name, _ in BUILT_IN])
def test_settings_are_named_as_options_of_the_language(entry: RegisteredPart) -> None:
    options = {name for table in OPTIONS.values() for name in table}
    assert set(option_names(entry.settings)) <= options


NAMES_ONLY = """
import pkgutil, sys
import heliosdb.parts
for found in pkgutil.iter_modules(heliosdb.parts.__path__, "heliosdb.parts."):
    __import__(found.name)
print(*sorted(name for name in sys.modules if name.split(".")[0] == "numpy" or name.startswith(
    ("heliosdb.aggregation", "heliosdb.algorithms", "heliosdb.transport", "heliosdb.coordinator"))))
"""


def test_naming_the_parts_imports_none_of_them_and_no_numpy() -> None:
    done = subprocess.run([sys.executable, "-c", NAMES_ONLY], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
