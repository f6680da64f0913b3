"""The committed reference says what the grammar and the option table say."""

from __future__ import annotations

from pathlib import Path

from federated_sql.option_table import OPTIONS, OptionKind
from federated_sql.reference import language_parts, replace_parts
from heliosdb.parts.built import built_parts

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
COMPLIANCE = (ROOT / "docs" / "compliance.md").read_text(encoding="utf-8")


def test_the_committed_file_is_current() -> None:
    assert replace_parts(PAGE, language_parts(built_parts())) == PAGE, "run: make reference"
    assert replace_parts(COMPLIANCE, language_parts(built_parts())) == COMPLIANCE, "run: make reference"


def test_every_option_is_described() -> None:
    for name in {name for kind in OptionKind for name in OPTIONS[kind]}:
        assert f"| `{name}` |" in PAGE


def test_a_changed_part_is_written_anew_and_all_else_is_kept() -> None:
    spoilt = PAGE.replace("DROP FEDERATED DATASET [IF EXISTS] name\n", "")
    assert spoilt != PAGE
    assert replace_parts(spoilt, language_parts(built_parts())) == PAGE
