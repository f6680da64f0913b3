"""What the scripts of the extension are written in."""

from __future__ import annotations

from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).resolve().parents[3] / "sql").glob("*.sql"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_in_ascii_so_that_a_database_of_any_encoding_takes_it(script: Path) -> None:
    assert script.read_bytes().isascii()
