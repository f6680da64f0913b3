"""The committed reference says of functions and views what the catalog says."""

from __future__ import annotations

from pathlib import Path

import psycopg

from federated_sql.reference import replace_parts
from scripts.reference import catalog_parts

DOCS = Path(__file__).parents[3] / "docs"
PAGES = {name: (DOCS / name).read_text(encoding="utf-8") for name in ("reference.md", "reports.md")}


def test_functions_and_views_are_described_as_the_catalog_describes_them(catalog: psycopg.Connection) -> None:
    parts = catalog_parts(catalog)
    assert "`federated_training_status(" in parts["functions"]
    assert "### `federated_node_status`" in parts["views"]
    assert "| HIPAA | Risk analysis |" in parts["requirements"]
    assert all(any(f"<!-- generated: {name} -->" in page for page in PAGES.values()) for name in parts)
    for page in PAGES.values():
        assert replace_parts(page, parts) == page, "run: make reference"
