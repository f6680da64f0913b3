"""The committed reference says what the grammar, the option table and the extension's SQL say."""

from __future__ import annotations

import re
from pathlib import Path

from federated_sql.option_table import OPTIONS, OptionKind
from federated_sql.reference import fill

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
MONITORING = (ROOT / "sql" / "monitoring.sql").read_text(encoding="utf-8")


def test_the_committed_file_is_current() -> None:
    assert fill(PAGE) == PAGE, "run: python -m federated_sql.reference docs/reference.md"


def test_every_option_is_described() -> None:
    for name in {name for kind in OptionKind for name in OPTIONS[kind]}:
        assert f"| `{name}` |" in PAGE


def test_a_changed_part_is_written_anew_and_all_else_is_kept() -> None:
    spoilt = PAGE.replace("DROP FEDERATED DATASET [IF EXISTS] name\n", "")
    assert spoilt != PAGE
    assert fill(spoilt) == PAGE


def test_monitoring_functions_have_the_columns_that_the_page_lists() -> None:
    functions = re.findall(r"CREATE FUNCTION @extschema@\.(\w+)\(([^)]*)\) RETURNS SETOF record", MONITORING)
    assert functions
    for name, arguments in functions:
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}("))
        columns = re.findall(r'OUT "?(\w+)"?', arguments)
        assert re.findall(r"`(\w+)`", row.split("|")[2])[: len(columns)] == columns
