"""The committed reference says of functions and views what the catalog says."""

from __future__ import annotations

from pathlib import Path

import psycopg

from federated_sql.reference import replace_parts
from scripts.reference import catalog_parts

PAGE = (Path(__file__).parents[3] / "docs" / "reference.md").read_text(encoding="utf-8")


def test_functions_and_views_are_described_as_the_catalog_describes_them(catalog: psycopg.Connection) -> None:
    parts = catalog_parts(catalog)
    assert "`federated_training_status(" in parts["functions"]
    assert "### `federated_node_status`" in parts["views"]
    assert all(f"<!-- generated: {name} -->" in PAGE for name in parts)
    assert replace_parts(PAGE, parts) == PAGE, "run: make reference"
